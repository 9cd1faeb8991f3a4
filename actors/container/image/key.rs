//! The key of a node whose cluster has no keyring: a file of its own, which only root can read.
//!
//! Owns making it once, durably. Never shows it and never replaces one. Where the cluster has a
//! keyring, the key only opens what it sealed before.

use crate::secret::{KEY_LEN, SealKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE: &str = "node.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system.
    #[error("the node's key {path}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} is no key of {KEY_LEN} bytes; restore it from a backup, or remove it and log in \
            again to every registry",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// The key in a data directory, if there is one.
///
/// # Errors
/// It can't be read, or is none.
pub fn read(data: &Path) -> Result<Option<SealKey>, KeyError> {
    if data.join(FILE).exists() { open(data).map(Some) } else { Ok(None) }
}

/// The key in a data directory, made of random bytes the first time.
///
/// # Errors
/// It can't be read or written, or is none.
pub fn open(data: &Path) -> Result<SealKey, KeyError> {
    let path = data.join(FILE);
    let failed = |source| KeyError::Io { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| KeyError::Damaged { path })?;
            Ok(SealKey::new(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes: [u8; KEY_LEN] = rand::random();
            write(data, &path, &bytes).map_err(failed)?;
            Ok(SealKey::new(bytes))
        }
        Err(error) => Err(failed(error)),
    }
}

/// All of it or nothing: a crash must not leave half a key.
fn write(data: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(data)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_made_once_and_only_root_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let key = open(&data).unwrap();
        assert_eq!(open(&data).unwrap(), key);
        let mode = fs::metadata(data.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(data.join(FILE), "short").unwrap();
        assert!(matches!(open(&data), Err(KeyError::Damaged { .. })));
    }
}
