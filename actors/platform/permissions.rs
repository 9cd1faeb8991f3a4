//! Who may reach what a node keeps: root, and nobody else.
//!
//! Owns the modes of the data directory, of the folders of running things and of what mill itself
//! puts there. Never changes what is a container's own: that is out of reach behind its folders.

use nix::sys::stat::{Mode, umask};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A folder that only root enters.
const CLOSED: u32 = 0o700;
/// Of a file that a container is given, what it may have: no mode that acts for its owner.
const GIVEN: u32 = 0o755;
/// Everybody may write there, and remove only what is his own: a folder of the whole machine.
const SHARED: u32 = 0o1002;
/// Folders within each other that mill itself makes.
const DEPTH_MAX: u32 = 4;

/// Why a directory isn't used.
#[derive(Debug, thiserror::Error)]
pub enum OpenToOthers {
    /// It is nobody's own.
    #[error(
        "{path} is a directory of the whole machine; pass --data-dir with one of mill's own",
        path = path.display()
    )]
    Shared { path: PathBuf },
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to user {owner}, so that others than root could change what is in it. Run: \
         chown root: {path}",
        path = path.display()
    )]
    Foreign {
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// The system refused.
    #[error("closing {path} to others", path = path.display())]
    System {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes the data directory if it isn't there, and closes it and all that mill keeps in it to
/// others than root. From then on this process makes files that only root reaches.
///
/// # Errors
/// The directory is somebody else's or everybody's, or the system refuses.
pub fn secure(data: &Path) -> Result<(), OpenToOthers> {
    let failed = |source| OpenToOthers::System { path: data.to_owned(), source };
    if !data.exists() {
        if let Some(above) = data.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        make(data).map_err(failed)?;
    }
    let meta = fs::metadata(data).map_err(failed)?;
    if meta.mode() & SHARED == SHARED {
        return Err(OpenToOthers::Shared { path: data.to_owned() });
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(OpenToOthers::Foreign { path: data.to_owned(), owner: meta.uid() });
    }
    // A container's files are given their modes one by one.
    umask(Mode::from_bits_truncate(0o077));
    let mut repair = Repair { changed: 0 };
    repair.node(data).map_err(failed)?;
    if repair.changed > 0 {
        let (path, count) = (data.display(), repair.changed);
        tracing::warn!(%path, count, "files of mill were open to others of this machine; closed");
    }
    Ok(())
}

/// Makes a folder that only root enters, with those above it; one that is there is closed.
///
/// # Errors
/// The system refuses.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(CLOSED).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(CLOSED))
}

/// What is closed at a start.
struct Repair {
    changed: usize,
}

impl Repair {
    fn node(&mut self, data: &Path) -> io::Result<()> {
        self.set(data, &fs::metadata(data)?, CLOSED)?;
        for (path, meta) in entries(data)? {
            self.close(&path, &meta)?;
            match path.file_name().and_then(|name| name.to_str()) {
                // containerd looks after its own.
                Some("containerd") => {
                    for (path, meta) in entries(&path)? {
                        self.close(&path, &meta)?;
                    }
                }
                Some("alloc") => self.allocations(&path)?,
                // What containers have made, below.
                Some("volumes" | super::trash::FOLDER) => {}
                _ if meta.is_dir() => self.own(&path, 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What mill has made: all of it is closed.
    fn own(&mut self, folder: &Path, depth: u32) -> io::Result<()> {
        for (path, meta) in entries(folder)? {
            self.close(&path, &meta)?;
            if meta.is_dir() && depth < DEPTH_MAX {
                self.own(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// What containers are given: the folders are closed, the files act for nobody.
    fn allocations(&mut self, folder: &Path) -> io::Result<()> {
        for (path, meta) in entries(folder)? {
            self.close(&path, &meta)?;
            if !meta.is_dir() {
                continue;
            }
            for (path, meta) in entries(&path)? {
                if meta.is_dir() {
                    self.close(&path, &meta)?;
                } else if meta.is_file() {
                    self.set(&path, &meta, GIVEN)?;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, path: &Path, meta: &Metadata) -> io::Result<()> {
        let is_kept = meta.is_dir() || meta.is_file();
        if is_kept { self.set(path, meta, CLOSED) } else { Ok(()) }
    }

    /// Takes the modes away that are not among these.
    fn set(&mut self, path: &Path, meta: &Metadata, most: u32) -> io::Result<()> {
        let mode = meta.mode() & 0o7777;
        if mode & !most == 0 {
            return Ok(());
        }
        self.changed += 1;
        fs::set_permissions(path, Permissions::from_mode(mode & most))
    }
}

/// What is in a folder, links as they are; nothing where it isn't there, or isn't one.
fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        // What goes meanwhile needs nothing.
        if let Ok(meta) = entry.metadata() {
            entries.push((entry.path(), meta));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn put(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_mill_keeps_is_closed_and_what_containers_have_made_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let of = |path: &str| data.join(path);
        for own in ["identity.json", "raft/log-1", "logs/web-0/1.0.log", "node/key", "new/a/b"] {
            put(&of(own), 0o644);
        }
        put(&of("bin/mill-1"), 0o755);
        put(&of("alloc/web-0/hosts"), 0o4755);
        put(&of("alloc/web-0/volumes/scratch/x"), 0o4755);
        put(&of("volumes/db/x"), 0o666);
        put(&of("containerd/content/blob"), 0o644);
        std::os::unix::fs::symlink("/etc/hosts", of("raft/link")).unwrap();
        let (hosts, before) = (Path::new("/etc/hosts"), mode(Path::new("/etc/hosts")));
        for folder in [&data, &of("raft"), &of("alloc"), &of("alloc/web-0"), &of("volumes")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        secure(&data).unwrap();
        for own in ["identity.json", "raft/log-1", "logs/web-0/1.0.log", "node/key", "new/a/b"] {
            assert_eq!(mode(&of(own)), 0o600, "{own}");
        }
        let closed = ["raft", "logs/web-0", "new/a", "alloc/web-0/volumes", "volumes"];
        for folder in closed.iter().map(|path| of(path)).chain([data.clone()]) {
            assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        }
        assert_eq!(mode(&of("bin/mill-1")), 0o700);
        assert_eq!(mode(&of("alloc/web-0/hosts")), 0o755, "it acts for nobody");
        assert_eq!(mode(&of("alloc/web-0/volumes/scratch/x")), 0o4755);
        assert_eq!(mode(&of("volumes/db/x")), 0o666);
        assert_eq!(mode(hosts), before, "a link isn't followed");
        fs::write(of("later"), "x").unwrap();
        assert_eq!(mode(&of("later")), 0o600);
    }

    #[test]
    fn a_directory_of_the_whole_machine_or_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        let refused = secure(&shared).unwrap_err();
        assert!(refused.to_string().contains("--data-dir"), "{refused}");
        assert_eq!(mode(&shared), 0o1777);
        fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&shared, Some(65534), Some(65534)).unwrap();
        let refused = secure(&shared).unwrap_err();
        assert!(refused.to_string().contains("chown root:"), "{refused}");
        assert_eq!(mode(&shared), 0o755);
    }
}
