//! From the peers to the interface: receives, decrypts, checks the sender's addresses, writes.
//!
//! Owns the sessions' timers as well, since it is the thread that never waits long. Never lets a
//! packet in whose source isn't the peer's.

use super::Shared;
use super::peers::{Peer, Peers, Session};
use crate::limits::{MESH_BURST_PACKETS, MESH_DATAGRAM, MESH_RENEW, MESH_RENEW_LATER, MESH_TICK};
use bytes::BytesMut;
use defguard_boringtun::noise::errors::WireGuardError;
use defguard_boringtun::noise::{Packet, TunnResult};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tun_rs::{GROTable, IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};

/// A handshake message and more.
const MESSAGE: usize = 256;

/// Decrypted packets on their way to the interface, which are joined there where they follow each
/// other: each buffer can take as much as a joined packet has.
struct Batch {
    packets: Vec<BytesMut>,
    used: usize,
    joiner: GROTable,
}

/// Carries packets and keeps the sessions until the other end of `stop` is gone.
pub fn run(shared: &Shared, stop: BorrowedFd<'_>) -> io::Result<()> {
    let mut datagrams = vec![0; MESH_DATAGRAM];
    let mut scratch = vec![0; MESH_DATAGRAM + MESSAGE];
    let mut batch = Batch::new();
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next {
            tick(shared, &mut scratch);
            next = now + MESH_TICK;
        }
        match shared.socket.receive(&mut datagrams) {
            Ok(got) => {
                for datagram in datagrams[..got.len].chunks(got.each) {
                    if batch.used == batch.packets.len() {
                        batch.flush(shared)?;
                    }
                    take(shared, datagram, got.from, &mut batch, &mut scratch);
                }
                if batch.used + MESH_BURST_PACKETS > batch.packets.len() {
                    batch.flush(shared)?;
                }
            }
            Err(Errno::EAGAIN) => {
                batch.flush(shared)?;
                let wait = next.saturating_duration_since(Instant::now());
                let wait = PollTimeout::try_from(whole(wait)).unwrap_or(PollTimeout::ZERO);
                let socket = PollFd::new(shared.socket.as_fd(), PollFlags::POLLIN);
                let mut both = [socket, PollFd::new(stop, PollFlags::POLLIN)];
                match poll(&mut both, wait) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
                if both[1].any().unwrap_or(true) {
                    return Ok(());
                }
            }
            Err(Errno::EBADF | Errno::ENOTSOCK) => return Err(Errno::EBADF.into()),
            // An error of an earlier send, told by the kernel here.
            Err(_) => {}
        }
    }
}

impl Batch {
    fn new() -> Self {
        let room = VIRTIO_NET_HDR_LEN * 2 + MESH_DATAGRAM + MESSAGE;
        let packets = (0..IDEAL_BATCH_SIZE).map(|_| BytesMut::with_capacity(room)).collect();
        Self { packets, used: 0, joiner: GROTable::default() }
    }

    /// The next free buffer, with space for a packet of that size after its header.
    fn space(&mut self, size: usize) -> &mut BytesMut {
        let packet = &mut self.packets[self.used];
        packet.resize(VIRTIO_NET_HDR_LEN + size, 0);
        packet[..VIRTIO_NET_HDR_LEN].fill(0);
        packet
    }

    fn flush(&mut self, shared: &Shared) -> io::Result<()> {
        if self.used == 0 {
            return Ok(());
        }
        let packets = &mut self.packets[..self.used];
        self.used = 0;
        match shared.device.send_multiple(&mut self.joiner, packets, VIRTIO_NET_HDR_LEN) {
            Err(error) if error.raw_os_error() == Some(Errno::EBADFD as i32) => Err(error),
            Err(_) => {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// What has to be done after the session has seen a datagram.
enum Next {
    /// A packet of that length for the interface, from that address.
    Deliver(usize, Ipv4Addr),
    /// An answer, of that length in the scratch buffer; then what waited for it.
    Answer(usize),
    /// Nothing, the datagram was authentic.
    Nothing,
    /// Nothing, and it says nothing about the sender.
    Ignore,
}

fn take(shared: &Shared, datagram: &[u8], from: SocketAddr, batch: &mut Batch, out: &mut [u8]) {
    let peers = shared.peers.load();
    let Some(packet) = verify(shared, &peers, datagram, from) else { return };
    let Some(peer) = peers.of_message(&packet) else {
        shared.lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut session = peer.session.lock();
    let next = if matches!(packet, Packet::PacketData(_)) {
        decrypt(&mut session, datagram, batch)
    } else {
        answer(&mut session, &packet, datagram, from, out)
    };
    if matches!(next, Next::Deliver(..) | Next::Answer(_) | Next::Nothing) {
        session.endpoint = Some(from);
        peer.counters.received.fetch_add(datagram.len() as u64, Ordering::Relaxed);
    }
    match next {
        Next::Deliver(length, source) if peer.may_send(source) => {
            batch.packets[batch.used].truncate(VIRTIO_NET_HDR_LEN + length);
            batch.used += 1;
        }
        Next::Answer(length) => {
            shared.send(peer, &out[..length], Some(from));
            release(shared, peer, &mut session, out);
        }
        Next::Nothing => {}
        Next::Deliver(..) | Next::Ignore => peer.counters.drop_one(),
    }
}

/// The message, if it may be looked at: a stranger that sends many handshakes is asked to prove
/// its address first.
fn verify<'a>(
    shared: &Shared,
    peers: &Peers,
    datagram: &'a [u8],
    from: SocketAddr,
) -> Option<Packet<'a>> {
    let mut cookie = [0; 64];
    match peers.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
        Ok(packet) => Some(packet),
        Err(TunnResult::WriteToNetwork(cookie)) => {
            let _ = shared.socket.send(cookie, from);
            None
        }
        Err(_) => {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

fn decrypt(session: &mut Session, datagram: &[u8], batch: &mut Batch) -> Next {
    let space = &mut batch.space(datagram.len())[VIRTIO_NET_HDR_LEN..];
    let next = match session.tunn.decapsulate(None, datagram, space) {
        TunnResult::WriteToTunnelV4(packet, source) => Next::Deliver(packet.len(), source),
        TunnResult::Done => Next::Nothing,
        _ => Next::Ignore,
    };
    if session.answered && !matches!(next, Next::Ignore) {
        session.answered = false;
        session.handshake = Some(SystemTime::now());
    }
    next
}

fn answer(
    session: &mut Session,
    packet: &Packet<'_>,
    datagram: &[u8],
    from: SocketAddr,
    out: &mut [u8],
) -> Next {
    let length = match session.tunn.decapsulate(Some(from.ip()), datagram, out) {
        TunnResult::WriteToNetwork(message) => message.len(),
        // A cookie is for the next handshake.
        _ => return Next::Ignore,
    };
    match packet {
        Packet::HandshakeInit(_) => session.answered = true,
        Packet::HandshakeResponse(_) => session.handshake = Some(SystemTime::now()),
        _ => return Next::Ignore,
    }
    Next::Answer(length)
}

/// Sends the packets that waited for a session.
fn release(shared: &Shared, peer: &Peer, session: &mut Session, out: &mut [u8]) {
    let to = session.endpoint;
    while let TunnResult::WriteToNetwork(message) = session.tunn.decapsulate(None, &[], out) {
        shared.send(peer, message, to);
    }
}

/// So many whole milliseconds, rounded up: the system counts in them, and who looks again before
/// the time has come looks again and again.
fn whole(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

/// Looks at every session's timers: handshakes that are due, keepalives, keys that are too old.
fn tick(shared: &Shared, out: &mut [u8]) {
    let peers = shared.peers.load();
    peers.limiter.reset_count();
    let own = *peers.public.as_bytes();
    for peer in peers.all() {
        let mut session = peer.session.lock();
        let to = session.endpoint;
        match session.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(message) => shared.send(peer, message, to),
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                again(shared, peer, &mut session, out)
            }
            _ => renew(shared, peer, &mut session, own, out),
        }
    }
}

/// The protocol gives up after a minute and a half; a peer that is kept alive is tried again.
fn again(shared: &Shared, peer: &Peer, session: &mut Session, out: &mut [u8]) {
    let Some(pause) = peer.keepalive else { return };
    if session.tried.elapsed() >= pause {
        begin(shared, peer, session, out);
    }
}

/// A session that is kept alive is renewed before it ends, also where only keepalives pass. One
/// side waits longer, so that not both begin.
fn renew(shared: &Shared, peer: &Peer, session: &mut Session, own: [u8; 32], out: &mut [u8]) {
    let due = if own < peer.id { MESH_RENEW } else { MESH_RENEW_LATER };
    let age = session.tunn.time_since_last_handshake();
    if peer.keepalive.is_some() && age.is_some_and(|age| age >= due) {
        begin(shared, peer, session, out);
    }
}

/// Begins a handshake, unless one is under way.
pub fn begin(shared: &Shared, peer: &Peer, session: &mut Session, out: &mut [u8]) {
    session.tried = Instant::now();
    let to = session.endpoint;
    if let TunnResult::WriteToNetwork(message) =
        session.tunn.format_handshake_initiation(out, false)
    {
        shared.send(peer, message, to);
    }
}

/// Begins a handshake with a peer that was just made known.
pub fn greet(shared: &Shared, peer: &Peer) {
    let mut out = [0; MESSAGE];
    let mut session = peer.session.lock();
    if session.endpoint.is_some() && session.tunn.time_since_last_handshake().is_none() {
        begin(shared, peer, &mut session, &mut out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_does_not_look_before_the_time_has_come() {
        let millis = |micros| whole(Duration::from_micros(micros)).as_millis();
        assert_eq!([0, 1, 999, 1000, 1001].map(millis), [0, 1, 1, 1, 2]);
    }
}
