//! Opening a log: what is there, what of it counts, and making that durable once more.
//!
//! Never drops an acknowledged record: only the last write can have been cut off, and anything
//! else that can't be read is damage and an error.

use super::places::{Place, Places};
use super::segment::{Segment, sync_dir};
use super::{Reader, Wal, WalError, io};
use crate::consensus::raft::frame::{self, Found, Item, SEGMENT_HEADER};
use crate::consensus::raft::log::Recovered;
use crate::consensus::raft::recover::Replayed;
use raft::eraftpb::{ConfState, HardState, Snapshot};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An opened log.
pub struct Opened {
    /// For the writer thread.
    pub wal: Wal,
    /// For raft.
    pub reader: Reader,
    pub found: Recovered,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// What the disk took to make durable what was there.
    pub sync: Duration,
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

    fn replayed(&self) -> Replayed {
        Replayed {
            first: self.places.first,
            count: self.places.list.len() as u64,
            terms: self.terms.clone(),
            hard: self.hard.clone(),
            conf: self.conf.clone(),
        }
    }

    /// Keeps of the places what is left of the log.
    fn settled(&mut self, left: Replayed) {
        if left.count == 0 {
            self.places.clear(left.first);
        } else {
            self.places.drop_to(left.first - 1);
        }
        (self.hard, self.conf) = (left.hard, left.conf);
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
    let mut left = replay.replayed();
    let found = left.settle(snapshot.as_ref().map(|(found, hard)| (found.get_metadata(), hard)));
    let mut found = found.map_err(|what| {
        let path = files.first().map_or_else(|| dir.to_owned(), |(_, path)| path.clone());
        WalError::Damaged { path, at: 0, what }
    })?;
    replay.settled(left);
    let covered = (found.snapshot.0 + 1).saturating_sub(replay.places.first) as usize;
    found.bytes = replay.places.list.iter().skip(covered).map(|p| p.length as u64).sum();
    let begun = Instant::now();
    sync_dir(dir)?;
    let sync = begun.elapsed();
    let places = Arc::new(Mutex::new(replay.places));
    let reader = Reader(Arc::clone(&places));
    let (hard, conf) = (replay.hard, replay.conf);
    let (dir, buffer, failed) = (dir.to_owned(), Vec::new(), false);
    let mut wal = Wal { dir, segments, sequence, places, hard, conf, buffer, failed };
    if files.is_empty() {
        wal.rotate()?;
    }
    let snapshot = snapshot.map(|(snapshot, _)| snapshot);
    Ok(Opened { wal, reader, found, snapshot, sync })
}
