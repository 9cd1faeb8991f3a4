//! Connections: accepting them within a bound, serving each until it ends, is silent or must stop.
//!
//! Owns timeouts and the end of connections. Never looks into a request.

use super::error::ApiError;
use super::listener::Listening;
use super::stall::Stalling;
use crate::actors::member_listener::{MemberConnection, MemberListener, Socket};
use crate::actors::strangers::{Room, Stranger, Strangers};
use crate::id::NodeId;
use crate::limits;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;

/// How many connections there may be, and how long they are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections over TCP that have shown a token.
    pub network: usize,
    /// Connections over TCP that have not, in all and of one source.
    pub strangers: [usize; 2],
    /// Connections to the UNIX socket.
    pub local: usize,
    /// Connections of other members.
    pub members: usize,
    /// Event streams.
    pub streams: usize,
    /// For a request's head, and between requests.
    pub idle: Duration,
    /// The same, before a token was shown.
    pub stranger_idle: Duration,
    /// For a client to take something.
    pub stall: Duration,
    /// For requests to end when the API stops.
    pub shutdown: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            network: limits::API_CONNECTIONS,
            strangers: [limits::API_STRANGERS, limits::API_STRANGERS_EACH],
            local: limits::API_LOCAL_CONNECTIONS,
            members: limits::API_MEMBER_CONNECTIONS,
            streams: limits::API_STREAMS,
            idle: limits::API_IDLE,
            stranger_idle: limits::API_STRANGER_IDLE,
            stall: limits::API_STALL,
            shutdown: limits::API_SHUTDOWN,
        }
    }
}

/// The routes as one filter that answers everything.
pub type Routes = BoxedFilter<(Response,)>;

/// Where a request came from; nothing of it is known on the UNIX socket.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The member whose connection it is.
    pub member: Option<NodeId>,
    /// The connection, where it has to show who it is.
    pub stranger: Option<Arc<Stranger>>,
}

/// Where connections come from.
pub trait Accept: Clone + Send + Sync + 'static {
    /// A connection before anything was said.
    type Raw: Send + 'static;
    /// Where a connection comes from that has to show who it is; absent: that is known.
    fn source(_raw: &Self::Raw) -> Option<IpAddr> {
        None
    }
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;
    /// What is said on it in the clear; runs in the connection's own task.
    fn open(
        self,
        raw: Self::Raw,
    ) -> impl Future<Output = io::Result<(Box<dyn Socket>, Origin)>> + Send;
}

impl Accept for Arc<MemberListener> {
    type Raw = MemberConnection;

    async fn accept(&self) -> io::Result<MemberConnection> {
        self.next().await
    }

    async fn open(self, guest: MemberConnection) -> io::Result<(Box<dyn Socket>, Origin)> {
        Ok((guest.socket, Origin { member: Some(guest.node), ..Origin::default() }))
    }
}

impl Accept for Listening {
    type Raw = TcpStream;

    fn source(raw: &TcpStream) -> Option<IpAddr> {
        raw.peer_addr().ok().map(|address| address.ip())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.tcp.accept().await?.0)
    }

    async fn open(self, raw: TcpStream) -> io::Result<(Box<dyn Socket>, Origin)> {
        // Without it an event waits for the last one's acknowledgement; it works all the same.
        let _ = raw.set_nodelay(true);
        let address = raw.peer_addr().ok().map(|address| address.ip());
        let origin = Origin { address, ..Origin::default() };
        let Some(tls) = self.tls else { return Ok((Box::new(raw), origin)) };
        let mut first = [0];
        raw.peek(&mut first).await?;
        if first[0] == TLS_HANDSHAKE {
            return Ok((Box::new(TlsAcceptor::from(tls).accept(raw).await?), origin));
        }
        if self.plain {
            return Ok((Box::new(raw), origin));
        }
        refuse(raw, "400 Bad Request", &ApiError::WantsTls).await?;
        Err(io::Error::other("HTTP without TLS"))
    }
}

impl Accept for Arc<super::listener::LocalSocket> {
    type Raw = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self.listener()).await?.0)
    }

    async fn open(self, raw: UnixStream) -> io::Result<(Box<dyn Socket>, Origin)> {
        Ok((Box::new(raw), Origin::default()))
    }
}

/// The first byte of a connection with TLS: a record of type handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Accepts and serves connections until told to stop; then waits for what is going on, within the
/// bound.
pub async fn run<A: Accept>(
    listener: A,
    routes: Routes,
    most: usize,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(most));
    let [strangers, each] = bounds.strangers;
    let room = Room { most: strangers, each, known: most };
    let strangers = Strangers::new("api", room);
    let refusals = Arc::new(Semaphore::new(limits::API_REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                // Out of descriptors, or the client has left already: neither is worth the end.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(limits::API_ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Some(source) = A::source(&socket) {
            let stranger = Arc::new(strangers.enter(source));
            let (routes, stopping) = (routes.clone(), stopping.clone());
            let opening = listener.clone().open(socket);
            connections.spawn(stranger_served(opening, stranger, routes, bounds, stopping));
        } else if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let (routes, stopping) = (routes.clone(), stopping.clone());
            let opening = listener.clone().open(socket);
            connections.spawn(async move {
                opened(opening, None, routes, bounds, stopping).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            let opening = listener.clone().open(socket);
            connections.spawn(async move {
                let refusal = async {
                    let (socket, _) = opening.await?;
                    let full = ApiError::TooMany { what: "connections" };
                    refuse(socket, "429 Too Many Requests\r\nretry-after: 1", &full).await
                };
                // Whether the client reads it or not, it is sent away.
                let _ = tokio::time::timeout(limits::API_REFUSAL, refusal).await;
                drop(place);
            });
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.shutdown, ended).await.is_err() {
        tracing::info!(left = connections.len(), "connections were cut off at the end");
    }
}

/// Serves one that has to show who it is, or to go.
async fn stranger_served(
    opening: impl Future<Output = io::Result<(Box<dyn Socket>, Origin)>>,
    stranger: Arc<Stranger>,
    routes: Routes,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let serving = opened(opening, Some(Arc::clone(&stranger)), routes, bounds, stopping);
    tokio::select! {
        () = serving => {}
        () = stranger.ousted() => {}
        () = overdue(&stranger) => {}
    }
}

/// Ends when it has not shown who it is for too long.
async fn overdue(stranger: &Stranger) {
    tokio::time::sleep(limits::API_STRANGER).await;
    if stranger.is_known() {
        std::future::pending().await
    }
}

/// Opens one connection and serves it.
async fn opened(
    opening: impl Future<Output = io::Result<(Box<dyn Socket>, Origin)>>,
    stranger: Option<Arc<Stranger>>,
    routes: Routes,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let patience = if stranger.is_some() { bounds.stranger_idle } else { bounds.idle };
    let opened = tokio::select! {
        opened = tokio::time::timeout(patience, opening) => opened,
        () = stopping.cancelled() => return,
    };
    match opened {
        Ok(Ok((socket, origin))) => {
            let origin = Origin { stranger, ..origin };
            serve(socket, origin, routes, bounds, stopping).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not open"),
        Err(_) => tracing::debug!("a connection said nothing"),
    }
}

/// Serves one connection.
async fn serve(
    socket: impl Socket,
    origin: Origin,
    routes: Routes,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let (busy, count) = watch::channel(0);
    let inner = TowerToHyperService::new(warp::service(routes));
    let stranger = origin.stranger.clone();
    let patience = || match &stranger {
        Some(stranger) if !stranger.is_known() => bounds.stranger_idle,
        _ => bounds.idle,
    };
    let service = Counted { inner, origin, busy: Arc::new(busy) };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::API_H2_STREAMS)
        .keep_alive_interval(bounds.idle)
        .keep_alive_timeout(bounds.stall);
    let io = TokioIo::new(Stalling::new(socket, bounds.stall));
    let connection = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke off");
            }
            return;
        }
        () = silent(count, patience) => return,
        () = stopping.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // Who doesn't end in time is cut off by the caller.
    let _ = connection.await;
}

/// Ends when there was no request for so long.
async fn silent(mut busy: watch::Receiver<usize>, patience: impl Fn() -> Duration) {
    loop {
        if busy.wait_for(|count| *count == 0).await.is_err() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = tokio::time::sleep(patience()) => return,
            _ = busy.changed() => {}
        }
    }
}

/// Sends a client away before it is served.
async fn refuse(mut socket: impl Socket, status: &str, why: &ApiError) -> io::Result<()> {
    let body = serde_json::to_string(&why.document())?;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    // What the client sent must be read, or closing the connection would take the answer along.
    let mut head = [0; 4096];
    let _ = socket.read(&mut head).await?;
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    while socket.read(&mut head).await? > 0 {}
    Ok(())
}

/// Counts the requests whose answer isn't sent to the end.
struct Counted<S> {
    inner: S,
    origin: Origin,
    busy: Arc<watch::Sender<usize>>,
}

struct Busy(Arc<watch::Sender<usize>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<S, B> Service<hyper::Request<Incoming>> for Counted<S>
where
    S: Service<hyper::Request<Unread>, Response = hyper::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = hyper::Response<CountedBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.origin.clone());
        self.busy.send_modify(|count| *count += 1);
        let busy = Busy(Arc::clone(&self.busy));
        let answer = self.inner.call(request.map(|body| Unread(Some(body))));
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| CountedBody { body, _busy: busy }))
        })
    }
}

/// A request's body. What is left of it when it is answered is taken and dropped, within bounds:
/// a client that still writes would find a closed connection in the place of its answer.
struct Unread(Option<Incoming>);

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let mut rest = Limited::new(body, limits::API_DRAIN_MAX);
                let taking = async { while let Some(Ok(_)) = rest.frame().await {} };
                // Whoever writes on is cut off.
                let _ = tokio::time::timeout(limits::API_DRAIN, taking).await;
            });
        }
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// An answer that counts until it is sent or dropped.
struct CountedBody<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
