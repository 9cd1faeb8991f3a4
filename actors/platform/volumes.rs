//! Persistent volumes of this node: a folder each, below the data directory.
//!
//! Owns making, measuring, copying and removing them. Never makes one that has had data: what is
//! missing is told, never replaced by an empty folder.

pub mod archive;

use super::tree;
use crate::fsm::volumes::Volumes;
use crate::id::VolumeName;
use crate::limits;
use crate::node::oci::BindMount;
use crate::spec::model::RunSpec;
use crate::units::Bytes;
use arc_swap::ArcSwap;
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
    Elsewhere {
        /// Which.
        name: VolumeName,
    },
    /// It has had data, and the folder isn't there.
    #[error(
        "the data of volume {name} is missing: {path}. Put it back there, or give it up: mill down \
         the service, then mill volume delete {name}",
        path = path.display()
    )]
    Missing {
        /// Which.
        name: VolumeName,
        /// Where it was.
        path: PathBuf,
    },
    /// It is being copied or replaced.
    #[error("volume {name} is {doing}")]
    Busy {
        /// Which.
        name: VolumeName,
        /// What is done with it.
        doing: &'static str,
    },
    /// Its folder can't be made.
    #[error("can't make {path}: {source}", path = path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The volumes of this node; all clones share them.
#[derive(Clone, Debug)]
pub struct VolumeStore {
    folder: PathBuf,
    newest: Arc<ArcSwap<Volumes>>,
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

/// A copy that is being put together.
const COMING: &str = "coming";

impl VolumeStore {
    /// A store with a folder for each volume in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, newest: Arc::default(), busy: Arc::default() }
    }

    /// From now on these volumes count.
    pub fn use_volumes(&self, volumes: &Volumes) {
        if !self.newest.load().ptr_eq(volumes) {
            self.newest.store(Arc::new(volumes.clone()));
        }
    }

    /// The folder of the copy that is the volume.
    fn path(&self, name: &VolumeName) -> PathBuf {
        self.copy(name, self.newest.load().get(name).map_or(0, |volume| volume.copy))
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
        [uid, gid]: [u32; 2],
    ) -> Result<Vec<BindMount>, VolumeError> {
        let newest = self.newest.load();
        let mut mounts = Vec::new();
        for volume in run.volumes.iter().filter(|volume| !volume.ephemeral) {
            let name = VolumeName::from(volume.name.as_str());
            let path = self.path(&name);
            let elsewhere = || VolumeError::Elsewhere { name: name.clone() };
            let known = newest.get(&name).ok_or_else(elsewhere)?;
            if let Some(doing) = self.busy.lock().get(&name) {
                return Err(VolumeError::Busy { name, doing });
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
        newest.keys().filter(|name| self.path(name).is_dir()).eq(figures.keys())
    }

    /// What each volume takes on the disk, as far as that was found within bounds. Blocks.
    #[must_use]
    pub fn used(&self) -> BTreeMap<VolumeName, Bytes> {
        let newest = self.newest.load();
        let there = newest.keys().filter(|name| self.path(name).is_dir());
        there.map(|name| (name.clone(), taken(&self.path(name)))).collect()
    }
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
mod tests {
    use super::*;
    use crate::fsm::volumes::Volume;
    use crate::id::NodeId;
    use crate::spec::model::VolumeSpec;
    use crate::units::Timestamp;

    fn known(used: bool) -> Volumes {
        let volume = Volume {
            size: Bytes(5),
            node: NodeId(1),
            service: "db".into(),
            holder: "db-0-aaaa".into(),
            fence: 1,
            used,
            deleting: false,
            created_at: Timestamp(0),
            copy: 0,
            moving: None,
            left: None,
            stayed: None,
        };
        [(VolumeName::from("data"), Arc::new(volume))].into_iter().collect()
    }

    #[test]
    fn a_folder_is_made_once_and_never_in_the_place_of_lost_data() {
        let place = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(place.path().join("volumes"));
        let mut run = RunSpec::of("x");
        let (name, path) = ("data".to_owned(), "/data".to_owned());
        run.volumes.push(VolumeSpec { name, path, ephemeral: false, size: Some(Bytes(5)) });
        let owner = [nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()];
        let missing = store.mounts(&run, owner).unwrap_err();
        assert!(matches!(missing, VolumeError::Elsewhere { .. }));
        store.use_volumes(&known(false));
        let mounts = store.mounts(&run, owner).unwrap();
        let folder = mounts[0].source.clone();
        std::fs::write(folder.join("file"), [7; 10_000]).unwrap();
        store.use_volumes(&known(true));
        assert_eq!(store.mounts(&run, owner).unwrap(), mounts);
        assert!(store.used()[&VolumeName::from("data")].0 >= 10_000);
        std::fs::rename(&folder, place.path().join("elsewhere")).unwrap();
        let missing = store.mounts(&run, owner).unwrap_err().to_string();
        assert!(missing.contains("the data of volume data is missing"), "{missing}");
        assert!(!folder.exists());
        std::fs::rename(place.path().join("elsewhere"), &folder).unwrap();
        store.remove(&"data".into()).unwrap();
        store.remove(&"data".into()).unwrap();
        assert!(!folder.exists() && store.used().is_empty());
    }

    #[test]
    fn a_copy_is_the_volume_only_once_the_state_says_so() {
        let place = tempfile::tempdir().unwrap();
        let there = VolumeStore::new(place.path().join("there"));
        let here = VolumeStore::new(place.path().join("here"));
        let name = VolumeName::from("data");
        std::fs::create_dir_all(there.path(&name)).unwrap();
        std::fs::write(there.path(&name).join("file"), "new").unwrap();
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        archive::pack(&there.path(&name), &mut sealed, true).unwrap();
        archive::pack(&there.path(&name), &mut plain, false).unwrap();
        let names = || {
            let list = std::fs::read_dir(&here.folder).unwrap();
            list.map(|one| one.unwrap().file_name()).collect::<BTreeSet<_>>()
        };
        assert!(here.receive(&name, 7, &sealed[..sealed.len() - 1]).is_err());
        assert!(names().is_empty() && !here.has_copy(&name, 7), "nothing of a part is left");
        here.receive(&name, 7, &sealed[..]).unwrap();
        assert!(here.has_copy(&name, 7) && here.find(&name).is_none());
        assert_eq!(here.copied(), [name.clone()].into());
        let mut known = known(true);
        let seventh = Volume { copy: 7, ..Volume::clone(&known[&name]) };
        known.insert(name.clone(), Arc::new(seventh));
        here.use_volumes(&known);
        let file = here.find(&name).unwrap().join("file");
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        std::fs::write(&file, "later").unwrap();
        assert!(here.replace(&name, &plain[..plain.len() / 2]).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"later");
        here.replace(&name, &plain[..]).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(names(), ["data.7".into()].into(), "nothing else is left");
        let lock = here.lock(&name, "being copied").unwrap();
        assert!(here.lock(&name, "being copied").is_err());
        drop(lock);
        assert!(here.lock(&name, "being copied").is_ok());
        here.remove(&name).unwrap();
        assert!(names().is_empty());
    }
}
