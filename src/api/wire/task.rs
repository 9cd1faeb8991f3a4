//! Tasks and their runs.
//!
//! Never holds rules, only shapes.

use super::words::words;
use super::{AllocationStatus, ExitView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// Why a task's run was made.
    pub enum RunCause in "kebab-case" {
        /// A person asked for it.
        Spawned,
        /// Its schedule came true.
        Scheduled,
        /// A deployment needs it before its rollout.
        BeforeDeploy,
        /// A deployment needs it after its rollout.
        AfterDeploy,
    }
}

/// A task of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub app: String,
    /// The image as written.
    pub image: String,
    /// Cron expression in UTC.
    pub schedule: Option<String>,
    /// When the schedule comes true next.
    pub next_run: Option<String>,
    /// When it last came true and was skipped, since the run before was not over.
    pub skipped: Option<String>,
    /// Runs that are not over.
    pub running: u32,
    /// The run that ended last.
    pub last: Option<RunView>,
}

/// A run of a task, or of an image given with the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its id, for example `migrate-k3f9`; the allocation's too, once it has a node.
    pub id: String,
    /// The task, or the name made from the image.
    pub name: String,
    /// Who owns the task; absent: an image given with the request.
    pub app: Option<String>,
    /// The image as written.
    pub image: String,
    /// Why it was made.
    pub cause: RunCause,
    /// When it was due by its schedule.
    pub due: Option<String>,
    /// The deployment that needs it.
    pub revision: Option<u64>,
    /// Name of its node; absent while it waits for one.
    pub node: Option<String>,
    /// Where it is on its way; never `backoff`.
    pub status: AllocationStatus,
    /// When it was asked for.
    pub created_at: String,
    /// When its program started.
    pub started_at: Option<String>,
    /// When it was over.
    pub ended_at: Option<String>,
    /// Why it waits.
    pub message: Option<String>,
    /// Seconds after which its program is ended.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// How it ended.
    pub exit: Option<ExitView>,
}

/// Body of `POST /v1/tasks`: a task of a file, or an image with what it needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// The task.
    #[serde(default)]
    pub task: Option<String>,
    /// Or the image.
    #[serde(default)]
    pub image: Option<String>,
    /// Replaces the image's ENTRYPOINT and CMD.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Cores; absent: 0.25 reserved, no ceiling.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Bytes; absent: 256 MB.
    #[serde(default, deserialize_with = "super::whole::option")]
    pub memory: Option<u64>,
    /// Seconds; absent: an hour.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// Variables, beside or instead of the task's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}
