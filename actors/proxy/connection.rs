//! One connection of a client, from accept to its end.
//!
//! Owns the order: TLS, the strict reader, the engine, the next request. Never routes.

use super::certs::CHALLENGE;
use super::fast::{self, After, Pool};
use super::io::Io;
use super::proxied;
use super::service::Ingress;
use super::shared::Shared;
use super::timer::Timer;
use crate::limits::{BODY_WAIT, DRAIN_IDLE, HANDSHAKE_WAIT, HEAD_WAIT, KEEP_WAIT};
use crate::node::ingress::page::Page;
use crate::node::ingress::refusal::Refusal;
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::HttpProxy;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What a thread serves with.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Arc<HttpProxy<Ingress>>,
    pub(super) pool: Arc<Pool>,
}

/// Serves a connection until it ends. `is_told`: it begins with whose it is.
pub(super) async fn serve(
    worker: Arc<Worker>,
    mut stream: TcpStream,
    mut peer: SocketAddr,
    is_told: bool,
    tls: Option<TlsAcceptor>,
    stopping: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a client's connection broke at once");
    }
    if is_told {
        match timeout(HANDSHAKE_WAIT, proxied::client(&mut stream)).await {
            Ok(Ok(client)) => peer = client.unwrap_or(peer),
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "whose connection is it?"),
            Err(_) => return tracing::debug!(%peer, "a proxy in front took too long"),
        }
    }
    let mut io = match tls {
        None => Io::plain(stream, peer),
        Some(tls) => match timeout(HANDSHAKE_WAIT, tls.accept(stream)).await {
            // The authority has seen what it wanted to.
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(CHALLENGE) => return,
            Ok(Ok(stream)) => Io::tls(stream, peer),
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS with a client"),
            Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
        },
    };
    if io.is_h2() {
        let begun = timeout(HEAD_WAIT, poll_fn(|cx| io.poll_begin(cx))).await;
        if !matches!(begun, Ok(Ok(true))) {
            return tracing::debug!(%peer, "a client didn't begin to speak HTTP/2");
        }
        worker.engine.process_new(Box::new(io), &stopping).await;
        return;
    }
    one_by_one(&worker, io, stopping).await;
}

/// Requests of HTTP/1, each read strictly before anybody else sees it.
async fn one_by_one(worker: &Worker, mut io: Io, stopping: watch::Receiver<bool>) {
    let last_words = |refusal: Refusal| Page::refused(&refusal, "").written("", true, false);
    let mut timer = Timer::new();
    // Once for all requests: to wait is to be entered into a list that all threads share.
    let mut stopped = pin!(stopped(stopping.clone()));
    let mut wait = HEAD_WAIT;
    loop {
        if !has_begun(&mut io, &mut timer, wait, stopped.as_mut()).await {
            return;
        }
        wait = KEEP_WAIT;
        // Most come in one piece, and need no timer.
        let whole = io.held_head();
        let read = match whole {
            Ok(None) => timeout(HEAD_WAIT, io.head()).await,
            read => Ok(read),
        };
        let head = match read {
            Ok(Ok(Some(head))) => head,
            Ok(Ok(None)) => return,
            Ok(Err(refusal)) => return io.say(&last_words(refusal)).await,
            Err(_) => return io.say(&last_words(Refusal::SlowRequest)).await,
        };
        if !worker.shared.settings.engine_only {
            let with = (&*worker.shared, &worker.pool);
            match fast::serve(with, &mut io, &head, &mut timer, &stopping).await {
                After::Kept => continue,
                After::Over => return,
                After::Engine => {}
            }
        }
        let mut session = ServerSession::new_http1(Box::new(io));
        session.set_read_timeout(Some(BODY_WAIT));
        session.set_write_timeout(Some(BODY_WAIT));
        let Some(kept) = worker.engine.process_new_http(session, &stopping).await else { return };
        let (stream, _) = kept.consume();
        let Ok(again) = stream.into_any().downcast::<Io>() else { return };
        io = *again;
    }
}

/// Waits for a request. False: there will be none.
async fn has_begun(
    io: &mut Io,
    timer: &mut Timer,
    wait: Duration,
    stopped: Pin<&mut impl Future<Output = ()>>,
) -> bool {
    if !io.is_empty() {
        return true;
    }
    io.rest();
    let due = Instant::now() + wait;
    tokio::select! {
        biased;
        begun = poll_fn(|cx| io.poll_begin(cx)) => matches!(begun, Ok(true)),
        () = poll_fn(|cx| timer.poll(cx, due)) => false,
        () = stopped => false,
    }
}

/// Waits until an idle connection is to end.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender goes with the engine: then it is over, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    // Who just sends a request is answered.
    tokio::time::sleep(DRAIN_IDLE).await;
}
