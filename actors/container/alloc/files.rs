//! The files that a container is given: `resolv.conf`, `hosts`, `hostname`, ephemeral volumes.
//!
//! Owns the allocation's folder. Never mounts anything.

use super::error::Failed;
use crate::actors::platform::Platform;
use crate::actors::platform::image::{Image, Owner};
use crate::actors::platform::{logs, permissions};
use crate::allocation::Ended;
use crate::id::{AllocId, Attempt};
use crate::node::dns::DOMAIN;
use crate::node::oci::BindMount;
use crate::spec::model::{RunSpec, VolumeSpec};
use crate::units::Timestamp;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Writes them, and tells how they are to be mounted.
pub(super) async fn write(
    platform: &Platform,
    id: &AllocId,
    address: Ipv4Addr,
) -> Result<Vec<BindMount>, Failed> {
    let folder = folder(platform, id);
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{id}\n"
    );
    let hostname = format!("{id}\n");
    let gateway = platform.net.gateway();
    let resolvers = format!("nameserver {gateway}\nsearch {DOMAIN}\noptions ndots:1\n");
    let (at, names) = (folder.clone(), ["resolv.conf", "hosts", "hostname"]);
    let write = move || {
        permissions::make(&at)?;
        std::fs::write(at.join("resolv.conf"), resolvers)?;
        std::fs::write(at.join("hosts"), hosts)?;
        std::fs::write(at.join("hostname"), hostname)?;
        // Whoever the program runs as reads them; others don't get that far.
        names.iter().try_for_each(|name| set_mode(&at.join(name), 0o644))
    };
    let written = tokio::task::spawn_blocking(write).await;
    let written = written.unwrap_or_else(|lost| Err(io::Error::other(lost)));
    written.map_err(|source| Failed::Files { path: folder.clone(), source })?;
    let mount = |name: &str| BindMount {
        source: folder.join(name),
        target: Path::new("/etc").join(name),
        read_only: true,
    };
    Ok(names.map(mount).to_vec())
}

/// Makes the ephemeral volumes that are not there yet: with owner and mode of the image's folder in
/// their place, or without one owned by the container's user. They last as long as the allocation:
/// over its restarts, and no longer.
pub(super) async fn volumes(
    platform: &Platform,
    id: &AllocId,
    volumes: &[VolumeSpec],
    [uid, gid]: [u32; 2],
    image: &Image,
) -> Result<Vec<BindMount>, Failed> {
    let above = folder(platform, id).join("volumes");
    let mounts: Vec<BindMount> = volumes
        .iter()
        .filter(|volume| volume.ephemeral)
        .map(|volume| BindMount {
            source: above.join(&volume.name),
            target: PathBuf::from(&volume.path),
            read_only: false,
        })
        .collect();
    let mut wanted = mounts.clone();
    wanted.retain(|mount| !mount.source.exists());
    let targets = wanted.iter().map(|mount| mount.target.clone()).collect();
    let owners = platform.images.owners(image, targets).await?;
    let make = move || {
        for BindMount { source, target, .. } in wanted {
            let own = Owner { uid, gid, mode: 0o755 };
            let Owner { uid, gid, mode } = owners.get(&target).copied().unwrap_or(own);
            // Under its own name only once it is complete.
            let partial = source.with_extension("new");
            permissions::make(&partial)?;
            std::os::unix::fs::chown(&partial, Some(uid), Some(gid))?;
            set_mode(&partial, mode)?;
            std::fs::rename(&partial, &source)?;
        }
        Ok(())
    };
    let made = tokio::task::spawn_blocking(make).await;
    let made = made.unwrap_or_else(|lost| Err(io::Error::other(lost)));
    made.map_err(|source| Failed::Files { path: above, source })?;
    Ok(mounts)
}

/// Makes the persistent volumes that were never there, and mounts those of the provider.
pub(super) async fn persistent(
    platform: &Platform,
    id: &AllocId,
    run: &RunSpec,
    owner: [u32; 2],
) -> Result<Vec<BindMount>, Failed> {
    let (store, run, id) = (platform.volumes.clone(), run.clone(), id.clone());
    let made = tokio::task::spawn_blocking(move || store.mounts(&run, &id, owner)).await;
    let path = platform.places.data.clone();
    let made = made.map_err(|lost| Failed::Files { path, source: io::Error::other(lost) })?;
    Ok(made?)
}

/// Where the end of an allocation's last attempt is written down.
fn record(platform: &Platform, id: &AllocId) -> PathBuf {
    logs::directory(&platform.places.data, id).join("exit")
}

/// Writes down how an attempt ended, before its container is removed: until that is reported,
/// nobody else knows it.
pub(super) async fn remember(
    platform: &Platform,
    id: &AllocId,
    attempt: Attempt,
    ended: Ended,
) -> Result<(), Failed> {
    let path = record(platform, id);
    let at = path.clone();
    let write = move || {
        if let Some(folder) = path.parent() {
            permissions::make(folder)?;
        }
        let partial = path.with_extension("new");
        std::fs::write(&partial, format!("{} {} {}\n", attempt.0, ended.code, ended.at.0))?;
        std::fs::rename(partial, path)
    };
    let written = tokio::task::spawn_blocking(write).await;
    let written = written.unwrap_or_else(|lost| Err(io::Error::other(lost)));
    written.map_err(|source| Failed::Files { path: at, source })
}

/// How an allocation's last attempt ended, if that was written down.
#[must_use]
pub fn remembered(platform: &Platform, id: &AllocId) -> Option<(Attempt, Ended)> {
    let text = std::fs::read_to_string(record(platform, id)).ok()?;
    let mut words = text.split_whitespace();
    let attempt = Attempt(words.next()?.parse().ok()?);
    let code = words.next()?.parse().ok()?;
    Some((attempt, Ended { code, at: Timestamp(words.next()?.parse().ok()?) }))
}

pub(super) fn folder(platform: &Platform, id: &AllocId) -> PathBuf {
    platform.places.data.join("alloc").join(id.as_str())
}

/// The allocations that have a folder here.
#[must_use]
pub fn folders(platform: &Platform) -> Vec<AllocId> {
    let above = platform.places.data.join("alloc");
    let entries = std::fs::read_dir(above).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.map(|name| AllocId::from(name.as_str())).collect()
}

/// Removes what an allocation has besides its containers: network and files. Its log stays, marked
/// as ended.
///
/// # Errors
/// The kernel refuses, or the files can't be removed.
pub async fn leftover(platform: &Platform, id: &AllocId) -> Result<(), Failed> {
    platform.net.detach(id).await?;
    let folder = folder(platform, id);
    let log = logs::directory(&platform.places.data, id);
    // Two moments: what takes long is done by who empties the trash.
    let removed = logs::mark_ended(&log).and_then(|()| platform.trash.take(&folder));
    removed.map_err(|source| Failed::Files { path: folder, source })
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
