//! Access logs among the logs of a node: written by the proxy, read like a container's.
//!
//! Owns that they have the same format and bounds. Never says what stands in a line.

use super::files;
use super::format::{LinePart, LogTime, Stream};
use super::writer::Writer;
use crate::id::{AllocId, Attempt};
use std::path::Path;

/// Writes one of them.
#[derive(Debug)]
pub struct AccessWriter(Writer);

impl AccessWriter {
    /// Begins another file of that log.
    #[must_use]
    pub fn new(data_dir: &Path, log: &AllocId) -> Self {
        Self(Writer::new(files::directory(data_dir, log), Attempt(1)))
    }

    /// Adds a line, without its newline.
    pub fn push(&mut self, time: LogTime, line: &[u8]) {
        self.0.push(time.0, Stream::Stdout, LinePart::Full, line);
    }

    /// Adds a word of mill's own.
    pub fn note(&mut self, time: LogTime, text: &str) {
        self.0.push(time.0, Stream::Mill, LinePart::Full, text.as_bytes());
    }

    /// Writes what was added.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}
