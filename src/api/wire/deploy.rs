//! Documents of revisions: deployments, apps, the events of a deployment.
//!
//! Owns their shapes only.

use super::words::words;
use super::{Change, LayerProgress, WorkloadKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// What made a revision.
    pub enum DeploymentKind in "kebab-case" {
        /// A file was deployed.
        Up,
        /// A service or an app was taken down.
        Down,
        /// A service got another number of replicas.
        Scale,
        /// An earlier revision was wanted again.
        Rollback,
    }

    /// What became of a revision.
    pub enum DeploymentStatus in "kebab-case" {
        /// It is under way.
        Running,
        /// It runs as it should.
        Succeeded,
        /// It failed, and what ran before runs again.
        Failed,
        /// A rollback ended it.
        Aborted,
        /// Another change of the app took its place.
        Superseded,
    }

    /// How far a canary is.
    pub enum CanaryStage in "kebab-case" {
        /// Its replicas start.
        Starting,
        /// Its requests are compared.
        Watched,
        /// It is watched for longer: it got too few requests.
        Extended,
        /// The rest was replaced.
        Promoted,
        /// It was taken back.
        TakenBack,
    }

    /// What a step of a deployment is.
    pub enum DeploymentPhase in "kebab-case" {
        /// A service's turn began.
        Started,
        /// An image is fetched.
        Pulling,
        /// A replica was given a node.
        Scheduled,
        /// A container starts.
        Starting,
        /// A replica is healthy.
        Healthy,
        /// A replica's checks fail.
        Unhealthy,
        /// A replica gets requests.
        Routed,
        /// A replica is tried again, or waits.
        Retrying,
        /// A replica was stopped.
        Stopped,
        /// A replica failed.
        Failed,
        /// A canary is at another stage.
        Canary,
    }
}

/// A revision and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// One integer counter a cluster.
    pub revision: u64,
    /// Whose revision.
    pub app: String,
    /// What made it.
    pub kind: DeploymentKind,
    /// What became of it.
    pub status: DeploymentStatus,
    /// When it was accepted.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Images by service.
    pub images: BTreeMap<String, String>,
    /// Its canaries, by service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<CanaryView>,
    /// The file as it was given; only where one deployment is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The canary of a service within a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CanaryView {
    /// The service.
    pub service: String,
    /// How far it is.
    pub stage: CanaryStage,
    /// How many replicas have the new version, while it is under way.
    pub replicas: Option<u32>,
    /// Since when requests are compared.
    pub since: Option<String>,
    /// When its time is over, while it is under way.
    pub until: Option<String>,
    /// A person ended it.
    pub by_hand: bool,
    /// Why it ended so, with the figures.
    pub reason: Option<String>,
}

/// What differs between two revisions of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    /// Whose revisions.
    pub app: String,
    /// The one that is compared.
    pub from: u64,
    /// With which.
    pub to: u64,
    /// Services and tasks that differ.
    pub changes: Vec<DiffChangeView>,
}

/// What differs in a service or task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffChangeView {
    /// Its name.
    pub name: String,
    /// Which of the two it is.
    pub kind: WorkloadKind,
    /// Whether it comes, changes or goes.
    pub change: Change,
    /// Its image in the second revision, or in the first if it is removed.
    pub image: String,
    /// Every field that differs; empty if it comes or goes.
    pub fields: Vec<super::PlanFieldView>,
}

/// An app: its file and revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// Its name.
    pub app: String,
    /// Its newest revision.
    pub revision: u64,
    /// The file as it was given.
    pub file: String,
}

/// First event of a deployment's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedEvent {
    /// The revision.
    pub revision: u64,
    /// Hash of the plan that is carried out; absent where nothing was planned.
    pub plan: Option<String>,
}

/// A step of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressEvent {
    /// What it is.
    pub phase: DeploymentPhase,
    /// Of which service.
    pub service: String,
    /// Of which allocation.
    pub allocation: Option<String>,
    /// On which node.
    pub node: Option<String>,
    /// Seconds since the deployment was accepted.
    pub elapsed: f64,
    /// Bytes pulled.
    pub bytes: Option<u64>,
    /// Bytes to pull.
    pub total: Option<u64>,
    /// The layers that are pulled, the lowest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerProgress>>,
    /// More about it.
    pub message: Option<String>,
}

/// Last event of a deployment that succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoneEvent {
    /// The revision.
    pub revision: u64,
    /// Seconds it took.
    pub elapsed: f64,
    /// True.
    pub success: bool,
}

/// Last event of a deployment that failed, or that another one took the place of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailedEvent {
    /// The revision.
    pub revision: u64,
    /// The service that failed.
    pub service: Option<String>,
    /// Why.
    pub reason: String,
    /// What became of it: `failed`, `aborted` or `superseded`.
    #[serde(default = "failed")]
    pub status: DeploymentStatus,
    /// The revision that runs again.
    pub restored: Option<u64>,
    /// Seconds it took.
    pub elapsed: f64,
}

fn failed() -> DeploymentStatus {
    DeploymentStatus::Failed
}

/// Answer of a deploy that is not followed, and of other changes that make a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// The revision.
    pub revision: u64,
}

/// Body of a change of a service's replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many.
    #[schema(maximum = 5000)]
    #[serde(deserialize_with = "super::whole::number")]
    pub replicas: u32,
}

/// Body of a rollback; nothing in it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision to go back to; absent: the last one that succeeded before what runs.
    #[serde(default, deserialize_with = "super::whole::option")]
    pub revision: Option<u64>,
    /// The app; absent: the revision's, or the only one there is.
    #[serde(default)]
    pub app: Option<String>,
}
