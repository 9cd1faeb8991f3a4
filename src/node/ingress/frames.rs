//! Where the frames of a WebSocket end (RFC 6455, 5.2): only there a close frame can follow.
//!
//! Owns the place in the stream. Never keeps its bytes.

/// "Going away" (RFC 6455, 7.4.1), as a server sends it.
const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xe9];
/// The opcode of a close frame.
const CLOSE: u8 = 8;
/// Longest head of a frame.
const HEAD_MAX: usize = 14;

/// A place in a stream of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    head: [u8; HEAD_MAX],
    /// Bytes of the head so far.
    have: usize,
    /// Bytes of the frame that are still to come.
    left: u64,
    /// A close frame has come.
    closed: bool,
}

impl Frames {
    /// These bytes came.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.head[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if self.have >= 2 && self.have == self.needed() {
                self.closed |= self.head[0] & 0x0f == CLOSE;
                self.left = self.length();
                self.have = 0;
            }
        }
    }

    /// What the other side is told where the stream ends here: nothing if it was told already, or
    /// within a frame.
    #[must_use]
    pub fn end(&self) -> Option<&'static [u8]> {
        (self.have == 0 && self.left == 0 && !self.closed).then_some(GOING_AWAY)
    }

    /// Length of a head that begins like this one.
    fn needed(&self) -> usize {
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn length(&self) -> u64 {
        let of = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.head[1] & 0x7f {
            126 => of(&self.head[2..4]),
            127 => of(&self.head[2..10]),
            length => length.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        nothing = { b"", true },
        whole = { b"\x81\x02hi", true },
        two = { b"\x81\x02hi\x82\x01x", true },
        ping = { b"\x89\x00", true },
        masked = { b"\x81\x82abcdhi", true },
        cut_head = { b"\x81", false },
        cut_payload = { b"\x81\x02h", false },
        cut_mask = { b"\x81\x82abc", false },
        cut_length = { b"\x81\x7e\x00", false },
        closed = { b"\x81\x02hi\x88\x02\x03\xe8", false },
        closed_without_a_word = { b"\x88\x00", false },
    )]
    fn a_close_frame_follows_only_where_a_frame_ends(bytes: &[u8], follows: bool) {
        let mut whole = Frames::default();
        whole.advance(bytes);
        assert_eq!(whole.end().is_some(), follows);
        let mut parts = Frames::default();
        bytes.iter().for_each(|byte| parts.advance(&[*byte]));
        assert_eq!(parts.end(), whole.end());
    }

    #[test]
    fn long_frames_have_long_heads() {
        for (head, length) in [
            (&b"\x82\x7e\x01\x00"[..], 256),
            (&b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"[..], 65_536),
        ] {
            let mut frames = Frames::default();
            frames.advance(head);
            frames.advance(&vec![0; length - 1]);
            assert_eq!(frames.end(), None);
            frames.advance(&[0]);
            assert_eq!(frames.end(), Some(GOING_AWAY));
        }
    }
}
