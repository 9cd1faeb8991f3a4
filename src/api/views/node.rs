//! Nodes as documents, and what is left on those that drain.
//!
//! Never decides what moves where: the planner is asked.

use super::warnings::short;
use super::{LiveUsage, allocation, node_name};
use crate::api::why;
use crate::api::wire::{
    self, AllocationStatus, DrainView, LeaveState, LeftView, MeshView, NodeAmount, NodeView,
};
use crate::fsm::State;
use crate::fsm::model::{
    AllocKind, Allocation, Condition, Desired, Drain, Node, NodeStatus, RaftRole,
};
use crate::network::Subnet;
use crate::scheduler::plan::Unplaced;
use crate::units::{Millis, Timestamp};
use std::sync::Arc;

/// A node.
#[must_use]
pub fn node(state: &State, node: &Node, seen: &LiveUsage) -> NodeView {
    let reserved = state.derived.reserved.get(&node.id).copied().unwrap_or_default();
    let answers = node.condition.runtime_since.is_none();
    let used = seen.nodes.get(&node.id).filter(|_| answers);
    let live = state.allocations_on(node.id).filter(|a| a.is_live()).count();
    NodeView {
        id: node.id.0,
        name: node.name.clone(),
        status: status(node),
        message: troubles(node, seen.now).into_iter().next(),
        voter: node.part == RaftRole::Voter,
        leader: seen.leader == Some(node.id),
        address: node.address.clone(),
        subnet: Subnet::node(node.subnet).to_string(),
        cpu: NodeAmount {
            total: node.cpu.cores(),
            reserved: reserved.cpu.cores(),
            used: used.map(|(cpu, _)| cpu.cores()),
        },
        memory: NodeAmount {
            total: node.memory.0,
            reserved: reserved.memory.0,
            used: used.map(|(_, memory)| memory.0),
        },
        allocations: u32::try_from(live).unwrap_or(u32::MAX),
        labels: node.labels.clone(),
        version: node.version.clone(),
        mesh: seen.mesh.get(&seen.node).and_then(|all| all.get(&node.id)).map(|one| MeshView {
            handshake: one.handshake,
            sent: one.sent,
            received: one.received,
            dropped: one.dropped,
        }),
        drain: node.drain.map(|drain| drained(state, node, drain, seen)),
    }
}

/// Its status: where it is there, but doesn't do what it is asked, that.
fn status(node: &Node) -> wire::NodeStatus {
    match node.condition {
        Condition { silent_since: Some(_), .. } => wire::NodeStatus::Silent,
        Condition { runtime_since: Some(_), .. } => wire::NodeStatus::Degraded,
        _ => node.status.into(),
    }
}

/// What is wrong with a node that is there, the worst first.
pub(super) fn troubles(node: &Node, now: Timestamp) -> Vec<String> {
    let condition = node.condition;
    let silent = condition.silent_since.map(|since| {
        let time = short(now.since(since));
        format!("silent for {time}: it gets nothing new, what runs there is unknown")
    });
    let runtime = condition.runtime_since.map(|since| {
        let time = short(now.since(since));
        format!(
            "degraded: containerd doesn't answer for {time}: look at it with systemctl status \
             containerd"
        )
    });
    let ahead = condition.clock_ahead;
    let clock = (ahead != 0).then(|| {
        let how = if ahead > 0 { "ahead of" } else { "behind" };
        let time = short(Millis(ahead.unsigned_abs()));
        format!("its clock is {time} {how} the other nodes': set it, for example with chrony")
    });
    [silent, runtime, clock].into_iter().flatten().collect()
}

/// Every node.
#[must_use]
pub fn nodes(state: &State, seen: &LiveUsage) -> Vec<NodeView> {
    state.nodes.values().map(|n| node(state, n, seen)).collect()
}

fn drained(state: &State, node: &Node, drain: Drain, seen: &LiveUsage) -> DrainView {
    let live: Vec<&Arc<Allocation>> =
        state.allocations_on(node.id).filter(|a| a.is_live()).collect();
    let stuck = stuck_on(state, node);
    DrainView {
        since: drain.since.to_string(),
        deadline: drain.deadline.map(|at| at.to_string()),
        left: live.into_iter().map(|one| left(state, one, &stuck, seen)).collect(),
    }
}

/// The replicas that can't leave this draining node; those of another one are that one's.
pub(super) fn stuck_on(state: &State, node: &Node) -> Vec<Unplaced> {
    if node.status != NodeStatus::Draining {
        return Vec::new();
    }
    let own = || state.allocations_on(node.id).filter(|a| a.is_live());
    let is_here = |one: &Unplaced| {
        own().any(|a| a.workload == one.service && a.replica() == Some(one.replica))
    };
    let mut stuck = why::stuck(state, own().filter_map(|a| state.apps.get(&a.app)));
    stuck.retain(is_here);
    stuck
}

/// An allocation that is to leave its node, with those that can't.
#[must_use]
pub fn left(state: &State, one: &Allocation, stuck: &[Unplaced], seen: &LiveUsage) -> LeftView {
    let all = state.allocations_of(&one.workload).filter(|a| a.is_live());
    let heir = all.filter(|a| a.replaces.as_ref() == Some(&one.id)).last();
    let is_it = |s: &&Unplaced| s.service == one.workload && Some(s.replica) == one.replica();
    let (how, message) = if one.desired != Desired::Run {
        (LeaveState::Ending, None)
    } else if one.kind == AllocKind::Task {
        (LeaveState::Running, None)
    } else if let Some(heir) = heir {
        let view = allocation(state, heir, seen);
        let how = match view.status {
            AllocationStatus::Running => view.health.to_string(),
            status => status.to_string(),
        };
        (LeaveState::Moving, Some(format!("{} on {}: {how}", heir.id, view.node)))
    } else if let Some(stuck) = stuck.iter().find(is_it) {
        let why = explain(state, stuck);
        (LeaveState::Stuck, Some(format!("no other node takes it: {why}")))
    } else {
        (LeaveState::Waiting, None)
    };
    LeftView { allocation: one.id.to_string(), name: one.workload.to_string(), state: how, message }
}

fn explain(state: &State, stuck: &Unplaced) -> String {
    let lines = stuck.refusals.iter().map(|(id, why)| format!("{} {why}", node_name(state, *id)));
    lines.collect::<Vec<_>>().join("; ")
}
