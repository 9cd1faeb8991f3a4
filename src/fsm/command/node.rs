//! Commands about nodes: what they carry.
//!
//! Owns their shapes. Never carries out any.

use crate::fsm::model::RaftRole;
use crate::id::{BootId, Incarnation, NodeId, TokenId};
use crate::secret::Sealed;
use crate::units::{Bytes, MilliCpu, Millis};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The first entry of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Name of the cluster.
    pub cluster: String,
    /// Its identity: random, hexadecimal.
    pub cluster_id: String,
    /// Its first life.
    pub incarnation: Incarnation,
    /// First address of all its nodes' subnets.
    pub subnet: Ipv4Addr,
    /// Length of that subnet's prefix.
    pub prefix: u8,
    /// Name of the first node.
    pub node_name: String,
    pub address: String,
    pub labels: BTreeMap<String, String>,
    /// Where it listens for its peers.
    #[serde(default)]
    pub peer_port: u16,
    /// What secrets are sealed for: its X25519 key, base64.
    #[serde(default)]
    pub public_key: String,
    /// The cluster's keyring, sealed for that key, base64.
    #[serde(default)]
    pub keyring: String,
    /// The cluster's authority: its certificate, PEM.
    #[serde(default)]
    pub ca: String,
    /// The authority's key, sealed by the keyring.
    #[serde(default)]
    pub ca_key: Option<Sealed>,
}

/// Where others reach a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub address: String,
    /// Where it listens for its peers.
    pub peer_port: u16,
}

/// A node began a life, or has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    pub node: NodeId,
    /// The life.
    pub boot: BootId,
    /// All of its processors.
    pub cpu: MilliCpu,
    /// All of its memory.
    pub memory: Bytes,
    /// Version of the program.
    pub version: String,
    /// The life that the node knows of itself: another one now makes this stale, so that what an
    /// earlier life said comes after nothing. Absent: whatever is.
    #[serde(default)]
    pub after: Option<BootId>,
    /// The highest feature level that the program knows.
    #[serde(default = "crate::fsm::model::first_level")]
    pub feature_level: u32,
    /// Where others reach it now; absent: where they did. Counts from [`super::NEXT_LEVEL`] on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// A node asks to become a member. It gets an id and a subnet, and is down until it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its name: free, or that of a member that is down.
    pub name: String,
    pub address: String,
    /// Where it listens for its peers.
    pub peer_port: u16,
    pub labels: BTreeMap<String, String>,
    /// Its X25519 key, base64. The same name with the same key, before it has ever registered, is
    /// the same request once more.
    pub public_key: String,
    /// The cluster's keyring, sealed for that key, base64.
    pub keyring: String,
    /// Which keyring that is; empty in logs from before it could change.
    #[serde(default)]
    pub keyring_id: String,
    /// Version of the program.
    pub version: String,
    /// The highest feature level that the program knows.
    pub feature_level: u32,
    /// The token that it has shown, which may be used so often only. Needs
    /// [`NEXT_LEVEL`](super::NEXT_LEVEL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
}

/// A configuration of raft, by the part that each node takes; one in neither takes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// They vote.
    pub voters: BTreeSet<NodeId>,
    /// They receive the log.
    pub learners: BTreeSet<NodeId>,
}

impl Members {
    /// The part that a node takes.
    #[must_use]
    pub fn part_of(&self, id: NodeId) -> RaftRole {
        if self.voters.contains(&id) {
            RaftRole::Voter
        } else if self.learners.contains(&id) {
            RaftRole::Learner
        } else {
            RaftRole::Out
        }
    }
}

/// What is wrong with a node that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub node: NodeId,
    /// The life of it that is meant.
    pub boot: BootId,
    /// What is seen of it.
    pub sign: Sign,
}

/// One thing that is seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The leader hears nothing of it for so long; absent: it is heard again.
    Silent(Option<Millis>),
    /// Its containerd doesn't answer for so long; absent: it does again.
    Runtime(Option<Millis>),
    /// Its clock is so many milliseconds ahead of the others'; 0: it agrees.
    Clock(i64),
}
