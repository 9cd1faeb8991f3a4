//! The runtime as the shim sees it: a link to mill named `runc-…` that becomes the real runc.
//!
//! Owns where the real one is found. Runs before anything that takes time or memory: each container
//! pays for it several times. Never stays a process of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the name of a link starts with that makes mill the runtime.
pub const PREFIX: &str = "runc-";

/// Where programs are installed if `PATH` doesn't lead to them.
pub(crate) const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code of a shell for a program that isn't there.
const NOT_FOUND: u8 = 127;

/// Whether the process was called as the runtime; `name` is its first argument, `argv[0]`.
#[must_use]
pub fn is_called(name: &OsStr) -> bool {
    let file = Path::new(name).file_name().and_then(OsStr::to_str);
    file.is_some_and(|file| file.starts_with(PREFIX))
}

/// Becomes the real runc with the same arguments (those after `argv[0]`). Returns only if that
/// fails.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(runc) = find("runc", &path).or_else(|| find("runc", USUAL.as_ref())) else {
        // The shim reads the reason from here.
        eprintln!("runc isn't installed. Run: apt-get install runc");
        return ExitCode::from(NOT_FOUND);
    };
    let error = Command::new(&runc).args(args).exec();
    eprintln!("can't run {}: {error}", runc.display());
    ExitCode::from(NOT_FOUND)
}

/// The first program of that name in a list of folders like `PATH`.
#[must_use]
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_with_the_prefix_are_the_runtime() {
        assert!(is_called(OsStr::new("/var/lib/mill/bin/runc-1aa0")));
        assert!(!is_called(OsStr::new("/usr/bin/mill")) && !is_called(OsStr::new("/x/runc-/mill")));
    }
}
