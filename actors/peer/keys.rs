//! What a node keeps to show who it is: keys and certificates, in a folder that only root reads.
//!
//! Owns their files, whole or not at all. Never makes a key, and never sends one anywhere.

use super::ca::certificate_to_pem;
use crate::secret::{KEY_LEN, OwnKey};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The folder in the data directory.
const FOLDER: &str = "node";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "cert.pem";
const CA: &str = "ca.pem";
const SECRET: &str = "x25519";

/// What a node keeps to show who it is.
#[derive(Clone)]
pub struct NodeKeys {
    /// The key of its certificate, PEM.
    pub key: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The cluster's CA, PEM.
    pub ca: String,
    /// What is sealed for it, this opens.
    pub secret: OwnKey,
}

/// Why a node's keys can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system.
    #[error("the node's keys in {path}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A member's keys are gone.
    #[error(
        "{path} is missing, and with it the keys that make this node a member; restore it from a \
         backup, or wipe this node (mill clean) and join again",
        path = path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error(
        "{path} is damaged; restore it from a backup, or wipe this node (mill clean) and join \
         again",
        path = path.display()
    )]
    Damaged { path: PathBuf },
}

impl NodeKeys {
    /// The keys in a data directory.
    ///
    /// # Errors
    /// They are missing, or can't be read.
    pub fn read(data: &Path) -> Result<Self, KeysError> {
        let folder = data.join(FOLDER);
        if !folder.exists() {
            return Err(KeysError::Missing { path: folder });
        }
        let bytes = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|source| KeysError::Io { path, source })
        };
        let text = |name: &str| {
            let damaged = |_| KeysError::Damaged { path: folder.join(name) };
            String::from_utf8(bytes(name)?).map_err(damaged)
        };
        let secret: [u8; KEY_LEN] = bytes(SECRET)?
            .try_into()
            .map_err(|_| KeysError::Damaged { path: folder.join(SECRET) })?;
        Ok(Self {
            key: text(KEY)?,
            certificate: text(CERTIFICATE)?,
            ca: text(CA)?,
            secret: OwnKey::new(secret),
        })
    }

    /// Writes them: all or none, and durable when this returns. What an earlier try left is
    /// replaced.
    ///
    /// # Errors
    /// They can't be written.
    pub fn write(&self, data: &Path) -> Result<(), KeysError> {
        let folder = data.join(FOLDER);
        let draft = data.join("node.new");
        let failed = |source| KeysError::Io { path: folder.clone(), source };
        let secret = self.secret.reveal();
        let files: [(&str, &[u8]); 4] = [
            (KEY, self.key.as_bytes()),
            (CERTIFICATE, self.certificate.as_bytes()),
            (CA, self.ca.as_bytes()),
            (SECRET, &secret),
        ];
        let write = || {
            remove(&draft)?;
            DirBuilder::new().mode(0o700).create(&draft)?;
            for (name, bytes) in files {
                write_new(&draft.join(name), bytes)?;
            }
            File::open(&draft)?.sync_all()?;
            remove(&folder)?;
            fs::rename(&draft, &folder)?;
            File::open(data)?.sync_all()
        };
        write().map_err(failed)
    }

    /// Replaces the certificate alone.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_certificate(data: &Path, certificate: &[u8]) -> Result<(), KeysError> {
        let folder = data.join(FOLDER);
        let path = folder.join(CERTIFICATE);
        let draft = folder.join("cert.new");
        let write = || {
            remove(&draft)?;
            write_new(&draft, certificate_to_pem(certificate).as_bytes())?;
            fs::rename(&draft, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(|source| KeysError::Io { path: path.clone(), source })
    }

    /// Wipes them.
    ///
    /// # Errors
    /// They can't be removed.
    pub fn wipe(data: &Path) -> Result<(), KeysError> {
        let path = data.join(FOLDER);
        remove(&path).map_err(|source| KeysError::Io { path, source })
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_written_is_read_and_only_root_reads_it() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(NodeKeys::read(data.path()), Err(KeysError::Missing { .. })));
        let keys = |key: &str| NodeKeys {
            key: key.to_owned(),
            certificate: "c".to_owned(),
            ca: "a".to_owned(),
            secret: OwnKey::new([5; KEY_LEN]),
        };
        // The second time a folder is in the way.
        for key in ["one", "two"] {
            keys(key).write(data.path()).unwrap();
            let read = NodeKeys::read(data.path()).unwrap();
            assert_eq!((read.key.as_str(), read.secret.reveal()), (key, [5; KEY_LEN]));
        }
        for file in fs::read_dir(data.path().join(FOLDER)).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        NodeKeys::write_certificate(data.path(), b"new").unwrap();
        let read = NodeKeys::read(data.path()).unwrap();
        assert!(read.certificate.contains("BEGIN CERTIFICATE"), "{}", read.certificate);
        fs::write(data.path().join(FOLDER).join(SECRET), "short").unwrap();
        assert!(matches!(NodeKeys::read(data.path()), Err(KeysError::Damaged { .. })));
        NodeKeys::wipe(data.path()).unwrap();
        NodeKeys::wipe(data.path()).unwrap();
        assert!(matches!(NodeKeys::read(data.path()), Err(KeysError::Missing { .. })));
    }
}
