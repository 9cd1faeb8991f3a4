//! Listening sockets that outlive the daemon's process: systemd keeps them while it restarts, and
//! connections wait there to be accepted.
//!
//! Owns the exchange with systemd's descriptor store (sd_notify(3), `FDSTORE`). Never opens a
//! socket, and never takes one that no longer listens.

use crate::limits::INGRESS_THREADS;
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};
use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::LazyLock;

/// What this process was started with, until somebody takes it.
static INHERITED: LazyLock<Mutex<Vec<(String, TcpListener)>>> = LazyLock::new(|| {
    let all = inherited().unwrap_or_else(|error| {
        tracing::warn!(%error, "what systemd kept over the restart can't be taken");
        Vec::new()
    });
    Mutex::new(all)
});

fn inherited() -> io::Result<Vec<(String, TcpListener)>> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let all = sd_notify::listen_fds_with_names()?.map(|(number, name)| {
        // Doubled by its number, which needs no trust in who else may have it.
        let doubled = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
        nix::unistd::close(number)?;
        Ok((name, TcpListener::from(doubled)))
    });
    all.collect()
}

/// The listeners that systemd kept under a name, once; none for a process that nothing was kept
/// for.
#[must_use]
pub fn kept(name: &str) -> Vec<TcpListener> {
    let mut all = INHERITED.lock();
    let (these, others) = std::mem::take(&mut *all).into_iter().partition(|(one, _)| one == name);
    *all = others;
    let these: Vec<(String, TcpListener)> = these;
    these.into_iter().map(|(_, listener)| listener).filter(listens).collect()
}

/// Gives up listeners that were kept: also systemd's own take no connection any more.
pub fn close(listeners: &[TcpListener]) {
    for listener in listeners {
        if let Err(error) = shutdown(listener.as_raw_fd(), Shutdown::Both) {
            tracing::warn!(%error, "a listener that was kept can't be closed");
        }
    }
}

/// Whether connections can still come in.
fn listens(listener: &TcpListener) -> bool {
    getsockopt(listener, sockopt::AcceptConn).unwrap_or(false)
        && listener.set_nonblocking(true).is_ok()
}

/// Gives systemd these listeners to keep, in the place of others under that name.
pub fn keep<'a>(name: &str, listeners: impl Iterator<Item = &'a TcpListener>) {
    let fds: Vec<BorrowedFd> = listeners.map(|listener| listener.as_fd()).collect();
    let told = tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])
        .and_then(|()| tell(&format!("FDSTORE=1\nFDNAME={name}\n"), &fds));
    if let Err(error) = told {
        tracing::warn!(%error, "systemd can't keep listeners over a restart");
    }
}

/// Tells systemd something, if it started this process.
fn tell(text: &str, fds: &[BorrowedFd]) -> io::Result<()> {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    match place.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(&place)?,
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(INGRESS_THREADS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("there are too many"));
    }
    sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty())?;
    Ok(())
}
