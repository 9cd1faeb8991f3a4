//! Where each entry lies, and reading it from there.
//!
//! Shared by the writer, which adds places, and raft, which reads. Never holds an entry.

use crate::consensus::raft::log::{ReadEntries, ReadFailed};
use prost011::Message as _;
use raft::eraftpb::Entry;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// Where an entry lies.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// The places of the entries from `first` on, without a gap.
#[derive(Default)]
pub(super) struct Places {
    pub(super) first: u64,
    pub(super) list: VecDeque<Place>,
}

/// Why an entry couldn't be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("entry {0} isn't in the log")]
    Missing(u64),
    #[error("another thread failed while it used the log's index")]
    Poisoned,
}

impl Places {
    /// Sets the place of the entry at `index`; those behind it are gone.
    pub(super) fn put(&mut self, index: u64, place: Place) {
        if self.list.is_empty() || index < self.first {
            self.clear(index);
        }
        self.list.truncate((index - self.first) as usize);
        self.list.push_back(place);
    }

    /// Forgets all; the next entry is at `first`.
    pub(super) fn clear(&mut self, first: u64) {
        self.list.clear();
        self.first = first;
    }

    /// Forgets the entries up to `to`.
    pub(super) fn drop_to(&mut self, to: u64) {
        while self.first <= to && self.list.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn get(&self, index: u64) -> Option<Place> {
        self.list.get(index.checked_sub(self.first)? as usize).cloned()
    }
}

/// Reads entries that are no longer in memory.
pub struct Reader(pub(super) Arc<Mutex<Places>>);

impl ReadEntries for Reader {
    fn read(&self, low: u64, high: u64, max: u64) -> Result<Vec<Entry>, ReadFailed> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in low..high {
            let place = self.0.lock().map_err(|_| ReadError::Poisoned)?.get(index);
            let place = place.ok_or(ReadError::Missing(index))?;
            bytes += place.length as u64;
            if bytes > max && !entries.is_empty() {
                break;
            }
            let mut buffer = vec![0; place.length];
            place.file.read_exact_at(&mut buffer, place.offset)?;
            entries.push(Entry::decode(buffer.as_slice())?);
        }
        Ok(entries)
    }
}
