//! Choices from a string of bytes, so that proptest can shrink what was built by them.
//!
//! Owns drawing only. Never knows what is drawn for.

/// Draws from bytes; all draws after the last byte are zero.
pub struct Dice {
    bytes: Vec<u8>,
    at: usize,
}

impl Dice {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        usize::from(byte) % n.max(1)
    }

    pub fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
