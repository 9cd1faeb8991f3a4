//! Connections to containers, made and kept by one thread for its next requests.
//!
//! Owns how long an idle one is kept. Never reads one.

use crate::limits::{UPSTREAM_CONNECT, UPSTREAM_IDLE, UPSTREAM_KEPT};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How often those are looked for that were kept long enough.
const LOOK: Duration = Duration::from_secs(1);

/// A connection to a container.
pub(super) struct Upstream {
    /// The bytes.
    pub(super) stream: TcpStream,
    /// It had a request before.
    pub(super) reused: bool,
}

/// The idle connections of a thread.
#[derive(Default)]
pub(in crate::actors::proxy) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    by_address: BTreeMap<SocketAddrV4, Vec<(TcpStream, Instant)>>,
    count: usize,
    /// Somebody looks for the old ones.
    is_looked_at: bool,
}

impl Pool {
    /// An idle connection; the one that was used last.
    pub(super) fn take(&self, address: SocketAddrV4) -> Option<Upstream> {
        let mut idle = self.0.lock();
        let idle = &mut *idle;
        let kept = idle.by_address.get_mut(&address)?;
        while let Some((stream, since)) = kept.pop() {
            idle.count -= 1;
            if since.elapsed() < UPSTREAM_IDLE && is_quiet(&stream) {
                return Some(Upstream { stream, reused: true });
            }
        }
        None
    }

    /// Keeps a connection whose last request and answer are whole.
    pub(super) fn put(self: &Arc<Self>, address: SocketAddrV4, upstream: Upstream) {
        let mut idle = self.0.lock();
        if idle.count >= UPSTREAM_KEPT {
            return;
        }
        idle.count += 1;
        let kept = idle.by_address.entry(address).or_default();
        kept.push((upstream.stream, Instant::now()));
        if !std::mem::replace(&mut idle.is_looked_at, true) {
            tokio::spawn(Arc::clone(self).look());
        }
    }

    /// Closes those that were kept long enough, as long as there are any.
    async fn look(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            let mut idle = self.0.lock();
            idle.by_address.retain(|_, kept| {
                kept.retain(|(_, since)| since.elapsed() < UPSTREAM_IDLE);
                !kept.is_empty()
            });
            idle.count = idle.by_address.values().map(Vec::len).sum();
            if idle.count == 0 {
                idle.is_looked_at = false;
                return;
            }
        }
    }
}

/// Whether the container has said nothing, not even goodbye.
fn is_quiet(stream: &TcpStream) -> bool {
    let said = stream.try_read(&mut [0]);
    said.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A new connection.
///
/// # Errors
/// There is none, or not in time.
pub(super) async fn connect(address: SocketAddrV4) -> io::Result<Upstream> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(UPSTREAM_CONNECT, TcpStream::connect(address)).await.map_err(late)??;
    stream.set_nodelay(true)?;
    Ok(Upstream { stream, reused: false })
}
