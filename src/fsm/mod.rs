//! The replicated machine: state, commands, and what a command does to the state.
//!
//! Equal logs give equal states: `apply` is deterministic. Never reads a clock, draws a number or
//! does I/O: everything is in the entry.

mod allocation;
mod apply;
pub mod canary;
pub use apply::{apply, apply_next};
pub mod backups;
pub mod certificates;
pub mod command;
pub(crate) mod deploy;
pub mod events;
#[cfg(test)]
pub mod fixture;
mod kept;
pub mod keys;
pub mod loaded;
pub mod login;
mod members;
pub mod mesh;
pub mod model;
mod nodes;
pub mod plan_hash;
pub mod recover;
pub mod routes;
mod runs;
pub mod secrets;
mod standstill;
mod steps;
mod tokens;
mod virtuals;
pub mod volumes;

#[cfg(test)]
mod tests;

pub use command::{Command, Entry, FEATURE_LEVEL, NEXT_LEVEL, Outcome, Rejection, SessionStep};
pub use standstill::Standstill;

use crate::fsm::events::Event;
use crate::id::{AllocId, AppName, Incarnation, Index, NodeId, Revision, SpecHash, TokenId};
use crate::id::{BootId, SecretName, WorkloadName};
use crate::units::{Bytes, MilliCpu, Timestamp};
use imbl::{OrdMap, OrdSet};
use model::{Allocation, App, Ca, Deployment, Node, Run, StoredSpec, TaskSchedule, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Everything that all nodes agree on. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Set by the first entry.
    pub cluster: Option<Cluster>,
    /// The index of the last applied entry.
    pub index: Index,
    /// Replicated time: advances only by entries.
    pub time: Timestamp,
    /// The highest node id ever given.
    pub last_node: NodeId,
    /// The newest revision of any app.
    pub last_revision: Revision,
    /// What entries may need, once all nodes know it; 0 is the first level, too.
    #[serde(default)]
    pub feature_level: u32,
    /// The members.
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// Ids of nodes that are members no more, for ever.
    #[serde(default)]
    pub removed: OrdSet<NodeId>,
    /// The authority whose certificates nodes know each other by.
    #[serde(default)]
    pub ca: Option<Ca>,
    /// A node that had the keyring is gone: another one is to be made.
    #[serde(default)]
    pub keyring_due: bool,
    /// Number of each node's last batch of reports in its boot.
    #[serde(default)]
    pub reports: OrdMap<NodeId, u64>,
    /// What runs, by owner.
    pub apps: OrdMap<AppName, Arc<App>>,
    /// Revisions and what became of them.
    pub deployments: OrdMap<Revision, Arc<Deployment>>,
    /// Containers, wanted and seen.
    pub allocations: OrdMap<AllocId, Arc<Allocation>>,
    /// Runs of tasks: waiting, placed, and ended ones that are kept.
    #[serde(default)]
    pub runs: OrdMap<AllocId, Arc<Run>>,
    /// How far each task's schedule has been carried out.
    #[serde(default)]
    pub schedules: OrdMap<WorkloadName, Arc<TaskSchedule>>,
    /// The files of apps and revisions, each once.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub files: OrdMap<SpecHash, Arc<str>>,
    /// Every specification that something refers to.
    pub specs: OrdMap<SpecHash, Arc<StoredSpec>>,
    /// API tokens.
    pub tokens: OrdMap<TokenId, Arc<Token>>,
    /// Who the cluster is to registries.
    #[serde(default)]
    pub logins: login::Logins,
    /// Secrets, sealed.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub secrets: secrets::Secrets,
    /// Persistent volumes.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub volumes: volumes::Volumes,
    /// Where new ones are made; absent: on the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<volumes::Provider>>,
    /// Certificates of hosts, sealed.
    #[serde(default, skip_serializing_if = "certificates::Certificates::is_empty")]
    pub certificates: certificates::Certificates,
    /// Hosts that are paused.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub pauses: routes::Pauses,
    /// Backups on a schedule.
    #[serde(default, skip_serializing_if = "backups::Backups::is_empty")]
    pub backups: backups::Backups,
    /// The last versions of names that were deleted.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub deleted_secrets: OrdMap<SecretName, u64>,
    /// Images that were loaded from archives.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub loaded: loaded::LoadedImages,
    /// Every node had a key of the mesh once: containers of other nodes are reached through it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meshed: bool,
    /// How often the nodes were to change their keys of the mesh.
    #[serde(default, skip_serializing_if = "mesh::is_first")]
    pub mesh_rotation: u64,
    /// The stable address that a service was given last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_address: Option<Ipv4Addr>,
    /// Outcomes that proposers have not acknowledged.
    pub sessions: OrdMap<NodeId, Session>,
    /// Outcomes by `Idempotency-Key`.
    pub idempotency: OrdMap<String, Remembered>,
    /// The newest events, in order.
    #[serde(default)]
    pub events: OrdMap<u64, Arc<Event>>,
    /// The id of the newest event.
    #[serde(default)]
    pub last_event: u64,
    /// The last times when nobody led.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standstills: Vec<Standstill>,
    /// Derived from the rest, never stored.
    #[serde(skip)]
    pub derived: Derived,
}

/// What the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Changed by restore and recovery.
    pub incarnation: Incarnation,
    /// First address of all nodes' subnets.
    pub subnet: Ipv4Addr,
    /// Length of that subnet's prefix.
    pub prefix: u8,
}

/// What a proposer has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The proposer's process.
    pub boot: BootId,
    /// The processes before it, the last one first: what comes of them comes too late.
    #[serde(default)]
    pub past: Vec<BootId>,
    /// The proposer waits for nothing up to this number: another copy of that comes too late.
    #[serde(default)]
    pub low_water: u64,
    /// Outcomes by sequence number.
    pub outcomes: OrdMap<u64, Result<Outcome, Rejection>>,
}

/// The outcome of a request with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// When it was applied.
    pub at: Timestamp,
    /// What it answered.
    pub outcome: Result<Outcome, Rejection>,
}

/// Look-ups kept beside the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Replicas of a service.
    pub by_workload: OrdMap<WorkloadName, OrdSet<AllocId>>,
    /// Allocations of a node.
    pub by_node: OrdMap<NodeId, OrdSet<AllocId>>,
    /// What live allocations reserve on a node.
    pub reserved: OrdMap<NodeId, Reserved>,
    /// Runs by the name of their task.
    pub runs: OrdMap<WorkloadName, RunsOf>,
    /// Runs that have no node yet, the oldest first.
    pub waiting: OrdSet<(Timestamp, AllocId)>,
    /// Ended runs, the oldest first.
    pub ended_runs: OrdSet<(Timestamp, AllocId)>,
}

/// The runs of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsOf {
    /// Those that are not over.
    pub live: OrdSet<AllocId>,
    /// Those that are, the oldest first.
    pub ended: OrdSet<(Timestamp, AllocId)>,
}

/// What live allocations reserve on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Processor time.
    pub cpu: MilliCpu,
    pub memory: Bytes,
}

/// What changed since a child last looked; accumulates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Everything may have changed.
    pub all: bool,
    /// These allocations.
    pub allocations: BTreeSet<AllocId>,
    /// These apps: their services, tasks, deployments.
    pub apps: BTreeSet<AppName>,
    pub nodes: bool,
    /// These tokens.
    pub tokens: BTreeSet<TokenId>,
    /// The logins to registries.
    pub logins: bool,
    /// The loaded images.
    pub images: bool,
    pub secrets: bool,
    pub volumes: bool,
    /// The certificates of these hosts; an empty name: where they are ordered.
    pub certificates: BTreeSet<String>,
    /// The paused hosts.
    pub routes: bool,
}

/// What an entry did.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the one who asked.
    pub outcome: Result<Outcome, Rejection>,
    /// For the children.
    pub touched: Touched,
}

impl Touched {
    /// Everything, as after a start or an installed snapshot.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            all: true,
            nodes: true,
            logins: true,
            images: true,
            secrets: true,
            volumes: true,
            routes: true,
            ..Self::default()
        }
    }

    /// Adds what another saw.
    pub fn merge(&mut self, other: &Self) {
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.logins |= other.logins;
        self.images |= other.images;
        self.secrets |= other.secrets;
        self.volumes |= other.volumes;
        self.routes |= other.routes;
        self.tokens.extend(other.tokens.iter().cloned());
        self.certificates.extend(other.certificates.iter().cloned());
        self.allocations.extend(other.allocations.iter().cloned());
        self.apps.extend(other.apps.iter().cloned());
    }

    /// Nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl State {
    /// The state as bytes: its canonical JSON.
    ///
    /// # Errors
    /// Only if the state holds what JSON can't, which its types rule out.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The state from bytes that `encode` made.
    ///
    /// # Errors
    /// If they are not such bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(bytes)?;
        state.rebuild_derived();
        Ok(state)
    }

    /// The feature level of a state, from bytes that this build may not understand otherwise.
    #[must_use]
    pub fn level_of(bytes: &[u8]) -> Option<u32> {
        #[derive(Deserialize)]
        struct Level {
            #[serde(default)]
            feature_level: u32,
        }
        serde_json::from_slice(bytes).ok().map(|level: Level| level.feature_level)
    }

    /// A hash of everything that is replicated: equal on all nodes at an equal index.
    #[must_use]
    pub fn hash(&self) -> SpecHash {
        crate::spec::model::hash_of(self)
    }

    /// The feature level that entries may need: every node knows it.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.feature_level.max(model::first_level())
    }

    /// Whether every node knows what this version adds.
    #[must_use]
    pub fn is_next(&self) -> bool {
        self.level() >= NEXT_LEVEL
    }

    /// The specification with that hash.
    #[must_use]
    pub fn spec(&self, hash: &SpecHash) -> Option<&Arc<StoredSpec>> {
        self.specs.get(hash)
    }

    /// The replicas of a service, in the order of their ids.
    pub fn allocations_of(
        &self,
        workload: &WorkloadName,
    ) -> impl Iterator<Item = &Arc<Allocation>> {
        self.derived
            .by_workload
            .get(workload)
            .into_iter()
            .flat_map(OrdSet::iter)
            .filter_map(|id| self.allocations.get(id))
    }

    /// The allocations of a node, in the order of their ids.
    pub fn allocations_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Allocation>> {
        self.derived
            .by_node
            .get(&node)
            .into_iter()
            .flat_map(OrdSet::iter)
            .filter_map(|id| self.allocations.get(id))
    }

    /// The app that owns a service or task.
    #[must_use]
    pub fn owner(&self, name: &WorkloadName) -> Option<&Arc<App>> {
        self.apps
            .values()
            .find(|app| app.services.contains_key(name) || app.tasks.contains_key(name))
    }

    /// The nodes where a service did not work.
    #[must_use]
    pub fn avoids(&self, service: &WorkloadName) -> Option<&model::Avoids> {
        self.owner(service)?.services.get(service).map(|service| &service.avoids)
    }

    /// Nothing is heard of a node, and it isn't taken for down yet.
    #[must_use]
    pub fn is_silent(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.condition.silent_since.is_some())
    }

    /// Nothing is heard of a node, or what is asked of it isn't carried out.
    #[must_use]
    pub fn is_unanswering(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| !node.condition.answers())
    }

    /// The deployment of an app that is on its way.
    #[must_use]
    pub fn running_deployment(&self, app: &AppName) -> Option<&Arc<Deployment>> {
        let revision = self.apps.get(app)?.revision;
        self.deployments.get(&revision).filter(|d| d.status == model::DeployStatus::Running)
    }

    /// What an allocation reserves.
    #[must_use]
    pub fn reservation(&self, spec: &SpecHash) -> Reserved {
        self.specs.get(spec).map_or_else(Reserved::default, |stored| {
            let run = stored.spec.run();
            Reserved { cpu: run.reserved_cpu(), memory: run.memory }
        })
    }

    fn rebuild_derived(&mut self) {
        self.derived = Derived::default();
        let all: Vec<_> = self.allocations.values().cloned().collect();
        for allocation in all {
            self.index_allocation(&allocation);
        }
        let runs: Vec<_> = self.runs.values().cloned().collect();
        for run in runs {
            self.index_run(&run);
        }
    }
}
