//! How full a disk is.
//!
//! Owns the rule of what is nearly full. Never makes room.

use crate::limits;
use crate::units::Bytes;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The room on the disk of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The folder that was asked for.
    pub folder: PathBuf,
    /// Which disk it is.
    pub id: u64,
    /// What may still be written.
    pub free: Bytes,
    /// What it holds in all.
    pub total: Bytes,
}

/// The room on the disk of a folder; nothing where it can't be told.
#[must_use]
pub fn room(folder: &Path) -> Option<Room> {
    let disk = nix::sys::statvfs::statvfs(folder).ok()?;
    let id = std::fs::metadata(folder).ok()?.dev();
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(disk.fragment_size()));
    let (free, total) = (bytes(disk.blocks_available()), bytes(disk.blocks()));
    Some(Room { folder: folder.to_owned(), id, free, total })
}

/// Whether the disk of a folder has less than the part free that shall stay free.
#[must_use]
pub fn is_full(folder: &Path) -> bool {
    // A folder that isn't there says nothing.
    let Some(room) = room(folder) else { return false };
    room.free.0.saturating_mul(100) < room.total.0.saturating_mul(limits::DISK_FREE_PERCENT)
}
