//! Consensus glue: driving raft-rs, messages, the snapshot format.
//!
//! Never opens a socket or a file.

pub mod frame;
pub mod log;
mod logger;
pub mod node;
pub mod proto;

pub use proto::{Entry, Snapshot};

/// The format of the snapshots that this version writes, and the newest that it reads.
pub const SNAPSHOT_FORMAT: u32 = 1;
