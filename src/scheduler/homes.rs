//! Which nodes have, or can have, the volumes of a container.
//!
//! Owns why a node can't. Never asks anybody: what is known is in the state.

use super::place::Refusal;
use crate::fsm::State;
use crate::fsm::model::Node;
use crate::fsm::volumes::{DROPLET, REGION, Volume};
use crate::id::{NodeId, VolumeName};
use crate::limits;
use crate::spec::model::RunSpec;
use std::collections::{BTreeMap, BTreeSet};

/// Where volumes are.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// Where the data of volumes is, or is brought to; one of a node that was removed is nowhere.
    at: BTreeMap<VolumeName, (NodeId, String)>,
    /// The regions of the provider's.
    regions: BTreeMap<VolumeName, String>,
    /// The provider's volumes that a node has.
    attached: BTreeMap<NodeId, BTreeSet<VolumeName>>,
    /// New ones are the provider's.
    provides: bool,
}

impl Homes {
    pub fn of(state: &State) -> Self {
        let mut homes = Self { provides: state.provider.is_some(), ..Self::default() };
        let name = |node: NodeId| match state.nodes.get(&node) {
            Some(node) => node.name.clone(),
            None => format!("node {node}, which was removed"),
        };
        for (volume, one) in &state.volumes {
            if let Some(node) = pinned(one) {
                homes.at.insert(volume.clone(), (node, name(node)));
            }
            let Some(provided) = &one.provided else { continue };
            homes.regions.insert(volume.clone(), provided.region.clone());
            if let Some(at) = &provided.attachment {
                homes.attached.entry(at.node).or_default().insert(volume.clone());
            }
        }
        homes
    }

    /// Why a node can't have the volumes of a container.
    pub fn refusal(&self, node: &Node, run: &RunSpec) -> Option<Refusal> {
        let mut more = 0;
        for (name, _) in run.persistent() {
            if let Some((_, home)) = self.at.get(&name).filter(|(home, _)| *home != node.id) {
                return Some(Refusal::Volume { name, node: home.clone() });
            }
            let region = self.regions.get(&name);
            // One that is there keeps the provider that it was made with.
            if region.is_none() && (!self.provides || self.at.contains_key(&name)) {
                continue;
            }
            let lacks = |label: &str, have: Option<&String>| {
                let (label, have) = (label.to_owned(), have.cloned());
                Some(Refusal::Constraint { label, have })
            };
            if !node.labels.contains_key(DROPLET) {
                return lacks(DROPLET, None);
            }
            let have = node.labels.get(REGION);
            if have.is_none() || region.is_some_and(|region| have != Some(region)) {
                return lacks(REGION, have);
            }
            more += usize::from(!self.has(node.id, &name));
        }
        let attached = self.attached.get(&node.id).map_or(0, BTreeSet::len);
        let is_full = more > 0 && attached + more > limits::PROVIDER_ATTACHED_MAX;
        is_full.then_some(Refusal::Attached { count: attached })
    }

    /// Whether a volume of a container is attached to another node, and would have to be brought.
    pub fn is_away(&self, node: NodeId, run: &RunSpec) -> bool {
        let all = run.persistent().map(|(name, _)| name);
        let mut provided = all.filter(|name| self.regions.contains_key(name));
        provided.any(|name| !self.has(node, &name))
    }

    fn has(&self, node: NodeId, name: &VolumeName) -> bool {
        self.attached.get(&node).is_some_and(|all| all.contains(name))
    }
}

/// The only node that can have a volume.
fn pinned(volume: &Volume) -> Option<NodeId> {
    let to = volume.moving.map(|moving| moving.to);
    to.or_else(|| volume.provided.is_none().then_some(volume.node))
}
