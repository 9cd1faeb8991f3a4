//! Bounds and durations of images that were loaded from archives.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// Nodes that run an image and are asked for it where its registry can't be reached.
pub const LENDERS_ASKED: usize = 3;

/// Loaded images that the cluster keeps, counting each digest of a reference.
pub const LOADED_MAX: usize = 1_000;
/// Nodes that have a loaded image, if there are so many: the others fetch it when they need it.
pub const LOADED_COPIES: usize = 3;
/// A node that is down for longer doesn't count among those any more.
pub const LOADED_PATIENCE: Duration = Duration::from_secs(60);
/// How long the other nodes' lists of images are waited for.
pub const IMAGES_ASKED: Duration = Duration::from_secs(2);
/// Largest list of images of another node, in bytes.
pub const IMAGES_ANSWER_MAX: usize = 16 << 20;
/// Silence after which another node's blob has broken off.
pub const LENT_SILENCE: Duration = Duration::from_secs(30);
/// After a loaded image could not be fetched to have a copy, it is tried again this much later.
pub const COPY_AGAIN: Duration = Duration::from_secs(60);

/// Indexes that lead to an image at most, one within the other.
pub const INDEX_DEPTH: usize = 3;
/// Documents that are looked at for it.
pub const INDEX_TRIED: usize = 16;
