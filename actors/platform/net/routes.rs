//! Routes to the other nodes' containers, in the host's main table.
//!
//! Owns those that carry the instance's metric. Never touches another route, and knows no better
//! way to a node than its address.

use super::link::Links;
use super::{Net, NetConfig, NetError};
use crate::node::network::Subnet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Makes exactly these subnets lead to these addresses. One of an address that the host has
    /// itself needs no route; what can't be reached is returned with the reason, the rest applies.
    ///
    /// # Errors
    /// The kernel does not list its routes.
    pub async fn route(
        &self,
        mut wanted: BTreeMap<Subnet, Ipv4Addr>,
    ) -> Result<Vec<NetError>, NetError> {
        let own: BTreeSet<Ipv4Addr> =
            self.links.addresses().await?.into_iter().map(|(_, address, _)| address).collect();
        wanted.retain(|subnet, via| *subnet != self.config.subnet && !own.contains(via));
        self.routed.store(!wanted.is_empty(), Ordering::SeqCst);
        // Stays while the guard is held, and then since it is routed from.
        let _bridge = if wanted.is_empty() { None } else { Some(self.awake().await?) };
        let found = ours(&self.links, &self.config).await?;
        let mut failed = Vec::new();
        for (route, message) in found {
            if wanted.get(&route.0) == Some(&route.1) {
                wanted.remove(&route.0);
            } else {
                failed.extend(self.links.remove_route(message).await.err());
            }
        }
        for (subnet, via) in wanted {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(subnet.address(), subnet.prefix())
                .gateway(via)
                // Containers take what comes from the cluster's own addresses only.
                .pref_source(self.gateway())
                .priority(self.config.metric())
                .build();
            failed.extend(self.links.add_route(subnet, route).await.err());
        }
        Ok(failed)
    }
}

/// Takes all routes of the instance away.
pub(super) async fn remove(links: &Links, config: &NetConfig) -> Result<(), NetError> {
    for (_, message) in ours(links, config).await? {
        links.remove_route(message).await?;
    }
    Ok(())
}

type Route = (Subnet, Ipv4Addr);

async fn ours(links: &Links, config: &NetConfig) -> Result<Vec<(Route, RouteMessage)>, NetError> {
    let metric = config.metric();
    let all = links.routes().await?;
    Ok(all.into_iter().filter_map(|message| Some((route_of(&message, metric)?, message))).collect())
}

/// Subnet and next hop of a route with that metric.
fn route_of(message: &RouteMessage, metric: u32) -> Option<Route> {
    let (mut to, mut via, mut is_ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Priority(number) => is_ours = *number == metric,
            _ => {}
        }
    }
    let prefix = message.header.destination_prefix_length;
    is_ours.then_some((Subnet::of(to?, prefix), via?))
}
