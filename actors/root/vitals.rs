//! What this process counts of itself for its metrics: restarts of actors, the term.
//!
//! Never decides anything by them, and starts anew with the process.

use super::Child;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static TERM: AtomicU64 = AtomicU64::new(0);

/// From 100 µs, each twice the one before, to 1.6 s.
static COMMITS: LazyLock<Histogram> =
    LazyLock::new(|| Histogram::new(exponential_buckets(0.0001, 2.0, 15)));

/// The actors that root starts again, and how often it has.
static RESTARTS: [(Child, &str, AtomicU64); 3] = [
    (Child::Api, "api", AtomicU64::new(0)),
    (Child::Container, "container", AtomicU64::new(0)),
    (Child::Scheduler, "scheduler", AtomicU64::new(0)),
];

/// The term of the consensus has become this.
pub(in crate::actors) fn begins(term: u64) {
    TERM.store(term, Ordering::Relaxed);
}

/// The term of the consensus; 0 before there is any.
#[must_use]
pub fn term() -> u64 {
    TERM.load(Ordering::Relaxed)
}

/// A change of this node was committed and applied so long after it was proposed.
pub(super) fn committed(took: Duration) {
    COMMITS.observe(took.as_secs_f64());
}

/// How long changes of this node took, in seconds.
#[must_use]
pub fn commits() -> Histogram {
    COMMITS.clone()
}

/// A child is started again.
pub(super) fn restarted(child: Child) {
    for (own, _, count) in &RESTARTS {
        if *own == child {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The names of the actors, with how often each was started again.
pub fn restarts() -> impl Iterator<Item = (&'static str, u64)> {
    RESTARTS.iter().map(|(_, name, count)| (*name, count.load(Ordering::Relaxed)))
}
