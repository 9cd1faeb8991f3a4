//! Bounds of persistent volumes.

use std::time::Duration;

/// Files and folders that are counted to measure a volume.
pub const VOLUME_ENTRIES_MAX: usize = 200_000;
/// How often volumes are measured, if somebody asks.
pub const VOLUME_MEASURE: Duration = Duration::from_secs(60);
/// Time before a volume that was dealt with is looked at again.
pub const VOLUME_DONE: Duration = Duration::from_secs(1);
/// Time before what could not be done about a volume is tried again.
pub const VOLUME_AGAIN: Duration = Duration::from_secs(10);
/// Hundredths of its size that a volume may use before `status` warns.
pub const VOLUME_FULL: u64 = 85;
/// Bytes of the names of a file's extended attributes, and of the value of one.
pub const XATTRS_MAX: usize = 64 << 10;
/// Bytes behind an archive that are read to its end.
pub const VOLUME_TAIL_MAX: u64 = 64 << 20;
/// How often a node tries to copy a volume before it stays where it is.
pub const VOLUME_TRIES: u32 = 5;
/// Bytes of the reason why a volume was not moved.
pub const VOLUME_WHY_MAX: usize = 1024;
