//! Documents that explain: plans, reasons, events.
//!
//! Never holds rules, only shapes.

use super::words::words;
use super::{AllocationHealth, AllocationStatus, WorkloadKind};
use super::{CertificateView, DeploymentView, ReplicasView, TrafficView};
use crate::fsm::events::EventKind;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

words! {
    /// Whether something comes, changes or goes.
    pub enum Change in "kebab-case" {
        /// It comes.
        Add,
        /// It changes.
        Change,
        /// It goes.
        Remove,
    }

    /// What becomes of what runs.
    pub enum Effect in "kebab-case" {
        /// It is started.
        Start,
        /// Its replicas are replaced.
        Replace,
        /// Replicas come or go.
        Scale,
        /// Nothing that runs changes.
        None,
        /// It is stopped.
        Stop,
    }

    /// In which order a replica is replaced.
    pub enum UpdateOrder in "kebab-case" {
        /// The new one starts before the old one stops.
        StartFirst,
        /// The old one stops before the new one starts.
        StopFirst,
    }

    /// What a node has to do with a replica.
    pub enum NodeReason in "kebab-case" {
        /// It is there, or would go there.
        Chosen,
        /// The node would take it.
        Fits,
        /// It did not work there lately.
        Avoided,
        /// Too little memory is free.
        Memory,
        /// Too few cores are free.
        Cpu,
        /// A label is missing or another.
        Constraint,
        /// Its data is on another node.
        Volume,
        /// The node gives its allocations away.
        Draining,
        /// Nothing was heard of the node for too long.
        Down,
        /// Nothing is heard of the node.
        Silent,
        /// The node's containerd doesn't answer.
        Degraded,
    }

    /// What a reason was asked of.
    pub enum WhyKind in "kebab-case" {
        /// A service.
        Service,
        /// A task.
        Task,
        /// An allocation.
        Allocation,
        /// A host of routes.
        Host,
    }
}

/// What a file would do to its app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Over the app's revision, all digests and the differences: `up --plan` takes it.
    pub hash: String,
    /// The app.
    pub app: String,
    /// The cluster.
    pub cluster: String,
    /// The app's revision now, if it has one.
    pub base: Option<u64>,
    /// The revision that it would be, if no other comes before; absent: nothing is to be done.
    pub revision: Option<u64>,
    /// Services, then tasks, that come, change or go.
    pub changes: Vec<PlanChangeView>,
}

/// What a file would do to a service or task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanChangeView {
    /// Its name.
    pub name: String,
    /// Which of the two it is.
    pub kind: WorkloadKind,
    /// Whether it comes, changes or goes.
    pub change: Change,
    /// What becomes of what runs.
    pub effect: Effect,
    /// Replicas.
    pub replicas: ReplicaChange,
    /// In which order its replicas are replaced, if they are.
    pub order: Option<UpdateOrder>,
    /// The fields that differ, in the order of the file's.
    pub fields: Vec<PlanFieldView>,
    /// Where new replicas would go.
    pub placements: Vec<PlanPlacementView>,
    /// Persistent volumes that nothing uses any more; they stay.
    pub volumes_kept: Vec<String>,
}

/// A number of replicas now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaChange {
    /// Now.
    pub before: Option<u32>,
    /// Then.
    pub after: Option<u32>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanFieldView {
    /// Its name in the file.
    pub field: String,
    /// Whether it comes, changes or goes.
    pub change: Change,
    /// Of a field with several: which, for example the variable's name.
    pub key: Option<String>,
    /// Before; never the value of a variable.
    pub before: Option<String>,
    /// After; never the value of a variable.
    pub after: Option<String>,
    /// Of a config file: the lines that differ, each behind `+` or `-`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// Where a new replica would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanPlacementView {
    /// Which, from 0.
    pub replica: u32,
    /// The node's name; absent: it would wait.
    pub node: Option<String>,
    /// Why it would wait.
    pub waits: Option<String>,
    /// Why each node does not take it.
    pub nodes: Vec<NodeReasonView>,
}

/// What a node has to do with a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReasonView {
    /// The node's name.
    pub node: String,
    /// Whether it takes it, or why not.
    pub reason: NodeReason,
    /// With figures.
    pub detail: String,
}

/// A replica that waits for a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingView {
    /// Its service and number: `web-2`. It has no id before it has a node.
    pub name: String,
    /// Which, from 0.
    pub replica: u32,
    /// Since when.
    pub since: String,
    /// What it asks of a node.
    pub need: String,
    /// Why each node does not take it.
    pub nodes: Vec<NodeReasonView>,
    /// What would help, each by itself, the smallest change first.
    pub remedies: Vec<String>,
}

/// Why a service, task or allocation is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// What was asked for.
    pub name: String,
    /// Which of them it is.
    pub kind: WhyKind,
    /// Who owns it.
    pub app: String,
    /// Of a service.
    pub replicas: Option<ReplicasView>,
    /// The app's newest deployment, if it works on this and has not succeeded.
    pub deployment: Option<DeploymentView>,
    /// Replicas without a node.
    pub waiting: Vec<WaitingView>,
    /// Its allocations: those that have not ended, else the last.
    pub allocations: Vec<AllocationWhyView>,
    /// Of a host: how it stands with its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateView>,
}

/// Why an allocation is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllocationWhyView {
    /// Its id.
    pub id: String,
    /// Name of the node.
    pub node: String,
    /// Where it is on its way.
    pub status: AllocationStatus,
    /// What its checks say.
    pub health: AllocationHealth,
    /// Since when it is in that status.
    pub since: String,
    /// Why it isn't simply healthy.
    pub reason: Option<String>,
    /// The last lines that its program wrote before it ended.
    pub output: Vec<String>,
    /// What would help.
    pub remedies: Vec<String>,
    /// How the nodes stand for it now, its own first.
    pub nodes: Vec<NodeReasonView>,
    /// The requests that came to it through routes in the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficView>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventName {
    /// One that the cluster keeps.
    Kept(EventKind),
    /// One that is told by the node, [`EVENTS_MISSED`], or one of a later version.
    Told(String),
}

/// Told in the place of events that are not kept any more.
pub const EVENTS_MISSED: &str = "events-missed";

impl From<&str> for EventName {
    fn from(name: &str) -> Self {
        let kind = EventKind::deserialize(name.into_deserializer());
        kind.map_or_else(|_: ValueError| Self::Told(name.to_owned()), Self::Kept)
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(kind) => kind.fmt(f),
            Self::Told(name) => f.pad(name),
        }
    }
}

impl PartialSchema for EventName {
    fn schema() -> RefOr<Schema> {
        let mut kept = EventKind::schema();
        if let RefOr::T(Schema::Object(kept)) = &mut kept {
            kept.enum_values.get_or_insert_default().push(EVENTS_MISSED.into());
        }
        kept
    }
}

impl ToSchema for EventName {}

/// Something that happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Counts all events of the cluster, from 1.
    pub id: u64,
    /// When.
    pub ts: String,
    /// What.
    pub kind: EventName,
    /// Of which app.
    pub app: Option<String>,
    /// Of which revision.
    pub revision: Option<u64>,
    /// Of which service or task.
    pub service: Option<String>,
    /// Of which allocation.
    pub allocation: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// More about it.
    pub message: Option<String>,
}

/// A replica that goes to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveView {
    /// Of which service.
    pub service: String,
    /// What is replaced.
    pub allocation: String,
    /// The node that it is on.
    pub from: String,
    /// The node that its replacement would go to.
    pub to: String,
}
