//! The peer port: accepts connections of members, and of those that want to be one.
//!
//! Owns who a connection's other end is: TLS says it, once, for all calls on it. Never answers a
//! call itself.

use super::service::Service;
use super::tls::{Trust, TrustError};
use super::wire::door_server::{DoorServer, SERVICE_NAME as DOOR};
use super::wire::peer_server::PeerServer;
use crate::actors::peer::door::Door;
use crate::limits;
use crate::trust::PeerId;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codegen::Service as _;
use tonic::codegen::http::{Request, Response};

/// Who made a call: in its request's extensions, if the connection has a member's certificate.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) PeerId);

/// What is served.
#[derive(Clone)]
pub(super) struct Served {
    peer: PeerServer<Service>,
    door: DoorServer<Door>,
}

impl Served {
    pub(super) fn new(service: Service, door: Door) -> Self {
        let peer = PeerServer::new(service).max_decoding_message_size(limits::PEER_FRAME_MAX);
        Self { peer, door: DoorServer::new(door) }
    }

    async fn answer(
        mut self,
        caller: Option<Caller>,
        mut request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, Infallible> {
        let path = request.uri().path().trim_start_matches('/');
        let at_door = path.split('/').next() == Some(DOOR);
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        if at_door { self.door.call(request).await } else { self.peer.call(request).await }
    }
}

/// Why a connection isn't served.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("TLS")]
    Tls(#[from] io::Error),
    #[error("its certificate is no member's")]
    Certificate(#[from] crate::trust::CertificateError),
    #[error("TLS was not there in {} s", limits::PEER_CONNECT.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("HTTP/2")]
    Http(#[from] hyper::Error),
}

/// Serves the port, for ever.
///
/// # Errors
/// This node's keys can't be used.
pub(super) async fn serve(
    listener: Arc<TcpListener>,
    credentials: Arc<super::credentials::Credentials>,
    served: Served,
) -> Result<(), TrustError> {
    let acceptor = TlsAcceptor::from(credentials.trust().server_config()?);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) if connections.len() < limits::PEER_CONNECTIONS => {
                    let (acceptor, served) = (acceptor.clone(), served.clone());
                    let credentials = Arc::clone(&credentials);
                    connections.spawn(async move {
                        let done = connection(stream, acceptor, credentials.trust(), served).await;
                        if let Err(error) = done {
                            let error = &error as &dyn std::error::Error;
                            tracing::debug!(%from, error, "a connection to the peer port ended");
                        }
                    });
                }
                Ok((_, from)) => tracing::warn!(%from, "too many connections to the peer port"),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the peer port was not accepted");
                    tokio::time::sleep(limits::API_ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    trust: &Trust,
    served: Served,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(limits::PEER_CONNECT, acceptor.accept(stream)).await??;
    let caller = caller(&stream, trust)?;
    let service = service_fn(move |request| served.clone().answer(caller.clone(), request));
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::PEER_WINDOW)
        .initial_connection_window_size(limits::PEER_WINDOW)
        .keep_alive_interval(limits::PEER_PING)
        .keep_alive_timeout(limits::PEER_SILENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

fn caller(
    stream: &TlsStream<TcpStream>,
    trust: &Trust,
) -> Result<Option<Caller>, crate::trust::CertificateError> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
    shown.map(|certificate| trust.peer_of(certificate).map(Caller)).transpose()
}
