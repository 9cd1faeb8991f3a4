//! Asking a member to be let in: one connection to its peer port, verified by the CA's fingerprint.
//!
//! Owns what can go wrong on the way, in a person's words. Never changes this node.

use super::tls::{self, SERVER_NAME};
use super::{join_service, wire};
use crate::cluster::trust::Fingerprint;
use crate::limits;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error as TlsError};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Why a member could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody is there.
    #[error("{place} does not answer: {source}")]
    Nobody {
        place: String,
        #[source]
        source: io::Error,
    },
    /// Somebody is there whose CA is another.
    #[error("{place} is not of the cluster that the token is for: it has another CA")]
    OtherCluster { place: String },
    /// The certificate is not good now.
    #[error(
        "the certificate of {place} is not good at this host's time {time}: one of the clocks is \
         wrong"
    )]
    Clock {
        place: String,
        /// This host's clock.
        time: String,
    },
    /// Whoever answers speaks something else.
    #[error("what answers at {place} is no peer port of mill: {reason}")]
    Foreign {
        place: String,
        /// What it did.
        reason: String,
    },
    /// The member says no.
    #[error("{message}")]
    Refused {
        message: String,
        hint: Option<String>,
        /// It is about the token.
        denied: bool,
    },
}

impl JoinError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Nobody { .. } => {
                "HOST[:PORT] is a member's address and its peer port, 4401 by default; the \
                 firewall must let it through"
                    .to_owned()
            }
            Self::OtherCluster { .. } => {
                "make a token on a member of that cluster: mill token create --role join".to_owned()
            }
            Self::Clock { .. } => "set this host's clock, for example by NTP".to_owned(),
            Self::Foreign { .. } => "pass a member's peer port, 4401 by default".to_owned(),
            Self::Refused { hint, .. } => return hint.clone(),
        })
    }
}

/// A connection to a member that is not asked anything yet.
pub struct JoinClient {
    place: String,
    stream: TlsStream<TcpStream>,
}

impl JoinClient {
    /// Connects, and verifies that the cluster is the one of the fingerprint.
    ///
    /// # Errors
    /// Nobody is there, or somebody else.
    pub async fn new(host: &str, port: u16, ca: Fingerprint) -> Result<Self, JoinError> {
        let place =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let nobody = |source| JoinError::Nobody { place: place.clone(), source };
        let dialled = TcpStream::connect((host, port));
        let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
        let dialled = tokio::time::timeout(limits::CONNECT_TIMEOUT, dialled).await;
        let socket = dialled.map_err(elapsed).map_err(nobody)?.map_err(nobody)?;
        let foreign = |reason: String| JoinError::Foreign { place: place.clone(), reason };
        let config = tls::pinned_config(ca, &[b"h2"]).map_err(|e| foreign(e.to_string()))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|e| foreign(e.to_string()))?;
        let handshake = TlsConnector::from(config).connect(name, socket);
        let shaken = tokio::time::timeout(limits::CONNECT_TIMEOUT, handshake).await;
        match shaken.map_err(elapsed).map_err(nobody)? {
            Ok(stream) => Ok(Self { place, stream }),
            Err(error) => Err(handshake_failed(place, &error)),
        }
    }

    /// The address of this host that the member sees.
    #[must_use]
    pub fn own_address(&self) -> Option<IpAddr> {
        self.stream.get_ref().0.local_addr().ok().map(|address| address.ip())
    }

    /// Asks to be let in.
    ///
    /// # Errors
    /// The member says no, or the connection breaks.
    pub async fn join(self, request: wire::JoinRequest) -> Result<wire::Joined, JoinError> {
        let Self { place, stream } = self;
        let channel = channel(stream).await.map_err(|error| JoinError::Foreign {
            place: place.clone(),
            reason: error.to_string(),
        })?;
        let mut client = wire::door_client::DoorClient::new(channel);
        let asked = tokio::time::timeout(limits::JOIN_ANSWER, client.join(request)).await;
        match asked {
            Ok(Ok(joined)) => Ok(joined.into_inner()),
            Ok(Err(status)) => Err(refused(place, &status)),
            Err(_) => {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                Err(JoinError::Nobody { place, source })
            }
        }
    }
}

/// A channel over the one connection that is there.
pub(super) async fn channel(
    stream: TlsStream<TcpStream>,
) -> Result<Channel, tonic::transport::Error> {
    let stream = Arc::new(tokio::sync::Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = Arc::clone(&stream);
        async move {
            let gone = || io::Error::from(io::ErrorKind::NotConnected);
            stream.lock().await.take().map(TokioIo::new).ok_or_else(gone)
        }
    });
    // The address says nothing: the connection is there.
    Endpoint::from_static("http://member").connect_with_connector(connector).await
}

fn handshake_failed(place: String, error: &io::Error) -> JoinError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            JoinError::OtherCluster { place }
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => JoinError::Clock { place, time: super::ca::now().to_string() },
        _ => JoinError::Foreign { place, reason: error.to_string() },
    }
}

fn refused(place: String, status: &Status) -> JoinError {
    let hint = status.metadata().get_bin(join_service::HINT).and_then(|hint| hint.to_bytes().ok());
    let hint = hint.and_then(|hint| String::from_utf8(hint.to_vec()).ok());
    // The door never says no without saying what to do.
    let Some(hint) = hint else {
        let reason = match status.code() {
            Code::Internal | Code::Unknown => "its answer can't be read".to_owned(),
            code => code.to_string(),
        };
        return JoinError::Foreign { place, reason };
    };
    let message = status.message().to_owned();
    let denied = status.code() == Code::PermissionDenied;
    JoinError::Refused { message, hint: Some(hint), denied }
}
