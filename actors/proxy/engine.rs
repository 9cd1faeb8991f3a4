//! The proxy's threads: each accepts on a listener of its own and serves what it accepted.
//!
//! Owns their start and their end: what is under way is finished within a deadline. Never routes.

use super::connection::{self, Worker};
use super::fast::Pool;
use super::service::Ingress;
use super::shared::Shared;
use crate::limits::{DRAIN_MOST, KEEP_WAIT, UPSTREAM_KEPT, UPSTREAM_TRIES};
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// After a failed accept, as when no descriptors are left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What a thread accepts on: a listener without TLS and one with it.
pub struct Listeners {
    pub http: std::net::TcpListener,
    pub https: std::net::TcpListener,
}

/// The running threads.
pub struct Threads {
    stopping: watch::Sender<bool>,
    running: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread for each pair of listeners.
    ///
    /// # Errors
    /// The system has no threads left, or a listener can't be used.
    pub fn start(shared: &Arc<Shared>, listeners: Vec<Listeners>) -> io::Result<Self> {
        // Without this its timer thread wakes a hundred times a second for ever.
        pingora_timeout::fast_timeout::set_fast_timeout_to_tokio_threshold(Some(Duration::ZERO));
        let (stopping, watched) = watch::channel(false);
        let mut threads = Self { stopping, running: Vec::new() };
        // One for all threads: each takes the tickets that another gave.
        let tls = TlsAcceptor::from(shared.certificates.config());
        for (number, listeners) in listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (http, https) = {
                let _entered = runtime.enter();
                (TcpListener::from_std(listeners.http)?, TcpListener::from_std(listeners.https)?)
            };
            let engine = engine(Arc::clone(shared));
            let (shared, pool) = (Arc::clone(shared), Arc::<Pool>::default());
            let tls = tls.clone();
            let watched = watched.clone();
            let worker = Arc::new(Worker { shared, engine, pool });
            let run = move || {
                runtime.block_on(serve(worker, http, (https, tls), watched));
                // What is still open ends here.
                runtime.shutdown_background();
            };
            let name = format!("proxy-{number}");
            threads.running.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(threads)
    }

    /// Accepts nothing more from now on. What it gives ends with what is under way, after at most
    /// [`DRAIN_MOST`].
    pub fn stop(mut self) -> impl Future<Output = ()> + Send + use<> {
        let running = std::mem::take(&mut self.running);
        // Without a thread nobody listens to it.
        let _ = self.stopping.send(true);
        let joined = tokio::task::spawn_blocking(move || {
            running.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        async {
            match joined.await {
                Ok(0) => {}
                _ => tracing::error!("a thread of the proxy panicked"),
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A panicked actor leaves its threads alone: they end by themselves.
        let _ = self.stopping.send(true);
    }
}

fn engine(shared: Arc<Shared>) -> Arc<HttpProxy<Ingress>> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: UPSTREAM_KEPT,
        max_retries: UPSTREAM_TRIES as usize,
        ..ServerConf::default()
    };
    let mut engine = HttpProxy::new(Ingress { shared }, Arc::new(conf));
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(KEEP_WAIT);
    engine.server_options = Some(options);
    engine.handle_init_modules();
    Arc::new(engine)
}

async fn serve(
    worker: Arc<Worker>,
    http: TcpListener,
    (https, tls): (TcpListener, TlsAcceptor),
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let watched = stopping.clone();
    loop {
        let (accepted, tls) = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = http.accept() => (accepted, None),
            accepted = https.accept() => (accepted, Some(tls.clone())),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Some(admitted) = worker.shared.admit(peer.ip()) else { continue };
        let settings = &worker.shared.settings;
        let is_told = settings.proxy_protocol && settings.trusts(peer.ip());
        let (worker, watched) = (Arc::clone(&worker), watched.clone());
        connections.spawn(async move {
            connection::serve(worker, stream, peer, is_told, tls, watched).await;
            drop(admitted);
        });
    }
    drop((http, https));
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MOST, ended).await.is_err() {
        tracing::info!("connections that were still open were ended");
    }
}
