//! A segment's room, kept for when the disk is full.
//!
//! Owns the file. Never makes it where that would take the last of the disk from others: it is made
//! while there is room, and taken when there is none.

use super::segment::{sync_dir, zero};
use crate::limits;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "reserve";

fn place(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Makes it if it isn't there. Where there is no room it is made another time.
pub(super) fn fill(dir: &Path) {
    let path = place(dir);
    if path.exists() {
        return;
    }
    let partial = path.with_extension("tmp");
    let made = File::create(&partial).and_then(|file| {
        zero(&file, 0, limits::SEGMENT_SIZE)?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)
    });
    if let Err(error) = made.and_then(|()| sync_dir(dir).map_err(io::Error::other)) {
        // Only to give the space back: at the next start it is removed as well.
        let _ = std::fs::remove_file(&partial);
        tracing::warn!(path = %path.display(), %error, "no room is kept for the log");
    }
}

/// Takes it, under another name.
///
/// # Errors
/// There is none.
pub(super) fn take(dir: &Path, name: &Path) -> io::Result<File> {
    std::fs::rename(place(dir), name)?;
    OpenOptions::new().read(true).write(true).open(name)
}
