//! The JSON that the API speaks, shared by its server and its clients.
//!
//! Times are RFC 3339 in UTC, durations seconds, sizes bytes, processors cores; what is absent is
//! `null`. Never holds rules, only shapes.

mod allocation;
mod backup;
mod certificate;
mod claim;
mod deploy;
mod error;
mod exec;
mod explain;
mod image;
mod log;
mod node;
mod route;
mod secret;
mod task;
mod token;
mod volume;
mod whole;
mod words;

#[cfg(test)]
mod tests;

pub use allocation::*;
pub use backup::*;
pub use certificate::*;
pub use claim::*;
pub use deploy::*;
pub use error::*;
pub use exec::ExecControl;
pub use explain::*;
pub use image::*;
pub use log::{LogLineView, LogStream};
pub use node::*;
pub use route::{AccessView, PauseRequest, PauseView, PortView, RouteView, TrafficView};
pub use secret::*;
pub use task::*;
pub use token::*;
pub use volume::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
