//! One file of the log: allocated in advance, written in place.
//!
//! Never decides when a new one begins or an old one goes.

use super::{WalError, io, is_full, reserve};
use crate::consensus::raft::frame::{Builder, SEGMENT_HEADER, segment_head};
use crate::limits;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) salt: u64,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// The highest index of an entry in it.
    pub(super) last_index: u64,
}

/// The name of the segment whose first record has this sequence number.
pub(super) fn name(sequence: u64) -> String {
    format!("log-{sequence:016x}")
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), WalError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io("writing the data directory", dir))
}

impl Segment {
    /// Makes a segment, durable, that begins with this record.
    pub(super) fn create(dir: &Path, sequence: u64, first: Builder) -> Result<Self, WalError> {
        let path = dir.join(name(sequence));
        let temporary = path.with_extension("tmp");
        let doing = "making room for the log";
        let salt: u64 = rand::random();
        let (record, _) = first.finish(salt, sequence);
        let made = make(&temporary)
            .or_else(|error| match is_full(&error) {
                true => from_reserve(dir, &temporary, error),
                false => Err(error),
            })
            .and_then(|file| {
                file.write_all_at(&segment_head(salt, sequence), 0)?;
                file.write_all_at(&record, SEGMENT_HEADER as u64)?;
                file.sync_all()?;
                std::fs::rename(&temporary, &path)?;
                Ok(file)
            });
        let file = made.map_err(|error| {
            // Only to give the space back: at the next start it is removed as well.
            let _ = std::fs::remove_file(&temporary);
            io(doing, &temporary)(error)
        })?;
        sync_dir(dir)?;
        let offset = (SEGMENT_HEADER + record.len()) as u64;
        Ok(Self { path, file: Arc::new(file), salt, offset, last_index: 0 })
    }

    /// Whether `bytes` more fit. A record that is larger than a segment gets one of its own.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.offset + bytes as u64 + 8 <= limits::SEGMENT_SIZE
    }

    /// Writes a record and makes it durable; answers where it is.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<u64, WalError> {
        let at = self.offset;
        self.rewrite(at, record)?;
        self.offset += record.len() as u64;
        Ok(at)
    }

    /// Writes bytes that are there already once more and makes them durable.
    pub(super) fn rewrite(&self, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        let written = self.file.write_all_at(bytes, at).and_then(|()| self.file.sync_data());
        written.map_err(io("writing the log", &self.path))
    }

    /// Clears what a write that was cut off has left.
    pub(super) fn clear_rest(&self, to: u64) -> Result<(), WalError> {
        let cleared = zero(&self.file, self.offset, to).and_then(|()| self.file.sync_data());
        cleared.map_err(io("clearing the log's end", &self.path))
    }
}

/// A file that has all its room.
fn make(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
    zero(&file, 0, limits::SEGMENT_SIZE)?;
    Ok(file)
}

/// The file that is kept for this; without one it stays at the error.
fn from_reserve(dir: &Path, path: &Path, full: std::io::Error) -> std::io::Result<File> {
    let file = reserve::take(dir, path).map_err(|_| full)?;
    tracing::warn!(dir = %dir.display(), "the disk is full: the log's last room is used now");
    Ok(file)
}

pub(super) fn zero(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = vec![0; 64 << 10];
    let mut at = from;
    while at < to {
        let length = zeros.len().min((to - at) as usize);
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
