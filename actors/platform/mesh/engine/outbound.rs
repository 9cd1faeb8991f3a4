//! From the interface to the peers: reads packets, encrypts them, sends them joined.
//!
//! Owns the packets under way. Never changes a peer, but for its counters.

use super::Shared;
use super::peers::Peer;
use super::socket::Sent;
use crate::limits::{MESH_BURST_BYTES, MESH_BURST_PACKETS, MESH_DATAGRAM, MESH_PACKET};
use defguard_boringtun::noise::{Tunn, TunnResult};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tun_rs::{IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};

/// What encryption adds to a packet.
const OVERHEAD: usize = 32;
/// The first byte of a message that carries data.
const DATA: u8 = 4;

/// Encrypted packets of one peer, of one size, to be sent at once.
struct Burst {
    peer: Option<Arc<Peer>>,
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
    used: usize,
    each: usize,
    packets: usize,
    /// A shorter packet is the last.
    full: bool,
}

/// Carries packets until the other end of `stop` is gone.
pub fn run(shared: &Shared, stop: BorrowedFd<'_>) -> io::Result<()> {
    let mut original = vec![0; VIRTIO_NET_HDR_LEN + MESH_DATAGRAM];
    // A joined packet has at most so many parts.
    let mut parts: Vec<_> = (0..IDEAL_BATCH_SIZE).map(|_| vec![0; MESH_PACKET]).collect();
    let mut sizes = vec![0; parts.len()];
    let mut burst = Burst::new();
    loop {
        match shared.device.recv_multiple(&mut original, &mut parts, &mut sizes, 0) {
            Ok(count) => {
                for (part, size) in parts.iter().zip(&sizes).take(count) {
                    burst.add(shared, &part[..*size]);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                burst.flush(shared);
                let device = PollFd::new(shared.device.as_fd(), PollFlags::POLLIN);
                let mut both = [device, PollFd::new(stop, PollFlags::POLLIN)];
                match poll(&mut both, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
                if both[1].any().unwrap_or(true) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The interface is gone; what else is wrong concerns one packet.
            Err(error) if is_gone(&error) => return Err(error),
            Err(_) => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [nix::errno::Errno::EBADFD, nix::errno::Errno::EBADF, nix::errno::Errno::EIO];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|known| *known as i32 == code))
}

impl Burst {
    fn new() -> Self {
        let bytes = vec![0; MESH_BURST_BYTES + MESH_DATAGRAM + OVERHEAD];
        Self { peer: None, to: None, bytes, used: 0, each: 0, packets: 0, full: false }
    }

    fn takes(&self, peer: &Arc<Peer>, size: usize) -> bool {
        let same = self.peer.as_ref().is_some_and(|own| Arc::ptr_eq(own, peer));
        let fits = self.used + size <= MESH_BURST_BYTES && self.packets < MESH_BURST_PACKETS;
        same && fits && !self.full && size <= self.each
    }

    /// Encrypts a packet, and sends what can't wait for it.
    fn add(&mut self, shared: &Shared, packet: &[u8]) {
        let peers = shared.peers.load();
        let to = match Tunn::dst_address(packet) {
            Some(IpAddr::V4(to)) => peers.route(to),
            // Only IPv4 is carried; the host's own neighbour discovery ends here.
            _ => return,
        };
        let Some(peer) = to else {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let size = packet.len() + OVERHEAD;
        if self.packets > 0 && !self.takes(peer, size) {
            self.flush(shared);
        }
        let mut session = peer.session.lock();
        self.to = session.endpoint;
        let result = session.tunn.encapsulate(packet, &mut self.bytes[self.used..]);
        drop(session);
        match result {
            // A handshake in place of the packet, which waits for it: of another size.
            TunnResult::WriteToNetwork(message) if message.first() != Some(&DATA) => {
                let message: &[u8] = message;
                shared.send(peer, message, self.to);
            }
            TunnResult::WriteToNetwork(message) => {
                let size = message.len();
                if self.packets == 0 {
                    self.peer = Some(Arc::clone(peer));
                    self.each = size;
                }
                self.full = size < self.each;
                self.used += size;
                self.packets += 1;
            }
            TunnResult::Err(_) => peer.counters.drop_one(),
            _ => {}
        }
    }

    fn flush(&mut self, shared: &Shared) {
        let Some(peer) = self.peer.take() else { return };
        let (bytes, each, packets) = (&self.bytes[..self.used], self.each, self.packets);
        match self.to {
            Some(to) => send(shared, &peer, bytes, each, packets, to),
            None => {
                peer.counters.dropped.fetch_add(packets as u64, Ordering::Relaxed);
            }
        }
        (self.used, self.packets, self.full) = (0, 0, false);
    }
}

/// Sends the packets at once, or one by one where the path does not take them so.
fn send(shared: &Shared, peer: &Peer, bytes: &[u8], each: usize, packets: usize, to: SocketAddr) {
    if packets > 1
        && peer.may_join()
        && let Ok(size) = u16::try_from(each)
    {
        match shared.socket.send_joined(bytes, size, to) {
            Sent::Yes => {
                peer.counters.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                return;
            }
            Sent::No => {
                peer.counters.dropped.fetch_add(packets as u64, Ordering::Relaxed);
                return;
            }
            Sent::Refused => {
                peer.refuse_joined();
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    for message in bytes.chunks(each) {
        shared.send(peer, message, Some(to));
    }
}
