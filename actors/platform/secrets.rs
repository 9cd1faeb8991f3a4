//! What containers are given in secret: variables and files, kept in memory only.
//!
//! Owns a file system in memory (tmpfs) with a folder for each container, and the opened keyring.
//! Never writes a value to a disk, and never shows one.

use crate::fsm::secrets::{Secrets, secret_purpose};
use crate::id::{ContainerId, SecretName};
use crate::limits;
use crate::secret::{Keyring, SealError};
use arc_swap::ArcSwap;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The name of the file with a container's secret variables, each ended by a NUL.
pub const ENV_FILE: &str = "env";

/// Why a container can't be given its secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such secret.
    #[error("secret {name} isn't there. Run: mill secret set {name} -")]
    Missing { name: SecretName },
    /// It can't be opened here.
    #[error("secret {name} can't be opened: {source}")]
    Sealed {
        name: SecretName,
        #[source]
        source: SealError,
    },
    /// It can't be put where the container finds it.
    #[error("can't write {path}: {source}", path = path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The values that a container starts with, and their versions.
#[derive(Debug, Default)]
pub struct Opened {
    values: BTreeMap<SecretName, Zeroizing<Vec<u8>>>,
    /// By secret.
    pub versions: BTreeMap<SecretName, u64>,
}

impl Opened {
    /// A value; empty if it wasn't asked for.
    #[must_use]
    pub fn value(&self, name: &SecretName) -> &[u8] {
        self.values.get(name).map_or(&[], |value| value.as_slice())
    }
}

/// A file for a container.
pub struct SecretFile<'a> {
    /// Its name in the container's folder.
    pub name: String,
    /// What is in it.
    pub content: &'a [u8],
    /// Its permissions.
    pub mode: u32,
    /// Its user and group.
    pub owner: [u32; 2],
}

/// The secrets as this node has them; all clones share them.
#[derive(Clone, Debug)]
pub struct SecretStore {
    keyring: Keyring,
    folder: PathBuf,
    newest: Arc<ArcSwap<Secrets>>,
    /// The file system is there while a container has something in it.
    mount: Arc<Mutex<()>>,
}

/// This process's memory is in no core dump from now on, and no process of another user reads it.
pub fn keep_from_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps of mill may hold secrets");
    }
}

impl SecretStore {
    /// A store whose folder is `folder`.
    #[must_use]
    pub fn new(folder: PathBuf, keyring: Keyring) -> Self {
        Self { keyring, folder, newest: Arc::default(), mount: Arc::default() }
    }

    /// What seals and opens here.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// From now on these secrets count.
    pub fn use_secrets(&self, secrets: &Secrets) {
        if !self.newest.load().ptr_eq(secrets) {
            self.newest.store(Arc::new(secrets.clone()));
        }
    }

    /// Opens the newest values.
    ///
    /// # Errors
    /// One isn't there, or can't be opened.
    pub fn open(&self, names: &BTreeSet<&SecretName>) -> Result<Opened, SecretError> {
        let (newest, mut opened) = (self.newest.load(), Opened::default());
        for name in names.iter().copied() {
            let missing = || SecretError::Missing { name: name.clone() };
            let secret = newest.get(name).ok_or_else(missing)?;
            let purpose = secret_purpose(name, secret.version);
            let value = self.keyring.unwrap(&purpose, &secret.envelope());
            let value =
                value.map_err(|source| SecretError::Sealed { name: name.clone(), source })?;
            opened.values.insert(name.clone(), value);
            opened.versions.insert(name.clone(), secret.version);
        }
        Ok(opened)
    }

    /// The folder of a container.
    #[must_use]
    pub fn of(&self, container: &ContainerId) -> PathBuf {
        self.folder.join(container.as_str())
    }

    /// Writes a container's variables and files anew.
    ///
    /// # Errors
    /// The file system in memory can't be mounted or written.
    pub fn write(
        &self,
        container: &ContainerId,
        env: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        files: &[SecretFile],
    ) -> Result<(), SecretError> {
        if env.is_empty() && files.is_empty() {
            return Ok(());
        }
        let folder = self.of(container);
        let failed = |source| SecretError::Write { path: folder.clone(), source };
        let _mount = self.mount.lock();
        self.mounted().map_err(failed)?;
        remove(&folder).map_err(failed)?;
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        if !env.is_empty() {
            let mut text = Zeroizing::new(Vec::new());
            for (name, value) in env {
                text.extend_from_slice(name.as_bytes());
                text.push(b'=');
                text.extend_from_slice(value);
                text.push(0);
            }
            self.file(&folder, ENV_FILE, &text, 0o400, [0, 0]).map_err(failed)?;
        }
        for file in files {
            self.file(&folder, &file.name, file.content, file.mode, file.owner).map_err(failed)?;
        }
        Ok(())
    }

    fn file(
        &self,
        folder: &Path,
        name: &str,
        content: &[u8],
        mode: u32,
        [uid, gid]: [u32; 2],
    ) -> io::Result<()> {
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Removes what a container was given.
    ///
    /// # Errors
    /// The system refuses.
    pub fn forget(&self, container: &ContainerId) -> io::Result<()> {
        let _mount = self.mount.lock();
        if !self.folder.exists() {
            return Ok(());
        }
        remove(&self.of(container))?;
        if std::fs::read_dir(&self.folder)?.next().is_none() {
            unmount(&self.folder)?;
        }
        Ok(())
    }

    fn mounted(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        if is_tmpfs(&self.folder)? {
            return Ok(());
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let tmpfs = |options: String| {
            mount(Some("mill-secrets"), &self.folder, Some("tmpfs"), flags, Some(options.as_str()))
        };
        let options = format!("mode=0700,size={}", limits::SECRET_TMPFS);
        // Older kernels may swap it out.
        tmpfs(format!("{options},noswap")).or_else(|_| tmpfs(options))?;
        Ok(())
    }
}

/// Takes the file system in memory away, with all that is in it.
///
/// # Errors
/// It is in use.
fn unmount(folder: &Path) -> io::Result<()> {
    while folder.exists() && is_tmpfs(folder)? && is_mount(folder)? {
        umount2(folder, MntFlags::MNT_DETACH)?;
    }
    remove(folder)
}

fn is_tmpfs(folder: &Path) -> io::Result<bool> {
    let is_there = statfs(folder)?.filesystem_type() == TMPFS_MAGIC;
    Ok(is_there && is_mount(folder)?)
}

/// Whether something is mounted right there.
fn is_mount(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let above = folder.parent().unwrap_or(folder);
    Ok(std::fs::metadata(folder)?.dev() != std::fs::metadata(above)?.dev())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_kept_from_core_dumps() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        keep_from_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
