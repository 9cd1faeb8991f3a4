//! Container networking of one node: bridge, namespaces, addresses, published ports, egress.
//!
//! Owns everything of it that the kernel knows: the interfaces, mounts and the nftables table that
//! carry the instance's name. What is there outlives the process and is taken up again by `open`.
//! Never decides which address or port an allocation has, and never touches what others made.

mod conntrack;
mod error;
mod firewall;
mod foreign;
mod forwarding;
mod led;
mod link;
mod mesh;
mod netns;
mod nft;
mod reserve;
mod routes;
mod sources;
mod switches;
mod teardown;
#[cfg(test)]
mod tests;
mod watch;

pub use error::NetError;
pub use firewall::{Neighbours, PublishMap, Virtuals};
pub use foreign::Foreign;
pub use netns::within;
pub use reserve::{Program, Taken, holder};
pub use watch::foreign_to;

use crate::actors::platform::permissions;
use crate::id::AllocId;
use crate::limits::LINK_MTU;
use crate::network::{Protocol, Subnet};
use conntrack::Flow;
use firewall::Surroundings;
use link::{Links, Plug};
use parking_lot::Mutex as Cell;
use reserve::Reservations;
use sha2::Digest as _;
use sources::Sources;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use switches::{switch_on, without_ipv6};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

/// On which of the host's addresses published ports are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOn {
    /// On all of them.
    All,
    /// On 127.0.0.1 only.
    Loopback,
}

/// What a node's container network is made of.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Tells this node from others on the same host: at most 8 hexadecimal digits.
    pub instance: String,
    /// The node's part of the cluster's subnet.
    pub subnet: Subnet,
    /// The whole cluster's subnet.
    pub cluster_subnet: Subnet,
    /// Where published ports are open.
    pub publish_on: PublishOn,
    /// Directory for the namespaces' mounts, of this instance alone; made if it is not there.
    pub run_dir: PathBuf,
    /// Ports of every node that containers can't reach: the API's and the peers'.
    pub private_ports: Vec<u16>,
    /// TCP ports of the host that containers reach as everybody does: the proxy's.
    pub open_ports: Vec<u16>,
    /// Where the switches of the kernel are written down that instances on this host turned on.
    pub forwarding: PathBuf,
}

impl NetConfig {
    /// The bridge's name, within the kernel's 15 letters.
    #[must_use]
    pub fn bridge(&self) -> String {
        bridge(&self.instance)
    }

    /// The name of the interface to the other nodes.
    #[must_use]
    pub fn mesh(&self) -> String {
        format!("{}m", self.bridge())
    }

    /// The nftables table's name.
    #[must_use]
    pub fn table(&self) -> String {
        format!("mill_{}", self.instance)
    }

    /// The host's end of an allocation's cable: 14 letters, distinct for each instance.
    fn cable(&self, id: &AllocId) -> String {
        let hash = sha2::Sha256::digest(format!("{}/{id}", self.instance));
        format!("mv{}", hex::encode(&hash[..6]))
    }

    fn namespace(&self, id: &AllocId) -> PathBuf {
        self.run_dir.join(id.as_str())
    }
}

/// A node's container network.
pub struct Net {
    config: NetConfig,
    links: Links,
    bridge: RwLock<Option<Bridge>>,
    published: Mutex<Published>,
    led: led::Led,
    around: Cell<Surroundings>,
    sources: Sources,
    rules: Mutex<watch::Rules>,
    noticed: Cell<watch::Noticed>,
    /// Routes to other nodes begin at the bridge's address, which has to stay.
    routed: AtomicBool,
    /// The largest packet that reaches other nodes' containers; 0: like any other.
    far_mtu: AtomicU32,
}

/// The bridge while it is there.
#[derive(Clone, Copy)]
struct Bridge {
    index: u32,
    mtu: u32,
}

#[derive(Default)]
struct Published {
    reserved: Reservations,
    /// What the kernel has; absent until the first `publish` of this process.
    active: Option<PublishMap>,
}

impl Net {
    /// Makes bridge and table, or takes up those of an earlier process. Namespaces and published
    /// ports of that process stay as they are.
    ///
    /// # Errors
    /// What the host lacks, with its remedy.
    pub async fn open(config: NetConfig) -> Result<Self, NetError> {
        let instance = &config.instance;
        let hexadecimal = instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        if instance.is_empty() || instance.len() > 8 || !hexadecimal {
            return Err(NetError::Instance { instance: instance.clone() });
        }
        let links = connect(&config.run_dir)?;
        let net = Self {
            config,
            links,
            bridge: RwLock::new(None),
            published: Mutex::default(),
            led: led::Led::default(),
            around: Cell::default(),
            sources: Sources::default(),
            rules: Mutex::default(),
            noticed: Cell::default(),
            routed: AtomicBool::new(false),
            far_mtu: AtomicU32::new(0),
        };
        drop(net.awake().await?);
        Ok(net)
    }

    /// The bridge, made if it is not there. It stays for as long as the guard is held.
    async fn awake(&self) -> Result<(Bridge, RwLockReadGuard<'_, Option<Bridge>>), NetError> {
        let guard = self.bridge.read().await;
        if let Some(bridge) = *guard {
            return Ok((bridge, guard));
        }
        drop(guard);
        let mut slot = self.bridge.write().await;
        let bridge = match *slot {
            Some(bridge) => bridge,
            None => *slot.insert(self.make().await?),
        };
        Ok((bridge, slot.downgrade()))
    }

    async fn make(&self) -> Result<Bridge, NetError> {
        let config = &self.config;
        permissions::make(&config.run_dir)
            .map_err(|source| NetError::Write { path: config.run_dir.clone(), source })?;
        check_subnet(&self.links, config).await?;
        let mtu = self.links.egress_mtu().await?.unwrap_or(LINK_MTU).min(LINK_MTU);
        let index = self.links.ensure_bridge(&config.bridge(), config.subnet, mtu).await?;
        let alone = forwarding::turn_on(&config.forwarding).await?;
        self.around.lock().alone = alone;
        // Connections from the host to its own 127.0.0.1 leave through the bridge; the guard chain
        // keeps containers from using it the other way.
        switch_on(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", config.bridge())).await?;
        self.find_sources().await?;
        self.tell(&self.all_rules(None)).await?;
        // The rules are of IPv4: by the other one containers shall not reach the host at all.
        without_ipv6(&config.bridge()).await?;
        Ok(Bridge { index, mtu })
    }

    /// The host's own address on the bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    /// The node's part of the cluster's subnet.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.config.subnet
    }

    /// Gives the allocation a network namespace with that address, and returns where it is mounted.
    /// One that is there is kept, with whatever runs in it, and repaired if need be.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn attach(&self, id: &AllocId, address: Ipv4Addr) -> Result<PathBuf, NetError> {
        let (bridge, _guard) = self.awake().await?;
        let path = self.config.namespace(id);
        let inside = netns::ensure(&path).await?;
        let cable = self.config.cable(id);
        let plugged = self.links.find(&cable).await?;
        self.allow_source(&cable, address).await?;
        let addresses = inside.links.addresses().await?;
        match plugged {
            Some(link) if addresses.iter().any(|(_, ip, _)| *ip == address) => {
                if link.controller != Some(bridge.index) {
                    self.links.join(link.index, bridge.index).await?;
                    self.links.reflect(link.index).await?;
                    self.links.carries(&self.config.bridge()).await?;
                }
                self.widen(&inside.links).await?;
                return Ok(path);
            }
            Some(_) => self.links.remove(&cable).await?,
            None => {}
        }
        // What another one left that had the address would lead strangers here.
        self.forget(move |flow| flow.touches(address)).await;
        inside.links.remove(link::INSIDE).await?;
        let plug = Plug {
            host: &cable,
            bridge: bridge.index,
            namespace: &inside.file,
            address,
            mtu: bridge.mtu,
        };
        self.links.plug(&plug).await?;
        inside.links.configure(address, self.config.subnet).await?;
        self.widen(&inside.links).await?;
        inside.links.carries(link::INSIDE).await?;
        self.links.carries(&cable).await?;
        self.links.carries(&self.config.bridge()).await?;
        Ok(path)
    }

    /// Takes the allocation's namespace away; no error if it has none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn detach(&self, id: &AllocId) -> Result<(), NetError> {
        teardown::detach(&self.links, &self.config, id).await?;
        if let Some(address) = self.sources.drop(&self.config.cable(id)) {
            self.forget(move |flow| flow.touches(address)).await;
        }
        Ok(())
    }

    /// Takes connections out of the kernel's table. Where that can't be done they end once nothing
    /// is sent on them any more.
    async fn forget(&self, goes: impl Fn(&Flow) -> bool + Send + 'static) {
        match conntrack::forget(goes).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "connections to addresses that are gone are over"),
            Err(error) => tracing::warn!(
                %error,
                "connections to containers that are gone can't be ended: \
                 modprobe nf_conntrack_netlink"
            ),
        }
    }

    /// The allocations that have a namespace.
    ///
    /// # Errors
    /// The directory of the mounts can't be read.
    pub fn attached(&self) -> Result<Vec<AllocId>, NetError> {
        let found = teardown::listed(&self.config)?;
        let mounted = found.into_iter().filter(|(_, path)| netns::is_mounted(path));
        Ok(mounted.map(|(name, _)| AllocId::from(name)).collect())
    }

    /// Holds these host ports from now on; those that another program has are returned.
    ///
    /// # Errors
    /// A port can't be had for another reason.
    pub async fn reserve(&self, ports: &BTreeSet<(u16, Protocol)>) -> Result<Vec<Taken>, NetError> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        self.published.lock().await.reserved.take(ports, self.config.publish_on)
    }

    /// Makes exactly these host ports lead to these targets, all at once. A port that another
    /// program holds is left out and returned; the rest applies.
    ///
    /// # Errors
    /// The kernel refuses the rules, or a port for another reason than that it is taken.
    pub async fn publish(&self, mut map: PublishMap) -> Result<Vec<Taken>, NetError> {
        let mut published = self.published.lock().await;
        let wanted: BTreeSet<_> = map.keys().copied().collect();
        let taken = published.reserved.take(&wanted, self.config.publish_on)?;
        for port in &taken {
            map.remove(&(port.address.port(), port.protocol));
        }
        if published.active.as_ref() != Some(&map) {
            // Where there is no bridge there are no rules that would have to go.
            let guard = match map.is_empty() {
                true => self.bridge.read().await,
                false => self.awake().await?.1,
            };
            if guard.is_some() {
                self.tell(&firewall::publish(&self.config, &map)).await?;
                let (map, subnet) = (map.clone(), self.config.subnet);
                let own: BTreeSet<Ipv4Addr> =
                    self.links.addresses().await?.into_iter().map(|(_, own, _)| own).collect();
                self.forget(move |flow| is_misled(flow, &map, subnet, &own)).await;
            }
            published.active = Some(map);
        }
        published.reserved.keep(&wanted);
        Ok(taken)
    }

    /// Tells the rules who the other nodes are: what their containers send is taken, and what is
    /// theirs alone is kept from containers.
    ///
    /// # Errors
    /// The kernel refuses the rules.
    pub async fn neighbours(&self, neighbours: Neighbours) -> Result<(), NetError> {
        self.surround(|around| around.neighbours = neighbours).await
    }

    /// Tells the rules which interface leads to the other nodes. From then on nothing of the
    /// cluster's subnet is taken that comes another way.
    ///
    /// # Errors
    /// The kernel refuses the rules.
    pub async fn mesh(&self, interface: Option<String>) -> Result<(), NetError> {
        self.surround(|around| around.mesh = interface).await
    }

    async fn surround(&self, change: impl FnOnce(&mut Surroundings)) -> Result<(), NetError> {
        let guard = self.bridge.read().await;
        let is_new = {
            let mut around = self.around.lock();
            let before = around.clone();
            change(&mut around);
            *around != before
        };
        if is_new && guard.is_some() {
            // An interface that is new does not pass anything on yet.
            let alone = forwarding::turn_on(&self.config.forwarding).await?;
            self.around.lock().alone = alone;
            self.tell(&self.base()).await?;
        }
        Ok(())
    }

    fn base(&self) -> String {
        firewall::base(&self.config, &self.around.lock())
    }

    /// All rules, with these published ports; absent they stay as they are.
    fn all_rules(&self, published: Option<&PublishMap>) -> String {
        let published = published.map(|map| firewall::publish(&self.config, map));
        let sources = firewall::sources(&self.config, &self.sources.all());
        [self.base(), sources, published.unwrap_or_default(), self.led_rules()].concat()
    }
}

/// Whether a connection goes by UDP to a published port of one of the host's own addresses, and not
/// to where that leads now. One by TCP ends by itself with its container; by UDP nobody notices.
fn is_misled(flow: &Flow, map: &PublishMap, subnet: Subnet, own: &BTreeSet<Ipv4Addr>) -> bool {
    let (asked, port) = flow.original.destination;
    let is_ours = flow.protocol == conntrack::UDP && (own.contains(&asked) || asked.is_loopback());
    let target = flow.reply.source;
    let targets = map.get(&(port, Protocol::Udp)).map(Vec::as_slice).unwrap_or_default();
    // One that began while the port led nowhere is led nowhere until its entry goes.
    let is_led = target.0 != asked && subnet.contains(target.0);
    let is_stuck = target.0 == asked && !targets.is_empty();
    is_ours && (is_led || is_stuck) && !targets.contains(&target)
}

/// The name of an instance's bridge.
#[must_use]
pub fn bridge(instance: &str) -> String {
    format!("mill-{instance}")
}

fn connect(run_dir: &Path) -> Result<Links, NetError> {
    Links::connect().map_err(|source| NetError::Namespace { path: run_dir.to_owned(), source })
}

/// Refuses a subnet that the host uses otherwise, and drops our own bridge if it has another one:
/// nothing that hangs on it could be reached any more.
async fn check_subnet(links: &Links, config: &NetConfig) -> Result<(), NetError> {
    let ours = links.find(&config.bridge()).await?.map(|link| link.index);
    for (index, address, taken) in links.addresses().await? {
        if Some(index) == ours {
            if address != config.subnet.gateway() {
                links.remove(&config.bridge()).await?;
            }
        } else if taken.overlaps(config.subnet) {
            let all = links.all().await?;
            let link = all.into_iter().find(|link| link.index == index);
            let link = link.map_or_else(|| index.to_string(), |link| link.name);
            return Err(NetError::SubnetTaken { subnet: config.subnet, taken, link });
        }
    }
    Ok(())
}
