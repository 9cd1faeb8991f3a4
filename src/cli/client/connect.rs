//! One HTTP/1 connection, over a UNIX socket or TCP.
//!
//! Owns opening and driving it. Never knows what is sent.

use super::RequestBody;
use crate::cli::globals::Target;
use crate::limits;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket or port does not answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It answers, but speaks no HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl ConnectError {
    /// Whether this user may not use the socket.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The sending half.
pub struct Sender(SendRequest<RequestBody>);

impl Sender {
    /// Sends the request and waits for the head of the answer.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.0.send_request(request).await
    }
}

/// Opens a connection.
pub async fn open(target: &Target) -> Result<Sender, ConnectError> {
    let opened = async {
        match target {
            Target::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            Target::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                handshake(stream).await
            }
        }
    };
    let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limits::CONNECT_TIMEOUT, opened).await.map_err(elapsed)?
}

async fn handshake<S>(stream: S) -> Result<Sender, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself once the request's and the answer's halves are dropped.
    tokio::spawn(connection.with_upgrades());
    Ok(Sender(sender))
}
