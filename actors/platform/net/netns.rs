//! Network namespaces kept at bind mounts, so that they outlive every process.
//!
//! Owns how one is made, entered and removed. Never changes the namespace of a thread that goes on
//! to do anything else: whatever enters one runs on a thread of its own.

use super::{NetError, link::Links};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A namespace with a netlink connection inside it.
pub(super) struct Inside {
    /// Keeps the namespace, and names it in netlink messages.
    pub file: File,
    /// Changes its interfaces.
    pub links: Links,
}

/// Whether a namespace is mounted there.
pub(super) fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC)
}

/// Enters the namespace at `path`, made if there is none.
pub(super) async fn ensure(path: &Path) -> Result<Inside, NetError> {
    let at = path.to_owned();
    let inside = async {
        // Not within the namespace: the thread outlives it.
        Links::prepare()?;
        on_own_thread(move || {
            let file = if is_mounted(&at) { enter(&at)? } else { create(&at)? };
            Ok(Inside { file, links: Links::connect()? })
        })
        .await
    };
    inside.await.map_err(|source| NetError::Namespace { path: path.to_owned(), source })
}

/// Runs something inside the namespace at `path`, on a thread of its own.
pub async fn within<T, F>(path: &Path, work: F) -> Result<T, NetError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let at = path.to_owned();
    on_own_thread(move || enter(&at).map(|_| work()))
        .await
        .map_err(|source| NetError::Namespace { path: path.to_owned(), source })
}

/// Removes the namespace at `path`; it goes when the last process in it has gone.
pub(super) async fn remove(path: &Path) -> Result<(), NetError> {
    let at = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        match umount2(&at, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        match std::fs::remove_file(&at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    let outcome = removed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    outcome.map_err(|source| NetError::Namespace { path: path.to_owned(), source })
}

/// The namespaces mounted in a directory, by file name.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn enter(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    setns(&file, CloneFlags::CLONE_NEWNET)?;
    Ok(file)
}

fn create(path: &Path) -> io::Result<File> {
    File::create(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = Path::new("/proc/thread-self/ns/net");
    mount(Some(own), path, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)?;
    File::open(path)
}

async fn on_own_thread<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("mill-netns".into()).spawn(move || {
        // Nobody waits any more when the caller was aborted.
        let _ = done.send(work());
    })?;
    outcome.await.unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
}
