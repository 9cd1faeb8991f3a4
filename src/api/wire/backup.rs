//! Documents of backups.
//!
//! Owns their shape. Never computes anything.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `POST /v1/restore`: who the node becomes. It travels in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The node's name; default: the host's.
    pub node: Option<String>,
    /// Labels, beside those that the node of that name had.
    pub labels: BTreeMap<String, String>,
    /// The address that others use.
    pub advertise: Option<String>,
    /// The host doesn't have that address: it is translated on the way.
    pub nat: bool,
}

/// Answer to `POST /v1/restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreView {
    /// The cluster.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// When the backup was taken.
    pub taken_at: String,
    /// The names of the nodes that the cluster had besides.
    pub lost: Vec<String>,
    /// By volume whose data isn't on this node: the name of the node that had it.
    pub volumes: BTreeMap<String, String>,
}

/// Body of `PUT /v1/backup/schedule`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// When, in UTC: minute, hour, day, month, weekday.
    pub cron: String,
    /// The folder on the nodes that write one.
    pub to: String,
    /// How many files each keeps there.
    #[serde(deserialize_with = "super::whole::number")]
    pub keep: u32,
    /// Whom they are encrypted for, `age1…`.
    pub recipients: Vec<String>,
}

/// Backups on a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupsView {
    /// When; absent: none are taken.
    pub cron: Option<String>,
    /// The folder on the nodes that write one.
    pub to: Option<String>,
    /// How many files each keeps there.
    pub keep: Option<u32>,
    /// Whom they are encrypted for.
    pub recipients: Vec<String>,
    /// When the next one is due.
    pub next: Option<String>,
    /// How the last one of each node ended.
    pub last: Vec<BackupEndView>,
}

/// How a node's last backup ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupEndView {
    /// The node's name.
    pub node: String,
    /// When it was due.
    pub at: String,
    /// The file, if it was written.
    pub file: Option<String>,
    /// Bytes of it.
    pub size: u64,
    /// Why it was not.
    pub error: Option<String>,
}
