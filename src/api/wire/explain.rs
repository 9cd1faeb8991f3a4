//! Documents that explain: plans, reasons, events.
//!
//! Never holds rules, only shapes.

use super::{CertificateView, DeploymentView, ReplicasView, TrafficView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// `service` or `task`.
    pub kind: String,
    /// `add`, `change` or `remove`.
    pub change: String,
    /// What becomes of what runs: `start`, `replace`, `scale`, `none` or `stop`.
    pub effect: String,
    /// Replicas.
    pub replicas: ReplicaChange,
    /// `start-first` or `stop-first`.
    pub order: Option<String>,
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
    /// `add`, `change` or `remove`.
    pub change: String,
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
    /// `chosen`, `fits`, `avoided` where it did not work lately, or why it doesn't take it: `memory
    /// cpu constraint draining down silent degraded`.
    pub reason: String,
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
    /// `service`, `task`, `allocation` or `host`.
    pub kind: String,
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
    /// As in an allocation.
    pub status: String,
    /// As in an allocation.
    pub health: String,
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

/// Something that happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Counts all events of the cluster, from 1.
    pub id: u64,
    /// When.
    pub ts: String,
    /// What, such as `deployment-accepted` or `allocation-exited`.
    pub kind: String,
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
