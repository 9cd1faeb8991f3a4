//! What a change of a node says.
//!
//! Never looks at anything but the node.

use super::EventKind;
use crate::fsm::model::{Node, NodeStatus, RaftRole};

/// What has become of a node.
pub(super) fn kinds(old: Option<&Node>, new: &Node) -> Vec<EventKind> {
    let Some(old) = old else { return vec![EventKind::NodeJoined] };
    let mut kinds = Vec::new();
    if old.boot != new.boot {
        kinds.push(EventKind::NodeRegistered);
    }
    if old.status != new.status {
        kinds.push(match new.status {
            NodeStatus::Ready => EventKind::NodeUp,
            NodeStatus::Draining => EventKind::NodeDraining,
            NodeStatus::Down => EventKind::NodeDown,
        });
    } else if old.drain.is_none() && new.drain.is_some() {
        kinds.push(EventKind::NodeDraining);
    }
    kinds.extend(of_condition(old, new));
    if old.labels != new.labels {
        kinds.push(EventKind::NodeLabelled);
    }
    if old.part != new.part {
        match new.part {
            RaftRole::Voter => kinds.push(EventKind::NodeVoter),
            RaftRole::Learner => kinds.push(EventKind::NodeLearner),
            RaftRole::Out => {}
        }
    }
    kinds
}

/// What is told of a node beside the event: its labels, how long its tasks may go on, its name.
pub(super) fn message(kind: EventKind, node: &Node) -> String {
    let deadline = node.drain.and_then(|drain| drain.deadline);
    match (kind, deadline) {
        (EventKind::NodeLabelled, _) if node.labels.is_empty() => "no labels".to_owned(),
        (EventKind::NodeLabelled, _) => {
            let labels = node.labels.iter().map(|(label, value)| format!("{label}={value}"));
            labels.collect::<Vec<_>>().join(" ")
        }
        (EventKind::NodeDraining, Some(at)) => format!("tasks until {at}"),
        _ => node.name.clone(),
    }
}

/// A node that is there fell silent, was heard again, or its containerd stopped to answer.
fn of_condition(old: &Node, new: &Node) -> Vec<EventKind> {
    let (was, is) = (&old.condition, &new.condition);
    let mut kinds = Vec::new();
    // What is down, or begins another life, says enough.
    if !new.is_up() || old.boot != new.boot {
        return kinds;
    }
    match (was.silent_since, is.silent_since) {
        (None, Some(_)) => kinds.push(EventKind::NodeSilent),
        (Some(_), None) => kinds.push(EventKind::NodeHeard),
        _ => {}
    }
    match (was.runtime_since, is.runtime_since) {
        (None, Some(_)) => kinds.push(EventKind::NodeDegraded),
        (Some(_), None) => kinds.push(EventKind::NodeRecovered),
        _ => {}
    }
    kinds
}
