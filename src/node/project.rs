//! Projections: what each subsystem must make true, read off the state.
//!
//! Never changes the state.

use crate::fsm::State;
use crate::fsm::model::{Allocation, Desired};
use crate::id::NodeId;
use crate::network::{Protocol, Subnet};
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

/// The services' stable addresses, and where each of their ports leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Virtuals {
    /// All that lies in here is a service's, or nobody's; none where there are no such addresses.
    pub range: Option<Subnet>,
    /// By address and port: the replicas on all nodes that may get traffic, at the same port.
    pub targets: BTreeMap<(Ipv4Addr, u16), BTreeSet<Ipv4Addr>>,
}

/// The services' stable addresses: each leads to all replicas that may get traffic, by TCP and UDP.
/// Where the last of them drain they keep it until they stop.
#[must_use]
pub fn virtuals(state: &State) -> Virtuals {
    let mut all = Virtuals { range: state.virtual_range(), ..Virtuals::default() };
    for (name, service) in state.apps.values().flat_map(|app| &app.services) {
        let Some(own) = service.address else { continue };
        let mut leaving: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for allocation in state.allocations_of(name).filter(|a| a.is_live()) {
            let stored = state.spec(&allocation.spec);
            let spec = stored.and_then(|stored| stored.spec.service());
            let (Some(address), Some(spec)) = (allocation.observed.address, spec) else { continue };
            let targets = match allocation.is_last_resort() {
                true => &mut leaving,
                false if allocation.is_routable() => &mut all.targets,
                false => continue,
            };
            for port in &spec.ports {
                targets.entry((own, port.port)).or_default().insert(address);
            }
        }
        for (place, targets) in leaving {
            all.targets.entry(place).or_insert(targets);
        }
    }
    all
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
