//! Consensus glue: driving raft-rs, messages, the snapshot format.
//!
//! Never opens a socket or a file.

pub mod consensus;
pub mod event;
pub mod frame;
pub mod log;
mod logger;
pub mod node;
pub mod pace;
pub mod proto;
pub mod recover;
pub mod ticks;

pub use proto::{Entry, Snapshot};

use crate::limits;

/// The format of the snapshots that this version writes, and the newest that it reads.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// What went wrong outside.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sizes that a simulation makes smaller, so that little is enough to reach them.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Applied entries after which a snapshot is taken.
    pub snapshot_entries: u64,
    /// Bytes of applied entries after which a snapshot is taken.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot for peers that are slightly behind.
    pub entries_kept: u64,
    /// And most bytes of them.
    pub bytes_kept: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            snapshot_entries: limits::SNAPSHOT_ENTRIES,
            snapshot_bytes: limits::SNAPSHOT_BYTES,
            entries_kept: limits::ENTRIES_KEPT,
            bytes_kept: limits::ENTRIES_KEPT_BYTES,
        }
    }
}
