//! The peer port: accepts connections of members, and of those that want to be one.
//!
//! Owns who a connection's other end is: TLS says it, once, for all calls on it. Never answers a
//! call itself.

#[cfg(test)]
mod tests;

use super::caller::{Caller, Unknown};
use super::dial::{API_WATCH, LINK_WATCH, watch};
use super::service::Service;
use super::tls::{API_PROTOCOL, Trust, TrustError};
use super::wire::door_server::{DoorServer, SERVICE_NAME as DOOR};
use super::wire::peer_server::PeerServer;
use crate::actors::member_listener::{MemberConnection, MemberListener};
use crate::actors::peer::join_service::JoinService;
use crate::actors::root::View;
use crate::actors::strangers::{Room, Stranger, Strangers};
use crate::cluster::guard::Guard;
use crate::cluster::trust::validity;
use crate::limits;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tonic::codegen::Service as _;
use tonic::codegen::http::{Request, Response};

/// What is served.
#[derive(Clone)]
pub(super) struct Served {
    peer: PeerServer<Service>,
    door: DoorServer<JoinService>,
}

impl Served {
    pub(super) fn new(service: Service, door: JoinService) -> Self {
        let peer = PeerServer::new(service).max_decoding_message_size(limits::PEER_FRAME_MAX);
        let door = DoorServer::new(door).max_decoding_message_size(limits::JOIN_MAX);
        Self { peer, door }
    }

    async fn answer(
        mut self,
        caller: Option<Caller>,
        mut request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, Infallible> {
        let path = request.uri().path().trim_start_matches('/');
        let at_door = path.split('/').next() == Some(DOOR);
        match caller {
            Some(_) if at_door => {
                let why = "this node is a member already: only others can join";
                return Ok(Status::permission_denied(why).into_http());
            }
            Some(caller) => {
                request.extensions_mut().insert(caller);
            }
            // Before anything of what is sent is taken in.
            None if !at_door => {
                let why = "only members may: show a member's certificate";
                return Ok(Status::unauthenticated(why).into_http());
            }
            None => {}
        }
        if at_door { self.door.call(request).await } else { self.peer.call(request).await }
    }
}

/// Who may come in, and where to.
pub(super) struct Port {
    pub(super) listener: Arc<TcpListener>,
    pub(super) credentials: Arc<super::credentials::Credentials>,
    pub(super) served: Served,
    /// Where members are answered that ask for the API.
    pub(super) members: Arc<MemberListener>,
    /// Where the members are.
    pub(super) views: watch::Receiver<Option<View>>,
}

impl Port {
    /// Whether a member has that address.
    fn is_members(&self, source: IpAddr) -> bool {
        let source = source.to_canonical().to_string();
        let view = self.views.borrow();
        view.as_ref().is_some_and(|view| view.state.nodes.values().any(|n| n.address == source))
    }
}

/// Why a connection isn't served.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("it shows no certificate and asks for what only members may")]
    Stranger,
    #[error("its certificate has expired, and it asks for more than another one")]
    Expired,
    #[error("too many wait for the API")]
    Full,
    #[error("it shows no certificate and has to go for another one")]
    Ousted,
    #[error("it shows no certificate and asks for nothing")]
    Idle,
    #[error("there are too many connections of members")]
    Members,
    #[error("without a certificate none lasts longer than {}s", limits::PEER_STRANGER.as_secs())]
    Long,
    #[error("TLS")]
    Tls(#[from] io::Error),
    #[error("its certificate is no member's")]
    Certificate(#[from] crate::cluster::trust::CertificateError),
    #[error("TLS was not there in {}s", limits::PEER_CONNECT.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("HTTP/2")]
    Http(#[from] hyper::Error),
}

/// Serves the port, for ever.
///
/// # Errors
/// This node's keys can't be used.
pub(super) async fn serve(port: Port) -> Result<(), TrustError> {
    let acceptor = TlsAcceptor::from(port.credentials.trust().server_config()?);
    let port = Arc::new(port);
    let room = Room {
        most: limits::PEER_STRANGERS,
        each: limits::PEER_STRANGERS_EACH,
        known: limits::PEER_CONNECTIONS,
    };
    let strangers = Strangers::new("peer", room);
    let failures = Arc::new(Failures::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = port.listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let source = from.ip();
                    if failures.is_spent(source) && !port.is_members(source) {
                        strangers.tell("a source shows no certificate too often", source);
                        continue;
                    }
                    let (acceptor, port) = (acceptor.clone(), Arc::clone(&port));
                    let stranger = Arc::new(strangers.enter(source));
                    let failures = Arc::clone(&failures);
                    connections.spawn(async move {
                        let done = tokio::select! {
                            done = connection(stream, acceptor, &port, &stranger) => done,
                            () = stranger.ousted() => Err(ConnectionError::Ousted),
                        };
                        // To give way to another one is no failure.
                        let gave_way = matches!(done, Err(ConnectionError::Ousted));
                        if !stranger.is_known() && !gave_way {
                            failures.failed(source);
                        }
                        if let Err(error) = done {
                            let error = &error as &dyn std::error::Error;
                            tracing::debug!(%from, error, "a connection to the peer port ended");
                        }
                    });
                }
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
    port: &Port,
    stranger: &Arc<Stranger>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(limits::PEER_CONNECT, acceptor.accept(stream)).await??;
    let caller = caller(&stream, port.credentials.trust())?;
    if caller.is_some() && !stranger.admit() {
        return Err(ConnectionError::Members);
    }
    if stream.get_ref().1.alpn_protocol() == Some(API_PROTOCOL) {
        let Caller { peer, expired } = caller.ok_or(ConnectionError::Stranger)?;
        if expired {
            return Err(ConnectionError::Expired);
        }
        watch(stream.get_ref().0, &API_WATCH)?;
        let guest = MemberConnection { socket: Box::new(stream), node: peer.node };
        return if port.members.enter(guest) { Ok(()) } else { Err(ConnectionError::Full) };
    }
    watch(stream.get_ref().0, &LINK_WATCH)?;
    if caller.is_some() {
        return answer(stream, caller, &port.served, None).await;
    }
    let asked = Arc::new(Notify::new());
    let unknown = Asked { who: Unknown(Arc::clone(stranger)), asked: Arc::clone(&asked) };
    let answering = answer(stream, None, &port.served, Some(unknown));
    let idle = async {
        if tokio::time::timeout(limits::PEER_STRANGER_IDLE, asked.notified()).await.is_ok() {
            std::future::pending().await
        }
    };
    tokio::select! {
        done = tokio::time::timeout(limits::PEER_STRANGER, answering) => {
            done.unwrap_or(Err(ConnectionError::Long))
        }
        () = idle => Err(ConnectionError::Idle),
    }
}

/// A connection without a certificate, and whether it has asked for something.
#[derive(Clone)]
struct Asked {
    who: Unknown,
    asked: Arc<Notify>,
}

/// Connections that showed nothing, by source.
struct Failures {
    guard: Mutex<Guard>,
    begun: Instant,
}

impl Default for Failures {
    fn default() -> Self {
        Self { guard: Mutex::default(), begun: Instant::now() }
    }
}

impl Failures {
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_spent(&self, source: IpAddr) -> bool {
        self.guard().is_spent(source, self.begun.elapsed().into())
    }

    fn failed(&self, source: IpAddr) {
        // The next one is told by its being sent away.
        let _ = self.guard().failed(source, self.begun.elapsed().into());
    }
}

async fn answer(
    stream: TlsStream<TcpStream>,
    caller: Option<Caller>,
    served: &Served,
    unknown: Option<Asked>,
) -> Result<(), ConnectionError> {
    let served = served.clone();
    // What one without a certificate can make this node keep is small.
    let (streams, window) = match caller {
        Some(_) => (limits::PEER_STREAMS, limits::PEER_WINDOW),
        None => (limits::STRANGER_STREAMS, limits::STRANGER_WINDOW),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(unknown) = &unknown {
            unknown.asked.notify_one();
            request.extensions_mut().insert(unknown.who.clone());
        }
        served.clone().answer(caller.clone(), request)
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

fn caller(
    stream: &TlsStream<TcpStream>,
    trust: &Trust,
) -> Result<Option<Caller>, crate::cluster::trust::CertificateError> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
    let Some(certificate) = shown else { return Ok(None) };
    // TLS has verified it, and one that isn't good yet is refused there.
    let expired = validity(certificate)?.until < super::ca::now();
    Ok(Some(Caller { peer: trust.peer_of(certificate)?, expired }))
}
