//! Tests of the test support itself.

mod logger;
mod poll;
mod raft;
mod registry;
mod sweep;
