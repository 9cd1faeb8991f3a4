//! The lock of a data directory: one daemon at a time.
//!
//! Owns the file `lock` in it. Never removes it: the kernel lets go of the lock with the process.

use crate::limits::{LOCK_LOOK, LOCK_PATIENCE};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A locked data directory; free again when dropped or when the process ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data directory couldn't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "another mill daemon (pid {pid}) uses {}; stop it or pass another --data-dir",
        .dir.display()
    )]
    Taken {
        /// The other process, `unknown` while it is just starting.
        pid: String,
        /// The directory.
        dir: PathBuf,
    },
    /// The lock file couldn't be made, locked or written.
    #[error("locking the data directory: {}: {source}; is it writable?", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl DataLock {
    /// Locks `dir`, which exists, for this process.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(io(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let mut text = String::new();
            file.rewind().map_err(io)?;
            file.read_to_string(&mut text).map_err(io)?;
            if is_there(text.trim()) || begun.elapsed() >= LOCK_PATIENCE {
                let pid = if text.trim().is_empty() { "unknown" } else { text.trim() };
                return Err(LockError::Taken { pid: pid.to_owned(), dir: dir.to_owned() });
            }
            std::thread::sleep(LOCK_LOOK);
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// Whether a holder by that process id runs. One that was killed isn't there any more, yet a child
/// that it was just starting has the lock too until it becomes another program.
fn is_there(pid: &str) -> bool {
    let Ok(id) = pid.parse() else { return true };
    let found = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None);
    found != Err(nix::errno::Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::acquire(dir.path()).unwrap();
        let error = DataLock::acquire(dir.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("another mill daemon (pid {pid}) uses")), "{error}");
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        drop(first);
        DataLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_child_of_a_holder_that_is_gone_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::acquire(dir.path()).unwrap();
        // The child's copy of the descriptor has the same lock.
        let copy = first._file.try_clone().unwrap();
        drop(first);
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        std::fs::write(dir.path().join("lock"), gone.id().to_string()).unwrap();
        let (said, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                said.send(()).unwrap();
                DataLock::acquire(dir.path())
            });
            told.recv().unwrap();
            drop(copy);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_with_its_name() {
        let error = DataLock::acquire(Path::new("/nowhere/mill")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/mill/lock"), "{error}");
    }
}
