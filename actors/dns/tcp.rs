//! Questions over TCP, each behind its length (RFC 7766).
//!
//! Owns how many connections there are and how long they may idle.

use super::shared::Shared;
use crate::limits;
use crate::node::dns::Unusual;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Serves connections for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(limits::DNS_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _place = place;
                    // However it ends, the asker knows.
                    let _ = answer_all(stream, from.ip(), &shared).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for names was not accepted");
                tokio::time::sleep(limits::API_ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_all(mut stream: TcpStream, from: IpAddr, shared: &Shared) -> io::Result<()> {
    let (mut question, mut out) = (Vec::new(), Vec::new());
    for rotation in 0.. {
        let length = timeout(limits::DNS_IDLE, stream.read_u16()).await??;
        question.resize(usize::from(length), 0);
        timeout(limits::DNS_IDLE, stream.read_exact(&mut question)).await??;
        let answered = shared.answer(&shared.zone.load(), &question, true, rotation, &mut out);
        match answered {
            Unusual::Ready(_) => {}
            Unusual::Ignore => return Ok(()),
            Unusual::Forward(message) => match shared.forward(&message, from, true).await {
                Some(answer) => out = answer,
                None => return Ok(()),
            },
        }
        let length = u16::try_from(out.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&out);
        timeout(limits::DNS_IDLE, stream.write_all(&framed)).await??;
    }
    Ok(())
}
