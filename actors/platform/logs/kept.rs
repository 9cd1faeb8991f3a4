//! The kept binary: a copy of the running mill that loggers and the runc wrapper are started from,
//! so that an upgrade of the installed one doesn't break the containers that run.
//!
//! Owns `<data>/bin`. Never touches the binary that a person installed.

use super::fixed;
use crate::limits;
use nix::sys::stat::fstat;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BINARY: &str = "mill-";
const WRAPPER: &str = "runc-";

/// Why the binary could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("keeping a copy of the mill binary: {what} {path}: {source}", path = path.display())]
pub struct KeepError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeepError {
    let path = path.to_owned();
    move |source| KeepError { what, path, source }
}

/// Keeps the running executable as `<data>/bin/mill-<hash>`, with the link `runc-<hash>` beside it
/// for the wrapper. Once for each build: later calls find it.
///
/// # Errors
/// The executable can't be read or the data directory can't be written.
pub fn install_logger(data_dir: &Path) -> Result<PathBuf, KeepError> {
    install_from(data_dir, Path::new("/proc/self/exe"))
}

/// Like [`install_logger`], of another executable.
///
/// # Errors
/// The executable can't be read or the data directory can't be written.
pub fn install_from(data_dir: &Path, executable: &Path) -> Result<PathBuf, KeepError> {
    let directory = data_dir.join("bin");
    let mut source = File::open(executable).map_err(failed("open", executable))?;
    let hash = identity(&source).map_err(failed("examine", executable))?;
    let kept = directory.join(format!("{BINARY}{hash}"));
    let link = directory.join(format!("{WRAPPER}{hash}"));
    fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
    if !kept.exists() {
        // Copied under another name, so that a kept binary is always whole. Not hard-linked: an
        // installed binary that is executed under a second name could not be overwritten.
        let partial = directory.join(format!(".{BINARY}{hash}.{}", std::process::id()));
        let copied = copy(&mut source, &partial).and_then(|()| fs::rename(&partial, &kept));
        if let Err(error) = copied {
            // Left behind, it would be removed with the unused ones.
            let _ = fs::remove_file(&partial);
            return Err(failed("write", &kept)(error));
        }
    }
    match symlink(format!("{BINARY}{hash}"), &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("link", &link)(error))
        }
        _ => Ok(kept),
    }
}

/// The name of the runc wrapper that belongs to a kept binary.
#[must_use]
pub fn wrapper_of(kept: &Path) -> PathBuf {
    let name = kept.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    kept.with_file_name(format!("{WRAPPER}{}", name.strip_prefix(BINARY).unwrap_or(name)))
}

/// What tells one build from another without reading all of it.
fn identity(file: &File) -> io::Result<String> {
    let stat = fstat(file)?;
    let mut hash = Sha256::new();
    for number in [stat.st_dev, stat.st_ino, stat.st_size as u64] {
        hash.update(number.to_le_bytes());
    }
    for number in [stat.st_mtime, stat.st_mtime_nsec] {
        hash.update(number.to_le_bytes());
    }
    Ok(hex::encode(&hash.finalize()[..6]))
}

/// Copies, and binds the copy to an address if it works so: loggers then share all of it.
fn copy(source: &mut File, target: &Path) -> io::Result<()> {
    whole(source, target)?;
    match fixed::bind(target) {
        Ok(()) if works(target) => return File::open(target)?.sync_all(),
        Ok(()) => tracing::warn!("a logger needs more memory: bound to an address it doesn't run"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "a logger needs more memory: it can't be bound to an address");
        }
    }
    source.rewind()?;
    fs::remove_file(target)?;
    whole(source, target)
}

/// Whether a copy of this program can be started.
fn works(copy: &Path) -> bool {
    let mut command = Command::new(copy);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut again = 0..limits::KEPT_TRIES;
    loop {
        match command.status() {
            // A process that another thread is just starting has the file open for a moment.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && again.next().is_some() => {}
            done => return done.is_ok_and(|status| status.success()),
        }
    }
}

/// Copies, sharing the blocks where the file system can.
fn whole(source: &mut File, target: &Path) -> io::Result<()> {
    let mut file = File::create(target)?;
    io::copy(source, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o700))?;
    file.sync_all()
}

/// Removes kept binaries that nobody needs: not `current`, not named in `named` (kept binaries and
/// wrappers that containers' labels name), and not the executable of a running process. Returns
/// what was removed.
///
/// # Errors
/// The directory can't be read.
pub fn remove_unused(
    data_dir: &Path,
    current: &Path,
    named: &BTreeSet<PathBuf>,
) -> io::Result<Vec<PathBuf>> {
    let mut running = None;
    let mut removed = Vec::new();
    for entry in fs::read_dir(data_dir.join("bin"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let partial = name.starts_with('.');
        if !(name.starts_with(BINARY) || partial) || path == current || name == "mill-" {
            continue;
        }
        let wrapper = wrapper_of(&path);
        if named.contains(&path) || named.contains(&wrapper) {
            continue;
        }
        if running.get_or_insert_with(executables).contains(&path) {
            continue;
        }
        // The wrapper's link goes first: without its binary it would only be an error later.
        let _ = fs::remove_file(&wrapper);
        if fs::remove_file(&path).is_ok() {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// The executables of all running processes.
fn executables() -> BTreeSet<PathBuf> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    processes.filter_map(|entry| fs::read_link(entry.ok()?.path().join("exe")).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_binary_is_kept_once_and_removed_when_unused() {
        let data = tempfile::tempdir().unwrap();
        let data_dir = data.path().canonicalize().unwrap();
        let first = install_from(&data_dir, Path::new("/bin/cat")).unwrap();
        assert_eq!(install_from(&data_dir, Path::new("/bin/cat")).unwrap(), first);
        let second = install_from(&data_dir, Path::new("/bin/sh")).unwrap();
        assert_ne!(first, second);
        let length = |path: &Path| fs::metadata(path).unwrap().len();
        assert_eq!(length(&first), length(Path::new("/bin/cat")));
        assert_eq!(fs::read(wrapper_of(&first)).unwrap(), fs::read(&first).unwrap());

        let named = BTreeSet::from([wrapper_of(&first)]);
        assert!(remove_unused(&data_dir, &second, &named).unwrap().is_empty());

        let mut child =
            Command::new(&first).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(remove_unused(&data_dir, &second, &BTreeSet::new()).unwrap().is_empty());
        drop(child.stdin.take());
        child.wait().unwrap();

        let removed = remove_unused(&data_dir, &second, &BTreeSet::new()).unwrap();
        assert_eq!(removed, std::slice::from_ref(&first));
        assert!(!first.exists() && fs::symlink_metadata(wrapper_of(&first)).is_err());
        assert!(second.exists() && wrapper_of(&second).exists());
    }

    #[test]
    fn the_running_executable_can_be_kept() {
        let data = tempfile::tempdir().unwrap();
        let kept = install_logger(data.path()).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(fs::metadata(kept).unwrap().len(), fs::metadata(own).unwrap().len());
    }
}
