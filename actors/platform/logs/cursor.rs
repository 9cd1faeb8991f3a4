//! Reading the files of one allocation from a position on, across rotations and attempts.
//!
//! Owns the position. Blocking; never waits for more and never decides when to look again.

use super::files::{self, Segment};
use super::format::{HEADER, Header, Joined, Joiner, Record, Stream, header};
use crate::id::Attempt;
use crate::limits;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes read at once. A record always fits.
const BLOCK: usize = limits::LOG_BATCH_MAX;
const _: () = assert!(BLOCK > 2 * limits::LOG_PART_MAX);
/// A file's time comes from a coarser clock than the records' times.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// Which attempts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempts {
    /// This one and later ones.
    From(Attempt),
    /// Only this one.
    Only(Attempt),
}

impl Attempts {
    fn contain(self, attempt: Attempt) -> bool {
        match self {
            Self::From(first) => attempt >= first,
            Self::Only(only) => attempt == only,
        }
    }
}

/// The position in one attempt's files.
#[derive(Debug)]
struct Position {
    sequence: u32,
    file: File,
    offset: u64,
    joiner: Joiner,
    skip: bool,
}

/// The position in an allocation's log.
#[derive(Debug)]
pub struct Cursor {
    directory: PathBuf,
    attempts: Attempts,
    positions: BTreeMap<Attempt, Position>,
    /// Where the first round begins, from `tail` or `since`.
    start: Option<(Segment, u64)>,
    block: Vec<u8>,
}

impl Cursor {
    /// A cursor at the beginning of the attempts' files.
    #[must_use]
    pub fn new(directory: PathBuf, attempts: Attempts) -> Self {
        Self { directory, attempts, positions: BTreeMap::new(), start: None, block: Vec::new() }
    }

    /// Goes so far back from the end that at least `lines` lines follow, if there are as many.
    ///
    /// # Errors
    /// The files can't be read.
    pub fn seek_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut scan = Backwards { wanted: lines, seen: 0, open: [false; 2] };
        for segment in self.segments()?.into_iter().rev() {
            let offset = match File::open(self.directory.join(segment.file_name())) {
                Ok(file) => scan.file(&file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            self.start = Some((segment, offset));
            if scan.done() {
                break;
            }
        }
        Ok(())
    }

    /// Leaves out files that were last written before `nanos`.
    ///
    /// # Errors
    /// The files can't be read.
    pub fn seek_time(&mut self, nanos: u64) -> io::Result<()> {
        let since = UNIX_EPOCH + Duration::from_nanos(nanos) - CLOCK_SLACK;
        for segment in self.segments()? {
            let path = self.directory.join(segment.file_name());
            let written = path.metadata().and_then(|meta| meta.modified());
            if written.unwrap_or_else(|_| SystemTime::now()) < since {
                let next = Segment { sequence: segment.sequence + 1, ..segment };
                self.start = self.start.max(Some((next, 0)));
            }
        }
        Ok(())
    }

    fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = files::segments(&self.directory)?;
        segments.retain(|segment| self.attempts.contain(segment.attempt));
        Ok(segments)
    }

    /// Reads what is there, up to about [`limits::LOG_BATCH_MAX`] bytes of lines. True if there may
    /// be more at once.
    ///
    /// # Errors
    /// The files can't be read.
    pub fn step(&mut self, mut emit: impl FnMut(Joined)) -> io::Result<bool> {
        // Listed before reading: a file that has a successor gets no more records.
        let segments = self.segments()?;
        let newest = segments.last().map(|segment| segment.attempt);
        let mut attempts: Vec<Attempt> = segments.iter().map(|segment| segment.attempt).collect();
        attempts.extend(self.positions.keys());
        attempts.sort_unstable();
        attempts.dedup();
        for attempt in attempts {
            if self.step_attempt(attempt, &segments, &mut emit)? {
                return Ok(true);
            }
            if Some(attempt) < newest
                && let Some(position) = self.positions.get_mut(&attempt)
            {
                position.joiner.finish(&mut emit);
            }
        }
        self.positions.retain(|attempt, _| segments.iter().any(|s| s.attempt == *attempt));
        Ok(false)
    }

    /// Reads one attempt's next block; true if there may be more of it.
    fn step_attempt(
        &mut self,
        attempt: Attempt,
        segments: &[Segment],
        emit: &mut impl FnMut(Joined),
    ) -> io::Result<bool> {
        if let Some(position) = self.positions.get_mut(&attempt)
            && position.read(&mut self.block, emit)?
        {
            return Ok(true);
        }
        let reached = self.positions.get(&attempt).map(|position| position.sequence);
        let from = match (reached, self.start) {
            (Some(sequence), _) => Segment { attempt, sequence: sequence + 1 },
            (None, Some((start, _))) => start.max(Segment { attempt, sequence: 0 }),
            (None, None) => Segment { attempt, sequence: 0 },
        };
        let next = segments.iter().find(|segment| segment.attempt == attempt && **segment >= from);
        let Some(next) = next.copied() else { return Ok(false) };
        let file = match File::open(self.directory.join(next.file_name())) {
            Ok(file) => file,
            // Removed since it was listed: list again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        if reached.is_some() && next != from {
            let count = next.sequence - from.sequence;
            let note = format!("{count} files left out: they were rotated away before being read");
            emit(Joined::note(0, note));
        }
        let offset = self.start.filter(|(start, _)| *start == next).map_or(0, |(_, offset)| offset);
        let joiner = self.positions.remove(&attempt).map(|old| old.joiner).unwrap_or_default();
        let position = Position { sequence: next.sequence, file, offset, joiner, skip: false };
        self.positions.insert(attempt, position);
        Ok(true)
    }

    /// Gives out lines whose end never came: the log is over.
    pub fn finish(&mut self, mut emit: impl FnMut(Joined)) {
        for position in self.positions.values_mut() {
            position.joiner.finish(&mut emit);
        }
    }
}

impl Position {
    /// Reads one block of whole records; false at the end of what is there.
    fn read(&mut self, block: &mut Vec<u8>, emit: &mut impl FnMut(Joined)) -> io::Result<bool> {
        if self.skip {
            return Ok(false);
        }
        block.resize(BLOCK, 0);
        let count = read_full(&self.file, block, self.offset)?;
        let mut rest = &block[..count];
        if self.offset == 0 {
            match header(rest) {
                Header::Known => {}
                Header::Incomplete => return Ok(false),
                Header::Unknown => {
                    self.skip = true;
                    let note = "a log file left out: its format isn't known to this version";
                    emit(Joined::note(0, note));
                    return Ok(false);
                }
            }
            rest = &rest[HEADER.len()..];
            self.offset = HEADER.len() as u64;
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            // What is no record can only be the trace of a damaged disk.
            if let Some(record) = Record::decode(&rest[..end]) {
                self.joiner.push(&record, &mut *emit);
            }
            rest = &rest[end + 1..];
            self.offset += end as u64 + 1;
        }
        if count == BLOCK && rest.len() == BLOCK {
            self.offset += BLOCK as u64;
        }
        Ok(count == BLOCK)
    }
}

/// Reads until the block is full or the file ends.
fn read_full(file: &File, block: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < block.len() {
        match file.read_at(&mut block[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Counts lines from the end of the files towards their beginning.
struct Backwards {
    wanted: usize,
    seen: usize,
    /// Streams with a line of which the end was seen and the beginning wasn't.
    open: [bool; 2],
}

impl Backwards {
    fn done(&self) -> bool {
        self.seen >= self.wanted && self.open == [false; 2]
    }

    /// Goes through a file; the offset of the record where it stopped, or 0.
    fn file(&mut self, file: &File) -> io::Result<u64> {
        let mut end = file.metadata()?.len();
        let mut block = vec![0; BLOCK];
        while end > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let count = usize::try_from(end - start).unwrap_or(BLOCK);
            let count = read_full(file, &mut block[..count], start)?;
            let mut text = &block[..count];
            // Each line that begins within the block, the last one first.
            while let Some(last) = text.iter().rposition(|byte| *byte == b'\n') {
                self.record(&text[last + 1..]);
                if self.done() {
                    return Ok(start + last as u64 + 1);
                }
                text = &text[..last];
            }
            if start == 0 {
                return Ok(0);
            }
            // The first line of the block began before it.
            let moved = start + text.len() as u64;
            end = if moved < end { moved } else { start };
        }
        Ok(0)
    }

    fn record(&mut self, line: &[u8]) {
        let Some(record) = Record::decode(line) else { return };
        self.seen += usize::from(record.part.ends_line());
        let open = match record.stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
            Stream::Mill => return,
        };
        *open = !record.part.begins_line();
    }
}

/// The attempts that a query is about: the newest on, or only the one before it, or before the
/// current one where that is known.
///
/// # Errors
/// The directory can't be read.
pub fn attempts(
    directory: &Path,
    previous: bool,
    current: Option<Attempt>,
) -> io::Result<Option<Attempts>> {
    let mut attempts: Vec<Attempt> =
        files::segments(directory)?.iter().map(|segment| segment.attempt).collect();
    attempts.dedup();
    if let Some(current) = current.filter(|_| previous) {
        let before = attempts.into_iter().rfind(|attempt| *attempt < current);
        return Ok(before.map(Attempts::Only));
    }
    Ok(match (previous, attempts.as_slice()) {
        (true, [.., one, _]) => Some(Attempts::Only(*one)),
        (true, _) => None,
        (false, [.., newest]) => Some(Attempts::From(*newest)),
        (false, []) => Some(Attempts::From(Attempt(0))),
    })
}
