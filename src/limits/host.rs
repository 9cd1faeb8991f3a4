//! Bounds of what a node does to its machine: what it removes, measures and keeps free.

use std::time::Duration;

/// Things that are removed in one go of what containers have left; then others have a turn.
pub const REMOVED_AT_ONCE: usize = 10_000;
/// What could not be removed is tried again after this long.
pub const REMOVED_AGAIN: Duration = Duration::from_secs(30);
/// With less of a disk free than this, in percent, `mill status` warns of it.
pub const DISK_WARNED_PERCENT: u64 = 10;
/// With less free than this on the log's disk, in bytes, what somebody wants is refused: the rest
/// is for what nodes report and for what makes room.
pub const DISK_KEPT: u64 = 64 << 20;
/// How old a look at the log's disk may be.
pub const DISK_LOOK: Duration = Duration::from_secs(1);
/// Files of one container that are looked at to tell how much it has written.
pub const WRITTEN_FILES: usize = 200_000;
/// Between two containers that are measured, so many times what the first took is left to others.
pub const WRITTEN_SHARE: u32 = 20;
/// A data directory whose daemon is gone is waited for so long: a child of it that was just being
/// started holds the lock until it is another program.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to lock it.
pub const LOCK_LOOK: Duration = Duration::from_millis(10);

const _: () = assert!(DISK_KEPT > 4 * super::SEGMENT_SIZE);
const _: () = assert!(DISK_WARNED_PERCENT < super::DISK_FREE_PERCENT);
