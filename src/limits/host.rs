//! Bounds of what a node does to its machine: what it removes, measures and keeps free.

use std::time::Duration;

/// Things that are removed in one go of what containers have left; then others have a turn.
pub const REMOVED_AT_ONCE: usize = 10_000;
/// What could not be removed is tried again after this long.
pub const REMOVED_AGAIN: Duration = Duration::from_secs(30);
