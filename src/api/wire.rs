//! The JSON that the API speaks, shared by its server and its clients.
//!
//! Times are RFC 3339 in UTC, durations seconds, sizes bytes, processors cores; what is absent is
//! `null`. Never holds rules, only shapes.

mod backup;
mod certificate;
mod deploy;
mod exec;
mod explain;
mod image;
mod node;
mod route;
mod secret;
mod task;
mod token;
mod volume;
mod whole;

pub use backup::*;
pub use certificate::*;
pub use deploy::*;
pub use exec::ExecControl;
pub use explain::*;
pub use image::{LayerProgress, LoginRequest, LoginView};
pub use node::{
    DrainRequest, DrainView, LabelsRequest, LeftView, MeshKeysView, MeshView, PeerCheckView,
};
pub use route::{AccessView, PauseRequest, PauseView, PortView, RouteView, TrafficView};
pub use secret::*;
pub use task::{RunView, SpawnRequest, TaskView};
pub use token::{NewTokenView, TokenRequest, TokenView};
pub use volume::{MoveRequest, ProviderRequest, VolumeView};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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

/// An amount of a node, of which some is set aside and some is in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeAmount<T> {
    /// All of it.
    pub total: T,
    /// Set aside for allocations.
    pub reserved: T,
    /// In use on the machine.
    pub used: Option<T>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Never used again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `ready`, `draining`, `down`; `silent` where nothing is heard of it and it isn't taken for
    /// down yet; `degraded` where its containerd doesn't answer.
    pub status: String,
    /// What is wrong with it.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Where it is reached.
    pub address: String,
    /// Addresses of its containers, CIDR.
    pub subnet: String,
    /// Cores.
    pub cpu: NodeAmount<f64>,
    /// Bytes.
    pub memory: NodeAmount<u64>,
    /// How many allocations are live on it.
    pub allocations: u32,
    /// For constraints.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// How the answering node hears it in the mesh; absent for that node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshView>,
    /// What is left on it, while it drains.
    pub drain: Option<DrainView>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExitView {
    /// The program's code, 128 + n for signal n.
    pub code: Option<i32>,
    /// `completed error oom timeout killed lost start-failed pull-failed`.
    pub reason: String,
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
    /// `service` or `task`.
    pub kind: String,
    /// Name of the node; absent while a task's run waits for one.
    #[serde(with = "absent")]
    #[schema(value_type = Option<String>)]
    pub node: String,
    /// `pending pulling starting running backoff stopping stopped failed lost`.
    pub status: String,
    /// `none checking healthy unhealthy`, or `unknown` where its node is silent.
    pub health: String,
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

/// How many replicas are wanted and healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicasView {
    /// Wanted.
    pub desired: u32,
    /// Healthy; where there is no check to pass, running.
    pub healthy: u32,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub app: String,
    /// The image as written.
    pub image: String,
    /// What it was resolved to.
    pub digest: Option<String>,
    /// The app's revision.
    pub revision: u64,
    /// Its replicas.
    pub replicas: ReplicasView,
    /// `NAME.mill:PORT`, if it has a port.
    pub address: Option<String>,
    /// Its stable address, that of `NAME.virtual.mill`; absent without a port.
    #[serde(default)]
    pub virtual_address: Option<String>,
    /// Its ports in the container; the main one has no name.
    #[serde(default)]
    pub ports: Vec<PortView>,
    /// Hosts with paths.
    pub routes: Vec<String>,
    /// Host ports.
    pub publish: Vec<u16>,
    /// The requests that it got by its routes; absent without any.
    #[serde(default)]
    pub traffic: Option<TrafficView>,
    /// The way back from a failed deployment failed too.
    pub degraded: bool,
    /// Its replicas without a node.
    #[serde(default)]
    pub waiting: Vec<WaitingView>,
    /// Its live allocations.
    pub allocations: Vec<AllocationView>,
}

/// An app in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppStatusView {
    /// Its name.
    pub name: String,
    /// Its newest deployment.
    pub deployment: Option<DeploymentView>,
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WarningView {
    /// What it is about, for example a service.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// The command that tells more.
    pub command: Option<String>,
}

/// The whole cluster at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Its name.
    pub cluster: String,
    /// Name of the leader.
    pub leader: Option<String>,
    /// First what is wrong.
    pub warnings: Vec<WarningView>,
    /// Members.
    pub nodes: Vec<NodeView>,
    /// Apps with their newest deployment.
    pub apps: Vec<AppStatusView>,
    /// Services.
    pub services: Vec<ServiceView>,
    /// Tasks.
    pub tasks: Vec<TaskView>,
}

/// A line that a program wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLineView {
    /// When the node read it.
    pub ts: String,
    /// `stdout`, `stderr`, `access`, or `event` for what mill says between the lines.
    pub stream: String,
    /// Without its end.
    pub line: String,
    /// The same in base64, only where it isn't text in UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// No line break stands behind it; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// Whose.
    pub allocation: String,
    /// Where.
    pub node: String,
    /// The request, in an access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<AccessView>>,
}

/// An image that nodes of the cluster have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// The whole reference.
    pub reference: String,
    /// Its manifest's digest.
    pub digest: String,
    /// Bytes of its blobs.
    pub size: u64,
    /// It was given by `mill image load`.
    pub loaded: bool,
    /// A running service or a kept revision needs it.
    pub used: bool,
    /// The names of the nodes that have it, of those that could be asked.
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// Body of `POST /v1/init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// Name of the cluster; absent: `default`.
    pub cluster: Option<String>,
    /// Name of the node; absent: the host's.
    pub node: Option<String>,
    /// Labels of the node.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Address that other nodes and clients use; absent: the one of the default route.
    pub advertise: Option<String>,
    /// The host doesn't have that address: it is translated on the way.
    #[serde(default)]
    pub nat: bool,
    /// Where certificates are ordered; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeRequest>,
    /// Who keeps new volumes; absent: the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRequest>,
}

/// Answer of `POST /v1/init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InitView {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// An admin token.
    pub token: String,
    /// The whole command that joins another node.
    pub join: String,
}

/// Body of `POST /v1/join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A member's address, and its peer port if it isn't 4401: `HOST[:PORT]`.
    pub address: String,
    /// A token of role `join`.
    pub token: String,
    /// Name of the node; absent: the host's.
    #[serde(default)]
    pub node: Option<String>,
    /// Labels of the node.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Address that other nodes and clients use; absent: the one that leads to the member.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The host doesn't have that address: it is translated on the way.
    #[serde(default)]
    pub nat: bool,
}

/// Answer of `POST /v1/join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinView {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Its id.
    pub id: u64,
    /// Where others reach it.
    pub address: String,
}

/// Body of `POST /v1/leave`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Seconds after which runs of tasks that are still on are stopped; absent: they finish.
    #[serde(default, deserialize_with = "whole::option")]
    pub timeout: Option<u64>,
}

/// Answer of `POST /v1/leave`: the daemon is unclaimed soon after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaveView {
    /// Name of the cluster that was left.
    pub cluster: String,
    /// Name that the node had.
    pub node: String,
    /// The node never became ready, and the cluster may still list it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listed: bool,
}

/// Answer of `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ready`, `starting` or `unclaimed`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Name of the node, once it has one.
    pub node: Option<String>,
    /// Name of the cluster, once it has one.
    pub cluster: Option<String>,
}

/// What went wrong, as every failed request answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// The error.
    pub error: ErrorView,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Places in the file.
    #[serde(default)]
    pub details: Vec<ErrorDetail>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// An empty text is absent: `null`.
mod absent {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        Some(text).filter(|text| !text.is_empty()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
    }
}
