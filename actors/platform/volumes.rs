//! Persistent volumes of this node: a folder each, below the data directory.
//!
//! Owns making, measuring and removing them. Never makes one that has had data: what is missing is
//! told, never replaced by an empty folder.

use super::tree;
use crate::fsm::volumes::Volumes;
use crate::id::VolumeName;
use crate::limits;
use crate::node::oci::BindMount;
use crate::spec::model::RunSpec;
use crate::units::Bytes;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
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
}

impl VolumeStore {
    /// A store with a folder for each volume in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, newest: Arc::default() }
    }

    /// From now on these volumes count.
    pub fn use_volumes(&self, volumes: &Volumes) {
        if !self.newest.load().ptr_eq(volumes) {
            self.newest.store(Arc::new(volumes.clone()));
        }
    }

    fn path(&self, name: &VolumeName) -> PathBuf {
        self.folder.join(name.as_str())
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
        let (path, gone) = (self.path(name), self.path(name).with_extension("gone"));
        match std::fs::rename(&path, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match tree::remove(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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
}
