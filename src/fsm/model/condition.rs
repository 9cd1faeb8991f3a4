//! What is wrong with a node that is there, and with an allocation's course.
//!
//! Owns the shapes and what can be read off them. Never changes any: that is `apply`. All of it
//! came with [`NEXT_LEVEL`](crate::fsm::command::NEXT_LEVEL): before it nothing of it is written.

use crate::id::{Index, NodeId};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is wrong with a node that isn't down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// The leader hears nothing of it since then, and it isn't taken for down yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// Its containerd doesn't answer since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_since: Option<Timestamp>,
    /// How far its clock is ahead of the other members', in milliseconds; 0: it agrees.
    #[serde(skip_serializing_if = "is_zero")]
    pub clock_ahead: i64,
}

impl Condition {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        *self == Self::default()
    }

    /// What is asked of it is carried out, as far as is known.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.silent_since.is_none() && self.runtime_since.is_none()
    }
}

/// What became of an allocation besides its phases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// Ends in a row before it was healthy.
    #[serde(skip_serializing_if = "is_none")]
    pub failed_starts: u32,
    /// Why it was given up, so that another node is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// Nothing of it ran when it was given up, as far as was known.
    #[serde(skip_serializing_if = "is_not")]
    pub was_idle: bool,
    /// Since when it is to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_since: Option<Timestamp>,
    /// It works, and not every node is known to lead traffic to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrouted: Option<Unrouted>,
}

/// The moment from which traffic may lead to an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrouted {
    /// The entry that said so: who has settled it leads traffic there.
    pub index: Index,
    pub at: Timestamp,
}

impl Course {
    /// There is nothing to tell.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A node where a service did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avoided {
    /// When it was given up there.
    pub at: Timestamp,
    pub why: String,
    /// It may be the program's fault: another version of it is tried there.
    #[serde(default)]
    pub is_program: bool,
}

/// The nodes where a service did not work.
pub type Avoids = BTreeMap<NodeId, Avoided>;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_not(flag: &bool) -> bool {
    !flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_none(number: &u32) -> bool {
    *number == 0
}
