//! What a command answers: what came of it, or why it was refused.
//!
//! Owns the words of refusals. Never refuses anything itself.

use crate::fsm::model::NodeStatus;
use crate::id::{AllocId, AppName, NodeId, Revision, WorkloadName};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What a carried-out command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// A deployment was accepted, or the app is that revision already.
    Revision {
        /// The app's revision.
        revision: Revision,
        /// Whether it is a new one.
        new: bool,
    },
    /// A run was accepted.
    Run {
        id: AllocId,
    },
    /// A node is a member now.
    Node {
        /// Its id: never given before.
        id: NodeId,
        /// First address of its /21.
        subnet: Ipv4Addr,
    },
}

/// Why a command was not carried out; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The state has no cluster yet, or has one already.
    #[error("the cluster is initialised already")]
    Initialised,
    /// The app has moved on since the caller looked.
    #[error("app {app} is at {now} now, not at {expected}")]
    Moved {
        app: AppName,
        /// What the caller saw.
        expected: Revision,
        now: Revision,
    },
    /// What would be done now is not what was planned.
    #[error("what was planned as {planned} would now be {now}")]
    PlanStale {
        /// The plan's hash.
        planned: String,
        /// The hash of what would be done.
        now: String,
    },
    /// A name that another app owns.
    #[error("{name} belongs to app {owner}")]
    NameOwned {
        /// The service or task.
        name: WorkloadName,
        /// Who owns it.
        owner: AppName,
    },
    /// Nothing of the app waits for a canary.
    #[error("app {app} has no canary under way")]
    NoCanary { app: AppName },
    /// The file shares no name with what the app runs.
    #[error("the file shares no name with what app {app} runs")]
    NothingShared { app: AppName },
    /// A member that is not down has that name.
    #[error("node {name} is a member already, and it is {status}")]
    NodeNameTaken { name: String, status: NodeStatus },
    /// A node with that name was let in and has not registered yet.
    #[error("node {name} was just let in and is not ready yet")]
    NodeNameHeld { name: String },
    /// The cluster's subnet has no part left for one more node.
    #[error("the cluster's subnet {subnet} has no /21 left")]
    NoSubnet {
        /// The whole.
        subnet: String,
    },
    /// The node does not drain.
    #[error("node {name} is not draining")]
    NotDraining { name: String },
    /// Only a node that drains or is down is removed: others have its vote and its work by then.
    #[error("node {name} still takes work")]
    NodeReady { name: String },
    /// Without the vote of the node that is to be removed, the others have no majority.
    #[error("node {name} votes, and only {there} of the other {others} voters are there")]
    VoteNeeded {
        name: String,
        /// Other voters that are not down.
        there: usize,
        /// Other voters.
        others: usize,
    },
    /// Something still runs on the node that is to be removed.
    #[error("node {name} still holds {}", some(allocations, *more))]
    NodeBusy {
        /// Which node.
        name: String,
        /// The first of them.
        allocations: Vec<AllocId>,
        /// How many others.
        more: usize,
    },
    /// Without that node the cluster would have nobody to go on.
    #[error("no node but {name} is there to go on: it is the last that is ready")]
    LastNode { name: String },
    /// No such thing.
    #[error("no {what} {name}")]
    NotFound {
        /// Its kind.
        what: String,
        name: String,
    },
    /// The plan or report was made for a state that is past.
    #[error("made for a state that is past")]
    Stale,
    /// More than is kept.
    #[error("there are too many {what}")]
    TooMany { what: String },
    /// A change that the states do not allow.
    #[error("{what}")]
    Illegal { what: String },
    /// Applying it failed inside: an error in the program, the same on every node.
    #[error("applying the command failed inside: {what}")]
    Internal {
        /// What was said.
        what: String,
    },
}

/// The first of some allocations, and how many more there are.
fn some(allocations: &[AllocId], more: usize) -> String {
    let names: Vec<&str> = allocations.iter().map(AllocId::as_str).collect();
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}
