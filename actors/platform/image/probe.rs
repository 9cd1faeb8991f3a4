//! Whether a registry that may do without TLS speaks it.
//!
//! Owns one question on a connection of its own. Never trusts the answer with anything but the
//! choice of a scheme.

use super::error::ImageError;
use super::registry::connection;
use crate::limits;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// First byte of a TLS record: an alert, or a handshake (RFC 8446, section 5.1).
const TLS_RECORDS: [u8; 2] = [21, 22];
const HTTP_PORT: u16 = 80;

/// Sends a TLS greeting; what speaks TLS answers in it.
pub(super) async fn speaks_tls(registry: &str) -> Result<bool, ImageError> {
    let failed = |error: io::Error| connection(registry.to_owned(), &error);
    let late = || failed(io::ErrorKind::TimedOut.into());
    let address = if registry.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) {
        registry.to_owned()
    } else {
        format!("{registry}:{HTTP_PORT}")
    };
    let mut stream = timeout(limits::REGISTRY_CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| late())?
        .map_err(failed)?;
    let hello = greeting().map_err(|error| ImageError::Client(Arc::new(error)))?;
    stream.write_all(&hello).await.map_err(failed)?;
    // What hangs up, or has nothing to say to it, doesn't speak TLS.
    let first = timeout(limits::REGISTRY_CONNECT, stream.read_u8()).await;
    Ok(matches!(first, Ok(Ok(byte)) if TLS_RECORDS.contains(&byte)))
}

fn greeting() -> Result<Vec<u8>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    connection.write_tls(&mut hello).map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(hello)
}
