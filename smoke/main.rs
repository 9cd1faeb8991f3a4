//! End-to-end tests: the real binary, real containers.
//!
//! One file a subject; never a mock. `support/` starts the nodes and takes everything away again.

#[path = "../harness/poll.rs"]
#[allow(dead_code, reason = "for tests to come")]
mod poll;
#[path = "../harness/registry.rs"]
#[allow(dead_code, reason = "for tests to come")]
mod registry;
#[allow(dead_code, reason = "for tests to come")]
mod support;
