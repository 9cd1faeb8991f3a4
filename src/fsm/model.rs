//! What the replicated state consists of.
//!
//! Owns the shapes. Never changes them: that is `apply`.

mod allocation;
mod canary;
mod condition;
mod node;
mod run;

pub use allocation::{
    AllocKind, Allocation, AllocationStatus, Desired, Exit, ExitReason, Health, Phase,
};
pub use canary::{Canary, Verdict};
pub use condition::{Avoided, Avoids, Condition, Course, Unrouted};
pub(in crate::fsm) use node::first_level;
pub use node::{Ca, Drain, Node, NodeStatus, RaftRole};
pub use run::{HookRun, HookWhen, Run, RunCause, TaskSchedule};

use crate::id::{AllocId, AppName, NodeId, Revision, SpecHash, TokenId, WorkloadName};
use crate::spec::model::{RunSpec, ServiceSpec, StopSpec, TaskSpec, hash_of};
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What one file owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub name: AppName,
    /// The newest accepted revision.
    pub revision: Revision,
    /// The newest revision that succeeded.
    pub stable: Option<Revision>,
    /// The file of that revision as a person wrote it, where it isn't kept by its hash.
    pub file: Arc<str>,
    /// The hash of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_hash: Option<SpecHash>,
    /// Services that run or are about to go.
    pub services: BTreeMap<WorkloadName, Service>,
    /// Tasks that can be spawned.
    pub tasks: Arc<BTreeMap<WorkloadName, SpecHash>>,
    /// Counts every change of what is desired: a plan made for another count is stale.
    pub version: u64,
}

/// A service within its app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What last ran healthy.
    pub stable: Option<SpecHash>,
    /// What should run; absent: the service is being removed.
    pub target: Option<SpecHash>,
    /// Raised by `restart`: allocations of an older generation are replaced.
    pub generation: u64,
    /// The way back to `stable` failed too; what is healthy is kept.
    pub degraded: bool,
    /// Where it did not work lately.
    #[serde(default, skip_serializing_if = "Avoids::is_empty")]
    pub avoids: Avoids,
    /// Its stable address, which leads to its healthy replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

/// A specification that something in the state refers to, kept once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "behind an Arc wherever it is kept")]
pub enum WorkloadSpec {
    Service(ServiceSpec),
    Task(TaskSpec),
}

/// A stored specification with the hash of its replacing part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSpec {
    /// The specification.
    pub spec: WorkloadSpec,
    /// Two specifications with equal `run` need no replacement.
    pub run: SpecHash,
}

/// How a revision came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployKind {
    /// `mill up`.
    Up,
    /// `mill down`.
    Down,
    /// `mill scale`.
    Scale,
    /// `mill rollback`.
    Rollback,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployStatus {
    /// On its way.
    Running,
    /// All is as asked.
    Succeeded,
    /// It could not be done; the services are back on their stable specifications.
    Failed,
    /// Ended by a rollback.
    Aborted,
    /// Ended by a newer one of the same app.
    Superseded,
}

/// A revision of an app and what became of it. Deployments are data: any leader can go on with one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number.
    pub revision: Revision,
    /// Whose revision.
    pub app: AppName,
    /// How it came about.
    pub kind: DeployKind,
    /// The revision of the app before it.
    pub base: Option<Revision>,
    /// Where it stands.
    pub status: DeployStatus,
    /// A failure was found: the way back is under way since then.
    pub reverting: Option<Timestamp>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub reason: Option<String>,
    pub failed_service: Option<WorkloadName>,
    /// The hash of the plan that it carries out.
    #[serde(default)]
    pub plan: Option<String>,
    /// Every service of the revision.
    pub services: Arc<BTreeMap<WorkloadName, SpecHash>>,
    /// Every task of the revision.
    pub tasks: Arc<BTreeMap<WorkloadName, SpecHash>>,
    /// The services that it changes, adds or removes.
    pub touched: Arc<BTreeSet<WorkloadName>>,
    /// The file, where it isn't kept by its hash.
    pub file: Arc<str>,
    /// The hash of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_hash: Option<SpecHash>,
    /// What its file and specifications added to the state, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Its tasks before and after, in the order in which they were begun.
    #[serde(default)]
    pub hooks: Vec<HookRun>,
    /// Its canaries that have begun, or that a person ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub canaries: BTreeMap<WorkloadName, Canary>,
    /// What happened, by number, from 0.
    pub progress: OrdMap<usize, Arc<Progress>>,
}

/// Fields that an earlier version doesn't know are written only where they say something.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Deployment {
    /// Adds what happened.
    pub fn add_progress(&mut self, step: Progress) {
        self.progress.insert(self.progress.len(), Arc::new(step));
    }
}

/// A step of a deployment that a person sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When.
    pub time: Timestamp,
    pub phase: ProgressPhase,
    pub service: WorkloadName,
    pub allocation: Option<AllocId>,
    /// On which node.
    pub node: Option<NodeId>,
    /// More about it.
    pub message: Option<String>,
}

/// The kind of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressPhase {
    /// Work on the service began.
    Started,
    /// The node fetches the image.
    Pulling,
    /// The allocation has a node.
    Scheduled,
    /// The container is being made.
    Starting,
    /// The allocation works.
    Healthy,
    /// Its probe fails.
    Unhealthy,
    /// Traffic leads to it.
    Routed,
    /// It is tried again.
    Retrying,
    /// No node fits a replica.
    Waiting,
    /// It has ended as asked.
    Stopped,
    /// It has failed.
    Failed,
    /// A canary goes a step on.
    Canary,
}

/// An API token: what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the whole token, hexadecimal.
    pub hash: String,
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How many more nodes it lets in; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// What a token may do; each may all that the ones before may, but for `Join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Only join a node.
    Join,
    /// Look, but never at a secret's value.
    Read,
    /// Change what runs.
    Deploy,
    /// Everything.
    Admin,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

impl Progress {
    /// It says that no node fits a replica.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.phase == ProgressPhase::Waiting
    }
}

impl WorkloadSpec {
    /// The container.
    #[must_use]
    pub fn run(&self) -> &RunSpec {
        match self {
            Self::Service(service) => &service.run,
            Self::Task(task) => &task.run,
        }
    }

    /// How it is asked to end.
    #[must_use]
    pub fn stop(&self) -> &StopSpec {
        match self {
            Self::Service(service) => &service.stop,
            Self::Task(task) => &task.stop,
        }
    }

    /// What of it is larger than any file may say.
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        match self {
            Self::Service(service) => service.excess(),
            Self::Task(task) => task.excess(),
        }
    }

    /// As a service.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceSpec> {
        match self {
            Self::Service(service) => Some(service),
            Self::Task(_) => None,
        }
    }

    /// With the hashes of the whole and of the replacing part.
    #[must_use]
    pub fn store(self) -> (SpecHash, StoredSpec) {
        let run = match &self {
            Self::Service(s) => hash_of(&(&s.run, &s.ports, &s.health)),
            Self::Task(task) => hash_of(task),
        };
        (hash_of(&self), StoredSpec { spec: self, run })
    }
}
