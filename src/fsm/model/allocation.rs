//! An allocation: what should be of it, and what is.
//!
//! Owns the shapes and what can be read off them. Never changes any: that is `apply`.

use super::Course;
use crate::bugs::{Bug, is_on};
use crate::id::{AllocId, AppName, Attempt, Index, NodeId, Revision, SecretName};
use crate::id::{SpecHash, WorkloadName};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What an allocation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocKind {
    /// The n-th replica of a service, from 0.
    Service { replica: u32 },
    /// A run of a task.
    Task,
}

/// A container on a node: what should be (written by plan) and what is (written by its node).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Unique for ever.
    pub id: AllocId,
    /// The service or task.
    pub workload: WorkloadName,
    /// Replica of a service or run of a task.
    pub kind: AllocKind,
    /// The app that owns the workload; empty for a run of an image given with the request.
    pub app: AppName,
    /// Where it runs.
    pub node: NodeId,
    pub spec: SpecHash,
    /// The revision that made it.
    pub revision: Revision,
    /// The service's generation when it was made.
    pub generation: u64,
    /// When it was placed.
    pub created_at: Timestamp,
    /// Which allocation it takes over from.
    pub replaces: Option<AllocId>,
    /// What should be.
    pub desired: Desired,
    /// The least attempt that should run; raised by a restart.
    pub attempt: Attempt,
    pub observed: AllocationStatus,
    /// Time of the last change of phase, in replicated time.
    pub phase_since: Timestamp,
    /// When its container first ran, in replicated time.
    pub first_running: Option<Timestamp>,
    /// Whether it has ever been healthy.
    pub was_healthy: bool,
    /// When its pull last got further, in replicated time.
    #[serde(default)]
    pub pulled_at: Option<Timestamp>,
    /// What became of it besides its phases.
    #[serde(default, skip_serializing_if = "Course::is_plain")]
    pub course: Course,
}

/// What should be. Only ever advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It should run.
    Run,
    /// It still runs, but nothing new is sent to it.
    Draining {
        /// The entry that said so: every node must have settled it before the stop.
        index: Index,
        at: Timestamp,
        /// When every ready node had settled it, or was declared unreachable.
        settled: Option<Timestamp>,
    },
    /// It should end and leave nothing.
    Stop,
}

/// The life of a container, in order; a later attempt starts over.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its node has not begun.
    #[default]
    Pending,
    /// Its image is fetched.
    Pulling,
    /// Its container is made.
    Starting,
    /// Its program runs.
    Running,
    /// Its program ended; the next attempt waits.
    Backoff,
    /// It was asked to end.
    Stopping,
    /// It ended as asked, or a task completed.
    Stopped,
    /// It ended otherwise and is not tried again.
    Failed,
    /// Its node is gone.
    Lost,
}

/// What the health check says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing runs.
    #[default]
    None,
    /// Not known yet.
    Checking,
    /// It works.
    Healthy,
    /// Three failures in a row.
    Unhealthy,
}

/// What is, as its node last reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationStatus {
    /// Which start.
    pub attempt: Attempt,
    /// Where in its life.
    pub phase: Phase,
    /// What the health check says.
    pub health: Health,
    /// Its address in the node's subnet, once it has one; kept over restarts.
    pub address: Option<Ipv4Addr>,
    /// When this attempt's program started, by the node's clock.
    pub started_at: Option<Timestamp>,
    /// Starts after the first.
    pub restarts: u32,
    /// How many ends were for want of memory.
    pub ooms: u32,
    /// When the next attempt begins, in backoff, by the node's clock.
    pub retry_at: Option<Timestamp>,
    /// How the last attempt ended.
    pub exit: Option<Exit>,
    /// What a person should know: why it waits, what the probe said. At most 1 KiB.
    pub message: Option<String>,
    /// Bytes of its image that its pull has fetched, told now and then: it gets further.
    #[serde(default)]
    pub pulled: u64,
    /// The versions of the secrets that this attempt started with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u64>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The program's code, 128 + n for signal n. Of one that never started: 127 if it isn't there,
    /// 126 if it can't be executed, else absent.
    pub code: Option<i32>,
    pub reason: ExitReason,
    /// More about it, with its last output. At most 1 KiB.
    pub message: Option<String>,
}

/// Why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// Code 0.
    Completed,
    /// Another code.
    Error,
    /// Out of memory.
    Oom,
    /// It timed out.
    Timeout,
    /// It was asked to end, or its health check failed.
    Killed,
    /// Its node is gone.
    Lost,
    /// It could not be started.
    StartFailed,
    /// Its image could not be fetched.
    PullFailed,
}

impl Phase {
    /// Nothing of it runs any more, and nothing will.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Lost)
    }
}

impl Allocation {
    /// It holds resources on its node.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let ends = is_on(Bug::ReleaseEarly) && self.desired == Desired::Stop;
        !self.observed.phase.is_terminal() && !ends
    }

    /// Traffic may lead to it: running, healthy and not asked to end.
    #[must_use]
    pub fn is_routable(&self) -> bool {
        self.desired == Desired::Run
            && self.observed.phase == Phase::Running
            && self.observed.health == Health::Healthy
    }

    /// It drains and still works: traffic that has nowhere else to go may lead to it.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        matches!(self.desired, Desired::Draining { .. })
            && self.observed.phase == Phase::Running
            && self.observed.health == Health::Healthy
    }

    /// Its replica number, for a service.
    #[must_use]
    pub fn replica(&self) -> Option<u32> {
        match self.kind {
            AllocKind::Service { replica } => Some(replica),
            AllocKind::Task => None,
        }
    }
}
