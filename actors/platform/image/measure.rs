//! How much a layer holds while it is unpacked, so that a few packed bytes can't fill the disk.
//!
//! Owns the bound's watch. Never touches what it measures.

use crate::actors::platform::tree;
use crate::limits;
use containerd_client::types::Mount;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for measuring is at most this part of all.
const SHARE: u32 = 5;

/// What a layer may hold that has so many bytes packed.
pub(super) fn allowed(packed: u64, least: u64) -> u64 {
    packed.saturating_mul(limits::LAYER_RATIO).max(least)
}

/// Ends when the layer that is unpacked onto these mounts holds more than `max` bytes.
pub(super) async fn exceeded(mounts: &[Mount], max: u64) {
    let Some(folder) = folder(mounts) else { return std::future::pending().await };
    let mut pause = limits::LAYER_MEASURED;
    loop {
        tokio::time::sleep(pause).await;
        let folder = folder.clone();
        let begun = Instant::now();
        let measured = tokio::task::spawn_blocking(move || is_larger(&folder, max)).await;
        if measured.unwrap_or(false) {
            return;
        }
        pause = limits::LAYER_MEASURED.max(Duration::saturating_mul(begun.elapsed(), SHARE));
    }
}

/// Where an overlay, or the lowest layer, is written.
pub fn folder(mounts: &[Mount]) -> Option<PathBuf> {
    let mount = mounts.first()?;
    let upper = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    match (mount.r#type.as_str(), upper) {
        ("bind", _) => Some(PathBuf::from(&mount.source)),
        (_, upper) => upper.map(PathBuf::from),
    }
}

fn is_larger(folder: &Path, max: u64) -> bool {
    // What isn't there any more is unpacked, or given up.
    tree::measure(folder, |sum, _| sum <= max).is_ok_and(|sum| sum > max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_counts_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("c")).unwrap();
        assert!(is_larger(folder.path(), 90_000));
        assert!(!is_larger(folder.path(), 200_000));
        assert_eq!(allowed(10, 5_000), 5_000);
        assert_eq!(allowed(100, 5_000), 100 * limits::LAYER_RATIO);
        assert_eq!(allowed(u64::MAX, 0), u64::MAX);
    }
}
