//! The log store: a preallocated log in segments, and one snapshot beside it.
//!
//! Owns the files in its directory and what is durable. Never goes on after a failed write: what a
//! failed fsync left behind is unknown, so the process ends and reads again what is there.
//!
//! A write is one record, written in place and synced. A segment begins with a record of the
//! state before it, so that older ones can be removed without being read.

mod open;
mod places;
mod reserve;
mod segment;

pub use open::{Opened, load_snapshot, open};
pub use places::Reader;

use crate::consensus::raft::frame::{Builder, FrameError, snapshot_head};
use crate::consensus::raft::node::Write;
use crate::limits;
use places::{Place, Places};
use raft::eraftpb::{ConfState, HardState, SnapshotMetadata};
use segment::Segment;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where writes go; one that fails is the last.
pub trait Store: Send + 'static {
    /// Makes a write durable.
    fn write(&mut self, write: &Write) -> Result<(), WalError>;
    /// Makes a snapshot of this node durable; older ones are removed.
    fn save_snapshot(&mut self, meta: &SnapshotMetadata, data: &[u8]) -> Result<(), WalError>;
    /// Removes what only holds entries up to `to`.
    fn compact(&mut self, to: u64) -> Result<(), WalError>;
    /// Sees to it that the next writes find room, as far as the disk has any.
    fn provide(&mut self) {}
}

/// Why the log can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The system refused.
    #[error("{doing}: {}: {source}; {}", .path.display(), hint(.source))]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file isn't as it was written.
    #[error("the log is damaged: {} at byte {at}: {what}; restore a backup", .path.display())]
    Damaged {
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A whole record or file that isn't understood.
    #[error("the log can't be understood: {}: {source}", .path.display())]
    Frame {
        path: PathBuf,
        #[source]
        source: FrameError,
    },
    /// An earlier write failed.
    #[error("an earlier write to the log failed")]
    Stopped,
}

impl WalError {
    /// Whether the disk had no room for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space and start mill again; nothing that was acknowledged is lost"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make the data directory writable for mill"
        }
        _ => "check the disk, then start mill again; nothing that was acknowledged is lost",
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> WalError {
    let path = path.to_owned();
    move |source| WalError::Io { doing, path, source }
}

/// The log store.
pub struct Wal {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    /// The next record's sequence number.
    sequence: u64,
    places: Arc<Mutex<Places>>,
    hard: HardState,
    conf: (u64, ConfState),
    buffer: Vec<u8>,
    failed: bool,
}

impl Wal {
    /// Begins a new segment with the state so far.
    fn rotate(&mut self) -> Result<(), WalError> {
        let mut builder = Builder::new(Vec::new());
        builder.conf(self.conf.0, &self.conf.1);
        builder.hard(&self.hard);
        let segment = Segment::create(&self.dir, self.sequence, builder)?;
        self.sequence += 1;
        self.segments.push_back(segment);
        Ok(())
    }

    fn append(&mut self, write: &Write) -> Result<(), WalError> {
        let mut builder = Builder::new(std::mem::take(&mut self.buffer));
        builder.write(write);
        if self.segments.back().is_none_or(|s| !s.has_room(builder.len())) {
            self.rotate()?;
        }
        let segment = self.segments.back_mut().ok_or(WalError::Stopped)?;
        let (record, entries) = builder.finish(segment.salt, self.sequence);
        let offset = segment.append(&record)?;
        self.sequence += 1;
        let mut places = self.places.lock().map_err(|_| WalError::Stopped)?;
        if let Some(snapshot) = &write.snapshot {
            places.clear(snapshot.get_metadata().index + 1);
        }
        for entry in entries {
            segment.last_index = segment.last_index.max(entry.index);
            let file = Arc::clone(&segment.file);
            let offset = offset + entry.offset as u64;
            places.put(entry.index, Place { file, offset, length: entry.length });
        }
        drop(places);
        self.buffer = record;
        self.buffer.shrink_to(limits::LOG_CACHE_MAX as usize);
        self.remember(write);
        Ok(())
    }

    fn remember(&mut self, write: &Write) {
        self.hard = write.hard.clone();
        if let Some(snapshot) = &write.snapshot {
            let meta = snapshot.get_metadata();
            self.conf = (meta.index, meta.get_conf_state().clone());
        }
        if let Some(conf) = &write.conf {
            self.conf = conf.clone();
        }
    }

    fn snapshot_file(
        &self,
        meta: &SnapshotMetadata,
        hard: &HardState,
        data: &[u8],
    ) -> Result<(), WalError> {
        let path = self.dir.join(open::snapshot_name(meta.index));
        let temporary = path.with_extension("tmp");
        let doing = "writing a snapshot";
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(&snapshot_head(meta, hard, data))?;
            file.write_all(data)?;
            file.sync_all()
        });
        if let Err(error) = written {
            // Only to give the space back: at the next start it is removed as well.
            let _ = std::fs::remove_file(&temporary);
            return Err(io(doing, &temporary)(error));
        }
        std::fs::rename(&temporary, &path).map_err(io(doing, &path))?;
        segment::sync_dir(&self.dir)?;
        open::remove_snapshots_before(&self.dir, meta.index)
    }

    fn guarded(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Stopped);
        }
        let done = job(self);
        self.failed = done.is_err();
        done
    }

    fn remove_segments(&mut self, to: u64) -> Result<(), WalError> {
        while self.segments.len() > 1 {
            let Some(first) = self.segments.front().filter(|s| s.last_index <= to) else { break };
            std::fs::remove_file(&first.path).map_err(io("removing old log", &first.path))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

impl Store for Wal {
    fn write(&mut self, write: &Write) -> Result<(), WalError> {
        self.guarded(|wal| {
            if let Some(snapshot) = &write.snapshot {
                wal.snapshot_file(snapshot.get_metadata(), &write.hard, &snapshot.data)?;
            }
            wal.append(write)?;
            match &write.snapshot {
                Some(snapshot) => wal.remove_segments(snapshot.get_metadata().index),
                None => Ok(()),
            }
        })
    }

    fn save_snapshot(&mut self, meta: &SnapshotMetadata, data: &[u8]) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Stopped);
        }
        let hard = self.hard.clone();
        let saved = self.snapshot_file(meta, &hard, data);
        // Without room for it the log goes on as it was, and another one is made later.
        self.failed = saved.as_ref().is_err_and(|error| !error.is_full());
        saved
    }

    fn compact(&mut self, to: u64) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.places.lock().map_err(|_| WalError::Stopped)?.drop_to(to);
            wal.remove_segments(to)
        })
    }

    fn provide(&mut self) {
        if !self.failed {
            reserve::fill(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests;
