//! What is left of a cluster whose other nodes, or all, are lost for good: the state with one node.
//!
//! Owns what becomes of the others and of what ran there. Never goes through the log: it is for a
//! node that begins a new one with it.

use super::command::FEATURE_LEVEL;
use super::model::{Condition, Node, NodeStatus, RaftRole};
use super::volumes::{DROPLET, REGION};
use super::{Rejection, State, Touched};
use crate::id::{BootId, Incarnation, Index, NodeId};
use crate::limits;
use crate::units::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The node with which a cluster begins anew, from what was kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name; that of a node that is lost is free.
    pub name: String,
    /// Where others reach it.
    pub address: String,
    /// Where it listens for its peers.
    pub peer_port: u16,
    /// Its labels, beside those that the node of that name had.
    pub labels: BTreeMap<String, String>,
    /// Its X25519 key, base64.
    pub public_key: String,
    /// The cluster's keyring, sealed for that key, base64.
    pub keyring: String,
    /// Version of the program.
    pub version: String,
}

impl State {
    /// The state as this one node goes on with it, in a new life of the cluster: the others are no
    /// members any more, and what ran there is lost. What runs on the node itself is as it was.
    /// Absent where it is no member.
    #[must_use]
    pub fn alone(&self, me: NodeId, incarnation: Incarnation) -> Option<Self> {
        let mut after = self.clone();
        after.cluster.as_mut()?.incarnation = incarnation;
        let own = Node { part: RaftRole::Voter, ..Node::clone(self.nodes.get(&me)?) };
        after.nodes.insert(me, Arc::new(own));
        let mut touched = Touched { nodes: true, ..Touched::default() };
        for other in self.nodes.values().filter(|node| node.id != me) {
            let why = format!("node {} was given up", other.name);
            after.lose_all(other.id, &why, &mut touched);
            after.bury(other.id, &mut touched);
        }
        // The others may have let in nodes that this one never heard of.
        after.last_node = NodeId(self.last_node.0 + limits::UNHEARD_NODES);
        crate::fsm::events::record(self, &mut after, &touched);
        Some(after)
    }

    /// The state as a cluster begins anew with it, all of whose nodes are lost, in a new life: what
    /// ran is lost, and this one node is the only member. Its id is the newest of the state.
    ///
    /// # Errors
    /// The state is of no cluster.
    pub fn restored(&self, founder: Founder, incarnation: Incarnation) -> Result<Self, Rejection> {
        let mut after = self.clone();
        let what = || "cluster".to_owned();
        let none = || Rejection::NotFound { what: what(), name: String::new() };
        after.cluster.as_mut().ok_or_else(none)?.incarnation = incarnation;
        let mut touched = Touched { nodes: true, ..Touched::default() };
        let namesake = self.nodes.values().find(|node| node.name == founder.name);
        let mut labels = namesake.map(|node| node.labels.clone()).unwrap_or_default();
        // It is another machine, or may be: it finds out which.
        labels.retain(|label, _| label != DROPLET && label != REGION);
        labels.extend(founder.labels);
        for lost in self.nodes.values() {
            after.lose_all(lost.id, "the cluster was restored from a backup", &mut touched);
            after.bury(lost.id, &mut touched);
        }
        // Nodes may have been let in after the backup was taken.
        let id = NodeId(self.last_node.0 + limits::UNHEARD_NODES + 1);
        let node = Node {
            id,
            name: founder.name,
            address: founder.address,
            peer_port: founder.peer_port,
            subnet: after.free_subnet(id)?,
            labels,
            cpu: MilliCpu(0),
            memory: Bytes(0),
            status: NodeStatus::Ready,
            down_since: None,
            drain: None,
            part: RaftRole::Voter,
            version: founder.version,
            feature_level: FEATURE_LEVEL,
            public_key: founder.public_key,
            keyring: founder.keyring,
            mesh: None,
            boot: BootId(0),
            joined_at: self.time,
            condition: Condition::default(),
        };
        after.nodes.insert(id, Arc::new(node));
        after.last_node = id;
        // Whoever waits for an outcome is lost.
        after.sessions.clear();
        after.index = Index(self.index.0 + 1);
        crate::fsm::events::record(self, &mut after, &touched);
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::{Action, Place};
    use crate::fsm::deploy::tests::{change, put, running, shop, step};
    use crate::fsm::events::EventKind;
    use crate::fsm::model::{Desired, ExitReason, Phase};
    use crate::fsm::{Command, Outcome, fixture};
    use crate::id::{AllocId, BootId, WorkloadName};

    /// Three nodes, with a replica of web on one of them.
    fn three(on: u64) -> State {
        let mut state = running();
        let first = state.nodes[&NodeId(1)].clone();
        for id in [2, 3] {
            let (name, boot) = (format!("n{id}"), BootId(id));
            let node =
                Node { id: NodeId(id), name, boot, part: RaftRole::Learner, ..(*first).clone() };
            state.nodes.insert(node.id, Arc::new(node));
            state.last_node = NodeId(id);
        }
        put(&mut state, &[("web", "web:2"), ("db", "db:1")]);
        let spec = shop(&state).services[&WorkloadName::from("web")].target.clone().unwrap();
        let (id, workload, node) = (AllocId::from("web-0-aaaa"), "web".into(), NodeId(on));
        let place = Place { id, workload, replica: 0, node, spec, replaces: None };
        step(&mut state, Action::Place(place));
        state
    }

    #[test]
    fn what_runs_on_the_survivor_is_left_and_the_rest_is_lost() {
        let before = three(1);
        let alone = before.alone(NodeId(1), Incarnation(9)).unwrap();
        assert_eq!(alone.allocations, before.allocations);
        assert_eq!(alone.cluster.as_ref().unwrap().incarnation, Incarnation(9));
        assert_eq!(alone.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(1)]);
        assert!([2, 3].into_iter().all(|id| alone.removed.contains(&NodeId(id))));

        let before = three(2);
        assert!(before.derived.reserved.contains_key(&NodeId(2)));
        let alone = before.alone(NodeId(1), Incarnation(9)).unwrap();
        let one = &alone.allocations[&AllocId::from("web-0-aaaa")];
        assert_eq!((one.observed.phase, &one.desired), (Phase::Lost, &Desired::Run));
        let exit = one.observed.exit.as_ref().unwrap();
        assert_eq!(exit.reason, ExitReason::Lost);
        assert_eq!(exit.message.as_deref(), Some("node n2 was given up"));
        let kinds: Vec<EventKind> = alone.events.values().map(|event| event.kind).collect();
        let count = |kind| kinds.iter().filter(|one| **one == kind).count();
        assert_eq!(count(EventKind::NodeRemoved), 2);
        assert_eq!(count(EventKind::AllocationLost), 1);
        assert!(!alone.derived.reserved.contains_key(&NodeId(2)));
        assert!(shop(&alone).version > shop(&before).version, "what was planned is stale");
    }

    #[test]
    fn a_restored_cluster_has_one_new_node_and_nothing_that_runs() {
        let before = three(2);
        let labelled = |name: &str, value: &str| {
            let labels = [("zone".to_owned(), value.to_owned())].into();
            Founder {
                name: name.to_owned(),
                address: "192.0.2.9".to_owned(),
                peer_port: 4401,
                labels,
                public_key: "key".to_owned(),
                keyring: "sealed".to_owned(),
                version: "0.1.0".to_owned(),
            }
        };
        let after = before.restored(labelled("n2", "b"), Incarnation(9)).unwrap();
        assert_eq!(after.cluster.as_ref().unwrap().incarnation, Incarnation(9));
        assert!([1, 2, 3].into_iter().all(|id| after.removed.contains(&NodeId(id))));
        let node = after.nodes.values().next().unwrap();
        assert_eq!((after.nodes.len(), node.id, node.name.as_str()), (1, after.last_node, "n2"));
        assert_eq!((node.labels["zone"].as_str(), node.part), ("b", RaftRole::Voter));
        assert!(after.last_node > before.last_node && after.index > before.index);
        let one = &after.allocations[&AllocId::from("web-0-aaaa")];
        assert_eq!((one.observed.phase, &one.desired), (Phase::Lost, &Desired::Run));
        assert!(after.allocations.values().all(|one| !one.is_live()));
        assert!(shop(&after).version > shop(&before).version, "what was planned is stale");
        assert_eq!(after.apps.keys().collect::<Vec<_>>(), before.apps.keys().collect::<Vec<_>>());
        assert!(State::default().restored(labelled("n2", "b"), Incarnation(9)).is_err());
        assert_eq!(State::decode(&after.encode().unwrap()).unwrap(), after);
    }

    #[test]
    fn a_learner_votes_and_no_id_is_given_twice() {
        let before = three(1);
        let mut alone = before.alone(NodeId(3), Incarnation(9)).unwrap();
        assert_eq!(alone.nodes[&NodeId(3)].part, RaftRole::Voter);
        // One whose name a lost node had.
        let joined = change(&mut alone, Command::Join(fixture::join("n2", "x"))).unwrap();
        let Outcome::Node { id, .. } = joined else { panic!("{joined:?}") };
        assert!(id.0 > before.last_node.0 + 1, "{id}");
        assert!(before.alone(NodeId(7), Incarnation(9)).is_none(), "no member");
    }
}
