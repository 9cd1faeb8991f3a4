//! The log as raft-rs sees it: what is durable and what is on its way, read through one view.
//!
//! Owns the newest entries in memory, the terms, and where the log begins. Never reads a file
//! itself: what is no longer in memory comes from a [`ReadEntries`].

use crate::limits;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

/// Reads durable entries that are no longer in memory.
pub trait ReadEntries: Send {
    /// The entries from `low` to before `high`, all durable, at most `max` bytes of them but at
    /// least one.
    fn read(&self, low: u64, high: u64, max: u64) -> Result<Vec<Entry>, ReadFailed>;
}

/// Why durable entries couldn't be read.
pub type ReadFailed = super::Failure;

/// What a log store found when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Term, vote, commit index.
    pub hard: HardState,
    /// The newest configuration.
    pub conf: ConfState,
    /// The index of the entry that made it.
    pub conf_index: u64,
    /// The configuration at the snapshot.
    pub snapshot_conf: ConfState,
    /// Index and term of the last entry that is no longer in the log; 0 before the first.
    pub compacted: (u64, u64),
    /// Index and term of the snapshot; 0 without one.
    pub snapshot: (u64, u64),
    /// The first index of each term's entries, ascending.
    pub terms: Vec<(u64, u64)>,
    /// The last entry's index, or the compacted one.
    pub last: u64,
    /// Bytes of entries after the snapshot.
    pub bytes: u64,
}

/// The log.
pub struct LogView {
    reader: Box<dyn ReadEntries>,
    hard: HardState,
    conf: ConfState,
    compacted: (u64, u64),
    terms: VecDeque<(u64, u64)>,
    last: u64,
    durable: u64,
    cache: VecDeque<Entry>,
    cache_bytes: u64,
    cache_max: u64,
    sendable: Option<Snapshot>,
    wanted: Cell<Wanted>,
}

/// What a peer needed that wasn't there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    #[default]
    Nothing,
    /// The snapshot, in memory.
    Snapshot,
    /// A newer one: in the configuration of the one that is there the peer takes no part, so that
    /// it would not take it.
    Newer,
}

fn size(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + 32
}

impl LogView {
    /// The view of what was found at start.
    #[must_use]
    pub fn new(found: &Recovered, reader: Box<dyn ReadEntries>) -> Self {
        let mut hard = found.hard.clone();
        hard.commit = hard.commit.max(found.snapshot.0);
        Self {
            reader,
            hard,
            conf: found.conf.clone(),
            compacted: found.compacted,
            terms: found.terms.iter().copied().collect(),
            last: found.last,
            durable: found.last,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_max: limits::LOG_CACHE_MAX,
            sendable: None,
            wanted: Cell::default(),
        }
    }

    /// The view with another bound on the durable entries that it keeps in memory, in bytes.
    #[must_use]
    pub fn keeping(mut self, bytes: u64) -> Self {
        self.cache_max = bytes;
        self
    }

    /// Adds entries that are on their way to the disk; those at and after the first are replaced.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first().map(|e| e.index) else { return };
        self.truncate(first);
        for entry in entries {
            if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            self.last = entry.index;
            self.cache_bytes += size(entry);
            self.cache.push_back(entry.clone());
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.cache.back().is_some_and(|e| e.index >= from) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= size(&entry);
            }
        }
        while self.terms.back().is_some_and(|(first, _)| *first >= from) {
            self.terms.pop_back();
        }
        self.last = self.last.min(from - 1);
        self.durable = self.durable.min(from - 1);
    }

    /// Notes that everything up to the entry at `index` is on the disk, so that memory can be
    /// freed. An entry that was replaced meanwhile, so with another term, tells nothing.
    pub fn persisted(&mut self, index: u64, term: u64) {
        if self.term_at(index) != Some(term) {
            return;
        }
        self.durable = self.durable.max(index);
        while self.cache_bytes > self.cache_max
            && self.cache.front().is_some_and(|e| e.index <= self.durable)
        {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= size(&entry);
        }
    }

    /// Begins the log anew behind a leader's snapshot.
    pub fn install(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.compacted = (meta.index, meta.term);
        self.conf = meta.get_conf_state().clone();
        self.terms.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.last = meta.index;
        self.durable = meta.index;
        self.sendable = None;
    }

    /// Drops the entries up to `index`, which a durable snapshot covers.
    pub fn compact(&mut self, index: u64) {
        let Some(term) = self.term_at(index).filter(|_| index > self.compacted.0) else { return };
        self.compacted = (index, term);
        while self.cache.front().is_some_and(|e| e.index <= index) {
            self.drop_front();
        }
        while self.terms.get(1).is_some_and(|(first, _)| *first <= index + 1) {
            self.terms.pop_front();
        }
    }

    /// The term of the entry at `index`, if that is still known.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.compacted.0 {
            return Some(self.compacted.1);
        }
        if index < self.compacted.0 || index > self.last {
            return None;
        }
        self.terms.iter().rev().find(|(first, _)| *first <= index).map(|(_, term)| *term)
    }

    /// The last index, durable or not.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The last index that is no longer in the log.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted.0
    }

    /// Sets the configuration that is in force.
    pub fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    /// Gives or takes away the snapshot that peers are sent.
    pub fn set_sendable(&mut self, snapshot: Option<Snapshot>) {
        self.sendable = snapshot;
    }

    /// What a peer needed since this was last asked.
    pub fn take_wanted(&self) -> Wanted {
        self.wanted.take()
    }

    fn cached(&self, low: u64, high: u64, max: u64) -> Vec<Entry> {
        let Some(first) = self.cache.front().map(|e| e.index) else { return Vec::new() };
        let range = (low - first) as usize..(high - first) as usize;
        let mut taken = Vec::new();
        let mut bytes = 0;
        for entry in self.cache.range(range) {
            bytes += size(entry);
            if !taken.is_empty() && bytes > max {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }
}

impl raft::Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max = max_size.into().unwrap_or(u64::MAX);
        if low <= self.compacted.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if low >= high {
            return Ok(Vec::new());
        }
        let cached_from = self.cache.front().map_or(self.last + 1, |e| e.index);
        if low >= cached_from {
            return Ok(self.cached(low, high, max));
        }
        let middle = high.min(cached_from);
        let failed = |e| Error::Store(StorageError::Other(e));
        let mut entries = self.reader.read(low, middle, max).map_err(failed)?;
        let bytes: u64 = entries.iter().map(size).sum();
        let complete = entries.last().is_some_and(|e| e.index + 1 == middle);
        if complete && high > middle && bytes < max {
            let next = self.cached(middle, middle + 1, u64::MAX);
            if next.iter().all(|e| bytes + size(e) <= max) {
                entries.extend(self.cached(middle, high, max - bytes));
            }
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.compacted.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.compacted.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let wanted = match &self.sendable {
            Some(s) if !takes_part(s.get_metadata().get_conf_state(), to) => Wanted::Newer,
            Some(s) if s.get_metadata().index >= request_index => return Ok(s.clone()),
            _ => Wanted::Snapshot,
        };
        // Several peers may be asked for in a row: a newer one serves them all.
        self.wanted.set(self.wanted.get().max(wanted));
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

fn takes_part(conf: &ConfState, node: u64) -> bool {
    [&conf.voters, &conf.learners, &conf.voters_outgoing].iter().any(|ids| ids.contains(&node))
}

#[cfg(test)]
mod tests;
