//! Documents of images: how far a pull is, who the cluster is to registries.
//!
//! Owns their shape. Never computes anything.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a layer of an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerProgress {
    /// Its blob.
    pub digest: String,
    /// Bytes of it that are there.
    pub bytes: u64,
    /// Bytes that it has.
    pub total: u64,
}

/// A login to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// The registry's host, perhaps with a port.
    pub registry: String,
    /// The name.
    pub user: String,
    /// When it was given.
    pub since: String,
}

/// A login to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The name.
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoginRequest({}, …)", self.user)
    }
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
