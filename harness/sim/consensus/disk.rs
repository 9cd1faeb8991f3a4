//! A node's log in the simulation, as the log store promises to keep it.
//!
//! Owns what is there after a crash: a record as a whole or not at all, a snapshot's file before
//! the record that goes with it. Never loses what was reported as durable.

use crate::consensus::raft::log::{ReadEntries, ReadFailed, Recovered};
use crate::consensus::raft::node::Write;
use crate::consensus::raft::recover::Replayed;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Entries that a segment of the log holds here: only whole ones are removed.
const SEGMENT: u64 = 16;

/// What the writer is asked to do, in order.
pub(super) enum Job {
    Write(Write),
    Snapshot(SnapshotMetadata, Vec<u8>),
    Compact(u64),
}

impl Job {
    /// What the writer takes at once: writes that wait already go with the first, as one record.
    pub(super) fn batch(jobs: &mut VecDeque<Self>) -> Vec<Self> {
        let joins =
            |job: Option<&Self>| matches!(job, Some(Self::Write(w)) if w.snapshot.is_none());
        let Some(first) = jobs.pop_front() else { return Vec::new() };
        let mut batch = vec![first];
        while matches!(batch[0], Self::Write(_)) && joins(jobs.front()) {
            batch.extend(jobs.pop_front());
        }
        batch
    }
}

#[derive(Default)]
struct Disk {
    /// The first entry's index, or the next one's.
    first: u64,
    entries: BTreeMap<u64, Entry>,
    hard: HardState,
    conf: (u64, ConfState),
    snapshot: Option<(Snapshot, HardState)>,
}

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Disk>>);

impl ReadEntries for Shared {
    fn read(&self, low: u64, high: u64, _max: u64) -> Result<Vec<Entry>, ReadFailed> {
        Ok(self.0.lock().unwrap().entries.range(low..high).map(|(_, e)| e.clone()).collect())
    }
}

impl Shared {
    /// A log that begins with the cluster's first node as the only voter.
    pub(super) fn new() -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().conf.1 = ConfState { voters: vec![1], ..ConfState::default() };
        disk
    }

    pub(super) fn carry_out(&self, job: &Job) {
        let mut disk = self.0.lock().unwrap();
        match job {
            Job::Write(write) => {
                disk.begin(write);
                disk.put(write);
            }
            Job::Snapshot(meta, data) => {
                let hard = disk.hard.clone();
                let (metadata, data) = (Some(meta.clone()), data.clone());
                // A leader's that came meanwhile is newer: that one is found.
                let newest = disk.snapshot.as_ref().map_or(0, |(s, _)| s.get_metadata().index);
                if newest < meta.index {
                    disk.snapshot = Some((Snapshot { metadata, data }, hard));
                }
            }
            Job::Compact(to) => disk.compact(to - to % SEGMENT),
        }
    }

    /// The power goes between the file of a leader's snapshot and the record that goes with it.
    pub(super) fn carry_out_half(&self, job: &Job) {
        if let Job::Write(write) = job {
            self.0.lock().unwrap().begin(write);
        }
    }

    /// Up to where entries are durable, and in which term the node was then.
    pub(super) fn last(&self) -> (u64, u64) {
        let disk = self.0.lock().unwrap();
        let entry = disk.entries.keys().next_back().copied().unwrap_or(0);
        let snapshot = disk.snapshot.as_ref().map_or(0, |(s, _)| s.get_metadata().index);
        (entry.max(snapshot), disk.hard.term)
    }

    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        self.0.lock().unwrap().snapshot.as_ref().map(|(snapshot, _)| snapshot.clone())
    }

    /// What is found at a start.
    pub(super) fn found(&self) -> Result<Recovered, &'static str> {
        let mut disk = self.0.lock().unwrap();
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for entry in disk.entries.values() {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let (hard, conf) = (disk.hard.clone(), disk.conf.clone());
        let count = disk.entries.len() as u64;
        let mut left = Replayed { first: disk.first, count, terms, hard, conf };
        let snapshot = disk.snapshot.as_ref().map(|(s, hard)| (s.get_metadata(), hard));
        let found = left.settle(snapshot)?;
        disk.first = left.first;
        let kept = left.first..left.first + left.count;
        disk.entries.retain(|index, _| kept.contains(index));
        (disk.hard, disk.conf) = (left.hard, left.conf);
        Ok(found)
    }
}

impl Disk {
    fn begin(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            self.snapshot = Some((snapshot.clone(), write.hard.clone()));
        }
    }

    fn put(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            let meta = snapshot.get_metadata();
            self.entries.clear();
            self.first = meta.index + 1;
            self.conf = (meta.index, meta.get_conf_state().clone());
        }
        if let Some(first) = write.entries.first().map(|e| e.index) {
            self.entries.retain(|index, _| *index < first);
            if self.entries.is_empty() {
                self.first = first;
            }
        }
        self.entries.extend(write.entries.iter().map(|e| (e.index, e.clone())));
        self.hard = write.hard.clone();
        if let Some(conf) = &write.conf {
            self.conf = conf.clone();
        }
    }

    fn compact(&mut self, to: u64) {
        let last = self.entries.keys().next_back().copied();
        // The newest segment stays.
        let to = to.min(last.unwrap_or(0).saturating_sub(1));
        self.entries.retain(|index, _| *index > to);
        self.first = self.first.max(to + 1);
    }
}
