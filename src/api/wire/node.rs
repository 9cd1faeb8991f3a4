//! Documents of nodes: what they are, labels, drains, the mesh.
//!
//! Owns shapes only.

use super::words::words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// How a node is.
    pub enum NodeStatus in "kebab-case" {
        /// It takes allocations.
        Ready,
        /// It gives its allocations away.
        Draining,
        /// Nothing was heard of it for too long.
        Down,
        /// Nothing is heard of it, and it isn't taken for down yet.
        Silent,
        /// Its containerd doesn't answer.
        Degraded,
    }

    /// How an allocation leaves a draining node.
    pub enum LeaveState in "kebab-case" {
        /// It waits for its turn.
        Waiting,
        /// Its replacement begins.
        Moving,
        /// No other node takes it.
        Stuck,
        /// It was asked to end.
        Ending,
        /// A task's run: it is on.
        Running,
    }
}

/// An amount of a node, of which some is set aside and some is in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeAmount<T> {
    /// All of it.
    pub total: T,
    /// Set aside for allocations.
    pub reserved: T,
    /// In use on the machine.
    pub used: Option<T>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Never used again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How it is.
    pub status: NodeStatus,
    /// What is wrong with it.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Where it is reached.
    pub address: String,
    /// Addresses of its containers, CIDR.
    pub subnet: String,
    /// Cores.
    pub cpu: NodeAmount<f64>,
    /// Bytes.
    pub memory: NodeAmount<u64>,
    /// How many allocations are live on it.
    pub allocations: u32,
    /// For constraints.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// How the answering node hears it in the mesh; absent for that node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshView>,
    /// What is left on it, while it drains.
    pub drain: Option<DrainView>,
}

/// What a draining node still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// Since when it drains.
    pub since: String,
    /// When runs of tasks that are still on are ended; absent: they finish.
    pub deadline: Option<String>,
    /// What is still live on it.
    pub left: Vec<LeftView>,
}

/// An allocation that is to leave its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftView {
    /// Which.
    pub allocation: String,
    /// Of which service or task.
    pub name: String,
    /// How it leaves.
    pub state: LeaveState,
    /// More about it: the replacement and its status, or each node's reason.
    pub message: Option<String>,
}

/// Body of a change of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsRequest {
    /// By label: its value, or null to take it away.
    pub labels: BTreeMap<String, Option<String>>,
}

/// Body of a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Seconds after which runs of tasks that are still on are ended; absent: they finish.
    #[serde(default, deserialize_with = "super::whole::option")]
    pub timeout: Option<u64>,
}

/// Whether a node reaches a port of another one, tried when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerCheckView {
    /// Name of the node that tried.
    pub from: String,
    /// Name of the other one.
    pub to: String,
    /// The port that has to be open, such as `51820/udp`; empty where the node can't be asked.
    pub port: String,
    /// It answers.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Which nodes have new keys of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeshKeysView {
    /// Names of those that have.
    pub changed: Vec<String>,
    /// Names of those that will once they are back.
    pub waiting: Vec<String>,
}

/// How a node hears another one in the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshView {
    /// Seconds since the last handshake; absent: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<u64>,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Packets that could not be sent, or were refused.
    pub dropped: u64,
}
