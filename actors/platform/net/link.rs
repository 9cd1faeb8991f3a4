//! Interfaces, addresses and routes, over netlink.
//!
//! Owns the messages to the kernel, and the thread that they are sent from. Never decides what an
//! interface is for.

use super::NetError;
use crate::limits::{LINK_UP_PAUSE, LINK_UP_TRIES, NETLINK_DEADLINE};
use crate::network::Subnet;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::sync::LazyLock;
use tokio::runtime::{self, Runtime};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

/// The loopback interface's index in every namespace.
const LOOPBACK: u32 = 1;
/// The name of a container's own interface.
pub(super) const INSIDE: &str = "eth0";

/// Sends and receives. The kernel holds the sender while it takes other namespaces away, for
/// seconds where there are many: nothing else waits with it.
static SENDER: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("mill-netlink").enable_io().build()
});

/// A netlink connection into one network namespace.
pub(super) struct Links {
    handle: Handle,
    /// The kernel makes one list at a time for a connection, and refuses a second one as busy.
    listing: Mutex<()>,
    _driver: AbortOnDropHandle<()>,
}

/// An interface as far as this module cares.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub controller: Option<u32>,
    pub up: bool,
}

/// How a container is plugged in.
pub(super) struct Plug<'a> {
    /// The host's end.
    pub host: &'a str,
    pub bridge: u32,
    /// The container's namespace.
    pub namespace: &'a File,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The largest packet.
    pub mtu: u32,
}

impl Links {
    /// Begins the thread that sends, in the namespace of the calling one.
    pub fn prepare() -> io::Result<()> {
        sender().map(drop)
    }

    /// Opens a connection in the calling thread's namespace, for as long as this value lives.
    pub fn connect() -> io::Result<Self> {
        let sender = sender()?;
        let _within = sender.enter();
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let driver = AbortOnDropHandle::new(sender.spawn(connection));
        Ok(Self { handle, listing: Mutex::default(), _driver: driver })
    }

    /// The interface of that name.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, NetError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        let what = || format!("look up interface {name}");
        let found = answer(what, async {
            match found.try_next().await {
                Err(error) if is_absent(&error) => Ok(None),
                other => other,
            }
        });
        Ok(found.await?.map(|message| link_of(&message)))
    }

    /// Every interface.
    pub async fn all(&self) -> Result<Vec<Link>, NetError> {
        let _one = self.listing.lock().await;
        let all = self.handle.link().get().execute().try_collect();
        let messages: Vec<LinkMessage> = answer(|| "list interfaces".into(), all).await?;
        Ok(messages.iter().map(link_of).collect())
    }

    /// Every IPv4 address with its subnet and the index of its interface.
    pub async fn addresses(&self) -> Result<Vec<(u32, Ipv4Addr, Subnet)>, NetError> {
        let _one = self.listing.lock().await;
        let all = self.handle.address().get().execute().try_collect();
        let messages: Vec<AddressMessage> = answer(|| "list addresses".into(), all).await?;
        let mut found = Vec::new();
        for message in messages {
            for attribute in &message.attributes {
                if let AddressAttribute::Address(IpAddr::V4(ip)) = attribute {
                    let subnet = Subnet::of(*ip, message.header.prefix_len);
                    found.push((message.header.index, *ip, subnet));
                }
            }
        }
        Ok(found)
    }

    /// Every route of IPv4.
    pub async fn routes(&self) -> Result<Vec<RouteMessage>, NetError> {
        let _one = self.listing.lock().await;
        let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes = self.handle.route().get(request).execute().try_collect();
        answer(|| "list routes".into(), routes).await
    }

    /// Adds a route to a subnet.
    pub async fn add_route(&self, to: Subnet, route: RouteMessage) -> Result<(), NetError> {
        let added = self.handle.route().add(route).replace().execute();
        answer(|| format!("add a route to {to}"), added).await
    }

    /// Takes a route away.
    pub async fn remove_route(&self, route: RouteMessage) -> Result<(), NetError> {
        let removed = self.handle.route().del(route).execute();
        answer(|| "remove a route".into(), removed).await
    }

    /// The largest packet that leaves by the default route; none without one.
    pub async fn egress_mtu(&self) -> Result<Option<u32>, NetError> {
        let routes = self.routes().await?;
        let out = routes.iter().filter(|r| r.header.destination_prefix_length == 0).find_map(|r| {
            r.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        });
        let Some(out) = out else { return Ok(None) };
        Ok(self.all().await?.into_iter().find(|link| link.index == out).map(|link| link.mtu))
    }

    /// Makes the bridge if there is none. Its hardware address is fixed, since one that follows its
    /// ports would change under the containers.
    pub async fn ensure_bridge(
        &self,
        name: &str,
        subnet: Subnet,
        mtu: u32,
    ) -> Result<u32, NetError> {
        let what = |verb: &str| format!("{verb} bridge {name}");
        if self.find(name).await?.is_none() {
            let message =
                LinkBridge::new(name).mtu(mtu).address(hardware(subnet.gateway())).up().build();
            let added = self.handle.link().add(message).execute();
            answer(|| what("create"), allow(is_present, added)).await?;
        }
        let index = self.find(name).await?.map(|link| link.index);
        let index = index.ok_or_else(|| NetError::InterfaceGone { name: name.to_owned() })?;
        let gateway = IpAddr::V4(subnet.gateway());
        let added = self.handle.address().add(index, gateway, subnet.prefix()).replace().execute();
        answer(|| what("give an address to"), added).await?;
        self.up(index).await?;
        Ok(index)
    }

    /// Makes the pair of interfaces that connects a container, in one request.
    pub async fn plug(&self, plug: &Plug<'_>) -> Result<(), NetError> {
        let unopened = |source| NetError::Write { path: "/proc/self/fd".into(), source };
        let namespace = plug.namespace.try_clone().map_err(unopened)?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(INSIDE)
            .mtu(plug.mtu)
            .address(hardware(plug.address))
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkVeth::new(plug.host, INSIDE)
            .mtu(plug.mtu)
            .controller(plug.bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        // The message names the namespace by its number, which stays until it was read: also where
        // nobody waits for the answer any more.
        let request = self.handle.link().add(message);
        let sender = sender().map_err(unopened)?;
        let added = sender.spawn(async move {
            let added = request.execute().await;
            drop(namespace);
            added
        });
        let added = async { added.await.unwrap_or(Err(rtnetlink::Error::RequestFailed)) };
        answer(|| format!("create interface {}", plug.host), added).await?;
        let missing = || NetError::InterfaceGone { name: plug.host.to_owned() };
        self.reflect(self.find(plug.host).await?.ok_or_else(missing)?.index).await
    }

    /// Makes an existing interface a port of the bridge.
    pub async fn join(&self, index: u32, bridge: u32) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(index).controller(bridge).up().build();
        let set = self.handle.link().set(message).execute();
        answer(|| format!("join interface {index} to the bridge"), set).await
    }

    /// Lets a port of the bridge send back where it came from: with `bridge-nf-call-iptables` on,
    /// a container that calls its own published port is led back within the bridge.
    pub async fn reflect(&self, index: u32) -> Result<(), NetError> {
        let message = LinkBridgePort::new(index).hairpin(true).build();
        let set = self.handle.link().set_port(message).execute();
        answer(|| format!("set up interface {index} as a port"), set).await
    }

    /// Waits until the interface carries packets: the kernel activates it a moment after it is
    /// brought up, and loses what is sent before. At most a bounded time: then it is left to it.
    pub async fn carries(&self, name: &str) -> Result<(), NetError> {
        for _ in 0..LINK_UP_TRIES {
            if self.find(name).await?.is_some_and(|link| link.up) {
                return Ok(());
            }
            tokio::time::sleep(LINK_UP_PAUSE).await;
        }
        tracing::warn!(interface = name, "the interface does not come up");
        Ok(())
    }

    /// Inside a container's namespace: loopback, address and default route.
    pub async fn configure(&self, address: Ipv4Addr, subnet: Subnet) -> Result<(), NetError> {
        let what = |verb: &str| format!("{verb} in the namespace of {address}");
        let missing = || NetError::InterfaceGone { name: INSIDE.to_owned() };
        let index = self.find(INSIDE).await?.ok_or_else(missing)?.index;
        self.up(LOOPBACK).await?;
        let own = IpAddr::V4(address);
        let added = self.handle.address().add(index, own, subnet.prefix()).replace().execute();
        answer(|| what("set the address"), added).await?;
        self.up(index).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(subnet.gateway()).build();
        let added = self.handle.route().add(route).replace().execute();
        answer(|| what("set the default route"), added).await
    }

    /// Inside a container's namespace: the route to the rest of the cluster, with its MTU.
    pub async fn route_far(&self, to: Subnet, gateway: Ipv4Addr, mtu: u32) -> Result<(), NetError> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.address(), to.prefix())
            .gateway(gateway)
            .build();
        route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        self.add_route(to, route).await
    }

    /// Brings an interface up with that MTU.
    pub async fn up_with(&self, index: u32, mtu: u32) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
        let set = self.handle.link().set(message).execute();
        answer(|| format!("bring up interface {index}"), set).await
    }

    /// Removes the interface; no error if there is none.
    pub async fn remove(&self, name: &str) -> Result<(), NetError> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        let removed = self.handle.link().del(link.index).execute();
        answer(|| format!("remove interface {name}"), allow(is_absent, removed)).await
    }

    async fn up(&self, index: u32) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = self.handle.link().set(message).execute();
        answer(|| format!("bring up interface {index}"), set).await
    }
}

/// A hardware address made from the address above it: who takes an address over later is found
/// under the same one, so that no neighbour's cache is ever stale.
fn hardware(address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0x02, 0x6d];
    bytes.extend(address.octets());
    bytes
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        controller: None,
        up: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::OperState(state) => link.up = *state == State::Up,
            _ => {}
        }
    }
    link
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn is_absent(error: &rtnetlink::Error) -> bool {
    errno(error) == Some(nix::libc::ENODEV)
}

fn is_present(error: &rtnetlink::Error) -> bool {
    errno(error) == Some(nix::libc::EEXIST)
}

fn sender() -> io::Result<&'static Runtime> {
    SENDER.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// What the kernel says, within its time.
async fn answer<T>(
    what: impl Fn() -> String,
    asked: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, NetError> {
    match tokio::time::timeout(NETLINK_DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|source| failed(what(), source)),
        Err(_) => Err(NetError::NetlinkSlow { what: what(), after: NETLINK_DEADLINE }),
    }
}

/// Takes an error for what was wanted.
async fn allow(
    is_fine: fn(&rtnetlink::Error) -> bool,
    asked: impl Future<Output = Result<(), rtnetlink::Error>>,
) -> Result<(), rtnetlink::Error> {
    match asked.await {
        Err(error) if is_fine(&error) => Ok(()),
        other => other,
    }
}

fn failed(what: String, source: rtnetlink::Error) -> NetError {
    let remedy = match errno(&source) {
        Some(nix::libc::EPERM | nix::libc::EACCES) => "; run mill as root",
        Some(nix::libc::EOPNOTSUPP) => "; this kernel lacks it: modprobe bridge veth",
        _ => "",
    };
    NetError::Netlink { what, remedy, source: Box::new(source) }
}
