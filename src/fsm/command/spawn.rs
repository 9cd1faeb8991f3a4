//! What is run once.
//!
//! Never runs it.

use crate::id::{AllocId, WorkloadName};
use crate::spec::model::TaskSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Run something once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// The run's id, made by the proposer.
    pub id: AllocId,
    pub what: Spawned,
}

/// What is run once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spawned {
    /// A task of an app.
    Task {
        name: WorkloadName,
        /// Variables beside or instead of the file's.
        env: BTreeMap<String, String>,
    },
    /// An image given with the request, pinned.
    Image {
        /// The name made from the image.
        name: WorkloadName,
        spec: Box<TaskSpec>,
    },
}
