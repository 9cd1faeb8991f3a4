//! Documents about nodes: labels, drains.
//!
//! Owns shapes only.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
    /// `waiting` for its turn, `moving`: its replacement begins, `stuck`: no other node takes it,
    /// `ending`, or `running`: a task's run.
    pub state: String,
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
