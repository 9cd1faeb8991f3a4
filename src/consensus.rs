//! consensus: raft without sockets and files, and proposals on their way to the leader.
//!
//! Owns what is agreed on and in which order. Never does I/O.

pub mod propose;
pub mod raft;
