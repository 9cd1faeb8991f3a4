//! The node's WireGuard interface: in the kernel where that has WireGuard, else in this process.
//!
//! Owns the interface's key, port and peers, and reads how they do. What is there is taken up
//! again, with its sessions where the kernel keeps them. Never decides which peers there are; its
//! routes and its MTU are `net`'s.

pub mod engine;
pub mod key;
pub mod path;

use crate::fsm::mesh::MeshKey;
use crate::limits::MESH_KEEPALIVE;
use crate::network::Subnet;
use crate::node::mesh::Peer;
use defguard_wireguard_rs::error::WireguardInterfaceError;
use defguard_wireguard_rs::host::Host;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer as PeerConfig;
use defguard_wireguard_rs::{InterfaceConfiguration, Kernel, WGApi, WireguardInterfaceApi};
use engine::{Engine, OnBroken};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// Why the mesh isn't as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The interface can't be made.
    #[error(
        "making the mesh's interface {name}: {source}; mill needs root and /dev/net/tun \
         (modprobe tun), or a kernel with WireGuard (modprobe wireguard)"
    )]
    Create { name: String, source: WireguardInterfaceError },
    /// Key, port or peers can't be set.
    #[error(
        "setting up the mesh's interface {name} on UDP port {port}: {source}; where another \
         program has the port pass --mesh-port PORT"
    )]
    Set { name: String, port: u16, source: WireguardInterfaceError },
    /// It can't be read.
    #[error("reading the mesh's interface {name}: {source}")]
    Read { name: String, source: WireguardInterfaceError },
}

/// How a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFigures {
    /// When the last handshake was complete; none since the interface is there.
    pub handshake: Option<SystemTime>,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Packets that could not be sent, or were refused; the kernel does not count them by peer.
    pub dropped: u64,
    /// Where it was seen last.
    pub endpoint: Option<SocketAddr>,
}

/// The interface.
pub struct Mesh {
    name: String,
    port: u16,
    key: Key,
    carrier: Carrier,
    /// What each peer was set to: only what differs is set again, so that an endpoint that was
    /// found since stays.
    told: BTreeMap<MeshKey, Peer>,
}

enum Carrier {
    Kernel(WGApi<Kernel>),
    Process(Engine),
}

impl Mesh {
    /// Makes the interface of that name, or takes up what an earlier process left. `broken` is
    /// called if it stops to carry packets; it is then to be made again.
    ///
    /// # Errors
    /// The host lacks what it needs.
    pub fn open(name: &str, port: u16, key: Key, broken: OnBroken) -> Result<Self, MeshError> {
        let failed = |source| MeshError::Create { name: name.to_owned(), source };
        let mut kernel = WGApi::<Kernel>::new(name).map_err(failed)?;
        // One of that name that can't be read is the device of an engine.
        let made = kernel.create_interface().and_then(|()| kernel.read_interface_data());
        let carrier = match made {
            Ok(_) => Carrier::Kernel(kernel),
            Err(error) => {
                tracing::info!(%error, "the mesh runs in this process: the kernel lacks WireGuard");
                let mut engine = Engine::new(name, broken);
                engine.create_interface().map_err(failed)?;
                Carrier::Process(engine)
            }
        };
        Ok(Self { name: name.to_owned(), port, key, carrier, told: BTreeMap::new() })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> MeshKey {
        MeshKey::new(self.key.public_key().as_array())
    }

    /// In the kernel, or in this process.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        matches!(self.carrier, Carrier::Kernel(_))
    }

    /// Whether packets are carried.
    #[must_use]
    pub fn works(&self) -> bool {
        match &self.carrier {
            Carrier::Kernel(_) => true,
            Carrier::Process(engine) => !engine.is_broken(),
        }
    }

    fn api(&self) -> &dyn WireguardInterfaceApi {
        match &self.carrier {
            Carrier::Kernel(kernel) => kernel,
            Carrier::Process(engine) => engine,
        }
    }

    /// Makes this its key and exactly these the peers. Sessions with those that stay go on; under
    /// another key all begin anew.
    ///
    /// # Errors
    /// The interface does not take it; the next try begins where this one stopped.
    pub fn set(&mut self, key: &Key, peers: &BTreeMap<MeshKey, Peer>) -> Result<(), MeshError> {
        self.key = key.clone();
        let done = match self.api().read_interface_data() {
            Ok(host) if self.is_own(&host) => self.change(&host, peers),
            other => self.begin(other.ok().as_ref(), peers),
        };
        let (name, port) = (self.name.clone(), self.port);
        done.map_err(|source| MeshError::Set { name, port, source })?;
        self.told.clone_from(peers);
        Ok(())
    }

    fn is_own(&self, host: &Host) -> bool {
        host.listen_port == self.port && host.private_key.as_ref() == Some(&self.key)
    }

    fn begin(
        &self,
        host: Option<&Host>,
        peers: &BTreeMap<MeshKey, Peer>,
    ) -> Result<(), WireguardInterfaceError> {
        let config = |(key, peer): (&MeshKey, &Peer)| {
            let mut config = config_of(*key, peer);
            config.endpoint = host.and_then(|host| self.seen(host, peer)).or(config.endpoint);
            config
        };
        self.api().configure_interface(&InterfaceConfiguration {
            name: self.name.clone(),
            prvkey: self.key.to_lower_hex(),
            addresses: Vec::new(),
            port: self.port,
            peers: peers.iter().map(config).collect(),
            mtu: None,
            fwmark: None,
        })
    }

    /// Where a node was seen last, under whatever key, unless it has said since that it is
    /// elsewhere.
    fn seen(&self, host: &Host, peer: &Peer) -> Option<SocketAddr> {
        let same = |told: &Peer| told.node == peer.node && told.endpoint == peer.endpoint;
        let (key, _) = self.told.iter().find(|(_, told)| same(told))?;
        host.peers.get(&Key::new(key.bytes()))?.endpoint
    }

    fn change(
        &self,
        host: &Host,
        peers: &BTreeMap<MeshKey, Peer>,
    ) -> Result<(), WireguardInterfaceError> {
        for key in host.peers.keys() {
            if !peers.contains_key(&MeshKey::new(key.as_array())) {
                self.api().remove_peer(key)?;
            }
        }
        for (key, peer) in peers {
            let mut wanted = config_of(*key, peer);
            let found = host.peers.get(&wanted.public_key);
            let before = self.told.get(key);
            if before.map(|before| before.endpoint) == Some(peer.endpoint)
                || before.is_none() && found.is_some_and(|found| found.endpoint.is_some())
            {
                // It is where it was seen last.
                wanted.endpoint = None;
            } else if before.is_none() {
                // Perhaps under another key.
                wanted.endpoint = self.seen(host, peer).or(wanted.endpoint);
            }
            let same = found.is_some_and(|found| found.allowed_ips == wanted.allowed_ips);
            if !same || wanted.endpoint.is_some() {
                self.api().configure_peer(&wanted)?;
            }
        }
        Ok(())
    }

    /// How each peer does.
    ///
    /// # Errors
    /// The interface can't be read.
    pub fn figures(&self) -> Result<BTreeMap<MeshKey, PeerFigures>, MeshError> {
        let read = self.api().read_interface_data();
        let host = read.map_err(|source| MeshError::Read { name: self.name.clone(), source })?;
        let dropped: BTreeMap<MeshKey, u64> = match &self.carrier {
            Carrier::Kernel(_) => BTreeMap::new(),
            Carrier::Process(engine) => {
                let all = engine.dropped().into_iter();
                all.map(|(key, count)| (MeshKey::new(key.as_array()), count)).collect()
            }
        };
        let figures = |(key, peer): (&Key, &PeerConfig)| {
            let key = MeshKey::new(key.as_array());
            let figures = PeerFigures {
                // The kernel writes 1970 where there was none.
                handshake: peer.last_handshake.filter(|at| *at > SystemTime::UNIX_EPOCH),
                sent: peer.tx_bytes,
                received: peer.rx_bytes,
                dropped: dropped.get(&key).copied().unwrap_or_default(),
                endpoint: peer.endpoint,
            };
            (key, figures)
        };
        Ok(host.peers.iter().map(figures).collect())
    }
}

fn config_of(key: MeshKey, peer: &Peer) -> PeerConfig {
    let mut config = PeerConfig::new(Key::new(key.bytes()));
    config.endpoint = peer.endpoint;
    config.allowed_ips.push(mask_of(peer.range));
    config.persistent_keepalive_interval = u16::try_from(MESH_KEEPALIVE.as_secs()).ok();
    config
}

fn mask_of(range: Subnet) -> IpAddrMask {
    IpAddrMask::new(IpAddr::V4(range.address()), range.prefix())
}
