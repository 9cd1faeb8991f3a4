//! Tests that need the test support, and of it.

mod container;
mod crash;
mod lap;
mod logger;
mod poll;
mod raft;
mod registry;
mod runtime;
mod sweep;
