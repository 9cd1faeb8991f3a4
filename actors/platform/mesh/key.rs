//! The node's private key of the mesh, in its folder of keys.
//!
//! Owns the file: made on the node, read by root only. Never sends it anywhere.

use defguard_wireguard_rs::key::Key;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Its place in the data directory.
const FILE: &str = "node/mesh";
/// And that of the one that takes its place once the cluster knows it.
const NEXT: &str = "node/mesh.next";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system.
    #[error("the key of the mesh in {path}", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} is damaged: remove it and start mill again, then the node makes a new key",
        path = path.display()
    )]
    Damaged { path: PathBuf },
}

/// The node's private key; made, durably, if there is none.
///
/// # Errors
/// It can't be read or written.
pub fn read_or_make(data: &Path) -> Result<Key, KeyError> {
    let path = data.join(FILE);
    read(&path)?.map_or_else(|| make(&path), Ok)
}

/// The key that the node is about to have, if there is one.
///
/// # Errors
/// It can't be read.
pub fn next(data: &Path) -> Result<Option<Key>, KeyError> {
    read(&data.join(NEXT))
}

/// Makes the key, durably, that the node is about to have.
///
/// # Errors
/// It can't be written.
pub fn make_next(data: &Path) -> Result<Key, KeyError> {
    make(&data.join(NEXT))
}

/// The key that the node was about to have is its key from now on; again, nothing happens.
///
/// # Errors
/// The file system refuses.
pub fn take_next(data: &Path) -> Result<(), KeyError> {
    let path = data.join(FILE);
    match fs::rename(data.join(NEXT), &path).and_then(|()| sync_folder(&path)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KeyError::Io { path, source })
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<Key>, KeyError> {
    let path = path.to_owned();
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| KeyError::Damaged { path })?;
            Ok(Some(Key::new(bytes)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Io { path, source }),
    }
}

fn make(path: &Path) -> Result<Key, KeyError> {
    let key = Key::generate();
    let draft = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_folder(path)
    };
    write().map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    Ok(key)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_only_root_reads_it() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(read_or_make(data.path()), Err(KeyError::Io { .. })), "no folder");
        fs::create_dir(data.path().join("node")).unwrap();
        let key = read_or_make(data.path()).unwrap();
        assert!(read_or_make(data.path()).unwrap() == key);
        let mode = fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        take_next(data.path()).unwrap();
        assert!(next(data.path()).unwrap().is_none());
        let other = make_next(data.path()).unwrap();
        assert!(next(data.path()).unwrap() == Some(other.clone()));
        assert!(read_or_make(data.path()).unwrap() == key, "not yet");
        take_next(data.path()).unwrap();
        assert!(read_or_make(data.path()).unwrap() == other);
        fs::write(data.path().join(FILE), "short").unwrap();
        assert!(matches!(read_or_make(data.path()), Err(KeyError::Damaged { .. })));
    }
}
