//! What containers have made and is to be removed: out of its place at once, then piece by piece.
//!
//! Owns the folder where it waits, over restarts. Never keeps anybody waiting for it, and never
//! gives up: what can't be removed is told and tried again.

use super::{permissions, tree};
use crate::limits;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The folder's name in the data directory.
pub const FOLDER: &str = "removed";

/// The folder, and who empties it. Ends with the last holder.
#[derive(Debug)]
pub struct Trash {
    folder: PathBuf,
    filled: Arc<Notify>,
    _emptying: AbortOnDropHandle<()>,
}

impl Trash {
    /// Begins with what an earlier process left. Must be called within a tokio runtime.
    #[must_use]
    pub fn open(data: &Path) -> Self {
        let (folder, filled) = (data.join(FOLDER), Arc::new(Notify::new()));
        let task = tokio::spawn(keep_empty(folder.clone(), Arc::clone(&filled)));
        Self { folder, filled, _emptying: AbortOnDropHandle::new(task) }
    }

    /// Takes a folder on the same disk out of its place. One that isn't there needs nothing. Blocks
    /// for a moment.
    ///
    /// # Errors
    /// The system refuses.
    pub fn take(&self, folder: &Path) -> io::Result<()> {
        permissions::make(&self.folder)?;
        let name = format!("{:016x}", rand::random::<u64>());
        match std::fs::rename(folder, self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.filled.notify_one();
                Ok(())
            }
        }
    }
}

async fn keep_empty(folder: PathBuf, filled: Arc<Notify>) {
    loop {
        let at = folder.clone();
        let piece = tokio::task::spawn_blocking(move || tree::empty(&at, limits::REMOVED_AT_ONCE));
        match piece.await.unwrap_or_else(|lost| Err(io::Error::other(lost))) {
            Ok(false) => {}
            Ok(true) => filled.notified().await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => filled.notified().await,
            Err(error) => {
                let (path, again) = (folder.display(), limits::REMOVED_AGAIN);
                tracing::warn!(%path, %error, ?again, "what containers left can't be removed yet");
                // Nothing depends on what is added meanwhile being tried any sooner.
                tokio::time::sleep(again).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn what_is_taken_is_gone_from_its_place_at_once_and_from_the_disk_soon() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("alloc/web-0");
        std::fs::create_dir_all(place.join("volumes/a/b")).unwrap();
        let left = dir.path().join(FOLDER).join("earlier/x");
        std::fs::create_dir_all(&left).unwrap();
        let trash = Trash::open(dir.path());
        trash.take(&place).unwrap();
        assert!(!place.exists());
        trash.take(&place).unwrap();
        let since = Instant::now();
        let folder = dir.path().join(FOLDER);
        while std::fs::read_dir(&folder).unwrap().next().is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "it is emptied");
            tokio::task::yield_now().await;
        }
    }
}
