//! Which nodes have, or can have, the volumes of a container.
//!
//! Owns why a node can't. Never asks anybody: what is known is in the state.

use super::refusal::Refusal;
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
    /// Machines that more than one node says to be.
    shared: BTreeSet<String>,
    /// New ones are the provider's.
    provides: bool,
}

impl Homes {
    pub(super) fn of(state: &State) -> Self {
        let (provides, shared) = (state.provider.is_some(), state.shared_droplets());
        let mut homes = Self { provides, shared, ..Self::default() };
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
            let droplet = node.labels.get(DROPLET);
            if droplet.is_none() || droplet.is_some_and(|one| self.shared.contains(one)) {
                return lacks(DROPLET, droplet);
            }
            let have = node.labels.get(REGION);
            if have.is_none() || region.is_some_and(|region| have != Some(region)) {
                return lacks(REGION, have);
            }
            more += usize::from(!self.has(node.id, &name));
        }
        if more == 0 {
            return None;
        }
        let attached = self.attached.get(&node.id).map_or(0, BTreeSet::len);
        let is_full = attached + more > limits::PROVIDER_ATTACHED_MAX;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::model::NodeStatus;
    use crate::fsm::volumes::{AttachStep, Attachment, Provided, Provider, ProviderKind};
    use crate::fsm::{Command, apply_next, fixture};
    use crate::secret::Sealed;
    use crate::spec::model::VolumeSpec;
    use crate::units::{Bytes, Timestamp};
    use std::sync::Arc;

    /// One node, of this region, in a cluster with a provider.
    fn state(region: Option<&str>) -> State {
        let mut state = State::default();
        let _ = apply_next(&mut state, Timestamp(1), Command::Init(fixture::init()));
        let mut node = Node::clone(&state.nodes[&NodeId(1)]);
        if let Some(region) = region {
            node.labels.insert(DROPLET.to_owned(), "101".to_owned());
            node.labels.insert(REGION.to_owned(), region.to_owned());
        }
        state.nodes.insert(NodeId(1), Arc::new(node));
        let token = Sealed { key: String::new(), text: String::new() };
        let kind = ProviderKind::DigitalOcean;
        state.provider = Some(Arc::new(Provider { kind, api: String::new(), token }));
        state
    }

    fn volume(node: u64, region: &str) -> Volume {
        let (name, region) = ("mill-x".to_owned(), region.to_owned());
        let step = AttachStep::Attached;
        let at = Attachment { node: NodeId(node), droplet: "101".to_owned(), number: 1, step };
        let (id, error, attachment) = (None, None, Some(at));
        let made = Bytes(0);
        let provided = Some(Provided { name, region, id, made, attachment, error });
        Volume { provided, ..fixture::volume(NodeId(node)) }
    }

    fn run() -> RunSpec {
        let (name, path) = ("data".to_owned(), "/data".to_owned());
        let volume = VolumeSpec { name, path, ephemeral: false, size: Some(Bytes(5)) };
        RunSpec { volumes: vec![volume], ..RunSpec::of("x") }
    }

    fn refusal(state: &State) -> Option<String> {
        let why = Homes::of(state).refusal(&state.nodes[&NodeId(1)], &run());
        why.map(|why| why.to_string())
    }

    #[test]
    fn a_machine_of_the_region_with_room_takes_it() {
        assert_eq!(refusal(&state(None)).as_deref(), Some("constraint no label droplet"));
        let mut state = state(Some("fra1"));
        assert_eq!(refusal(&state), None, "it is made there");
        let mut put = |name: &str, one| drop(state.volumes.insert(name.into(), Arc::new(one)));
        put("data", volume(9, "ams3"));
        assert_eq!(refusal(&state).as_deref(), Some("constraint region=fra1"));
        let mut put = |name: &str, one| drop(state.volumes.insert(name.into(), Arc::new(one)));
        put("data", volume(9, "fra1"));
        for n in 0..7 {
            put(&format!("other{n}"), volume(1, "fra1"));
        }
        let full = "volume 7 are attached, no more can be";
        assert_eq!(refusal(&state).as_deref(), Some(full));
        assert!(Homes::of(&state).is_away(NodeId(1), &run()));
        state.volumes.insert("data".into(), Arc::new(volume(1, "fra1")));
        assert_eq!(refusal(&state), None, "it is there");
        assert!(!Homes::of(&state).is_away(NodeId(1), &run()));
    }

    #[test]
    fn a_machine_that_two_nodes_say_to_be_takes_none() {
        let mut state = state(Some("fra1"));
        let mut other = Node::clone(&state.nodes[&NodeId(1)]);
        other.id = NodeId(2);
        state.nodes.insert(NodeId(2), Arc::new(other.clone()));
        assert_eq!(refusal(&state).as_deref(), Some("constraint droplet=101"));
        other.status = NodeStatus::Down;
        state.nodes.insert(NodeId(2), Arc::new(other));
        assert_eq!(refusal(&state), None, "the machine has joined anew");
    }

    #[test]
    fn one_that_is_a_folder_stays_where_it_is() {
        let mut state = state(None);
        let local = Volume { provided: None, ..volume(1, "") };
        state.volumes.insert("data".into(), Arc::new(local.clone()));
        assert_eq!(refusal(&state), None, "also in a cluster that has a provider since");
        let elsewhere = Volume { node: NodeId(9), ..local };
        state.volumes.insert("data".into(), Arc::new(elsewhere));
        let why = "volume data is on node 9, which was removed";
        assert_eq!(refusal(&state).as_deref(), Some(why));
    }
}
