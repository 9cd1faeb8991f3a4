//! Test support and the tests that need it: fakes, simulation, style rules.
//!
//! Never holds an end-to-end test: those are in `smoke/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test tells by panicking; to clippy only `#[test]` functions are tests"
)]

#[allow(dead_code, reason = "shared with the benchmarks")]
mod cluster;
mod crash;
mod history;
#[allow(dead_code, reason = "shared with smoke/, which uses other parts of it")]
mod poll;
#[cfg(test)]
mod ports;
#[allow(dead_code, reason = "shared with smoke/, which uses other parts of it")]
mod provider;
mod raft;
mod real_root;
#[allow(dead_code, reason = "shared with smoke/, which uses other parts of it")]
mod registry;
#[cfg(test)]
mod spec;
#[cfg(test)]
mod tests;
mod tidy;
