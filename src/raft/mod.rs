//! Consensus glue: driving raft-rs, messages, the snapshot format.
//!
//! Never opens a socket or a file.

pub mod proto;

pub use proto::{Entry, Snapshot};
