//! Projections: what each subsystem must make true, read off the state.
//!
//! Never changes the state.

use crate::fsm::State;
use crate::fsm::model::{Allocation, Desired};
use crate::id::NodeId;
use crate::node::network::{Protocol, Subnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Host ports of a node, each with the containers that it leads to.
pub type PublishMap = BTreeMap<(u16, Protocol), Vec<(Ipv4Addr, u16)>>;

/// The published ports of a node: each leads to the node's own replicas that may get traffic. Where
/// the last of them drain they keep it until they stop, so that who comes from outside has the time
/// to go elsewhere. A port that a removed service has and another takes over leads to that one as
/// soon as it may. A port whose service has nothing is there with no target: it stays reserved.
#[must_use]
pub fn publish_map(state: &State, node: NodeId) -> PublishMap {
    let mut map = PublishMap::new();
    let (mut removed, mut leaving) = (PublishMap::new(), PublishMap::new());
    for allocation in state.allocations_on(node).filter(|a| a.is_live()) {
        let target = state
            .owner(&allocation.workload)
            .and_then(|app| app.services.get(&allocation.workload)?.target.as_ref());
        let spec = target.unwrap_or(&allocation.spec);
        let Some(service) = state.spec(spec).and_then(|stored| stored.spec.service()) else {
            continue;
        };
        for publish in &service.publish {
            let Some(port) = service.port(publish.port.as_deref()) else { continue };
            let protocol = if publish.udp { Protocol::Udp } else { Protocol::Tcp };
            let place = (publish.host_port, protocol);
            let targets = map.entry(place).or_default();
            let Some(address) = allocation.observed.address else { continue };
            if allocation.is_routable() && target.is_some() {
                targets.push((address, port));
            } else if allocation.is_routable() {
                removed.entry(place).or_default().push((address, port));
            } else if allocation.is_last_resort() {
                leaving.entry(place).or_default().push((address, port));
            }
        }
    }
    for mut others in [removed, leaving] {
        for (place, targets) in map.iter_mut().filter(|(_, targets)| targets.is_empty()) {
            targets.extend(others.remove(place).unwrap_or_default());
        }
    }
    map
}

/// The other nodes, as a node's firewall has to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Their parts of the subnet.
    pub subnets: BTreeSet<Subnet>,
    /// Their addresses, each with its port for peers; 0: it has none.
    pub nodes: BTreeSet<(Ipv4Addr, u16)>,
}

/// The other nodes: which containers are the cluster's, and which ports are none of theirs.
#[must_use]
pub fn neighbours(state: &State, node: NodeId) -> Neighbours {
    let others = || state.nodes.values().filter(|other| other.id != node);
    Neighbours {
        subnets: others().map(|other| Subnet::node(other.subnet)).collect(),
        nodes: others()
            .filter_map(|other| Some((other.address.parse().ok()?, other.peer_port)))
            .collect(),
    }
}

/// What a node does with an allocation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// It runs, at this attempt or a later one.
    Run,
    /// It ends and leaves nothing but its logs.
    Stop,
}

/// What the allocation's node should make of it; absent once there is nothing left to do.
#[must_use]
pub fn assignment(allocation: &Allocation) -> Option<Assignment> {
    match allocation.desired {
        _ if !allocation.is_live() => None,
        Desired::Run | Desired::Draining { .. } => Some(Assignment::Run),
        Desired::Stop => Some(Assignment::Stop),
    }
}
