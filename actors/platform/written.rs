//! What a container has written to its node's disk, and how much room that disk has.
//!
//! Owns what counts: the writable layer and the ephemeral volumes. Never counts what the image
//! holds.

use super::image::writable;
use super::{Platform, disk, tree};
use crate::id::{AllocId, ContainerId};
use crate::limits;
use crate::units::Bytes;
use std::path::PathBuf;

/// What a container has written: at least that, where there are more files than are looked at.
/// Nothing if it has gone.
pub async fn of_container(
    platform: &Platform,
    allocation: &AllocId,
    container: &ContainerId,
) -> Option<Bytes> {
    let mounts = platform.containerd.mounts(container.as_str()).await.ok()?;
    let own = platform.places.data.join("alloc").join(allocation.as_str());
    let folders: Vec<PathBuf> = writable(&mounts).into_iter().chain([own]).collect();
    let measured = tokio::task::spawn_blocking(move || {
        let each = |folder: &PathBuf| {
            // What goes meanwhile takes nothing.
            tree::measure(folder, |_, seen| seen < limits::WRITTEN_FILES).unwrap_or(0)
        };
        folders.iter().map(each).fold(0, u64::saturating_add)
    });
    measured.await.ok().map(Bytes)
}

/// The disks that hold the node's data and its images, each once.
#[must_use]
pub fn disks(platform: &Platform) -> Vec<disk::Room> {
    let data = platform.places.data.clone();
    let images = platform.places.images(platform.private.is_some());
    let mut rooms: Vec<disk::Room> = disk::room(&data).into_iter().collect();
    rooms.extend(disk::room(&images).filter(|room| rooms.iter().all(|one| one.id != room.id)));
    rooms
}
