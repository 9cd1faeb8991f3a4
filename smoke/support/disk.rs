//! A small disk for one node: a file system in a file, which can be filled up.
//!
//! Owns the mount; `harness/sweep` of the node's folder takes it away. Never fills the host's disk:
//! what is allocated in it isn't there.

use crate::registry::run;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const BALLAST: &str = "ballast";

/// A mounted disk.
pub struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Mounts an empty one there, of 2 GB: a program with its line numbers has to fit.
    #[must_use]
    pub fn new(image: &Path, place: PathBuf) -> Self {
        File::create(image).unwrap().set_len(2 << 30).unwrap();
        let options = ["-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"];
        run(Command::new("mkfs.ext4").args(options).arg(image));
        fs::create_dir_all(&place).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&place));
        Self { place }
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let ballast = File::create(self.place.join(BALLAST)).unwrap();
        let mut size = 0;
        let mut step = 1 << 30;
        while step >= 512 {
            match fallocate(&ballast, FallocateFlags::empty(), size, step) {
                Ok(()) => size += step,
                Err(Errno::ENOSPC) => step /= 2,
                Err(error) => panic!("filling {}: {error}", self.place.display()),
            }
        }
    }

    /// Nothing that is written ends any more, until what this gives is dropped.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.place));
        Frozen(self.place.clone())
    }

    /// Makes room again.
    pub fn clear(&self) {
        let _ = fs::remove_file(self.place.join(BALLAST));
    }
}

/// A disk that hangs.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        // Also where a test has failed: a frozen disk can't be taken away.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}
