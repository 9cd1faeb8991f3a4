//! Consensus glue: driving raft-rs, messages, the snapshot format.
//!
//! Never opens a socket or a file.
