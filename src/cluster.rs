//! The cluster: its members, who may join, whom to trust, who is silent, what time it is.
//!
//! Owns decisions about nodes. Never talks to one.

pub mod clock;
pub mod clocks;
pub mod crowd;
pub mod failure_detector;
pub mod guard;
pub mod join;
pub mod members;
pub mod token;
pub mod trust;
pub(crate) mod watch;
