//! One connection of a client, from accept to its end.
//!
//! Owns the order: TLS, the strict reader, the engine, the next request. Never routes.

use super::io::Io;
use super::proxied;
use super::service::Ingress;
use crate::limits::{BODY_WAIT, DRAIN_IDLE, HANDSHAKE_WAIT, HEAD_WAIT, KEEP_WAIT};
use crate::node::ingress::refusal::Refusal;
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::HttpProxy;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The engine of a thread.
pub(super) type Engine = Arc<HttpProxy<Ingress>>;

/// Serves a connection until it ends. `is_told`: it begins with whose it is.
pub(super) async fn serve(
    engine: Engine,
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
            Ok(Ok(stream)) => Io::tls(stream, peer),
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS with a client"),
            Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
        },
    };
    if io.is_h2() {
        if !matches!(timeout(HEAD_WAIT, io.begin()).await, Ok(Ok(true))) {
            return tracing::debug!(%peer, "a client didn't begin to speak HTTP/2");
        }
        engine.process_new(Box::new(io), &stopping).await;
        return;
    }
    one_by_one(engine, io, stopping).await;
}

/// Requests of HTTP/1, each read strictly before the engine sees it.
async fn one_by_one(engine: Engine, mut io: Io, mut stopping: watch::Receiver<bool>) {
    let mut wait = HEAD_WAIT;
    loop {
        if !has_begun(&mut io, wait, &mut stopping).await {
            return;
        }
        match timeout(HEAD_WAIT, io.head()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return,
            Ok(Err(refusal)) => return io.say(&refusal.last_words("")).await,
            Err(_) => return io.say(&Refusal::SlowRequest.last_words("")).await,
        }
        let mut session = ServerSession::new_http1(Box::new(io));
        session.set_read_timeout(Some(BODY_WAIT));
        session.set_write_timeout(Some(BODY_WAIT));
        let Some(kept) = engine.process_new_http(session, &stopping).await else { return };
        let (stream, _) = kept.consume();
        let Ok(again) = stream.into_any().downcast::<Io>() else { return };
        io = *again;
        wait = KEEP_WAIT;
    }
}

/// Waits for a request. False: there will be none.
async fn has_begun(
    io: &mut Io,
    wait: std::time::Duration,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    if !io.is_empty() {
        return true;
    }
    let stopped = async {
        // The sender goes with the engine: then it is over, too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        // Who just sends a request is answered.
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    tokio::select! {
        biased;
        begun = timeout(wait, io.begin()) => matches!(begun, Ok(Ok(true))),
        () = stopped => false,
    }
}
