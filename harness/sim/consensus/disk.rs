//! A node's log in the simulation, as the log store promises to keep it.
//!
//! Never loses what was reported as durable.

use crate::raft::log::{ReadEntries, ReadFailed, Recovered};
use crate::raft::node::Write;
use raft::eraftpb::{self, ConfState, HardState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Disk {
    entries: BTreeMap<u64, eraftpb::Entry>,
    hard: HardState,
    conf: (u64, ConfState),
}

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Disk>>);

impl ReadEntries for Shared {
    fn read(&self, low: u64, high: u64, _max: u64) -> Result<Vec<eraftpb::Entry>, ReadFailed> {
        Ok(self.0.lock().unwrap().entries.range(low..high).map(|(_, e)| e.clone()).collect())
    }
}

impl Shared {
    pub(super) fn put(&self, write: &Write) {
        let mut disk = self.0.lock().unwrap();
        if let Some(first) = write.entries.first() {
            disk.entries.retain(|index, _| *index < first.index);
        }
        disk.entries.extend(write.entries.iter().map(|e| (e.index, e.clone())));
        disk.hard = write.hard.clone();
        disk.conf = write.conf.clone().unwrap_or_else(|| disk.conf.clone());
    }

    pub(super) fn found(&self) -> Recovered {
        let disk = self.0.lock().unwrap();
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for entry in disk.entries.values() {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let first = ConfState { voters: vec![1], ..ConfState::default() };
        let conf = if disk.conf.0 == 0 { first.clone() } else { disk.conf.1.clone() };
        Recovered {
            hard: disk.hard.clone(),
            conf,
            conf_index: disk.conf.0,
            snapshot_conf: first,
            terms,
            last: disk.entries.keys().next_back().copied().unwrap_or(0),
            ..Recovered::default()
        }
    }
}
