//! The format of a log file: one header line, then one line a record.
//!
//! ```text
//! mill-log 1
//! 1772366641220000000 o F GET / 200 3ms
//! ```
//! A record is: nanoseconds since 1970 UTC (strictly increasing within an attempt), the stream
//! (`o` stdout, `e` stderr, `m` mill itself), the part (`F` a whole line, `B` `C` `E` begin, middle
//! and end of a long one, `f` and `e` for `F` and `E` where the stream ended without a newline),
//! then the bytes as the container wrote them, without the newline.
//!
//! Pure: never touches a file or a clock.

use crate::limits;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// First line of every log file, with the version of the format.
pub const HEADER: &[u8] = b"mill-log 1\n";
/// What the first line of a file of any version starts with.
const MAGIC: &[u8] = b"mill-log ";

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The container's standard output.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// mill's own note about the log, such as lines lost to a full disk.
    Mill,
}

impl Stream {
    /// As in the API: `stdout`, `stderr`, `mill`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Mill => "mill",
        }
    }
}

/// A point in time to the nanosecond: nanoseconds since 1970 UTC. Unique within an allocation's
/// log, so it can stand for the line.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LogTime(pub u64);

impl LogTime {
    /// To the millisecond.
    #[must_use]
    pub const fn timestamp(self) -> Timestamp {
        Timestamp(self.0 / 1_000_000)
    }
}

impl From<Timestamp> for LogTime {
    fn from(time: Timestamp) -> Self {
        Self(time.0.saturating_mul(1_000_000))
    }
}

impl fmt::Display for LogTime {
    /// RFC 3339 in UTC with nanoseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => f.pad(&format!("{time:.9}")),
            Err(_) => f.pad("-"),
        }
    }
}

/// Which part of a line a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePart {
    /// A whole line.
    Full,
    /// The beginning of a line longer than a record.
    Begin,
    /// More of it.
    Continue,
    End,
    /// A whole line that no newline ends: the last of its stream.
    FullOpen,
    /// The end of a long one, likewise.
    EndOpen,
}

/// One record of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970 UTC.
    pub nanos: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Which part of the line.
    pub part: LinePart,
    /// The bytes, without newline.
    pub bytes: &'a [u8],
}

/// Whether a file's first line is one that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The line isn't complete yet.
    Incomplete,
    /// This version; records start behind the header.
    Known,
    /// Another version, or no log at all.
    Unknown,
}

/// Judges the first bytes of a file.
#[must_use]
pub fn header(first: &[u8]) -> Header {
    if first.starts_with(HEADER) {
        Header::Known
    } else if HEADER.starts_with(first)
        || (first.starts_with(MAGIC) && first.len() < 2 * HEADER.len() && !first.contains(&b'\n'))
    {
        Header::Incomplete
    } else {
        Header::Unknown
    }
}

impl Stream {
    const fn letter(self) -> u8 {
        match self {
            Self::Stdout => b'o',
            Self::Stderr => b'e',
            Self::Mill => b'm',
        }
    }

    const fn of(letter: u8) -> Option<Self> {
        match letter {
            b'o' => Some(Self::Stdout),
            b'e' => Some(Self::Stderr),
            b'm' => Some(Self::Mill),
            _ => None,
        }
    }
}

impl LinePart {
    const fn letter(self) -> u8 {
        match self {
            Self::Full => b'F',
            Self::Begin => b'B',
            Self::Continue => b'C',
            Self::End => b'E',
            Self::FullOpen => b'f',
            Self::EndOpen => b'e',
        }
    }

    const fn of(letter: u8) -> Option<Self> {
        match letter {
            b'F' => Some(Self::Full),
            b'B' => Some(Self::Begin),
            b'C' => Some(Self::Continue),
            b'E' => Some(Self::End),
            b'f' => Some(Self::FullOpen),
            b'e' => Some(Self::EndOpen),
            _ => None,
        }
    }

    /// Whether a line begins with this part.
    #[must_use]
    pub const fn begins_line(self) -> bool {
        matches!(self, Self::Full | Self::FullOpen | Self::Begin)
    }

    /// Whether a line is whole after this part.
    #[must_use]
    pub const fn ends_line(self) -> bool {
        matches!(self, Self::Full | Self::End) || self.is_open()
    }

    /// Whether no newline stands behind this part, and none will.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::FullOpen | Self::EndOpen)
    }
}

impl Record<'_> {
    /// Appends the record and its newline to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = self.nanos;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(&[b' ', self.stream.letter(), b' ', self.part.letter(), b' ']);
        out.extend_from_slice(self.bytes);
        out.push(b'\n');
    }

    /// Reads one line of a file (without its newline); `None` if it isn't a record.
    #[must_use]
    pub fn decode(line: &[u8]) -> Option<Record<'_>> {
        let space = line.iter().take(21).position(|b| *b == b' ')?;
        let nanos = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
        match line.get(space..)? {
            [b' ', stream, b' ', part, b' ', bytes @ ..] => Some(Record {
                nanos,
                stream: Stream::of(*stream)?,
                part: LinePart::of(*part)?,
                bytes,
            }),
            _ => None,
        }
    }
}

/// Cuts the bytes of one stream into the parts of its lines, in a buffer of fixed size.
#[derive(Debug)]
pub struct Splitter {
    buffer: Box<[u8]>,
    filled: usize,
    inside: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { buffer: vec![0; limits::LOG_PART_MAX].into(), filled: 0, inside: false }
    }
}

impl Splitter {
    /// The free rest of the buffer, never empty: read into it, then call [`Splitter::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes `count` bytes that were written to [`Splitter::space`]; gives out what is complete.
    pub fn filled(&mut self, count: usize, mut emit: impl FnMut(LinePart, &[u8])) {
        let scanned = self.filled;
        self.filled = (self.filled + count).min(self.buffer.len());
        let mut start = 0;
        let mut from = scanned;
        while let Some(at) = self.buffer[from..self.filled].iter().position(|b| *b == b'\n') {
            let part = if self.inside { LinePart::End } else { LinePart::Full };
            emit(part, &self.buffer[start..from + at]);
            self.inside = false;
            start = from + at + 1;
            from = start;
        }
        if start == 0 && self.filled == self.buffer.len() {
            emit(if self.inside { LinePart::Continue } else { LinePart::Begin }, &self.buffer);
            self.inside = true;
            start = self.filled;
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
    }

    /// At the end of the stream: gives out a last line that has no newline.
    pub fn finish(&mut self, mut emit: impl FnMut(LinePart, &[u8])) {
        if self.filled > 0 || self.inside {
            let part = if self.inside { LinePart::EndOpen } else { LinePart::FullOpen };
            emit(part, &self.buffer[..self.filled]);
        }
        self.filled = 0;
        self.inside = false;
    }
}

/// A line put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its last record's time, so that lines come in the order of their times.
    pub nanos: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes, without newline.
    pub bytes: Vec<u8>,
    /// No newline stands behind it: the stream ended, or it goes on in the next one.
    pub open: bool,
}

impl Joined {
    /// What mill says of the log.
    #[must_use]
    pub fn note(nanos: u64, text: impl Into<Vec<u8>>) -> Self {
        Self { nanos, stream: Stream::Mill, bytes: text.into(), open: false }
    }
}

/// Joins the parts of long lines, each stream for itself.
#[derive(Debug, Default)]
pub struct Joiner {
    open: [Option<(u64, Vec<u8>)>; 2],
}

impl Joiner {
    /// Takes one record; gives out a line when it is whole or as long as a line may be.
    pub fn push(&mut self, record: &Record<'_>, mut emit: impl FnMut(Joined)) {
        let Record { nanos, stream, part, bytes } = *record;
        let slot = match stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
            Stream::Mill => return emit(Joined::note(nanos, bytes)),
        };
        if part.begins_line()
            && let Some((nanos, bytes)) = slot.take()
        {
            emit(Joined { nanos, stream, bytes, open: false });
        }
        if slot.as_ref().is_some_and(|(_, line)| line.len() + bytes.len() > limits::LOG_LINE_MAX)
            && let Some((nanos, bytes)) = slot.take()
        {
            emit(Joined { nanos, stream, bytes, open: true });
        }
        let mut line = slot.take().map_or_else(Vec::new, |(_, line)| line);
        line.extend_from_slice(bytes);
        if part.ends_line() {
            emit(Joined { nanos, stream, bytes: line, open: part.is_open() });
        } else {
            *slot = Some((nanos, line));
        }
    }

    /// At the end of an attempt: gives out lines whose end never came.
    pub fn finish(&mut self, mut emit: impl FnMut(Joined)) {
        for (slot, stream) in self.open.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if let Some((nanos, bytes)) = slot.take() {
                emit(Joined { nanos, stream, bytes, open: true });
            }
        }
    }
}

#[cfg(test)]
mod tests;
