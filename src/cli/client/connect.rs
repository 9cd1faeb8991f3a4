//! One HTTP/1 connection, over a UNIX socket or TCP, with TLS or without.
//!
//! Owns opening and driving it. Never knows what is sent.

use super::{ClientError, RequestBody};
use crate::actors::peer::tls;
use crate::cli::globals::Target;
use crate::cluster::token;
use crate::cluster::trust::Fingerprint;
use crate::limits;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket or port does not answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It answers, but speaks no HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// It answers, and isn't trusted.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
}

/// Why an address with HTTPS is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// There is no token, and so no fingerprint.
    #[error("https needs a token: its last part says which cluster to trust")]
    NoToken,
    /// A token of a cluster without a CA.
    #[error("the token has no fingerprint of a cluster's CA at its end")]
    NoFingerprint,
    /// The CA is another one.
    #[error("not of the cluster that the token is for: it has another CA")]
    OtherCluster,
    /// The handshake failed otherwise.
    #[error("no TLS connection: {0}")]
    Tls(#[source] io::Error),
}

impl Untrusted {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoToken => "Pass --token T or set MILL_TOKEN",
            Self::NoFingerprint => "Make a token on a member: mill token create --role ROLE",
            Self::OtherCluster => "Use a token that was made on that cluster, or its address",
            Self::Tls(_) => "The API's address speaks TLS; look at the port and at both clocks",
        }
    }
}

impl ConnectError {
    /// Whether this user may not use the socket.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Why another machine isn't reached; none for what is on this one.
pub fn unreachable(target: &Target, error: &ConnectError) -> Option<ClientError> {
    let (Target::Tcp { host, .. } | Target::Tls { host, .. }) = target else { return None };
    let address = host.parse::<std::net::IpAddr>();
    if host == "localhost" || address.as_ref().is_ok_and(|address| address.is_loopback()) {
        return None;
    }
    let why = match error {
        ConnectError::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::TimedOut => "no answer".to_owned(),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "no way there".to_owned()
            }
            // What a resolver says has no number of the system.
            _ if error.raw_os_error().is_none() && address.is_err() => "host not found".to_owned(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    };
    Some(ClientError::Unreachable { target: target.host_header(), why })
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

/// Opens a connection; the token says which CA is trusted.
pub async fn open(target: &Target, token: Option<&str>) -> Result<Sender, ConnectError> {
    let opened = async {
        match target {
            Target::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            Target::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                handshake(stream).await
            }
            Target::Tls { host, port } => {
                let token = token.ok_or(Untrusted::NoToken)?;
                let ca = token::fingerprint(token).ok_or(Untrusted::NoFingerprint)?;
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                handshake(encrypt(stream, ca).await?).await
            }
        }
    };
    let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limits::CONNECT_TIMEOUT, opened).await.map_err(elapsed)?
}

/// TLS with any member of the cluster with that CA.
async fn encrypt(stream: TcpStream, ca: Fingerprint) -> Result<TlsStream<TcpStream>, Untrusted> {
    let failed =
        |error: &dyn std::fmt::Display| Untrusted::Tls(io::Error::other(error.to_string()));
    let config = tls::pinned_config(ca, &[b"http/1.1"]).map_err(|error| failed(&error))?;
    let name = ServerName::try_from(tls::SERVER_NAME).map_err(|error| failed(&error))?;
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    shaken.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let unknown = rustls::CertificateError::UnknownIssuer;
        if inner == Some(&rustls::Error::InvalidCertificate(unknown)) {
            Untrusted::OtherCluster
        } else {
            Untrusted::Tls(error)
        }
    })
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
