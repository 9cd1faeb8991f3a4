//! Documents of images: how far a pull is.
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
