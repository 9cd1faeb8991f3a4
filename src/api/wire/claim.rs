//! Documents of a node's own place in a cluster: init, join, leave, health.
//!
//! Owns their shape. Never computes anything.

use super::words::words;
use super::{AcmeRequest, ProviderRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// How a daemon is.
    pub enum DaemonStatus in "kebab-case" {
        /// It is a member and follows its cluster.
        Ready,
        /// It is a member and not that far yet.
        Starting,
        /// It belongs to no cluster.
        Unclaimed,
    }
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
    #[serde(default, deserialize_with = "super::whole::option")]
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
    /// How it is.
    pub status: DaemonStatus,
    /// Version of the program.
    pub version: String,
    /// Name of the node, once it has one.
    pub node: Option<String>,
    /// Name of the cluster, once it has one.
    pub cluster: Option<String>,
}
