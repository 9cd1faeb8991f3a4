//! The proxy's addresses: one listener a thread for each of them.
//!
//! Owns what a taken address means. Never accepts.

use super::engine::Doors;
use crate::limits::INGRESS_THREADS;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpSocket;

/// Connections that wait to be accepted, at each listener.
const BACKLOG: u32 = 4096;

/// An address can't be opened.
#[derive(Debug)]
pub struct Refused {
    /// Which.
    pub address: SocketAddr,
    /// The flag that sets it.
    pub flag: &'static str,
    /// What the system said.
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(INGRESS_THREADS);
        Ok(Self { http: all(http, threads, "--http")?, https: all(https, threads, "--https")? })
    }

    /// For each thread its own.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn doors(&self) -> io::Result<Vec<Doors>> {
        let pairs = self.http.iter().zip(&self.https);
        pairs
            .map(|(http, https)| Ok(Doors { http: http.try_clone()?, https: https.try_clone()? }))
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
