//! Tests of the test support itself.

mod poll;
mod raft;
mod registry;
