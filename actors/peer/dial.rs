//! Opening a connection to another member.
//!
//! Owns what a connection is made of: TCP, TLS with the very node that is meant, HTTP/2. Never
//! tries twice.

use super::tls::{API_PROTOCOL, PEER_PROTOCOL, SERVER_NAME, Trust, TrustError};
use crate::id::NodeId;
use crate::limits;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// Opens a TCP connection to a node at `HOST:PORT`.
pub type Dial =
    Arc<dyn Fn(NodeId, String) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Over the network.
#[must_use]
pub fn tcp() -> Dial {
    Arc::new(|_, address| Box::pin(TcpStream::connect(address)))
}

/// Why a node can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It took too long.
    #[error("no answer in {}s", limits::PEER_CONNECT.as_secs())]
    Late,
    /// TCP or TLS.
    #[error("connecting")]
    Connect(#[source] io::Error),
    /// This node's own keys.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// HTTP/2.
    #[error("speaking HTTP/2")]
    Http(#[from] tonic::transport::Error),
    /// Never: the name is fixed.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

/// A connection to that node and no other.
pub(super) async fn dial(
    dial: &Dial,
    trust: &Trust,
    node: NodeId,
    address: &str,
) -> Result<Channel, DialError> {
    let connecting = connect(dial, trust, node, address);
    tokio::time::timeout(limits::PEER_CONNECT, connecting).await.map_err(|_| DialError::Late)?
}

/// A connection to that node's API, of which its end is noticed also where nothing is sent.
///
/// # Errors
/// The node doesn't answer in time, or is another.
pub async fn dial_api(
    dial: &Dial,
    trust: &Trust,
    node: NodeId,
    address: &str,
) -> Result<TlsStream<TcpStream>, DialError> {
    let connecting = async {
        let stream = secure(dial, trust, node, address, API_PROTOCOL).await?;
        watch(stream.get_ref().0, &API_WATCH).map_err(DialError::Connect)?;
        Ok(stream)
    };
    tokio::time::timeout(limits::PEER_CONNECT, connecting).await.map_err(|_| DialError::Late)?
}

/// When the system takes the other end of a connection for gone.
pub(super) struct Watch {
    /// After so long without a byte it is asked.
    idle: Duration,
    /// And again after this long.
    again: Duration,
    probes: u32,
    /// What was sent may be unacknowledged for so long.
    unheard: Duration,
}

/// Connections to other nodes' API.
pub(super) const API_WATCH: Watch = Watch {
    idle: limits::REACH_IDLE,
    again: limits::REACH_PROBE,
    probes: limits::REACH_PROBES,
    unheard: limits::REACH_UNHEARD,
};

/// Links.
pub(super) const LINK_WATCH: Watch = Watch {
    idle: limits::PEER_PROBE,
    again: limits::PEER_PROBE,
    probes: 1,
    unheard: limits::PEER_UNHEARD,
};

/// Lets the system notice that the other end is gone.
pub(super) fn watch(stream: &TcpStream, watch: &Watch) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(watch.idle))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(watch.again))?;
    setsockopt(stream, sockopt::TcpKeepCount, &watch.probes)?;
    let unheard = u32::try_from(watch.unheard.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &unheard)?;
    Ok(())
}

async fn secure(
    dial: &Dial,
    trust: &Trust,
    node: NodeId,
    address: &str,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, DialError> {
    let config = trust.client_config(node, protocol)?;
    let stream = dial(node, address.to_owned()).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(DialError::Connect)
}

async fn connect(
    dial: &Dial,
    trust: &Trust,
    node: NodeId,
    address: &str,
) -> Result<Channel, DialError> {
    let stream = secure(dial, trust, node, address, PEER_PROTOCOL).await?;
    watch(stream.get_ref().0, &LINK_WATCH).map_err(DialError::Connect)?;
    let stream = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let stream = stream.lock().ok().and_then(|mut stream| stream.take());
        // A connection that broke is not made again in here.
        std::future::ready(stream.map(TokioIo::new).ok_or(io::ErrorKind::NotConnected))
    });
    let endpoint = Endpoint::from_static("http://peer")
        .initial_stream_window_size(limits::PEER_WINDOW)
        .initial_connection_window_size(limits::PEER_WINDOW)
        .http2_keep_alive_interval(limits::PEER_PING)
        .keep_alive_timeout(limits::PEER_SILENCE)
        .keep_alive_while_idle(true);
    let connector = tower::ServiceExt::map_err(connector, io::Error::from);
    Ok(endpoint.connect_with_connector(connector).await?)
}
