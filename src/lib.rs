//! mill: a container orchestrator for 1 to 20 machines.
//!
//! The library behind the one binary. `src/` is the functional core and the command line, `actors/`
//! the imperative shell around it; the direction is `main → daemon → actors → core`, never back.

#[path = "../actors/mod.rs"]
pub mod actors;
pub mod allocation;
pub mod api;
pub mod backoff;
pub mod backup;
mod bugs;
pub mod cidr;
pub mod cli;
pub mod cluster;
pub mod compose;
pub mod config;
pub mod consensus;
pub mod daemon;
pub mod fsm;
pub mod id;
pub mod limits;
pub mod mix;
pub mod network;
pub mod node;
pub mod reasons;
pub mod scheduler;
pub mod secret;
pub mod spec;
pub mod units;

#[cfg(test)]
#[path = "../harness/sim/mod.rs"]
mod sim;
