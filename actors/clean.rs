//! Wiping what a stopped node has on its machine.
//!
//! Owns what `mill clean` removes: containers, network, mounts, control groups, the data directory,
//! all told by the instance's name. Never touches a node whose daemon runs, nor another's things.

mod host;
mod namespace;
#[cfg(test)]
mod tests;

use crate::actors::platform::containerd::Containerd;
use crate::actors::platform::net::{Net, PublishOn};
use crate::actors::platform::private_containerd as private;
use crate::actors::platform::{Places, SYSTEM_SOCKET};
use crate::actors::raft::lock::{DataLock, LockError};
use crate::config::{ContainerdChoice, DaemonConfig};
use crate::network::Subnet;
use serde::Serialize;
use std::fmt::Display;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The folder of the data directory with the data of volumes.
const VOLUMES: &str = "volumes";
/// The file that tells a data directory of mill.
const LOCK: &str = "lock";

/// What was wiped, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// What is gone.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// Why nothing was wiped.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Processes, mounts and links are root's.
    #[error("wiping containers and their network needs root. Run: sudo mill clean")]
    NotRoot,
    /// A daemon runs there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The directory was not made by mill.
    #[error(
        "{directory} has files but none of mill's, so it is left alone; check --data-dir",
        directory = directory.display()
    )]
    NotOurs { directory: PathBuf },
    /// The directory can't be read.
    #[error("reading {directory}", directory = directory.display())]
    Read {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Cleaned {
    fn gone(&mut self, count: usize, one: &str, many: &str) {
        if count > 0 {
            self.removed.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }

    /// Notes an error; the rest is wiped nevertheless.
    fn note<T>(&mut self, what: impl Display, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.failed.push(format!("{what}: {error}"))).ok()
    }
}

/// Wipes everything that the node with these settings has on this machine: its containers, the
/// private containerd with all images, its network, mounts, control groups and its data directory.
/// In a shared containerd, only what is in the node's own namespace. Goes on after a failure;
/// wiping twice is fine. The data of volumes stays if it is to be kept.
///
/// # Errors
/// A daemon uses the data directory, or it isn't mill's: nothing is touched then.
pub async fn clean(config: &DaemonConfig, keep_volumes: bool) -> Result<Cleaned, CleanError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CleanError::NotRoot);
    }
    let data = &config.data_dir;
    let there = check_ours(data)?;
    let lock = there.then(|| DataLock::acquire(data)).transpose()?;
    let places = Places::of(data);
    let mut cleaned = Cleaned::default();
    wipe_shared(config, &places, &mut cleaned).await;
    let stopped = private::stop(&places.private()).await;
    cleaned.note("the private containerd", stopped);
    let killed = host::kill_all(&places).await;
    if let Some(count) = cleaned.note("processes", killed) {
        cleaned.gone(count, "process", "processes");
    }
    wipe_network(config, &places, &mut cleaned).await;
    let unmounted = host::unmount_all(&places);
    let unmounted = cleaned.note("mounts", unmounted);
    cleaned.gone(unmounted.unwrap_or(0), "mount", "mounts");
    if let Some(count) = cleaned.note("control groups", host::remove_cgroups(&places)) {
        cleaned.gone(count, "control group", "control groups");
    }
    let runc = places.runc_root();
    // Something that is still mounted there would be emptied with them.
    let directories = [&places.run, &runc, data].into_iter().filter(|_| unmounted.is_some());
    let kept = keep_volumes && data.join(VOLUMES).is_dir();
    for directory in directories {
        let removed = match kept && directory == data {
            true => host::remove_but(data, &[VOLUMES, LOCK]),
            false => host::remove_directory(directory),
        };
        if cleaned.note(directory.display(), removed) == Some(true) {
            cleaned.removed.push(directory.display().to_string());
        }
    }
    remove_socket(&config.socket, &mut cleaned);
    // Empty when this was the machine's only node; otherwise it stays.
    let _ = std::fs::remove_dir("/run/mill");
    drop(lock);
    Ok(cleaned)
}

/// Whether the data directory is there; an error if somebody else's files are in it.
fn check_ours(data: &Path) -> Result<bool, CleanError> {
    let directory = data.to_owned();
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(CleanError::Read { directory, source }),
    };
    let ours = [LOCK, "identity.json"].iter().any(|name| data.join(name).exists());
    if !ours && entries.count() > 0 {
        return Err(CleanError::NotOurs { directory });
    }
    Ok(true)
}

/// Wipes the node's namespace in a containerd that others use too.
async fn wipe_shared(config: &DaemonConfig, places: &Places, cleaned: &mut Cleaned) {
    let socket = match &config.containerd {
        ContainerdChoice::Private => return,
        ContainerdChoice::Auto => {
            let socket = PathBuf::from(SYSTEM_SOCKET);
            if !private::answers(&socket).await {
                return;
            }
            socket
        }
        ContainerdChoice::Given(socket) => socket.clone(),
    };
    // Which runtime makes no difference to what is only removed.
    let client = Containerd::connect(places.containerd(socket, "runc".into())).await;
    let Some(client) = cleaned.note("containers", client) else { return };
    if let Some(count) = cleaned.note("containers", namespace::wipe(&client).await) {
        cleaned.gone(count, "container", "containers");
    }
}

async fn wipe_network(config: &DaemonConfig, places: &Places, cleaned: &mut Cleaned) {
    // Only the names matter here, and they don't depend on the addresses.
    let cluster = Subnet::of(config.subnet.address, config.subnet.prefix);
    let net = places.net(config.subnet.address, cluster, PublishOn::All);
    let was_there = Path::new("/sys/class/net").join(net.bridge()).exists();
    if cleaned.note("network", Net::clear(&net).await).is_some() && was_there {
        cleaned.removed.push(format!("network {}", net.bridge()));
    }
}

/// Removes a socket that nobody listens on any more.
fn remove_socket(socket: &Path, cleaned: &mut Cleaned) {
    let is_socket = socket.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && UnixStream::connect(socket).is_err() {
        cleaned.note(socket.display(), std::fs::remove_file(socket));
    }
}
