//! Opening a log: what is there, what of it counts, and making that durable once more.
//!
//! Never drops an acknowledged record: only the last write can have been cut off, and anything
//! else that can't be read is damage and an error.

use super::places::{Place, Places};
use super::segment::{Segment, sync_dir};
use super::{Reader, Wal, WalError, io};
use crate::raft::frame::{self, Found, Item, SEGMENT_HEADER};
use crate::raft::log::Recovered;
use raft::eraftpb::{ConfState, HardState, Snapshot};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// An opened log.
pub struct Opened {
    /// For the writer thread.
    pub wal: Wal,
    /// For raft.
    pub reader: Reader,
    /// What was found.
    pub found: Recovered,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
}

/// The name of the snapshot at this index.
pub(super) fn snapshot_name(index: u64) -> String {
    format!("snapshot-{index:016x}")
}

/// The files of a kind and their numbers, ascending.
fn list(dir: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, WalError> {
    let doing = "listing the log";
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(doing, dir))? {
        let path = entry.map_err(io(doing, dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(digits) = name.strip_prefix(prefix)
            && let Ok(number) = u64::from_str_radix(digits, 16)
        {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Removes the files that a crash left half made.
fn remove_half_made(dir: &Path) -> Result<(), WalError> {
    let doing = "removing a file that was cut off";
    for entry in std::fs::read_dir(dir).map_err(io(doing, dir))? {
        let path = entry.map_err(io(doing, dir))?.path();
        if path.extension().is_some_and(|e| e == "tmp") {
            std::fs::remove_file(&path).map_err(io(doing, &path))?;
        }
    }
    Ok(())
}

/// Removes all snapshots but the one at `index` and later ones.
pub(super) fn remove_snapshots_before(dir: &Path, index: u64) -> Result<(), WalError> {
    for (_, path) in list(dir, "snapshot-")?.into_iter().filter(|(at, _)| *at < index) {
        std::fs::remove_file(&path).map_err(io("removing an old snapshot", &path))?;
    }
    Ok(())
}

/// The newest snapshot in a directory, with the hard state written beside it.
pub fn load_snapshot(dir: &Path) -> Result<Option<(Snapshot, HardState)>, WalError> {
    let Some((_, path)) = list(dir, "snapshot-")?.pop() else { return Ok(None) };
    let bytes = std::fs::read(&path).map_err(io("reading the snapshot", &path))?;
    let read = frame::snapshot(bytes).map_err(|source| WalError::Frame { path, source })?;
    Ok(Some(read))
}

/// What the records say, taken one after the other.
#[derive(Default)]
struct Replay {
    places: Places,
    terms: Vec<(u64, u64)>,
    hard: HardState,
    conf: (u64, ConfState),
}

impl Replay {
    fn take(&mut self, item: Item, at: u64, segment: &mut Segment) -> bool {
        match item {
            Item::Hard(hard) => self.hard = hard,
            Item::Conf(index, conf) => self.conf = (index, conf),
            Item::Reset(index, _) => {
                self.places.clear(index + 1);
                self.terms.clear();
            }
            Item::Entry { index, term, offset, length } => {
                let next = self.places.first + self.places.list.len() as u64;
                if !self.places.list.is_empty() && index > next {
                    return false;
                }
                let file = Arc::clone(&segment.file);
                let offset = at + offset as u64;
                self.places.put(index, Place { file, offset, length });
                self.terms.retain(|(first, _)| *first < index);
                if self.terms.last().is_none_or(|(_, last)| *last != term) {
                    self.terms.push((index, term));
                }
                segment.last_index = segment.last_index.max(index);
            }
        }
        true
    }

    fn last(&self) -> u64 {
        self.places.first + self.places.list.len() as u64 - 1
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if self.places.list.is_empty() || index < self.places.first || index > self.last() {
            return None;
        }
        self.terms.iter().rev().find(|(first, _)| *first <= index).map(|(_, term)| *term)
    }
}

/// Reads one segment's records; answers it and the next sequence number.
fn read_segment(
    path: &Path,
    first: u64,
    is_last: bool,
    replay: &mut Replay,
) -> Result<(Segment, u64), WalError> {
    let damaged = |at: usize, what| WalError::Damaged { path: path.into(), at: at as u64, what };
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = Arc::new(file.map_err(io("opening the log", path))?);
    let bytes = std::fs::read(path).map_err(io("reading the log", path))?;
    let head = frame::parse_segment_head(&bytes).filter(|(_, sequence)| *sequence == first);
    let (salt, mut sequence) = head.ok_or_else(|| damaged(0, "its head can't be read"))?;
    let mut segment = Segment { path: path.into(), file, salt, offset: 0, last_index: 0 };
    let mut at = SEGMENT_HEADER;
    let mut last = 0..0;
    let from = |at: usize| bytes.get(at..).unwrap_or_default();
    while let Found::Record { payload, size } = frame::record(from(at), salt, sequence) {
        let items = frame::items(payload)
            .map_err(|source| WalError::Frame { path: path.into(), source })?;
        let start = (at + frame::HEADER) as u64;
        if !items.into_iter().all(|item| replay.take(item, start, &mut segment)) {
            return Err(damaged(at, "entries are missing before this record"));
        }
        last = at..(at + size).min(bytes.len());
        at += size;
        sequence += 1;
    }
    let rest = from(at);
    if frame::later_record(rest, salt, sequence) {
        return Err(damaged(at, "a record can't be read, but later ones can"));
    }
    segment.offset = at as u64;
    if is_last {
        // After a failed sync, what is read may be in memory only: this makes it durable or fails.
        segment.rewrite(last.start as u64, &bytes[last])?;
        if rest.iter().any(|b| *b != 0) {
            segment.clear_rest(bytes.len() as u64)?;
        }
    }
    Ok((segment, sequence))
}

/// Puts together what the snapshot and the log say.
fn settle(
    mut replay: Replay,
    snapshot: Option<&(Snapshot, HardState)>,
    first: impl Fn(&'static str) -> WalError,
) -> Result<(Recovered, Replay), WalError> {
    let mut found = Recovered::default();
    if let Some((snapshot, hard)) = snapshot {
        let meta = snapshot.get_metadata();
        found.snapshot = (meta.index, meta.term);
        found.snapshot_conf = meta.get_conf_state().clone();
        if replay.conf.0 < meta.index {
            replay.conf = (meta.index, found.snapshot_conf.clone());
        }
        if hard.term > replay.hard.term {
            replay.hard = hard.clone();
        }
        if replay.term_at(meta.index).is_none_or(|term| term != meta.term)
            && replay.places.first != meta.index + 1
        {
            // A leader's snapshot whose write to the log was cut off: it replaces what is there.
            if !replay.places.list.is_empty() && replay.places.first > meta.index + 1 {
                return Err(first("entries between it and the snapshot are missing"));
            }
            replay.places.clear(meta.index + 1);
            replay.terms.clear();
        }
    } else if !replay.places.list.is_empty() && replay.places.first != 1 {
        return Err(first("the snapshot before it is missing"));
    } else {
        found.snapshot_conf = ConfState::default();
    }
    let start = replay.places.first.max(1);
    replay.places.first = start;
    found.compacted = match replay.term_at(start) {
        // The term before the first entry isn't kept: the first one itself stands for it.
        Some(term) if start <= found.snapshot.0 => {
            replay.places.drop_to(start);
            (start, term)
        }
        _ => found.snapshot,
    };
    found.last = replay.last();
    found.hard = replay.hard.clone();
    found.hard.commit = found.hard.commit.max(found.snapshot.0);
    if found.hard.commit > found.last {
        return Err(first("entries that were committed are missing"));
    }
    found.terms = replay.terms.clone();
    (found.conf_index, found.conf) = replay.conf.clone();
    let covered = (found.snapshot.0 + 1).saturating_sub(replay.places.first) as usize;
    found.bytes = replay.places.list.iter().skip(covered).map(|p| p.length as u64).sum();
    Ok((found, replay))
}

/// Opens the log in `dir`, which is made if it doesn't exist. A new log begins with `conf`.
pub fn open(dir: &Path, conf: &ConfState) -> Result<Opened, WalError> {
    std::fs::create_dir_all(dir).map_err(io("making the log's directory", dir))?;
    remove_half_made(dir)?;
    let snapshot = load_snapshot(dir)?;
    let files = list(dir, "log-")?;
    let mut replay = Replay::default();
    let mut segments = VecDeque::new();
    let mut sequence = 1;
    for (nth, (first, path)) in files.iter().enumerate() {
        if nth > 0 && *first != sequence {
            let what = "records before this segment are missing";
            return Err(WalError::Damaged { path: path.clone(), at: 0, what });
        }
        let is_last = nth + 1 == files.len();
        let (segment, next) = read_segment(path, *first, is_last, &mut replay)?;
        segments.push_back(segment);
        sequence = next;
    }
    if files.is_empty() {
        if snapshot.is_some() {
            let what = "there is a snapshot but no log";
            return Err(WalError::Damaged { path: dir.into(), at: 0, what });
        }
        replay.conf = (0, conf.clone());
    }
    let damaged_path = files.first().map_or_else(|| dir.to_owned(), |(_, path)| path.clone());
    let (mut found, replay) = settle(replay, snapshot.as_ref(), |what| WalError::Damaged {
        path: damaged_path.clone(),
        at: 0,
        what,
    })?;
    if found.snapshot.0 == 0 && found.conf_index == 0 {
        found.snapshot_conf = found.conf.clone();
    }
    sync_dir(dir)?;
    let places = Arc::new(Mutex::new(replay.places));
    let reader = Reader(Arc::clone(&places));
    let (hard, conf) = (replay.hard, replay.conf);
    let (dir, buffer, failed) = (dir.to_owned(), Vec::new(), false);
    let mut wal = Wal { dir, segments, sequence, places, hard, conf, buffer, failed };
    if files.is_empty() {
        wal.rotate()?;
    }
    Ok(Opened { wal, reader, found, snapshot: snapshot.map(|(snapshot, _)| snapshot) })
}
