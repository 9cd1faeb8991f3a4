//! Bounds of persistent volumes.

use std::time::Duration;

/// Files and folders that are counted to measure a volume.
pub const VOLUME_ENTRIES_MAX: usize = 200_000;
/// How often volumes are measured, if somebody asks.
pub const VOLUME_MEASURE: Duration = Duration::from_secs(60);
/// Time before data that could not be removed is tried again.
pub const VOLUME_AGAIN: Duration = Duration::from_secs(10);
/// Hundredths of its size that a volume may use before `status` warns.
pub const VOLUME_FULL: u64 = 85;
