//! How full a disk is.
//!
//! Owns the rule of what is nearly full. Never makes room.

use crate::limits;
use std::path::Path;

/// Whether the disk of a folder has less than the part free that shall stay free.
#[must_use]
pub fn is_full(folder: &Path) -> bool {
    // A folder that isn't there says nothing.
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return false };
    let (free, all) = (disk.blocks_available(), disk.blocks());
    free.saturating_mul(100) < all.saturating_mul(limits::DISK_FREE_PERCENT)
}
