//! Bounds of containers' logs.

use std::time::Duration;

/// Bytes of a log line in one record; a longer line takes several.
pub const LOG_PART_MAX: usize = 16 << 10;
/// Longest log line that a reader puts together; a longer one comes as several lines.
pub const LOG_LINE_MAX: usize = 1 << 20;
/// A log file of this size is closed and the next one begun.
pub const LOG_FILE_MAX: u64 = 8 << 20;
/// Log files kept for each allocation, over all its attempts.
pub const LOG_FILES_MAX: usize = 8;
/// A log whose allocation isn't known counts as ended when nothing was added to it for so long.
pub const LOG_UNKNOWN: Duration = Duration::from_secs(600);
/// Lines that `tail` may ask of several allocations together.
pub const LOG_TAIL_MAX: usize = 100_000;
/// Lines kept for such a `tail`, in bytes.
pub const LOG_TAIL_BYTES: usize = 64 << 20;
/// Lines handed to a reader at once, in bytes (a longer line goes alone).
pub const LOG_BATCH_MAX: usize = 64 << 10;
/// Lines of a `tail` handed to a reader at once.
pub const LOG_TAIL_BATCH: usize = 100;
/// Batches of lines that wait for a slow reader.
pub const LOG_BATCHES: usize = 2;
/// How often a kept binary that somebody still has open is tried.
pub const KEPT_TRIES: u32 = 16;
