//! A task's run: asked for first, placed later, ended once.
//!
//! Owns the shapes. Never changes any: that is `apply`.

use super::allocation::Exit;
use crate::id::{AllocId, AppName, Revision, SpecHash, WorkloadName};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// A run of a task, or of an image given with the request. Once it has a node there is an
/// allocation of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The allocation's too.
    pub id: AllocId,
    /// The task, or the name made from the image.
    pub workload: WorkloadName,
    /// Who owns the task; absent: an image given with the request.
    pub app: Option<AppName>,
    pub spec: SpecHash,
    /// Why it runs.
    pub cause: RunCause,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was over, in replicated time.
    pub ended_at: Option<Timestamp>,
    /// How it ended, if it never got a node; else the allocation has it.
    pub exit: Option<Exit>,
    /// What its specification added to the state, in bytes.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub bytes: u64,
}

/// Why a run came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCause {
    /// Somebody asked for it.
    Spawned,
    /// Its schedule came true.
    Scheduled {
        /// When it should have begun.
        due: Timestamp,
    },
    /// A deployment needs it.
    Hook {
        /// Which deployment.
        revision: Revision,
        /// Before or after the rollout.
        when: HookWhen,
    },
}

/// When a deployment's task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookWhen {
    /// The rollout waits for it.
    Before,
    /// Once everything is healthy.
    After,
}

/// What became of a deployment's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    pub task: WorkloadName,
    /// Before or after the rollout.
    pub when: HookWhen,
    /// The first service that named it.
    pub service: WorkloadName,
    pub run: AllocId,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// How far a task's schedule has been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSchedule {
    /// The cron expression.
    pub expression: String,
    /// Everything due until then has been considered.
    pub since: Timestamp,
    /// The first time after that; absent if it never comes.
    pub due: Option<Timestamp>,
    /// The last due time that was skipped since the run before was not over.
    pub skipped: Option<Timestamp>,
}

impl HookWhen {
    /// The field of the file.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Before => "before-deploy",
            Self::After => "after-deploy",
        }
    }
}
