//! How long messages wait in an actor's mailbox, by samples: a stamp that is sent like any other
//! message, and tells its age when it is handled.
//!
//! Owns the samples. At most one is on its way to an actor, and none is sent while nothing happens.
//! Never decides anything by them.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

type Labels = [(&'static str, &'static str); 1];

/// How long messages waited, of all actors; a clone knows the same.
#[derive(Clone, Debug)]
pub struct Waits(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for Waits {
    fn default() -> Self {
        // From 10 µs, each four times the one before, to 42 s.
        let one: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_01, 4.0, 12));
        Self(Family::new_with_constructor(one))
    }
}

impl Waits {
    /// The mailbox of the actor with that name.
    #[must_use]
    pub fn of(&self, actor: &'static str) -> Mailbox {
        let waits = self.0.get_or_create_owned(&[("actor", actor)]);
        Mailbox { waits, busy: Arc::default() }
    }

    /// Shows them among other figures.
    pub fn register(&self, registry: &mut Registry) {
        let help = "How long messages waited in an actor's mailbox, in seconds; by samples";
        registry.register("mill_actor_mailbox_seconds", help, self.0.clone());
    }
}

/// What is known of one mailbox, over restarts of its actor.
#[derive(Clone, Debug)]
pub struct Mailbox {
    waits: Histogram,
    /// A stamp is on its way.
    busy: Arc<AtomicBool>,
}

impl Mailbox {
    /// A stamp to send now, unless one is on its way.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        let is_free = !self.busy.swap(true, Ordering::Relaxed);
        is_free.then(|| Stamp { sent: Instant::now(), mailbox: self.clone() })
    }
}

/// A message on its way through a mailbox. One that is dropped unread, with its actor, counts for
/// nothing.
#[derive(Debug)]
pub struct Stamp {
    sent: Instant,
    mailbox: Mailbox,
}

impl Stamp {
    /// It is handled now.
    pub fn arrived(self) {
        self.mailbox.waits.observe(self.sent.elapsed().as_secs_f64());
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.mailbox.busy.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stamp_is_on_its_way_at_a_time_and_a_lost_one_makes_room() {
        let mailbox = Waits::default().of("root");
        let first = mailbox.stamp().unwrap();
        assert!(mailbox.stamp().is_none());
        first.arrived();
        let lost = mailbox.stamp().unwrap();
        drop(lost);
        assert!(mailbox.clone().stamp().is_some());
    }
}
