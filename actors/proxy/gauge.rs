//! What this node knows of a replica: how many requests it has under way there, and whether it
//! failed lately.
//!
//! Owns the counts, over changes of the table. Never chooses a replica.

use crate::actors::traffic::{ReplicaTraffic, Traffic};
use crate::limits::{EJECT_AFTER, EJECT_FIRST, EJECT_MOST};
use crate::node::ingress::table::Load;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The counts of one replica.
#[derive(Debug)]
pub struct Gauge {
    active: AtomicU32,
    /// Failures in a row.
    failures: AtomicU32,
    /// Until when it is left out, in milliseconds since `begun`.
    out_until: AtomicU64,
    begun: Instant,
    traffic: Arc<ReplicaTraffic>,
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Gauge {
    /// Of a replica whose requests are counted there.
    #[must_use]
    pub fn new(traffic: Arc<ReplicaTraffic>) -> Self {
        Self {
            active: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            begun: Instant::now(),
            traffic,
        }
    }

    /// What counts when a replica is chosen.
    #[must_use]
    pub fn load(&self) -> Load {
        let until = self.out_until.load(Ordering::Relaxed);
        let out = until > 0 && self.millis() < until;
        Load { active: self.active.load(Ordering::Relaxed), out }
    }

    /// It answered.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A connection to it failed, or broke off before an answer.
    pub fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < EJECT_AFTER {
            return;
        }
        let again = (failures - EJECT_AFTER).min(16);
        let span = EJECT_FIRST.saturating_mul(1 << again).min(EJECT_MOST);
        let until = self.millis() + u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.out_until.store(until, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Seat {
    gauge: Arc<Gauge>,
    begun: Instant,
    /// How long the answer's head took.
    head: Option<Duration>,
}

impl Seat {
    /// A request begins.
    #[must_use]
    pub fn take(gauge: &Arc<Gauge>) -> Self {
        gauge.active.fetch_add(1, Ordering::Relaxed);
        Self { gauge: Arc::clone(gauge), begun: Instant::now(), head: None }
    }

    /// The answer's head has come.
    pub fn answered(&mut self) {
        self.head = Some(self.begun.elapsed());
        self.gauge.answered();
    }

    /// The replica did not do what it was asked.
    pub fn failed(self, traffic: &Traffic) {
        self.gauge.failed();
        self.ended(traffic, 0, (0, 0));
    }

    /// The request is over, answered with that code.
    pub fn ended(self, traffic: &Traffic, code: u16, bytes: (u64, u64)) {
        let took = self.head.unwrap_or_else(|| self.begun.elapsed());
        traffic.tried(&self.gauge.traffic, code, took, bytes);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gauge.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_counts_while_it_is_held() {
        let gauge = Arc::new(Gauge::default());
        let seats = [Seat::take(&gauge), Seat::take(&gauge)];
        assert_eq!(gauge.load(), Load { active: 2, out: false });
        drop(seats);
        assert_eq!(gauge.load(), Load::default());
    }

    #[test]
    fn who_fails_in_a_row_is_left_out() {
        let gauge = Gauge::default();
        gauge.failed();
        gauge.failed();
        gauge.answered();
        gauge.failed();
        gauge.failed();
        assert!(!gauge.load().out);
        gauge.failed();
        assert!(gauge.load().out);
    }
}
