//! The peers of an interface: who they are, where they are, which addresses are theirs.
//!
//! Owns each peer's session and counters. Never sends, never reads, knows no interface.

use crate::limits::{MESH_HANDSHAKES, MESH_SINGLE_FOR};
use defguard_boringtun::noise::rate_limiter::RateLimiter;
use defguard_boringtun::noise::{Packet, Tunn};
use defguard_boringtun::x25519::{PublicKey, StaticSecret};
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A public key's bytes, which can be ordered.
pub type Id = [u8; 32];

/// A peer's network: its address and its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    address: u32,
    mask: u32,
}

impl Range {
    /// None for one of IPv6, which the mesh does not carry.
    pub fn of(given: &IpAddrMask) -> Option<Self> {
        let IpAddr::V4(address) = given.address else { return None };
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(given.cidr.into())).unwrap_or(0);
        Some(Self { address: u32::from(address) & mask, mask })
    }

    /// Address and length of the prefix.
    pub fn parts(self) -> (Ipv4Addr, u8) {
        let ones = u8::try_from(self.mask.count_ones()).unwrap_or(32);
        (Ipv4Addr::from(self.address), ones)
    }

    fn holds(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask == self.address
    }
}

/// The noise session with a peer, and where the peer was seen last.
pub struct Session {
    /// The protocol's state machine.
    pub tunn: Tunn,
    /// Where the peer is: as told, or where its newest authentic packet came from.
    pub endpoint: Option<SocketAddr>,
    /// The endpoint as told last: told again, it does not undo what was seen since.
    told: Option<SocketAddr>,
    /// A handshake that the peer began was answered, and nothing has come through it so far.
    pub answered: bool,
    /// When a handshake was last tried after the protocol gave up.
    pub tried: Instant,
    /// When the last handshake was complete.
    pub handshake: Option<SystemTime>,
}

/// What went through a peer's tunnel.
#[derive(Default)]
pub struct Counters {
    /// Bytes sent to the peer, encrypted.
    pub sent: AtomicU64,
    /// Bytes received from it, encrypted.
    pub received: AtomicU64,
    /// Packets that could not be sent, or were refused.
    pub dropped: AtomicU64,
}

impl Counters {
    /// One more packet is lost.
    pub fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A peer of the interface.
pub struct Peer {
    /// Its public key.
    pub id: Id,
    pub session: Mutex<Session>,
    /// Its networks.
    pub allowed: Vec<Range>,
    /// A packet is sent at least this often.
    pub keepalive: Option<Duration>,
    /// What went through.
    pub counters: Arc<Counters>,
    /// The seconds since `start` until which joined packets are not tried.
    single_until: AtomicU64,
    start: Instant,
    index: u32,
}

impl Peer {
    /// Whether a packet from this address may come from this peer.
    pub fn may_send(&self, from: Ipv4Addr) -> bool {
        self.allowed.iter().any(|range| range.holds(from))
    }

    /// Whether several packets may be given to the kernel at once.
    pub fn may_join(&self) -> bool {
        self.start.elapsed().as_secs() >= self.single_until.load(Ordering::Relaxed)
    }

    /// The path refuses joined packets: one by one for a while.
    pub fn refuse_joined(&self) {
        let until = self.start.elapsed() + MESH_SINGLE_FOR;
        self.single_until.store(until.as_secs(), Ordering::Relaxed);
    }
}

/// What a peer shall be.
pub struct Wanted {
    /// Its public key.
    pub id: Id,
    /// Where it is, if that is known.
    pub endpoint: Option<SocketAddr>,
    /// Its networks.
    pub allowed: Vec<Range>,
    /// A packet is sent at least this often.
    pub keepalive: Option<Duration>,
}

/// The interface's own key and its peers; replaced as a whole by each change.
#[derive(Clone)]
pub struct Peers {
    secret: StaticSecret,
    /// The interface's public key.
    pub public: PublicKey,
    /// Bounds the work that strangers can cause.
    pub limiter: Arc<RateLimiter>,
    by_id: BTreeMap<Id, Arc<Peer>>,
    by_index: BTreeMap<u32, Arc<Peer>>,
    next_index: u32,
}

/// Indexes of sessions have 24 bits for the peer.
const INDEXES: u32 = 0x00ff_ffff;

impl Peers {
    /// No peers, for an interface with that private key. `seed` sets the sessions' first number,
    /// so that they aren't those of an earlier life.
    pub fn new(secret: [u8; 32], seed: u32) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, MESH_HANDSHAKES));
        let (by_id, by_index) = (BTreeMap::new(), BTreeMap::new());
        Self { secret, public, limiter, by_id, by_index, next_index: seed & INDEXES }
    }

    /// The same peers for another private key: every session begins anew.
    #[must_use]
    pub fn rekeyed(&self, secret: [u8; 32]) -> Self {
        let mut fresh = Self::new(secret, self.next_index);
        for peer in self.all() {
            let told = peer.session.lock();
            let wanted = Wanted {
                id: peer.id,
                endpoint: told.endpoint,
                allowed: peer.allowed.clone(),
                keepalive: peer.keepalive,
            };
            drop(told);
            fresh.put(wanted);
        }
        fresh
    }

    /// The private key.
    pub fn secret(&self) -> [u8; 32] {
        self.secret.to_bytes()
    }

    /// Every peer.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_id.values()
    }

    /// Adds a peer or changes it, its session kept; returns it.
    pub fn put(&mut self, wanted: Wanted) -> Arc<Peer> {
        let old = self.by_id.remove(&wanted.id);
        if let Some(old) = &old
            && old.allowed == wanted.allowed
            && old.keepalive == wanted.keepalive
        {
            tell(&mut old.session.lock(), wanted.endpoint);
            self.by_id.insert(wanted.id, Arc::clone(old));
            return Arc::clone(old);
        }
        // What its networks are is read without a lock, so that the peer is made anew.
        if let Some(old) = &old {
            self.by_index.remove(&old.index);
        }
        let peer = Arc::new(self.make(wanted, old.as_deref()));
        self.by_index.insert(peer.index, Arc::clone(&peer));
        self.by_id.insert(peer.id, Arc::clone(&peer));
        peer
    }

    fn make(&mut self, wanted: Wanted, old: Option<&Peer>) -> Peer {
        let Wanted { id, endpoint, allowed, keepalive } = wanted;
        self.next_index = (self.next_index + 1) & INDEXES;
        let index = self.next_index;
        let tunn = Tunn::new(
            self.secret.clone(),
            PublicKey::from(id),
            None,
            keepalive.map(|after| u16::try_from(after.as_secs()).unwrap_or(u16::MAX)),
            index,
            Some(Arc::clone(&self.limiter)),
        );
        let now = Instant::now();
        let seen = old.and_then(|old| old.session.lock().endpoint);
        let session = Session {
            tunn,
            endpoint: endpoint.or(seen),
            told: endpoint,
            answered: false,
            tried: now,
            handshake: None,
        };
        Peer {
            id,
            session: Mutex::new(session),
            allowed,
            keepalive,
            counters: old.map(|old| Arc::clone(&old.counters)).unwrap_or_default(),
            single_until: AtomicU64::new(0),
            start: now,
            index,
        }
    }

    /// Takes a peer away.
    pub fn remove(&mut self, id: &Id) {
        if let Some(peer) = self.by_id.remove(id) {
            self.by_index.remove(&peer.index);
        }
    }

    /// The peer that the address belongs to: the one with the narrowest network.
    pub fn route(&self, to: Ipv4Addr) -> Option<&Arc<Peer>> {
        let found = self.all().flat_map(|peer| peer.allowed.iter().map(move |range| (range, peer)));
        found.filter(|(range, _)| range.holds(to)).max_by_key(|(range, _)| range.mask).map(|f| f.1)
    }

    /// The peer that a message is for or from.
    pub fn of_message(&self, packet: &Packet<'_>) -> Option<&Arc<Peer>> {
        let index = match packet {
            Packet::HandshakeInit(init) => {
                let half = defguard_boringtun::noise::handshake::parse_handshake_anon(
                    &self.secret,
                    &self.public,
                    init,
                );
                return self.by_id.get(&half.ok()?.peer_static_public);
            }
            Packet::HandshakeResponse(message) => message.receiver_idx,
            Packet::PacketCookieReply(message) => message.receiver_idx,
            Packet::PacketData(message) => message.receiver_idx,
        };
        self.by_index.get(&(index >> 8))
    }
}

/// Takes note of an endpoint that differs from the one told before.
fn tell(session: &mut Session, endpoint: Option<SocketAddr>) {
    if endpoint.is_some() && session.told != endpoint {
        session.told = endpoint;
        session.endpoint = endpoint;
    }
}

/// The key's bytes.
pub fn id_of(key: &Key) -> Id {
    key.as_array()
}
