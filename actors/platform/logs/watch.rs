//! Events of log directories: one inotify instance for all readers of a process.
//!
//! Owns the watches. Never reads a log: an event only says that there may be more to read.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The instance as tokio wants it.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

type Watches = HashMap<WatchDescriptor, watch::Sender<()>>;

/// What the watcher and its subscriptions share.
struct Shared {
    inotify: AsyncFd<Descriptor>,
    watches: Mutex<Watches>,
}

impl Shared {
    fn watches(&self) -> MutexGuard<'_, Watches> {
        // Nothing panics while it is held; if it did, the map would still be whole.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches any number of directories.
pub struct Watcher {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// A directory that is watched until this is dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    watch: WatchDescriptor,
    changes: Option<watch::Receiver<()>>,
}

impl Watcher {
    /// Opens the instance. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system has no inotify instance left (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "its successor needs `unsafe`; `Descriptor` owns what it names"
        )]
        let inotify = AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)?;
        let shared = Arc::new(Shared { inotify, watches: Mutex::default() });
        let task = tokio::spawn(distribute(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, task })
    }

    /// Watches a directory: what happens after this call is not missed.
    ///
    /// # Errors
    /// It isn't there, or the system has no watch left (`fs.inotify.max_user_watches`).
    pub fn subscribe(&self, directory: &Path) -> io::Result<Subscription> {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        let mut watches = self.shared.watches();
        let inotify = &self.shared.inotify.get_ref().0;
        // The kernel gives the same descriptor for the same directory.
        let watch = inotify.add_watch(directory, flags | AddWatchFlags::IN_ONLYDIR)?;
        let changes = watches.entry(watch).or_insert_with(|| watch::Sender::new(())).subscribe();
        let shared = Arc::clone(&self.shared);
        Ok(Subscription { shared, watch, changes: Some(changes) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    /// Waits for the next event since the last call; false when the directory is gone.
    pub async fn changed(&mut self) -> bool {
        match &mut self.changes {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watches = self.shared.watches();
        self.changes = None;
        if watches.get(&self.watch).is_some_and(|sender| sender.receiver_count() == 0) {
            watches.remove(&self.watch);
            // A directory that was removed has lost its watch already.
            let _ = self.shared.inotify.get_ref().0.rm_watch(self.watch);
        }
    }
}

/// Hands the events out.
async fn distribute(shared: Arc<Shared>) {
    loop {
        let Ok(mut ready) = shared.inotify.readable().await else { return };
        match ready.get_inner().0.read_events() {
            Ok(events) => {
                let mut watches = shared.watches();
                for event in events {
                    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                        watches.values().for_each(|sender| sender.send_replace(()));
                    } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                        // Dropping the sender ends those who wait.
                        watches.remove(&event.wd);
                    } else if let Some(sender) = watches.get(&event.wd) {
                        sender.send_replace(());
                    }
                }
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
    }

    #[tokio::test]
    async fn every_subscriber_of_a_directory_hears_and_a_removed_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let mut one = watcher.subscribe(dir.path()).unwrap();
        let mut two = watcher.subscribe(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        assert!(within(one.changed()).await && within(two.changed()).await);
        drop(one);
        fs::write(dir.path().join("b"), "x").unwrap();
        assert!(within(two.changed()).await);
        dir.close().unwrap();
        while within(two.changed()).await {}
        drop(two);
        assert!(watcher.shared.watches().is_empty());
        assert!(watcher.subscribe(Path::new("/nowhere/at/all")).is_err());
    }
}
