//! Persistent volumes of this node: a folder each, below the data directory.
//!
//! Owns making, measuring, copying and removing them. Never makes one that has had data: what is
//! missing is told, never replaced by an empty folder.

pub mod archive;
pub mod attached;

use super::tree;
use crate::fsm::model::Node;
use crate::fsm::volumes::{AttachStep, Volume, Volumes};
use crate::id::{AllocId, NodeId, VolumeName};
use crate::limits;
use crate::node::oci::BindMount;
use crate::node::provided::{Mount, held};
use crate::spec::model::RunSpec;
use crate::units::Bytes;
use arc_swap::ArcSwap;
use attached::{AttachError, Attached};
use imbl::OrdMap;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a container can't be given a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The state doesn't know it here.
    #[error("volume {name} isn't on this node")]
    Elsewhere { name: VolumeName },
    /// It has had data, and the folder isn't there.
    #[error(
        "the data of volume {name} is missing: {path}. Put it back there, or give it up: mill down \
         the service, then mill volume delete {name}",
        path = path.display()
    )]
    Missing {
        name: VolumeName,
        /// Where it was.
        path: PathBuf,
    },
    /// It is being copied or replaced.
    #[error("volume {name} is {doing}")]
    Busy {
        name: VolumeName,
        /// What is done with it.
        doing: &'static str,
    },
    /// The provider's can't be had.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Its folder can't be made.
    #[error("can't make {path}: {source}", path = path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The volumes of this node; all clones share them.
#[derive(Clone, Debug)]
pub struct VolumeStore {
    folder: PathBuf,
    attached: Attached,
    newest: Arc<ArcSwap<(NodeId, Volumes, Nodes)>>,
    busy: Arc<Mutex<BTreeMap<VolumeName, &'static str>>>,
}

/// While this is held, no container is given the volume.
#[derive(Debug)]
pub struct Lock {
    name: VolumeName,
    busy: Arc<Mutex<BTreeMap<VolumeName, &'static str>>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.name);
    }
}

/// The members.
type Nodes = OrdMap<NodeId, Arc<Node>>;

/// A copy that is being put together.
const COMING: &str = "coming";

impl VolumeStore {
    /// A store with a folder for each volume in `folder`, and with those of the provider.
    #[must_use]
    pub fn new(folder: PathBuf, attached: Attached) -> Self {
        Self { folder, attached, newest: Arc::default(), busy: Arc::default() }
    }

    /// From now on these volumes count, on this node among those.
    pub fn use_volumes(&self, node: NodeId, volumes: &Volumes, nodes: &Nodes) {
        let newest = self.newest.load();
        if newest.0 != node || !newest.1.ptr_eq(volumes) || !newest.2.ptr_eq(nodes) {
            self.newest.store(Arc::new((node, volumes.clone(), nodes.clone())));
        }
    }

    /// The volumes of the provider.
    #[must_use]
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// The folder of the copy that is the volume.
    fn path(&self, name: &VolumeName) -> PathBuf {
        match self.newest.load().1.get(name) {
            Some(volume) if volume.provided.is_some() => {
                // One that isn't attached here is nowhere.
                self.attached.data(&self.mount_of(name).unwrap_or_else(|| (name.clone(), 0)))
            }
            volume => self.copy(name, volume.map_or(0, |volume| volume.copy)),
        }
    }

    /// The attachment of a volume of the provider to this node.
    fn mount_of(&self, name: &VolumeName) -> Option<Mount> {
        let newest = self.newest.load();
        held(&newest.1, newest.0, name).map(|(_, at)| (name.clone(), at.number))
    }

    /// The folder of a copy: its number is in its name, so that no other is ever taken for it.
    fn copy(&self, name: &VolumeName, copy: u64) -> PathBuf {
        match copy {
            0 => self.folder.join(name.as_str()),
            copy => self.folder.join(format!("{name}.{copy}")),
        }
    }

    /// The folder of a volume that has data here.
    #[must_use]
    pub fn find(&self, name: &VolumeName) -> Option<PathBuf> {
        Some(self.path(name)).filter(|path| path.is_dir())
    }

    /// Keeps containers from a volume.
    ///
    /// # Errors
    /// Somebody else does.
    pub fn lock(&self, name: &VolumeName, doing: &'static str) -> Result<Lock, VolumeError> {
        let mut busy = self.busy.lock();
        if let Some(doing) = busy.get(name) {
            return Err(VolumeError::Busy { name: name.clone(), doing });
        }
        busy.insert(name.clone(), doing);
        Ok(Lock { name: name.clone(), busy: Arc::clone(&self.busy) })
    }

    /// Whether a copy is here already, whole.
    #[must_use]
    pub fn has_copy(&self, name: &VolumeName, copy: u64) -> bool {
        self.copy(name, copy).is_dir()
    }

    /// Takes a whole copy of another node's volume; it isn't the volume yet. Blocks.
    ///
    /// # Errors
    /// It isn't whole, or the system refuses: nothing is left of it then.
    pub fn receive(&self, name: &VolumeName, copy: u64, from: impl Read) -> io::Result<()> {
        let target = self.copy(name, copy);
        self.drop_copies(name, &target)?;
        let coming = self.unpack(name, from, true)?;
        std::fs::rename(&coming, &target)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Puts what an archive holds in the place of a volume's data, all at once. Blocks.
    ///
    /// # Errors
    /// It isn't whole, or the system refuses: the data is as it was then.
    pub fn replace(&self, name: &VolumeName, from: impl Read) -> io::Result<()> {
        let path = self.path(name);
        self.drop_copies(name, &path)?;
        let coming = self.unpack(name, from, false)?;
        let flags = match path.is_dir() {
            true => RenameFlags::RENAME_EXCHANGE,
            false => RenameFlags::RENAME_NOREPLACE,
        };
        renameat2(AT_FDCWD, &coming, AT_FDCWD, &path, flags)?;
        File::open(&self.folder)?.sync_all()?;
        self.drop_copies(name, &path)
    }

    fn unpack(&self, name: &VolumeName, from: impl Read, sealed: bool) -> io::Result<PathBuf> {
        let coming = self.folder.join(format!("{name}.{COMING}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        DirBuilder::new().create(&coming)?;
        let unpacked = archive::unpack(from, &coming, sealed);
        if unpacked.is_err() {
            // Why it is of no use is what is told.
            let _ = tree::remove(&coming);
        }
        unpacked.map(|()| coming)
    }

    /// Removes all copies of a volume's data but one. Blocks.
    ///
    /// # Errors
    /// The system refuses.
    pub fn drop_copies(&self, name: &VolumeName, but: &Path) -> io::Result<()> {
        let list = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            list => list?,
        };
        for entry in list {
            let path = entry?.path();
            let is_its = path.file_stem().is_some_and(|stem| stem == name.as_str());
            if is_its && path != but {
                tree::remove(&path)?;
            }
        }
        Ok(())
    }

    /// The names of volumes of which there is a copy here that isn't whole or has a number. Blocks.
    #[must_use]
    pub fn copied(&self) -> BTreeSet<VolumeName> {
        let Ok(list) = std::fs::read_dir(&self.folder) else { return BTreeSet::new() };
        let paths = list.flatten().map(|entry| entry.path());
        let copies = paths.filter(|path| path.extension().is_some());
        copies.filter_map(|path| Some(path.file_stem()?.to_str()?.into())).collect()
    }

    /// Makes the folders that were never there, owned by the container's user. Blocks.
    ///
    /// # Errors
    /// One that has had data is missing, or can't be made.
    pub fn mounts(
        &self,
        run: &RunSpec,
        id: &AllocId,
        [uid, gid]: [u32; 2],
    ) -> Result<Vec<BindMount>, VolumeError> {
        let newest = self.newest.load();
        let (me, newest) = (newest.0, &newest.1);
        let mut mounts = Vec::new();
        for volume in run.volumes.iter().filter(|volume| !volume.ephemeral) {
            let name = VolumeName::from(volume.name.as_str());
            let path = self.path(&name);
            let elsewhere = || VolumeError::Elsewhere { name: name.clone() };
            let known = newest.get(&name).ok_or_else(elsewhere)?;
            if let Some(doing) = self.busy.lock().get(&name) {
                return Err(VolumeError::Busy { name, doing });
            }
            if known.provided.is_some() {
                let source = self.provided(me, (&name, known), id, [uid, gid])?;
                let target = PathBuf::from(&volume.path);
                mounts.push(BindMount { source, target, read_only: false });
                continue;
            }
            if !path.is_dir() {
                if known.used {
                    return Err(VolumeError::Missing { name, path });
                }
                let failed = |source| VolumeError::Make { path: path.clone(), source };
                self.make(&path, [uid, gid]).map_err(failed)?;
            }
            let target = PathBuf::from(&volume.path);
            mounts.push(BindMount { source: path, target, read_only: false });
        }
        Ok(mounts)
    }

    /// The folder of a volume of the provider, mounted.
    fn provided(
        &self,
        me: NodeId,
        (name, volume): (&VolumeName, &Volume),
        id: &AllocId,
        owner: [u32; 2],
    ) -> Result<PathBuf, VolumeError> {
        let newest = self.newest.load();
        if volume.holder != *id {
            return Err(VolumeError::Elsewhere { name: name.clone() });
        }
        if let Some(held) = held(&newest.1, me, name) {
            return Ok(self.attached.open(name, held, volume.used, owner)?);
        }
        let what = waits_for(me, volume, &newest.2);
        Err(AttachError::Waits { name: name.clone(), what }.into())
    }

    fn make(&self, path: &Path, [uid, gid]: [u32; 2]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Under its own name only once it is complete; no volume's name has a dot.
        let partial = path.with_extension("new");
        DirBuilder::new().recursive(true).create(&partial)?;
        std::os::unix::fs::chown(&partial, Some(uid), Some(gid))?;
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&partial, path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes a volume's data. Blocks.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self, name: &VolumeName) -> io::Result<()> {
        let (path, gone) = (self.path(name), self.folder.join(format!("{name}.gone")));
        // Under its own name nothing is ever half there.
        match std::fs::rename(&path, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.drop_copies(name, Path::new(""))
    }

    /// Whether these figures are of the volumes that there are now.
    #[must_use]
    pub fn is_of(&self, figures: &BTreeMap<VolumeName, Bytes>) -> bool {
        let newest = self.newest.load();
        newest.1.keys().filter(|name| self.path(name).is_dir()).eq(figures.keys())
    }

    /// What each volume takes on the disk, as far as that was found within bounds. Blocks.
    #[must_use]
    pub fn used(&self) -> BTreeMap<VolumeName, Bytes> {
        let newest = self.newest.load();
        let there = newest.1.keys().filter(|name| self.path(name).is_dir());
        let used = |name: &VolumeName| match self.mount_of(name) {
            Some(mount) => self.attached.used(&mount).unwrap_or(Bytes(0)),
            None => taken(&self.path(name)),
        };
        there.map(|name| (name.clone(), used(name))).collect()
    }
}

/// What a volume of the provider waits for before its node may have it.
fn waits_for(me: NodeId, volume: &Volume, nodes: &Nodes) -> String {
    let Some(provided) = &volume.provided else { return String::new() };
    let what = match &provided.attachment {
        Some(at) if at.node != me => match nodes.get(&at.node) {
            Some(node) => format!("still attached to {}", node.name),
            None => format!("still attached to node {}, which was removed", at.node),
        },
        Some(at) if at.step > AttachStep::Attached => "still being detached".to_owned(),
        _ if provided.id.is_none() => "being made by the provider".to_owned(),
        _ => "being attached by the provider".to_owned(),
    };
    match &provided.error {
        Some(error) => format!("{what}: {error}"),
        None => what,
    }
}

/// A container has a folder: it is mounted in a file system of its own (proc_pid_mountinfo(5)).
/// Blocks.
///
/// # Errors
/// The system doesn't say.
pub fn is_in_use(folder: &Path) -> io::Result<bool> {
    let device = rustix::fs::stat(folder)?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let own = std::fs::read_to_string("/proc/self/mountinfo")?;
    for process in std::fs::read_dir("/proc")?.flatten() {
        let path = process.path().join("mountinfo");
        // One that has ended meanwhile has nothing.
        let Ok(all) = std::fs::read_to_string(path) else { continue };
        if all == own {
            continue;
        }
        let has_it = |line: &str| {
            let mut fields = line.split(' ').skip(2);
            let (on, root) = (fields.next(), fields.next().unwrap_or_default());
            on == Some(&device) && root.len() > 1 && folder.ends_with(&root[1..])
        };
        if all.lines().any(has_it) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The bytes that the files below a folder take; deep trees are left after a bounded number of
/// entries, with one folder open at a time.
fn taken(folder: &Path) -> Bytes {
    let (mut bytes, mut entries, mut folders) = (0u64, 0usize, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(list) = std::fs::read_dir(&folder) else { continue };
        for entry in list.flatten() {
            entries += 1;
            if entries > limits::VOLUME_ENTRIES_MAX {
                return Bytes(bytes);
            }
            let Ok(about) = entry.metadata() else { continue };
            bytes += about.blocks() * 512;
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Bytes(bytes)
}

#[cfg(test)]
mod tests;
