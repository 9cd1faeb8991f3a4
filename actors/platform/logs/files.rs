//! The log files of an allocation: their names, and which are kept while it writes.
//!
//! `<data>/logs/<allocation>/<attempt>.<sequence>.log`; a file is never renamed, so a reader
//! follows by the sequence. An ended allocation has an empty file `ended` beside them, whose time
//! is the end. Never looks into a log file.

use crate::id::{AllocId, Attempt};
use crate::limits;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of the file that marks an ended allocation.
const ENDED: &str = "ended";

/// One log file's place in the order of an allocation's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The start of the container that it belongs to.
    pub attempt: Attempt,
    /// Counts up within the attempt, from 0.
    pub sequence: u32,
}

impl Segment {
    /// The file's name.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}.{}.log", self.attempt, self.sequence)
    }

    /// From a file's name; `None` if it is no log file.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<Self> {
        let (attempt, sequence) = name.to_str()?.strip_suffix(".log")?.split_once('.')?;
        Some(Self { attempt: Attempt(attempt.parse().ok()?), sequence: sequence.parse().ok()? })
    }
}

/// The directory of all logs of a node.
#[must_use]
pub fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

/// The directory of one allocation's log.
#[must_use]
pub fn directory(data_dir: &Path, allocation: &AllocId) -> PathBuf {
    root(data_dir).join(allocation.as_str())
}

/// The log files in a directory, oldest first; none if it isn't there.
///
/// # Errors
/// The directory can't be read.
pub fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(Segment::parse(&entry?.file_name()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Which of an allocation's files must go so that one more has room: the oldest first, but of the
/// attempt before the newest one its last file stays.
#[must_use]
pub fn surplus(segments: &[Segment], next: Segment) -> Vec<Segment> {
    let previous = segments.iter().rev().find(|segment| segment.attempt < next.attempt);
    let excess = (segments.len() + 1).saturating_sub(limits::LOG_FILES_MAX);
    segments.iter().filter(|segment| Some(*segment) != previous).take(excess).copied().collect()
}

/// Marks an allocation as ended: readers that follow it come to an end, and its log's remaining
/// time begins. Without a log there is nothing to mark.
///
/// # Errors
/// The mark can't be written.
pub fn mark_ended(directory: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().create_new(true).write(true).open(directory.join(ENDED)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the mark away: another attempt begins.
pub fn unmark_ended(directory: &Path) {
    // Usually there is none; if it can't be removed, the next sweep sees a running allocation.
    let _ = fs::remove_file(directory.join(ENDED));
}

/// When the allocation ended, if it is marked so.
#[must_use]
pub fn ended_at(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory.join(ENDED)).and_then(|meta| meta.modified()).ok()
}

/// Whether the allocation is marked as ended.
#[must_use]
pub fn is_ended(directory: &Path) -> bool {
    directory.join(ENDED).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(attempt: u32, sequence: u32) -> Segment {
        Segment { attempt: Attempt(attempt), sequence }
    }

    #[test]
    fn names_round_trip_and_sort_by_number() {
        assert_eq!(Segment::parse(OsStr::new("12.3.log")), Some(segment(12, 3)));
        for name in ["ended", "1.log", "1.0.txt", "a.0.log", "1.0.0.log", "-1.0.log"] {
            assert_eq!(Segment::parse(OsStr::new(name)), None, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        for s in [segment(10, 0), segment(2, 11), segment(2, 9)] {
            fs::write(dir.path().join(s.file_name()), "").unwrap();
        }
        mark_ended(dir.path()).unwrap();
        let found = segments(dir.path()).unwrap();
        assert_eq!(found, [segment(2, 9), segment(2, 11), segment(10, 0)]);
        assert_eq!(segments(&dir.path().join("none")).unwrap(), []);
    }

    #[test]
    fn the_oldest_go_but_the_previous_attempt_keeps_its_last() {
        let mut files: Vec<Segment> = (0..3).map(|i| segment(1, i)).collect();
        files.extend((0..4).map(|i| segment(2, i)));
        assert_eq!(surplus(&files, segment(2, 4)), []);
        files.push(segment(2, 4));
        assert_eq!(surplus(&files, segment(2, 5)), [segment(1, 0)]);
        let late: Vec<Segment> =
            [segment(1, 2)].into_iter().chain((5..12).map(|i| segment(2, i))).collect();
        assert_eq!(surplus(&late, segment(2, 12)), [segment(2, 5)]);
        let loops: Vec<Segment> = (1..=8).map(|attempt| segment(attempt, 0)).collect();
        assert_eq!(surplus(&loops, segment(9, 0)), [segment(1, 0)]);
    }
}
