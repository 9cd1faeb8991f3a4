//! The log store against a model, over many openings.

use super::*;
use crate::consensus::raft::log::{LogView, ReadEntries};
use proptest::prelude::*;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, Storage};

fn conf(voters: &[u64]) -> ConfState {
    ConfState { voters: voters.to_vec(), ..ConfState::default() }
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, data: vec![(index + term) as u8; bytes], ..Entry::default() }
}

fn meta(index: u64, term: u64) -> SnapshotMetadata {
    SnapshotMetadata { conf_state: Some(conf(&[1])), index, term }
}

/// What the log must hold.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    term: u64,
    snapshot: (u64, u64),
    number: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.0, |e| e.index)
    }

    fn hard(&self) -> HardState {
        HardState { term: self.term, vote: 1, commit: self.snapshot.0 }
    }

    fn write(&mut self, entries: Vec<Entry>) -> Write {
        if let Some(first) = entries.first() {
            self.entries.retain(|e| e.index < first.index);
        }
        self.entries.extend(entries.clone());
        self.number += 1;
        Write { number: self.number, entries, hard: self.hard(), ..Write::default() }
    }

    fn check(&self, dir: &Path) -> Wal {
        let Opened { wal, reader, found, snapshot, .. } = open(dir, &conf(&[1])).unwrap();
        assert_eq!(found.snapshot, self.snapshot);
        assert_eq!(snapshot.map_or(0, |s| s.get_metadata().index), self.snapshot.0);
        assert_eq!(found.last, self.last());
        assert_eq!(found.conf, conf(&[1]));
        assert_eq!(found.hard.term, self.term);
        let view = LogView::new(&found, Box::new(reader));
        let first = view.first_index().unwrap();
        assert!(first <= self.snapshot.0 + 1);
        for index in first..=found.last {
            let read = view.entries(index, index + 1, None, GetEntriesContext::empty(false));
            let read = read.unwrap();
            let there = self.entries.iter().find(|e| e.index == index).unwrap();
            assert_eq!(&read[0], there);
            assert_eq!(view.term(index).unwrap(), there.term);
        }
        if let Some(term) = view.term_at(self.snapshot.0).filter(|_| self.snapshot.0 > 0) {
            assert_eq!(term, self.snapshot.1);
        }
        wal
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, bytes: usize },
    Replace { back: u64, count: u64 },
    Save { back: u64, kept: u64 },
    Install { ahead: u64 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![Just(10usize), Just(300 << 10), Just(5 << 20)];
    let one = prop_oneof![
        6 => (1..20u64, bytes).prop_map(|(count, bytes)| {
            Step::Append { count: if bytes > 1 << 20 { 1 } else { count }, bytes }
        }),
        2 => (1..9u64, 1..9u64).prop_map(|(back, count)| Step::Replace { back, count }),
        2 => (0..9u64, 0..9u64).prop_map(|(back, kept)| Step::Save { back, kept }),
        1 => (0..9u64).prop_map(|ahead| Step::Install { ahead }),
        2 => Just(Step::Reopen),
    ];
    proptest::collection::vec(one, 1..20)
}

fn carry_out(step: &Step, model: &mut Model, mut wal: Wal, dir: &Path) -> Wal {
    match *step {
        Step::Append { count, bytes } => {
            model.term = model.term.max(1);
            let from = model.last() + 1;
            let entries = (from..from + count).map(|i| entry(i, model.term, bytes)).collect();
            wal.write(&model.write(entries)).unwrap();
        }
        Step::Replace { back, count } => {
            model.term += 1;
            let from = (model.last() + 1).saturating_sub(back).max(model.snapshot.0 + 1);
            let entries = (from..from + count).map(|i| entry(i, model.term, 20)).collect();
            wal.write(&model.write(entries)).unwrap();
        }
        Step::Save { back, kept } => {
            let index = model.last().saturating_sub(back);
            let Some(at) = model.entries.iter().find(|e| e.index == index) else { return wal };
            if index <= model.snapshot.0 {
                return wal;
            }
            model.snapshot = (index, at.term);
            wal.save_snapshot(&meta(index, at.term), b"state").unwrap();
            wal.compact(index.saturating_sub(kept)).unwrap();
        }
        Step::Install { ahead } => {
            model.term += 1;
            let index = model.last() + ahead + 1;
            model.entries.clear();
            model.snapshot = (index, model.term);
            let mut write = model.write(Vec::new());
            let metadata = Some(meta(index, model.term));
            write.snapshot = Some(Snapshot { data: b"theirs".to_vec(), metadata });
            wal.write(&write).unwrap();
        }
        Step::Reopen => {
            drop(wal);
            return model.check(dir);
        }
    }
    wal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn what_was_written_is_found_again(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut wal = model.check(dir.path());
        for step in &steps {
            wal = carry_out(step, &mut model, wal, dir.path());
        }
        drop(wal);
        drop(model.check(dir.path()));
        model.check(dir.path());
    }
}

fn filled(dir: &Path, count: u64) -> Model {
    let mut model = Model::default();
    let mut wal = model.check(dir);
    for _ in 0..count {
        wal = carry_out(&Step::Append { count: 1, bytes: 100 }, &mut model, wal, dir);
    }
    model
}

#[test]
fn a_leaders_snapshot_whose_write_was_cut_off_still_counts() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let opened = open(dir.path(), &conf(&[1])).unwrap();
    let hard = HardState { term: 9, vote: 0, commit: 50 };
    opened.wal.snapshot_file(&meta(50, 9), &hard, b"theirs").unwrap();
    drop(opened);
    let found = open(dir.path(), &conf(&[1])).unwrap().found;
    assert_eq!((found.snapshot, found.compacted, found.last), ((50, 9), (50, 9), 50));
    assert_eq!(found.hard, hard);
}

#[test]
fn a_missing_segment_or_snapshot_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut wal = model.check(dir.path());
    for _ in 0..4 {
        wal = carry_out(&Step::Append { count: 8, bytes: 300 << 10 }, &mut model, wal, dir.path());
    }
    assert!(wal.segments.len() >= 3);
    let middle = wal.segments[1].path.clone();
    let hidden = dir.path().join("hidden");
    drop(wal);
    std::fs::rename(&middle, &hidden).unwrap();
    let error = open(dir.path(), &conf(&[1])).err().unwrap().to_string();
    assert!(error.contains("records before this segment are missing"), "{error}");
    std::fs::rename(&hidden, &middle).unwrap();
    let wal = model.check(dir.path());
    let wal = carry_out(&Step::Save { back: 0, kept: 0 }, &mut model, wal, dir.path());
    assert_eq!(wal.segments.len(), 1);
    drop(wal);
    let snapshot = dir.path().join(open::snapshot_name(model.snapshot.0));
    std::fs::remove_file(snapshot).unwrap();
    let error = open(dir.path(), &conf(&[1])).err().unwrap();
    assert!(matches!(error, WalError::Damaged { .. }), "{error}");
}

#[test]
fn half_made_files_are_removed_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path(), 3);
    let half = dir.path().join("log-00000000000000ff.tmp");
    std::fs::write(&half, b"half").unwrap();
    drop(model.check(dir.path()));
    assert!(!half.exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let error = open(Path::new("/proc/mill"), &conf(&[1])).err().unwrap().to_string();
    assert!(error.contains("making the log's directory: /proc/mill"), "{error}");
}

#[test]
fn the_reader_gives_at_least_one_and_no_more_than_asked() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 10);
    let opened = open(dir.path(), &conf(&[1])).unwrap();
    let count = |max| opened.reader.read(2, 9, max).unwrap().len();
    assert_eq!((count(1), count(250), count(u64::MAX)), (1, 2, 7));
    assert!(opened.reader.read(9, 12, u64::MAX).is_err());
}

/// A disk that a test can fill.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mebibytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (none, size) = (None::<&str>, format!("size={mebibytes}M"));
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, dir.path(), Some("tmpfs"), flags, Some(size.as_str())).unwrap();
        Self(dir)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.0.path().join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_leaves_the_log_a_segment_more_and_takes_no_snapshot() {
    let disk = Small::new(40);
    let dir = disk.0.path().join("raft");
    let mut model = Model::default();
    let mut wal = model.check(&dir);
    wal.provide();
    disk.fill();
    let large = Step::Append { count: 1, bytes: 1 << 20 };
    for _ in 0..5 {
        wal = carry_out(&large, &mut model, wal, &dir);
    }
    assert_eq!(wal.segments.len(), 2, "the second is what was kept");
    let error = wal.save_snapshot(&meta(3, 1), &vec![0; 1 << 20]).unwrap_err();
    assert!(error.is_full(), "{error}");
    wal = carry_out(&large, &mut model, wal, &dir);
    drop(wal);
    let mut wal = model.check(&dir);
    let mut next = || wal.write(&model.write(vec![entry(model.last() + 1, 1, 1 << 20)]));
    let error = (0..4).find_map(|_| next().err()).expect("the end of what was kept");
    assert!(error.to_string().contains("free some space and start mill again"), "{error}");
    std::fs::remove_file(disk.0.path().join("ballast")).unwrap();
    let opened = open(&dir, &conf(&[1])).unwrap();
    assert!(opened.found.last >= 6, "all that was acknowledged");
}
