//! The proxy's addresses: one listener a thread for each of them.
//!
//! Owns what a taken address means. Never accepts.

use super::engine::Listeners;
use crate::actors::platform::handover;
use crate::limits::INGRESS_THREADS;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpSocket;

/// What systemd keeps the listeners as.
const HTTP: &str = "mill-http";
const HTTPS: &str = "mill-https";
/// Connections that wait to be accepted, at each listener.
const BACKLOG: u32 = 4096;

/// An address can't be opened.
#[derive(Debug)]
pub struct Refused {
    pub address: SocketAddr,
    /// The flag that sets it.
    pub flag: &'static str,
    pub source: io::Error,
}

/// The open addresses; kept over restarts of the actor, so that none is refused meanwhile.
#[derive(Debug)]
pub struct Addresses {
    http: Vec<std::net::TcpListener>,
    https: Vec<std::net::TcpListener>,
}

impl Addresses {
    /// Opens both, for each core once. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Another program has one of them.
    pub fn open(http: SocketAddr, https: SocketAddr) -> Result<Self, Refused> {
        let threads = threads();
        Ok(Self { http: all(http, threads, "--http")?, https: all(https, threads, "--https")? })
    }

    /// Those that systemd kept over a restart of the process, else new ones, which it is given to
    /// keep. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Addresses::open`].
    pub fn take(http: SocketAddr, https: SocketAddr) -> Result<Self, Refused> {
        match (kept(HTTP, http), kept(HTTPS, https)) {
            (Some(http), Some(https)) => {
                tracing::info!("the proxy's addresses were kept over the restart");
                return Ok(Self { http, https });
            }
            (one, other) => {
                handover::close(&one.unwrap_or_default());
                handover::close(&other.unwrap_or_default());
            }
        }
        let opened = Self::open(http, https)?;
        handover::keep(HTTP, opened.http.iter());
        handover::keep(HTTPS, opened.https.iter());
        Ok(opened)
    }

    /// For each thread its own.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn pairs(&self) -> io::Result<Vec<Listeners>> {
        let pairs = self.http.iter().zip(&self.https);
        pairs
            .map(|(http, https)| {
                Ok(Listeners { http: http.try_clone()?, https: https.try_clone()? })
            })
            .collect()
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &std::net::TcpListener> {
        self.http.iter().chain(&self.https)
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.first().and_then(|listener| listener.local_addr().ok())
    }

    /// Where HTTPS is served.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        self.https.first().and_then(|listener| listener.local_addr().ok())
    }
}

/// How many threads there are to be.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(INGRESS_THREADS)
}

/// What systemd kept of an address, if it is whole.
fn kept(name: &str, address: SocketAddr) -> Option<Vec<std::net::TcpListener>> {
    let kept = handover::kept(name);
    let is_it =
        |listener: &std::net::TcpListener| listener.local_addr().is_ok_and(|own| own == address);
    if kept.len() == threads() && kept.iter().all(is_it) {
        return Some(kept);
    }
    // It would hold connections that nobody accepts.
    handover::close(&kept);
    None
}

fn all(
    address: SocketAddr,
    threads: usize,
    flag: &'static str,
) -> Result<Vec<std::net::TcpListener>, Refused> {
    let failed = |source| Refused { address, flag, source };
    // Sharing a port is possible for listeners that all want it: another daemon's would be shared
    // without a word. So the first one is opened as if there were no others.
    let probe = std::net::TcpListener::bind(address).map_err(failed)?;
    let address = probe.local_addr().map_err(failed)?;
    drop(probe);
    (0..threads).map(|_| one(address).map_err(failed)).collect()
}

fn one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
