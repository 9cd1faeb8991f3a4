//! A node: what the cluster knows of it, and its authority.
//!
//! Owns the shapes and what can be read off them. Never changes any: that is `apply`.

use super::Condition;
use crate::fsm::mesh::MeshPart;
use crate::id::{BootId, NodeId};
use crate::secret::Sealed;
use crate::units::{Bytes, MilliCpu, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Never used again once the node is gone.
    pub id: NodeId,
    /// A label for people, unique among the members.
    pub name: String,
    /// Where other nodes and clients reach it.
    pub address: String,
    /// Where it listens for its peers; 0: it has none.
    #[serde(default)]
    pub peer_port: u16,
    /// First address of its /21.
    pub subnet: Ipv4Addr,
    /// For constraints.
    pub labels: BTreeMap<String, String>,
    /// All of its processors.
    pub cpu: MilliCpu,
    /// All of its memory.
    pub memory: Bytes,
    /// Whether it takes allocations.
    pub status: NodeStatus,
    /// Since when it is down.
    #[serde(default)]
    pub down_since: Option<Timestamp>,
    /// It is to give its work away; kept while it is down.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// Its part in raft. A state from before there were others had one node, which voted.
    #[serde(default = "voter")]
    pub part: RaftRole,
    /// Version of the program it runs.
    pub version: String,
    /// The highest feature level that the program knows.
    #[serde(default = "first_level")]
    pub feature_level: u32,
    /// What secrets are sealed for: its X25519 key, base64.
    #[serde(default)]
    pub public_key: String,
    /// The cluster's keyring, sealed for that key, base64.
    #[serde(default)]
    pub keyring: String,
    /// Where it is in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshPart>,
    /// Its current life; reports of another are refused.
    pub boot: BootId,
    /// When it became a member.
    pub joined_at: Timestamp,
    /// What is wrong with it, while it is there.
    #[serde(default, skip_serializing_if = "Condition::is_well")]
    pub condition: Condition,
}

fn voter() -> RaftRole {
    RaftRole::Voter
}

/// Of what was written before there were levels.
pub(in crate::fsm) fn first_level() -> u32 {
    1
}

/// Whether a node takes allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// It takes allocations.
    Ready,
    /// It keeps none and takes none.
    Draining,
    /// Silent for longer than the node-down window, or never heard yet.
    Down,
}

impl NodeStatus {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A node's part in raft.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RaftRole {
    /// None: it is not in the configuration.
    #[default]
    Out,
    /// It receives the log.
    Learner,
    /// It votes.
    Voter,
}

/// That a node gives its work away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub since: Timestamp,
    /// When runs of tasks that are still on are ended; absent: they finish.
    pub deadline: Option<Timestamp>,
}

/// The authority whose certificates nodes know each other by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ca {
    /// Its certificate, PEM.
    pub cert: String,
    /// Its key, sealed by the keyring.
    pub key: Sealed,
}

impl Node {
    /// It is there: its reports count, and it settles what it is shown.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status != NodeStatus::Down
    }

    /// It takes allocations.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == NodeStatus::Ready
    }

    /// It takes allocations now: it is ready, and carries out what it is asked.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.is_ready() && self.condition.answers()
    }
}
