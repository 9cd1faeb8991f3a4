//! Whose connection a proxy in front passes on: read from the connection before anything else.
//!
//! Owns that no byte behind the header is taken. Never decides whom to believe.

use crate::node::ingress::proxied::{
    BINARY_HEAD, Client, SIGNATURE, TEXT_MAX, TEXT_MIN, binary, length, text,
};
use std::io;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Reads the header at the beginning of a connection.
///
/// # Errors
/// There is none, or the connection broke.
pub(super) async fn client(stream: &mut TcpStream) -> io::Result<Client> {
    let mut head = [0; BINARY_HEAD];
    stream.read_exact(&mut head[..TEXT_MIN]).await?;
    if head.starts_with(SIGNATURE) {
        stream.read_exact(&mut head[TEXT_MIN..]).await?;
        let mut rest = vec![0; length(&head).map_err(bad)?];
        stream.read_exact(&mut rest).await?;
        return binary(&head, &rest).map_err(bad);
    }
    let mut line = head[..TEXT_MIN].to_vec();
    while line.last() != Some(&b'\n') && line.len() < TEXT_MAX {
        line.push(stream.read_u8().await?);
    }
    text(&line).map_err(bad)
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
