//! The removal of logs: what is old, and what is too much.
//!
//! Owns looking at the files and removing them. Never decides which go:
//! [`crate::node::retention`] does.

use super::files::{self, Segment};
use crate::actors::platform::{disk, tree};
use crate::id::AllocId;
use crate::limits;
use crate::node::retention::{Gone, Log, LogSegment, retire};
use crate::units::{Bytes, Millis, Timestamp};
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Removes logs of allocations that ended more than a day ago, and the oldest while all logs of the
/// node take more than [`limits::LOGS_MAX`], or [`limits::LOGS_PRESSED`] where the disk is nearly
/// full. `lives` tells which allocations belong to the node; others are marked as ended if nobody
/// did so. Returns what was removed.
///
/// # Errors
/// The directory of all logs can't be read. One that can't be removed is tried again next time.
pub fn relieve(
    data_dir: &Path,
    now: SystemTime,
    lives: impl Fn(&AllocId) -> bool,
) -> io::Result<Vec<Gone>> {
    let pressed = disk::is_full(data_dir);
    let room = if pressed { limits::LOGS_PRESSED } else { limits::LOGS_MAX };
    relieve_to(data_dir, now, Bytes(room), lives)
}

fn relieve_to(
    data_dir: &Path,
    now: SystemTime,
    room: Bytes,
    lives: impl Fn(&AllocId) -> bool,
) -> io::Result<Vec<Gone>> {
    let logs = look(data_dir, now, lives)?;
    let mut gone = retire(&logs, timestamp(now), room);
    gone.retain(|what| remove(data_dir, what));
    Ok(gone)
}

/// All logs of the node.
fn look(
    data_dir: &Path,
    now: SystemTime,
    lives: impl Fn(&AllocId) -> bool,
) -> io::Result<Vec<Log>> {
    let entries = match fs::read_dir(files::root(data_dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let id = AllocId::from(name);
        let ended = if lives(&id) { None } else { end_of(&path, now) };
        // One that is gone by now, or can't be read, is none.
        let Ok(parts) = parts(&path) else { continue };
        logs.push(Log { id, ended, parts });
    }
    Ok(logs)
}

/// When an allocation that doesn't live ended. One that nobody marked is marked, but for one that
/// may have begun just now.
fn end_of(directory: &Path, now: SystemTime) -> Option<Timestamp> {
    if let Some(at) = files::ended_at(directory) {
        return Some(timestamp(at));
    }
    let changed = fs::metadata(directory).and_then(|meta| meta.modified()).ok()?;
    let age = now.duration_since(changed).unwrap_or(Duration::ZERO);
    if age < limits::LOG_UNKNOWN {
        return None;
    }
    files::mark_ended(directory).ok()?;
    files::ended_at(directory).map(timestamp)
}

fn parts(directory: &Path) -> io::Result<Vec<LogSegment>> {
    let segments = files::segments(directory)?;
    let part = |segment: Segment| {
        let meta = fs::metadata(directory.join(segment.file_name())).ok()?;
        Some(LogSegment {
            attempt: segment.attempt,
            sequence: segment.sequence,
            bytes: Bytes(meta.len()),
            written: written(&meta),
        })
    };
    // One that went meanwhile takes no room.
    Ok(segments.into_iter().filter_map(part).collect())
}

fn written(meta: &Metadata) -> Timestamp {
    meta.modified().map_or_else(|_| Timestamp::default(), timestamp)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(Millis::from(since).0)
}

/// Whether it could be removed.
fn remove(data_dir: &Path, what: &Gone) -> bool {
    match what {
        Gone::Log(id) => tree::remove(&files::directory(data_dir, id)).is_ok(),
        Gone::Part(id, attempt, sequence) => {
            let segment = Segment { attempt: *attempt, sequence: *sequence };
            fs::remove_file(files::directory(data_dir, id).join(segment.file_name())).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AllocId, Gone, Segment, files, io, limits, relieve_to};
    use crate::id::Attempt;
    use crate::units::Bytes;
    use std::fs;
    use std::path::Path;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    /// A log with files of these sizes, which take no room on the disk.
    fn make(data: &Path, name: &str, sizes: &[u64]) -> PathBuf {
        let directory = files::directory(data, &name.into());
        fs::create_dir_all(&directory).unwrap();
        for (sequence, size) in sizes.iter().enumerate() {
            let sequence = u32::try_from(sequence).unwrap();
            let name = Segment { attempt: Attempt(1), sequence }.file_name();
            fs::File::create(directory.join(name)).unwrap().set_len(*size).unwrap();
        }
        directory
    }

    /// As [`super::relieve`] on a disk with room.
    fn relieve(
        data: &Path,
        now: SystemTime,
        lives: impl Fn(&AllocId) -> bool,
    ) -> io::Result<Vec<Gone>> {
        relieve_to(data, now, Bytes(limits::LOGS_MAX), lives)
    }

    fn later(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn ended_logs_go_after_a_day_and_living_ones_stay() {
        let data = tempfile::tempdir().unwrap();
        let (lives, ended) = (make(data.path(), "web-0", &[10]), make(data.path(), "web-1", &[10]));
        let keep = |id: &AllocId| id.as_str() == "web-0";
        assert_eq!(relieve(data.path(), SystemTime::now(), keep).unwrap(), []);
        assert!(!files::is_ended(&ended), "it may have begun just now");
        assert_eq!(relieve(data.path(), later(601), keep).unwrap(), []);
        assert!(files::is_ended(&ended) && !files::is_ended(&lives));
        let day = later(24 * 3600 + 5);
        assert_eq!(relieve(data.path(), day, keep).unwrap(), [Gone::Log("web-1".into())]);
        assert!(!ended.exists() && lives.exists());
        assert_eq!(relieve(&data.path().join("none"), day, keep).unwrap(), []);
    }

    #[test]
    fn all_logs_together_have_a_bound() {
        let data = tempfile::tempdir().unwrap();
        let third = limits::LOGS_MAX / 3;
        let loud = make(data.path(), "loud", &[third, third, third]);
        let ended = make(data.path(), "over", &[third]);
        files::mark_ended(&ended).unwrap();
        fs::File::open(ended.join("ended")).unwrap().set_modified(later(5)).unwrap();
        let gone = relieve(data.path(), SystemTime::now(), |id| id.as_str() == "loud").unwrap();
        assert_eq!(gone, [Gone::Part("loud".into(), Attempt(1), 0)]);
        assert!(!loud.join("1.0.log").exists() && loud.join("1.2.log").exists());
        assert!(ended.exists());
    }
}
