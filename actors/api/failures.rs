//! Failed authentications, counted by where they come from.
//!
//! Never keeps what was tried.

use crate::cluster::guard::Guard;
use crate::units::Millis;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Failed authentications, counted by where they come from.
pub struct Failures {
    guard: Mutex<Guard>,
    began: Instant,
}

impl Default for Failures {
    fn default() -> Self {
        Self { guard: Mutex::default(), began: Instant::now() }
    }
}

impl Failures {
    /// Counts one; whether it may be answered.
    pub fn count(&self, origin: IpAddr) -> bool {
        let now = Millis::from(self.began.elapsed());
        // A panic elsewhere leaves the counts as they were, which is good enough.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).failed(origin, now)
    }
}
