//! Routes to the other nodes' containers, in the host's main table.
//!
//! Owns those that carry the instance's metric. Never touches another route.

use super::link::Links;
use super::{Net, NetConfig, NetError};
use crate::network::Subnet;
use crate::node::mesh::Way;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

/// The highest byte of the metric of every route that mill makes; the rest is the instance's.
const METRIC: u32 = 0x6d00_0000;

impl NetConfig {
    /// What its routes are told by.
    fn metric(&self) -> u32 {
        METRIC | u32::from_str_radix(&self.instance, 16).unwrap_or_default() & 0x00ff_ffff
    }
}

impl Net {
    /// Makes exactly these subnets be reached in these ways. One at an address that the host has
    /// itself needs no route; what can't be reached is returned with the reason, the rest applies.
    ///
    /// # Errors
    /// The kernel does not list its routes.
    pub async fn route(
        &self,
        mut wanted: BTreeMap<Subnet, Way>,
    ) -> Result<Vec<NetError>, NetError> {
        let own = self.own_addresses().await?;
        let is_own = |way: &Way| way.address().is_some_and(|address| own.contains(&address));
        wanted.retain(|subnet, way| *subnet != self.config.subnet && !is_own(way));
        self.routed.store(!wanted.is_empty(), Ordering::SeqCst);
        // Stays while the guard is held, and then since it is routed from.
        let _bridge = if wanted.is_empty() { None } else { Some(self.awake().await?) };
        let mesh = self.links.find(&self.config.mesh()).await?.map(|link| link.index);
        let found = ours(&self.links, &self.config).await?;
        let (mut failed, mut old) = (Vec::new(), BTreeMap::new());
        let mut hops = BTreeMap::new();
        for (subnet, way) in wanted {
            match (way, mesh) {
                (Way::Plain(address), _) => hops.insert(subnet, Hop::Via(address)),
                (Way::Mesh(_), Some(index)) => hops.insert(subnet, Hop::Out(index)),
                (Way::Mesh(_), None) => {
                    failed.push(NetError::InterfaceGone { name: self.config.mesh() });
                    None
                }
            };
        }
        for ((subnet, hop), message) in found {
            match hops.get(&subnet) {
                Some(wanted) if *wanted == hop => {
                    hops.remove(&subnet);
                }
                // Replaced below, so that there is a way at any time.
                Some(_) => {
                    old.insert(subnet, message);
                }
                None => failed.extend(self.links.remove_route(message).await.err()),
            }
        }
        for (subnet, hop) in hops {
            let Err(error) = self.links.add_route(subnet, self.route_to(subnet, hop)).await else {
                continue;
            };
            failed.push(error);
            if let Some(message) = old.remove(&subnet) {
                failed.extend(self.links.remove_route(message).await.err());
            }
        }
        Ok(failed)
    }

    fn route_to(&self, subnet: Subnet, hop: Hop) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(subnet.address(), subnet.prefix())
            // Containers take what comes from the cluster's own addresses only.
            .pref_source(self.gateway())
            .priority(self.config.metric());
        match hop {
            Hop::Via(address) => route.gateway(address).build(),
            Hop::Out(index) => route.output_interface(index).scope(RouteScope::Link).build(),
        }
    }
}

/// Takes all routes of the instance away.
pub(super) async fn remove(links: &Links, config: &NetConfig) -> Result<(), NetError> {
    for (_, message) in ours(links, config).await? {
        links.remove_route(message).await?;
    }
    Ok(())
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// To a router.
    Via(Ipv4Addr),
    /// Out of an interface.
    Out(u32),
}

type Route = (Subnet, Hop);

async fn ours(links: &Links, config: &NetConfig) -> Result<Vec<(Route, RouteMessage)>, NetError> {
    let metric = config.metric();
    let all = links.routes().await?;
    Ok(all.into_iter().filter_map(|message| Some((route_of(&message, metric)?, message))).collect())
}

/// Subnet and next hop of a route with that metric.
fn route_of(message: &RouteMessage, metric: u32) -> Option<Route> {
    let (mut to, mut via, mut out, mut is_ours) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Priority(number) => is_ours = *number == metric,
            _ => {}
        }
    }
    let prefix = message.header.destination_prefix_length;
    let hop = via.map(Hop::Via).or(out.map(Hop::Out));
    is_ours.then_some((Subnet::of(to?, prefix), hop?))
}
