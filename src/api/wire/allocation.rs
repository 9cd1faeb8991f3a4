//! Documents of allocations: containers on nodes.
//!
//! Never holds rules, only shapes.

use super::TrafficView;
use super::words::words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// Where an allocation or a task's run is on its way.
    pub enum AllocationStatus in "kebab-case" {
        /// Not begun; a run: it may wait for a node.
        Pending,
        /// Its image is fetched.
        Pulling,
        /// Its container is made.
        Starting,
        /// Its program runs.
        Running,
        /// Its program has ended and is started again later.
        Backoff,
        /// It was asked to end.
        Stopping,
        /// It has ended as it should.
        Stopped,
        /// It has failed and is not tried again.
        Failed,
        /// Its node is gone.
        Lost,
    }

    /// What an allocation's checks say.
    pub enum AllocationHealth in "kebab-case" {
        /// It has none, or doesn't run.
        None,
        /// None has succeeded yet.
        Checking,
        /// It is healthy.
        Healthy,
        /// They fail.
        Unhealthy,
        /// Its node is silent.
        Unknown,
    }

    /// Why a program ended.
    pub enum ExitReason in "kebab-case" {
        /// By itself, with code 0.
        Completed,
        /// By itself, with another code.
        Error,
        /// It was killed for want of memory.
        Oom,
        /// It took longer than it may.
        Timeout,
        /// It was killed.
        Killed,
        /// Its node is gone.
        Lost,
        /// It could not be started.
        StartFailed,
        /// Its image could not be pulled.
        PullFailed,
    }

    /// What runs to serve, or to completion.
    pub enum WorkloadKind in "kebab-case" {
        /// It runs for ever.
        Service,
        /// It runs to completion.
        Task,
    }
}

impl AllocationStatus {
    /// Nothing of it runs any more, and nothing will.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Lost)
    }
}

/// A used and a total amount of cores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CpuUse {
    /// Cores in use.
    pub used: Option<f64>,
    /// The ceiling, if there is one.
    pub limit: Option<f64>,
}

/// A used and a total amount of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryUse {
    /// Bytes in use.
    pub used: Option<u64>,
    /// The ceiling.
    pub limit: Option<u64>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExitView {
    /// The program's code, 128 + n for signal n.
    pub code: Option<i32>,
    /// Why.
    pub reason: ExitReason,
    /// More about it.
    pub message: Option<String>,
}

/// A container on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllocationView {
    /// Its id, for example `web-0-k3f9`.
    pub id: String,
    /// The service or task.
    pub name: String,
    /// Of what.
    pub kind: WorkloadKind,
    /// Name of the node; absent while a task's run waits for one.
    #[serde(with = "absent")]
    #[schema(value_type = Option<String>)]
    pub node: String,
    /// Where it is on its way.
    pub status: AllocationStatus,
    /// What its checks say.
    pub health: AllocationHealth,
    /// It still runs and gets nothing new: it is about to stop.
    #[serde(default)]
    pub draining: bool,
    /// Address with the main port, if it has one.
    pub address: Option<String>,
    /// Cores.
    pub cpu: CpuUse,
    /// Bytes.
    pub memory: MemoryUse,
    /// Bytes that it has written to its node's disk: its writable layer and ephemeral volumes.
    #[serde(default)]
    pub written: Option<u64>,
    /// The requests that came to it through routes in the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficView>,
    /// Starts after the first.
    pub restarts: u32,
    /// How often a process in it was killed for want of memory, whether it ended by that or not.
    #[serde(default)]
    pub ooms: u32,
    /// When the program that runs now started.
    pub started_at: Option<String>,
    /// When it was placed.
    pub created_at: String,
    /// The revision that made it.
    pub revision: u64,
    /// Why it waits, or what its probe said.
    pub message: Option<String>,
    /// How its last program ended.
    pub exit: Option<ExitView>,
    /// The versions of the secrets that it started with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, u64>,
}

/// An empty text is absent: `null`.
mod absent {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        Some(text).filter(|text| !text.is_empty()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
    }
}
