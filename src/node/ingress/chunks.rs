//! Where a chunked body ends (RFC 9112, 7.1), read strictly: what two readers could take for
//! different lengths is refused.
//!
//! Owns the place in the body. Never keeps its bytes.

use crate::limits::{CHUNK_LINE_MAX, TRAILERS_MAX};
use std::io::Write as _;

/// A body that can be read in two ways, or is no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body's chunks can't be read")]
pub struct BadChunk;

/// A place in a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    /// Length of the line or trailers so far.
    line: usize,
    size: u64,
    digits: u8,
    data: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    Extension,
    SizeEnd,
    Data(u64),
    DataReturn,
    DataEnd,
    /// At the first byte of a line of the trailers.
    Trailer,
    InTrailer,
    TrailerEnd,
    LastEnd,
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { place: Place::Size, line: 0, size: 0, digits: 0, data: 0 }
    }
}

impl Chunks {
    /// Nothing of the body is missing.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Bytes so far, without what frames them.
    #[must_use]
    pub fn data(&self) -> u64 {
        self.data
    }

    /// How many of these bytes belong to the body; fewer than all only where it ends.
    ///
    /// # Errors
    /// It can't be read.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        self.walk(bytes, None)
    }

    /// As [`Chunks::advance`], and writes the body on: in chunks of the same sizes, without
    /// extensions, and without trailers, which could be taken for headers.
    ///
    /// # Errors
    /// It can't be read.
    pub fn copy(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        self.walk(bytes, Some(out))
    }

    fn walk(&mut self, bytes: &[u8], mut out: Option<&mut Vec<u8>>) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let Place::Data(left) = self.place {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                if let Some(out) = &mut out {
                    out.extend_from_slice(&bytes[at..at + here]);
                }
                at += here;
                self.data += here as u64;
                let left = left - here as u64;
                self.place = if left == 0 { Place::DataReturn } else { Place::Data(left) };
                continue;
            }
            let before = self.place;
            self.step(bytes[at])?;
            at += 1;
            let Some(out) = &mut out else { continue };
            // Writing to memory can't fail.
            let _ = match (before, self.place) {
                (Place::SizeEnd, Place::Data(size)) => write!(out, "{size:x}\r\n"),
                (Place::DataEnd, Place::Size) => write!(out, "\r\n"),
                (Place::LastEnd, Place::Done) => write!(out, "0\r\n\r\n"),
                _ => Ok(()),
            };
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.line += 1;
        self.place = match (self.place, byte) {
            (Place::Size, b) if b.is_ascii_hexdigit() => self.digit(b)?,
            (Place::Size, b'\r') if self.digits > 0 => Place::SizeEnd,
            (Place::Size, b';' | b' ' | b'\t') if self.digits > 0 => Place::Extension,
            (Place::Extension, b'\r') => Place::SizeEnd,
            (Place::Extension, b) if is_text(b) && self.line <= CHUNK_LINE_MAX => Place::Extension,
            (Place::SizeEnd, b'\n') if self.size == 0 => self.begin(Place::Trailer),
            (Place::SizeEnd, b'\n') => {
                let size = self.size;
                self.begin(Place::Data(size))
            }
            (Place::DataReturn, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => self.begin(Place::Size),
            (Place::Trailer, b'\r') => Place::LastEnd,
            (Place::Trailer, b) if is_token(b) && self.line <= TRAILERS_MAX => Place::InTrailer,
            (Place::InTrailer, b'\r') => Place::TrailerEnd,
            (Place::InTrailer, b) if is_text(b) && self.line <= TRAILERS_MAX => Place::InTrailer,
            (Place::TrailerEnd, b'\n') => Place::Trailer,
            (Place::LastEnd, b'\n') => Place::Done,
            _ => return Err(BadChunk),
        };
        Ok(())
    }

    fn begin(&mut self, place: Place) -> Place {
        (self.line, self.size, self.digits) = (0, 0, 0);
        place
    }

    fn digit(&mut self, byte: u8) -> Result<Place, BadChunk> {
        self.digits += 1;
        if self.digits > 15 {
            return Err(BadChunk);
        }
        let digit = char::from(byte).to_digit(16).ok_or(BadChunk)?;
        self.size = self.size * 16 + u64::from(digit);
        Ok(Place::Size)
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        empty = { b"0\r\n\r\n" },
        one = { b"5\r\nhello\r\n0\r\n\r\n" },
        two = { b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n" },
        extension = { b"5;a=b\r\nhello\r\n0\r\n\r\n" },
        blank = { b"5 \r\nhello\r\n0\r\n\r\n" },
        trailers = { b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n" },
        zeros = { b"00\r\n\r\n" },
    )]
    fn a_body_ends_where_it_ends(body: &[u8]) {
        let next = [body, b"GET / HTTP/1.1\r\n"].concat();
        let mut whole = Chunks::default();
        assert_eq!(whole.advance(&next), Ok(body.len()));
        assert!(whole.is_done());
        let mut slow = Chunks::default();
        for byte in body {
            assert!(!slow.is_done());
            assert_eq!(slow.advance(&[*byte]), Ok(1));
        }
        assert!(slow.is_done());
    }

    #[parameterized(
        no_size = { b"\r\nhello" },
        not_hex = { b"5g\r\n" },
        sign = { b"+5\r\nhello\r\n" },
        prefix = { b"0x5\r\nhello\r\n" },
        bare_newline = { b"5\nhello\r\n" },
        newline_in_extension = { b"5;a\nb\r\nhello\r\n" },
        return_in_extension = { b"5;a\rb\r\nhello\r\n" },
        longer_than_said = { b"5\r\nhello!\r\n" },
        shorter_than_said = { b"6\r\nhello\r\n0\r\n" },
        huge = { b"ffffffffffffffff1\r\n" },
        folded_trailer = { b"0\r\n x\r\n\r\n" },
        bare_newline_at_the_end = { b"0\r\n\n" },
    )]
    fn what_could_be_read_in_two_ways_is_refused(body: &[u8]) {
        assert_eq!(Chunks::default().advance(body), Err(BadChunk));
    }

    #[test]
    fn what_is_written_on_has_one_form() {
        let body = b"05;a=b\r\nhello\r\nA \r\n0123456789\r\n00\r\nX-Real-IP: 1\r\n\r\nGET";
        let expected = "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";
        for piece in [1, 2, 7, body.len()] {
            let (mut chunks, mut out) = (Chunks::default(), Vec::new());
            let used: usize = body.chunks(piece).map(|b| chunks.copy(b, &mut out).unwrap()).sum();
            assert_eq!((used, chunks.data(), chunks.is_done()), (body.len() - 3, 15, true));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        assert_eq!(chunks.copy(b"3\r\nabcd\r\n", &mut out), Err(BadChunk));
    }

    #[test]
    fn lines_are_bounded() {
        let long = [b"5;".as_slice(), &vec![b'a'; CHUNK_LINE_MAX]].concat();
        assert_eq!(Chunks::default().advance(&long), Err(BadChunk));
        let long = [b"0\r\nX: ".as_slice(), &vec![b'a'; TRAILERS_MAX]].concat();
        assert_eq!(Chunks::default().advance(&long), Err(BadChunk));
    }
}
