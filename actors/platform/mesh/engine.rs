//! WireGuard in this process, for kernels that have none: the engine behind an interface.
//!
//! Owns the TUN device, the socket and two threads: one for each direction. Packets are joined on
//! both sides wherever the kernel can. The device outlives the process, with its addresses and
//! routes, and is taken up again. Never decides which peers there are, and sets no route.

mod inbound;
mod outbound;
mod peers;
mod socket;
#[cfg(test)]
mod tests;

use crate::limits::MESH_QUEUE;
use arc_swap::ArcSwap;
use defguard_wireguard_rs::dns::DnsConfig;
use defguard_wireguard_rs::error::WireguardInterfaceError;
use defguard_wireguard_rs::host::Host;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer as PeerConfig;
use defguard_wireguard_rs::{InterfaceConfiguration, WireguardInterfaceApi};
use parking_lot::Mutex;
use peers::{Peer, Peers, Range, Wanted, id_of};
use socket::{Sent, Socket};
use std::io::{self, PipeWriter};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tun_rs::{DeviceBuilder, SyncDevice};

type Result<T> = std::result::Result<T, WireguardInterfaceError>;

/// What both threads work with.
struct Shared {
    device: Arc<SyncDevice>,
    socket: Socket,
    peers: ArcSwap<Peers>,
    /// Packets of or to nobody that is known.
    lost: AtomicU64,
    /// How often a path refused joined packets.
    refused: AtomicU64,
    /// A thread has ended by itself.
    broken: AtomicBool,
}

impl Shared {
    /// Sends one message to a peer.
    fn send(&self, peer: &Peer, message: &[u8], to: Option<SocketAddr>) {
        match to.map(|to| self.socket.send(message, to)) {
            Some(Sent::Yes) => {
                peer.counters.sent.fetch_add(message.len() as u64, Ordering::Relaxed);
            }
            Some(Sent::Refused | Sent::No) | None => peer.counters.drop_one(),
        }
    }
}

/// The threads, which end when this is dropped.
struct Running {
    shared: Arc<Shared>,
    port: u16,
    stop: Option<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // A panic was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// What is done once the engine carries nothing any more; from one of its threads.
pub type OnBroken = Arc<dyn Fn() + Send + Sync>;

/// An interface whose packets this process carries.
pub struct Engine {
    name: String,
    /// Told when a thread ends by itself.
    broken: OnBroken,
    device: Option<Arc<SyncDevice>>,
    running: Mutex<Option<Running>>,
}

/// Counts that the interface's own description has no place for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets of or to nobody that is known, or that the interface did not take.
    pub lost: u64,
    /// How often a path refused joined packets: its MTU may have changed.
    pub refused: u64,
}

impl Engine {
    /// An interface of that name, not there yet.
    #[must_use]
    pub fn new(name: &str, broken: OnBroken) -> Self {
        Self { name: name.to_owned(), broken, device: None, running: Mutex::new(None) }
    }

    /// What was dropped for no peer's account.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let running = self.running.lock();
        running.as_ref().map_or_else(Drops::default, |running| Drops {
            lost: running.shared.lost.load(Ordering::Relaxed),
            refused: running.shared.refused.load(Ordering::Relaxed),
        })
    }

    /// The packets dropped of each peer.
    #[must_use]
    pub fn dropped(&self) -> Vec<(Key, u64)> {
        let running = self.running.lock();
        let Some(running) = running.as_ref() else { return Vec::new() };
        let peers = running.shared.peers.load();
        peers
            .all()
            .map(|peer| (Key::new(peer.id), peer.counters.dropped.load(Ordering::Relaxed)))
            .collect()
    }

    /// A thread has ended by itself: the interface carries nothing.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let running = self.running.lock();
        running.as_ref().is_some_and(|running| running.shared.broken.load(Ordering::Relaxed))
    }

    fn start(&self, port: u16, peers: Peers) -> Result<Running> {
        let device = self.device.clone().ok_or_else(|| self.missing())?;
        let socket = Socket::open(port)?;
        let port = socket.port()?;
        let shared = Arc::new(Shared {
            device,
            socket,
            peers: ArcSwap::from_pointee(peers),
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        });
        let (stopped, stop) = io::pipe()?;
        let stopped = Arc::new(stopped);
        let mut running = Running { shared, port, stop: Some(stop), threads: Vec::new() };
        for (name, work) in [("mesh-out", Way::Out), ("mesh-in", Way::In)] {
            let (shared, stopped) = (Arc::clone(&running.shared), Arc::clone(&stopped));
            let broken = Arc::clone(&self.broken);
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
                let carry = AssertUnwindSafe(|| match work {
                    Way::Out => outbound::run(&shared, stopped.as_fd()),
                    Way::In => inbound::run(&shared, stopped.as_fd()),
                });
                let ended = catch_unwind(carry);
                if !matches!(ended, Ok(Ok(()))) {
                    shared.broken.store(true, Ordering::Relaxed);
                    tracing::error!(?ended, "the mesh carries nothing until it is made again");
                    broken();
                }
            })?;
            running.threads.push(thread);
        }
        Ok(running)
    }

    fn missing(&self) -> WireguardInterfaceError {
        WireguardInterfaceError::Interface(format!("{} was not created", self.name))
    }

    /// Changes the peers, and begins a handshake with those that have none.
    fn change<T>(&self, change: impl FnOnce(&mut Peers) -> T) -> Result<(T, Arc<Shared>)> {
        let running = self.running.lock();
        let running = running.as_ref().ok_or_else(|| self.missing())?;
        let mut peers = Peers::clone(&running.shared.peers.load());
        let done = change(&mut peers);
        running.shared.peers.store(Arc::new(peers));
        Ok((done, Arc::clone(&running.shared)))
    }
}

#[derive(Clone, Copy)]
enum Way {
    Out,
    In,
}

fn wanted(peer: &PeerConfig) -> Result<Wanted> {
    if peer.preshared_key.is_some() {
        let text = "preshared keys are not supported";
        return Err(WireguardInterfaceError::PeerConfigurationError(text.into()));
    }
    let keepalive = peer.persistent_keepalive_interval.filter(|seconds| *seconds > 0);
    Ok(Wanted {
        id: id_of(&peer.public_key),
        endpoint: peer.endpoint,
        allowed: peer.allowed_ips.iter().filter_map(Range::of).collect(),
        keepalive: keepalive.map(|seconds| Duration::from_secs(seconds.into())),
    })
}

impl WireguardInterfaceApi for Engine {
    /// Makes the device, or takes up the one of an earlier process with all that hangs on it.
    fn create_interface(&mut self) -> Result<()> {
        if self.device.is_some() {
            return Ok(());
        }
        let builder = DeviceBuilder::new().name(&self.name).offload(true).tx_queue_len(MESH_QUEUE);
        let device = builder.enable(true).build_sync()?;
        device.set_nonblocking(true)?;
        device.persist()?;
        self.device = Some(Arc::new(device));
        Ok(())
    }

    /// The device has no address of its own: routes through it begin at the bridge's.
    fn assign_address(&self, address: &IpAddrMask) -> Result<()> {
        let text = format!("{} takes no address ({})", self.name, address.address);
        Err(WireguardInterfaceError::Interface(text))
    }

    fn configure_peer_routing(&self, _: &[PeerConfig]) -> Result<()> {
        Ok(())
    }

    /// Sets key, port, MTU and peers. Sessions stay, unless the key is another one.
    fn configure_interface(&self, config: &InterfaceConfiguration) -> Result<()> {
        let secret = Key::try_from(config.prvkey.as_str())?.as_array();
        let device = self.device.as_ref().ok_or_else(|| self.missing())?;
        if let Some(mtu) = config.mtu.and_then(|mtu| u16::try_from(mtu).ok())
            && device.mtu()? != mtu
        {
            device.set_mtu(mtu)?;
        }
        let wanted = config.peers.iter().map(wanted).collect::<Result<Vec<_>>>()?;
        let mut running = self.running.lock();
        let same_port = running.as_ref().is_some_and(|running| running.port == config.port);
        if !same_port {
            let kept = running.take().map(|running| running.shared.peers.load_full());
            let peers = match kept {
                Some(peers) => Peers::clone(&peers),
                None => Peers::new(secret, rand::random()),
            };
            *running = Some(self.start(config.port, peers)?);
        }
        let Some(running) = running.as_ref() else { return Err(self.missing()) };
        let mut peers = Peers::clone(&running.shared.peers.load());
        if peers.secret() != secret {
            peers = peers.rekeyed(secret);
        }
        let gone: Vec<_> = peers
            .all()
            .map(|peer| peer.id)
            .filter(|id| wanted.iter().all(|wanted| wanted.id != *id))
            .collect();
        gone.iter().for_each(|id| peers.remove(id));
        let made: Vec<_> = wanted.into_iter().map(|wanted| peers.put(wanted)).collect();
        running.shared.peers.store(Arc::new(peers));
        made.iter().for_each(|peer| inbound::greet(&running.shared, peer));
        Ok(())
    }

    /// Carries nothing any more. The device stays until it is removed by netlink.
    fn remove_interface(&self) -> Result<()> {
        drop(self.running.lock().take());
        Ok(())
    }

    fn configure_peer(&self, peer: &PeerConfig) -> Result<()> {
        let wanted = wanted(peer)?;
        let (peer, shared) = self.change(|peers| peers.put(wanted))?;
        inbound::greet(&shared, &peer);
        Ok(())
    }

    fn remove_peer(&self, key: &Key) -> Result<()> {
        self.change(|peers| peers.remove(&id_of(key))).map(|_| ())
    }

    fn read_interface_data(&self) -> Result<Host> {
        let running = self.running.lock();
        let running = running.as_ref().ok_or_else(|| self.missing())?;
        let peers = running.shared.peers.load();
        let mut host = Host::new(running.port, Key::new(peers.secret()));
        for peer in peers.all() {
            let mut found = PeerConfig::new(Key::new(peer.id));
            let session = peer.session.lock();
            found.endpoint = session.endpoint;
            found.last_handshake = session.handshake;
            drop(session);
            found.tx_bytes = peer.counters.sent.load(Ordering::Relaxed);
            found.rx_bytes = peer.counters.received.load(Ordering::Relaxed);
            found.persistent_keepalive_interval =
                peer.keepalive.and_then(|after| u16::try_from(after.as_secs()).ok());
            found.allowed_ips = peer
                .allowed
                .iter()
                .map(|range| {
                    let (address, bits) = range.parts();
                    IpAddrMask::new(IpAddr::V4(address), bits)
                })
                .collect();
            host.peers.insert(found.public_key.clone(), found);
        }
        Ok(host)
    }

    fn set_dns(&self, _: &DnsConfig<'_>) -> Result<()> {
        Err(WireguardInterfaceError::DnsError("not the mesh's business".into()))
    }
}
