//! The engine's side of a container: how it is connected to, and how long its answer may take.
//!
//! Never chooses one.

use crate::limits::{BODY_WAIT, STREAM_WAIT, UPSTREAM_CONNECT, UPSTREAM_IDLE};
use nix::sys::socket::{Shutdown, shutdown};
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use std::net::SocketAddrV4;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Waits for an answer's head: after the time it ends the connection to the container.
///
/// The engine knows one time-out for head and body; streams have none. The connection belongs to
/// the thread that this runs on, and is not closed before this is dropped.
pub(super) struct Patience {
    task: JoinHandle<()>,
    begun: Instant,
    /// Milliseconds since `begun`.
    renewed: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn begin(fd: RawFd, most: Duration) -> Self {
        let begun = Instant::now();
        let (renewed, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (last, ended) = (Arc::clone(&renewed), Arc::clone(&over));
        let task = tokio::spawn(async move {
            loop {
                let due = begun + Duration::from_millis(last.load(Ordering::Relaxed)) + most;
                if Instant::now() >= due {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
            }
            ended.store(true, Ordering::Relaxed);
            // What is closed already needs no end.
            let _ = shutdown(fd, Shutdown::Both);
        });
        Self { task, begun, renewed, over }
    }

    /// More of the body went on its way: the time begins anew.
    pub(super) fn renew(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.renewed.store(millis, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a container is connected to.
pub(super) fn peer(address: SocketAddrV4, h2c: bool) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(UPSTREAM_CONNECT);
    options.total_connection_timeout = Some(UPSTREAM_CONNECT);
    options.idle_timeout = Some(UPSTREAM_IDLE);
    options.read_timeout = Some(STREAM_WAIT);
    options.write_timeout = Some(BODY_WAIT);
    if h2c {
        options.alpn = ALPN::H2;
        options.max_h2_streams = 100;
    }
    Box::new(peer)
}
