//! The writing half of the logger: records into files of bounded size, losses counted.
//!
//! Owns the file that is written. Never fails: what can't be written is dropped and counted, and
//! the count is written as soon as that is possible again.

use super::files::{self, Segment};
use super::format::{HEADER, LinePart, Record, Stream};
use crate::id::Attempt;
use crate::limits;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// Writes one attempt's records.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    next: Segment,
    file: Option<File>,
    size: u64,
    batch: Vec<u8>,
    last_nanos: u64,
    lost_lines: u64,
    lost_bytes: u64,
    /// The time of the last record that was lost: the notice takes its place.
    lost_nanos: u64,
}

impl Writer {
    /// A writer for an attempt; opens its first file, so that the attempt can be seen.
    #[must_use]
    pub fn new(directory: PathBuf, attempt: Attempt) -> Self {
        let mut writer = Self {
            directory,
            next: Segment { attempt, sequence: 0 },
            file: None,
            size: 0,
            batch: Vec::with_capacity(4 * limits::LOG_PART_MAX),
            last_nanos: 0,
            lost_lines: 0,
            lost_bytes: 0,
            lost_nanos: 0,
        };
        files::unmark_ended(&writer.directory);
        // A failure now is a failure at the first record, which is counted.
        let _ = writer.open();
        writer
    }

    /// Adds a record to the batch. Times are made strictly increasing.
    pub fn push(&mut self, nanos: u64, stream: Stream, part: LinePart, bytes: &[u8]) {
        self.last_nanos = nanos.max(self.last_nanos + 1);
        let record = Record { nanos: self.last_nanos, stream, part, bytes };
        record.encode(&mut self.batch);
        if self.batch.len() >= 4 * limits::LOG_PART_MAX {
            self.flush();
        }
    }

    /// Writes the batch; what can't be written is counted as lost.
    pub fn flush(&mut self) {
        if self.batch.is_empty() && self.lost_lines == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let written = self.write_notice().and_then(|()| self.write_records(&batch));
        if let Err(rest) = written {
            let dropped = &batch[batch.len().saturating_sub(rest)..];
            for record in dropped.split(|byte| *byte == b'\n').filter_map(Record::decode) {
                self.lost_bytes += record.bytes.len() as u64;
                self.lost_lines += u64::from(record.part.ends_line());
                self.lost_nanos = record.nanos;
            }
            // A long line of which only parts were lost is a lost line too.
            self.lost_lines = self.lost_lines.max(1);
        }
        batch.clear();
        self.batch = batch;
    }

    /// Writes how much was lost, if anything was. An error stands for the whole batch.
    fn write_notice(&mut self) -> Result<(), usize> {
        if self.lost_lines == 0 {
            return Ok(());
        }
        let text = format!(
            "{} lines ({} bytes) lost: the log could not be written",
            self.lost_lines, self.lost_bytes
        );
        let mut notice = Vec::with_capacity(128);
        let (nanos, stream) = (self.lost_nanos, Stream::Mill);
        Record { nanos, stream, part: LinePart::Full, bytes: text.as_bytes() }.encode(&mut notice);
        self.write_records(&notice).map_err(|_| usize::MAX)?;
        self.lost_lines = 0;
        self.lost_bytes = 0;
        Ok(())
    }

    /// Writes whole records; on failure the file ends with the last record that had room, and the
    /// error is the number of bytes that were not written.
    fn write_records(&mut self, records: &[u8]) -> Result<(), usize> {
        if self.file.is_none() || self.size >= limits::LOG_FILE_MAX {
            self.open().map_err(|_| records.len())?;
        }
        let Some(file) = self.file.as_mut() else { return Err(records.len()) };
        let mut done = 0;
        while done < records.len() {
            match file.write(&records[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let kept = match done {
            _ if done == records.len() => done,
            _ => records[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        };
        self.size += kept as u64;
        if kept < done && file.set_len(self.size).is_err() {
            // Half a record stays at the end of this file: go on in another one.
            self.file = None;
        }
        if kept == records.len() { Ok(()) } else { Err(records.len() - kept) }
    }

    /// Begins the next file and removes those that are too many.
    fn open(&mut self) -> io::Result<()> {
        self.file = None;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let existing = files::segments(&self.directory)?;
        let attempt = self.next.attempt;
        if let Some(last) = existing.iter().rfind(|segment| segment.attempt == attempt) {
            self.next.sequence = self.next.sequence.max(last.sequence + 1);
        }
        for segment in files::surplus(&existing, self.next) {
            // A file that is gone already is as good.
            let _ = fs::remove_file(self.directory.join(segment.file_name()));
        }
        let path = self.directory.join(self.next.file_name());
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all(HEADER) {
            // The same name is tried again.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next.sequence += 1;
        self.size = HEADER.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(directory: &std::path::Path, segment: Segment) -> String {
        fs::read_to_string(directory.join(segment.file_name())).unwrap()
    }

    #[test]
    fn times_increase_strictly_and_an_attempt_is_never_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut writer = Writer::new(dir.path().into(), Attempt(1));
            for nanos in [5, 5, 3, 90] {
                writer.push(nanos, Stream::Stdout, LinePart::Full, b"x");
            }
        }
        let first = Segment { attempt: Attempt(1), sequence: 0 };
        let second = Segment { attempt: Attempt(1), sequence: 1 };
        assert_eq!(files::segments(dir.path()).unwrap(), [first, second]);
        let want = "mill-log 1\n5 o F x\n6 o F x\n7 o F x\n90 o F x\n";
        assert_eq!(text(dir.path(), first), want);
        assert_eq!(text(dir.path(), second), want);
    }

    #[test]
    fn files_rotate_by_size_and_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path().into(), Attempt(1));
        let line = vec![b'x'; limits::LOG_PART_MAX];
        let total = limits::LOG_FILE_MAX * 12;
        for _ in 0..total / line.len() as u64 {
            writer.push(1, Stream::Stderr, LinePart::Full, &line);
        }
        drop(writer);
        let kept = files::segments(dir.path()).unwrap();
        assert_eq!(kept.len(), limits::LOG_FILES_MAX);
        assert!(kept.last().unwrap().sequence >= 11);
        for segment in kept {
            let size = fs::metadata(dir.path().join(segment.file_name())).unwrap().len();
            let slack = 8 * limits::LOG_PART_MAX as u64;
            assert!(size < limits::LOG_FILE_MAX + slack, "{size}");
        }
    }

    #[test]
    fn a_directory_that_comes_late_gets_the_count_of_lost_lines() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        fs::write(&place, "in the way").unwrap();
        let mut writer = Writer::new(place.clone(), Attempt(3));
        for line in ["one", "two", "three"] {
            writer.push(1, Stream::Stdout, LinePart::Full, line.as_bytes());
            writer.flush();
        }
        fs::remove_file(&place).unwrap();
        writer.push(10, Stream::Stdout, LinePart::Full, b"four");
        drop(writer);
        let got = text(&place, Segment { attempt: Attempt(3), sequence: 0 });
        let want = "mill-log 1\n3 m F 3 lines (11 bytes) lost: the log could not be written\n";
        assert_eq!(got, format!("{want}10 o F four\n"));
    }
}
