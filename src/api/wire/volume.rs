//! Documents of persistent volumes.
//!
//! Owns their shape. Never computes anything.

use super::words::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Where a volume's data is.
    pub enum VolumeProvider in "kebab-case" {
        /// In a folder of its node.
        Local,
        /// On a disk of `DigitalOcean`.
        Digitalocean,
    }

    /// How a volume is.
    pub enum VolumeStatus in "kebab-case" {
        /// An allocation may write it.
        InUse,
        /// An allocation waits until the provider has attached it.
        Attaching,
        /// It waits for its service to run.
        Waiting,
        /// No service wants it.
        Unused,
        /// Its data is being copied to another node.
        Moving,
        /// Its data is being removed.
        Deleting,
    }
}

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// Where its data is.
    pub provider: VolumeProvider,
    /// How it is.
    pub status: VolumeStatus,
    /// Bytes that were asked for.
    pub size: u64,
    /// Bytes on the disk, if its node answered.
    pub used: Option<u64>,
    /// The name of the node that has its data, or that the provider has attached it to; absent: it
    /// was removed, or it is attached to none.
    pub node: Option<String>,
    /// The provider's id of it, once it is made.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// What keeps the provider's volume from its next step.
    #[serde(default)]
    pub error: Option<String>,
    /// The name of the node that its data is being copied to.
    #[serde(default)]
    pub moving_to: Option<String>,
    /// Why it was not moved the last time.
    #[serde(default)]
    pub stayed: Option<String>,
    /// The service that uses it, or did last.
    pub service: String,
    /// The allocation that may write it.
    pub allocation: Option<String>,
    /// The services that want it.
    pub used_by: Vec<String>,
    /// When it was made.
    pub created_at: String,
}

/// Body of `PUT /v1/provider`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderRequest {
    /// `digitalocean`.
    pub name: String,
    /// The token of its API.
    pub token: String,
    /// Where its API is; absent: where the provider has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

impl ProviderRequest {
    /// An API can be at this address.
    #[must_use]
    pub fn is_address(url: &str) -> bool {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let host = host.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        host.is_some_and(|host| !host.is_empty()) && url.chars().all(|c| c.is_ascii_graphic())
    }
}

impl std::fmt::Debug for ProviderRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProviderRequest({}, …)", self.name)
    }
}

/// Body of `POST /v1/volumes/{name}/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The node, by its name or id; that of now ends a move.
    pub node: String,
}
