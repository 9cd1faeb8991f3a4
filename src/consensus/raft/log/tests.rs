//! The view against a reader that knows what is durable.

use super::*;
use raft::Storage;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Vec<Entry>>>);

impl ReadEntries for Disk {
    fn read(&self, low: u64, high: u64, max: u64) -> Result<Vec<Entry>, ReadFailed> {
        let all = self.0.lock().unwrap();
        let mut bytes = 0;
        let wanted = all.iter().filter(|e| e.index >= low && e.index < high);
        Ok(wanted
            .take_while(|e| {
                let first = bytes == 0;
                bytes += size(e);
                first || bytes <= max
            })
            .cloned()
            .collect())
    }
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, data: vec![index as u8; bytes], ..Entry::default() }
}

fn view(disk: &Disk) -> LogView {
    LogView::new(&Recovered::default(), Box::new(disk.clone()))
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|e| e.index).collect()
}

fn get(log: &LogView, low: u64, high: u64, max: u64) -> Vec<u64> {
    indexes(&log.entries(low, high, max, GetEntriesContext::empty(false)).unwrap())
}

#[test]
fn entries_are_there_before_they_are_durable() {
    let mut log = view(&Disk::default());
    log.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 2, 10)]);
    assert_eq!(get(&log, 1, 4, u64::MAX), [1, 2, 3]);
    assert_eq!((log.term(2).unwrap(), log.term(3).unwrap()), (1, 2));
    assert_eq!(log.last_index().unwrap(), 3);
    assert_eq!(get(&log, 1, 4, 1), [1], "at least one, however small the bound");
}

#[test]
fn a_new_leader_replaces_the_end() {
    let mut log = view(&Disk::default());
    log.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 1, 10)]);
    log.append(&[entry(2, 2, 10)]);
    assert_eq!(get(&log, 1, 3, u64::MAX), [1, 2]);
    assert_eq!(log.term(2).unwrap(), 2);
    assert!(log.term(3).is_err());
    log.persisted(3, 1);
    log.persisted(2, 1);
    assert_eq!(log.durable, 0, "what was replaced says nothing about what replaced it");
    log.persisted(2, 2);
    assert_eq!(log.durable, 2);
}

#[test]
fn memory_is_bounded_once_entries_are_durable_and_the_disk_fills_in() {
    let disk = Disk::default();
    let mut log = view(&disk);
    let many: Vec<Entry> = (1..=64).map(|i| entry(i, 1, 64 << 10)).collect();
    log.append(&many);
    assert_eq!(log.cache.len(), 64, "nothing is dropped before it is durable");
    disk.0.lock().unwrap().extend(many);
    log.persisted(64, 1);
    assert!(log.cache_bytes <= limits::LOG_CACHE_MAX);
    assert_eq!(get(&log, 1, 65, u64::MAX), (1..=64).collect::<Vec<_>>());
    assert_eq!(get(&log, 1, 65, 200 << 10), [1, 2, 3]);
    let cached = log.cache.front().unwrap().index;
    assert_eq!(get(&log, cached - 1, cached + 1, 70 << 10), [cached - 1], "over the seam");
}

#[test]
fn a_compacted_log_knows_the_term_before_its_first_entry() {
    let mut log = view(&Disk::default());
    log.append(&[entry(1, 1, 10), entry(2, 3, 10), entry(3, 3, 10), entry(4, 5, 10)]);
    log.compact(3);
    assert_eq!((log.first_index().unwrap(), log.term(3).unwrap()), (4, 3));
    assert_eq!(log.term(4).unwrap(), 5);
    assert!(matches!(log.term(2), Err(Error::Store(StorageError::Compacted))));
    let gone = log.entries(3, 5, None, GetEntriesContext::empty(false));
    assert!(matches!(gone, Err(Error::Store(StorageError::Compacted))));
    log.compact(2);
    assert_eq!(log.first_index().unwrap(), 4, "never back");
}

#[test]
fn a_snapshot_is_unavailable_until_it_is_offered() {
    let mut log = view(&Disk::default());
    let asked = log.snapshot(0, 2);
    assert!(matches!(asked, Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))));
    assert_eq!((log.take_wanted(), log.take_wanted()), (Wanted::Snapshot, Wanted::Nothing));
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = 7;
    snapshot.mut_metadata().term = 2;
    log.set_sendable(Some(snapshot.clone()));
    assert!(log.snapshot(7, 2).is_err(), "of before node 2 took part");
    assert_eq!(log.take_wanted(), Wanted::Newer);
    snapshot.mut_metadata().mut_conf_state().learners.push(2);
    log.set_sendable(Some(snapshot.clone()));
    assert_eq!(log.snapshot(7, 2).unwrap(), snapshot);
    assert!(log.snapshot(8, 2).is_err());
    log.append(&[entry(1, 1, 10)]);
    log.install(&snapshot);
    assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (8, 7));
    assert_eq!(log.term(7).unwrap(), 2);
}

#[test]
fn what_serves_all_peers_is_wanted_whoever_asked_last() {
    let mut log = view(&Disk::default());
    let mut old = Snapshot::default();
    old.mut_metadata().index = 7;
    old.mut_metadata().mut_conf_state().voters.push(1);
    log.set_sendable(Some(old));
    // Node 2 takes no part in it; node 1 needs one from 9 on.
    assert!(log.snapshot(0, 2).is_err() && log.snapshot(9, 1).is_err());
    assert_eq!(log.take_wanted(), Wanted::Newer, "the one on the disk would not do for node 2");
    assert!(log.snapshot(9, 1).is_err() && log.snapshot(0, 2).is_err());
    assert_eq!((log.take_wanted(), log.take_wanted()), (Wanted::Newer, Wanted::Nothing));
}
