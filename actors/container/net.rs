//! Container networking of one node: bridge, namespaces, addresses, published ports, egress.
//!
//! Owns everything of it that the kernel knows: the interfaces, mounts and the nftables table that
//! carry the instance's name. What is there outlives the process and is taken up again by `open`.
//! Never decides which address or port an allocation has, and never touches what others made.

mod firewall;
mod link;
mod netns;
mod reserve;
#[cfg(test)]
mod tests;

pub use firewall::PublishMap;
pub use netns::within;
pub use reserve::{Program, Taken, holder};

use crate::id::AllocId;
use crate::limits::LINK_MTU;
use crate::network::{Protocol, Subnet};
use link::{Links, Plug};
use reserve::Reservations;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;

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
}

impl NetConfig {
    /// The bridge's name, within the kernel's 15 letters.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("mill-{}", self.instance)
    }

    /// The nftables table's name.
    #[must_use]
    pub fn table(&self) -> String {
        format!("mill_{}", self.instance)
    }

    /// The host's end of an allocation's cable: 14 letters, distinct for each instance.
    fn cable(&self, id: &AllocId) -> String {
        let hash = sha2::Sha256::digest(format!("{}/{id}", self.instance));
        let hex: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("mv{hex}")
    }

    fn namespace(&self, id: &AllocId) -> PathBuf {
        self.run_dir.join(id.as_str())
    }
}

/// Why the network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The instance's name would not fit into an interface's.
    #[error("the instance id {instance:?} is not 1 to 8 hexadecimal digits")]
    Instance {
        /// What was given.
        instance: String,
    },
    /// Another interface has addresses of the subnet.
    #[error("subnet {subnet} overlaps {taken} of interface {link}; pass another --subnet")]
    SubnetTaken {
        /// The node's.
        subnet: Subnet,
        /// The interface's.
        taken: Subnet,
        /// Its name.
        link: String,
    },
    /// The kernel refused a change of interfaces, addresses or routes.
    #[error("can't {what}: {source}{remedy}")]
    Netlink {
        /// What was tried.
        what: String,
        /// What to do about it.
        remedy: &'static str,
        /// What it said.
        source: Box<rtnetlink::Error>,
    },
    /// An interface of ours is not there any more.
    #[error("interface {name} is gone; something else on this host removes interfaces")]
    InterfaceGone {
        /// Its name.
        name: String,
    },
    /// A namespace could not be made, entered or removed.
    #[error("network namespace {}: {source}; mill must run as root", path.display())]
    Namespace {
        /// Where it is or should be mounted.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory or a kernel setting could not be written.
    #[error("can't write {}: {source}; mill must run as root, with /proc/sys writable",
            path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program `nft` did not run.
    #[error("can't run nft: {source}; install it: apt-get install nftables")]
    NoNft {
        /// Why.
        source: io::Error,
    },
    /// The rules were refused.
    #[error("nft refused the rules: {message}; {remedy}")]
    Nft {
        /// Its first line.
        message: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// `nft` did not answer.
    #[error("nft gave no answer within {after:?}; the host is overloaded or nftables is stuck")]
    NftSlow {
        /// How long it had.
        after: Duration,
    },
    /// A port could not be reserved for another reason than that it is taken.
    #[error("can't open {address}/{protocol}: {source}")]
    Reserve {
        /// The host's address and port.
        address: SocketAddrV4,
        /// Of which protocol.
        protocol: Protocol,
        /// Why.
        source: io::Error,
    },
}

/// A node's container network.
pub struct Net {
    config: NetConfig,
    links: Links,
    bridge: u32,
    mtu: u32,
    published: Mutex<Published>,
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
    pub async fn open(config: NetConfig) -> Result<Self, NetError> {
        let instance = &config.instance;
        let hexadecimal = instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        if instance.is_empty() || instance.len() > 8 || !hexadecimal {
            return Err(NetError::Instance { instance: instance.clone() });
        }
        std::fs::create_dir_all(&config.run_dir)
            .map_err(|source| NetError::Write { path: config.run_dir.clone(), source })?;
        let links = connect(&config.run_dir)?;
        check_subnet(&links, &config).await?;
        let mtu = links.egress_mtu().await?.unwrap_or(LINK_MTU).min(LINK_MTU);
        let bridge = links.ensure_bridge(&config.bridge(), config.subnet, mtu).await?;
        set_kernel("/proc/sys/net/ipv4/ip_forward")?;
        // Connections from the host to its own 127.0.0.1 leave through the bridge; the guard chain
        // keeps containers from using it the other way.
        set_kernel(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", config.bridge()))?;
        firewall::apply(&firewall::base(&config)).await?;
        Ok(Self { config, links, bridge, mtu, published: Mutex::default() })
    }

    /// The host's own address on the bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.subnet.gateway()
    }

    /// Gives the allocation a network namespace with that address, and returns where it is mounted.
    /// One that is there is kept, with whatever runs in it, and repaired if need be.
    pub async fn attach(&self, id: &AllocId, address: Ipv4Addr) -> Result<PathBuf, NetError> {
        let path = self.config.namespace(id);
        let inside = netns::ensure(&path).await?;
        let cable = self.config.cable(id);
        let plugged = self.links.find(&cable).await?;
        let addresses = inside.links.addresses().await?;
        match plugged {
            Some(link) if addresses.iter().any(|(_, ip, _)| *ip == address) => {
                if link.controller != Some(self.bridge) {
                    self.links.join(link.index, self.bridge).await?;
                    self.links.reflect(link.index).await?;
                    self.links.carries(&self.config.bridge()).await?;
                }
                return Ok(path);
            }
            Some(_) => self.links.remove(&cable).await?,
            None => {}
        }
        inside.links.remove(link::INSIDE).await?;
        let plug = Plug {
            host: &cable,
            bridge: self.bridge,
            namespace: inside.file.as_raw_fd(),
            address,
            mtu: self.mtu,
        };
        self.links.plug(&plug).await?;
        inside.links.configure(address, self.config.subnet).await?;
        inside.links.carries(link::INSIDE).await?;
        self.links.carries(&cable).await?;
        self.links.carries(&self.config.bridge()).await?;
        Ok(path)
    }

    /// Takes the allocation's namespace away; no error if it has none.
    pub async fn detach(&self, id: &AllocId) -> Result<(), NetError> {
        detach(&self.links, &self.config, id).await
    }

    /// The allocations that have a namespace.
    pub fn attached(&self) -> Result<Vec<AllocId>, NetError> {
        let found = listed(&self.config)?;
        let mounted = found.into_iter().filter(|(_, path)| netns::is_mounted(path));
        Ok(mounted.map(|(name, _)| AllocId(name)).collect())
    }

    /// Makes exactly these host ports lead to these targets, all at once. A port that another
    /// program holds is left out and returned; the rest applies.
    pub async fn publish(&self, mut map: PublishMap) -> Result<Vec<Taken>, NetError> {
        let mut published = self.published.lock().await;
        let wanted: BTreeSet<_> = map.keys().copied().collect();
        let taken = published.reserved.take(&wanted, self.config.publish_on)?;
        for port in &taken {
            map.remove(&(port.address.port(), port.protocol));
        }
        if published.active.as_ref() != Some(&map) {
            firewall::apply(&firewall::publish(&self.config, &map)).await?;
            published.active = Some(map);
        }
        published.reserved.keep(&wanted);
        Ok(taken)
    }

    /// Removes all of it: table, namespaces, interfaces, mounts.
    pub async fn close(self) -> Result<(), NetError> {
        remove(&self.links, &self.config).await
    }

    /// Removes what an earlier process left of this instance, without opening it first.
    pub async fn clear(config: &NetConfig) -> Result<(), NetError> {
        remove(&connect(&config.run_dir)?, config).await
    }
}

fn connect(run_dir: &Path) -> Result<Links, NetError> {
    let (connection, links) = Links::connect()
        .map_err(|source| NetError::Namespace { path: run_dir.to_owned(), source })?;
    Ok(links.drive(connection))
}

fn listed(config: &NetConfig) -> Result<Vec<(String, PathBuf)>, NetError> {
    match netns::list(&config.run_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            other.map_err(|source| NetError::Namespace { path: config.run_dir.clone(), source })
        }
    }
}

async fn detach(links: &Links, config: &NetConfig, id: &AllocId) -> Result<(), NetError> {
    links.remove(&config.cable(id)).await?;
    netns::remove(&config.namespace(id)).await
}

async fn remove(links: &Links, config: &NetConfig) -> Result<(), NetError> {
    firewall::apply(&firewall::remove(config)).await?;
    for (name, _) in listed(config)? {
        detach(links, config, &AllocId(name)).await?;
    }
    let bridge = config.bridge();
    if let Some(found) = links.find(&bridge).await? {
        let ports = links.all().await?.into_iter().filter(|l| l.controller == Some(found.index));
        for port in ports {
            links.remove(&port.name).await?;
        }
        links.remove(&bridge).await?;
    }
    match std::fs::remove_dir(&config.run_dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NetError::Write { path: config.run_dir.clone(), source })
        }
        _ => Ok(()),
    }
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

/// Sets a switch of the kernel to 1; only written if it is not, so that a read-only `/proc/sys`
/// does where an administrator has set it.
fn set_kernel(path: &str) -> Result<(), NetError> {
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(|source| NetError::Write { path: path.into(), source })
}
