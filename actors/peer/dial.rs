//! Opening a connection to another member.
//!
//! Owns what a connection is made of: TCP, TLS with the very node that is meant, HTTP/2. Never
//! tries twice.

use super::tls::{SERVER_NAME, Trust, TrustError};
use crate::id::NodeId;
use crate::limits;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
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
    #[error("no answer in {} s", limits::PEER_CONNECT.as_secs())]
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

async fn connect(
    dial: &Dial,
    trust: &Trust,
    node: NodeId,
    address: &str,
) -> Result<Channel, DialError> {
    let config = trust.client_config(node)?;
    let stream = dial(node, address.to_owned()).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = Mutex::new(Some(stream.map_err(DialError::Connect)?));
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
