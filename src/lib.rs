//! mill: a container orchestrator for 1 to 20 machines.
//!
//! The library behind the one binary. `src/` is the functional core and the command line, `actors/`
//! the imperative shell around it; the direction is `main → daemon → actors → core`, never back.

#[path = "../actors/mod.rs"]
pub mod actors;
mod bugs;
pub mod cli;
pub mod clock;
pub mod config;
pub mod copies;
pub mod daemon;
pub mod events;
pub mod fsm;
pub mod guard;
pub mod id;
pub mod join;
pub mod life;
pub mod limits;
pub mod members;
pub mod network;
pub mod oci;
pub mod place;
pub mod plan;
pub mod preview;
pub mod project;
pub mod propose;
pub mod raft;
pub mod retain;
pub mod revise;
pub mod secret;
pub mod silence;
pub mod spawn;
pub mod spec;
pub mod supervise;
pub mod token;
pub mod trust;
pub mod units;
pub mod views;
mod watch;
pub mod why;
pub mod wire;

#[cfg(test)]
#[path = "../harness/sim/mod.rs"]
mod sim;
