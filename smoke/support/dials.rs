//! The dials of a machine that a test turns: how far its wall clock is off, how long a sync takes.
//!
//! Owns the library that is loaded in front of libc (`dials.c`) and the file that it reads. Never
//! changes the host's clock or disk: only the daemon, and what it starts, see any of it.

use crate::registry::run;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The dials of one node.
pub struct Dials {
    preload: PathBuf,
    file: PathBuf,
}

/// Makes the library, in this folder.
#[must_use]
pub fn library(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("smoke/support/dials.c");
    let library = folder.join("dials.so");
    let mut cc = Command::new("cc");
    run(cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source));
    library
}

impl Dials {
    /// Both at zero, in a file in this folder.
    #[must_use]
    pub fn new(library: &Path, folder: &Path) -> Self {
        let file = folder.join("dials");
        fs::write(&file, [0; 16]).unwrap();
        Self { preload: library.to_owned(), file }
    }

    /// The variables with which a program sees them.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.preload), ("MILL_TEST_DIALS", &self.file)]
    }

    /// Sets the wall clock off by so many seconds, ahead or back.
    pub fn set_clock(&self, seconds: i64) {
        self.turn(0, seconds * 1_000);
    }

    /// Lets every sync of a file take so much longer.
    pub fn slow_syncs(&self, by: Duration) {
        self.turn(8, i64::try_from(by.as_millis()).unwrap());
    }

    fn turn(&self, at: u64, value: i64) {
        // In place: it is mapped.
        let file = OpenOptions::new().write(true).open(&self.file).unwrap();
        file.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }
}
