//! Figures of requests: how many, which failed, how long they took; of the last seconds and of all.
//!
//! Owns the slots of time and what is read off them. Figures of several nodes add up. Never reads
//! a clock.

use crate::limits::{FIGURE_SLOT, FIGURE_SLOTS};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Number of buckets of times: up to a minute.
pub const BUCKETS: usize = 65;

/// Upper bound of the first bucket, in microseconds; each further one is 1.2 times the one before,
/// so that a time is known to a tenth.
const FIRST: f64 = 500.0;
const FACTOR: f64 = 1.2;

/// Classes of codes: without an answer, then 1xx to 5xx.
pub const CLASSES: usize = 6;

/// Requests of some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    pub count: u64,
    /// Of these answered with 500 and above, or not at all.
    pub errors: u64,
    /// How many were answered with a code of each class.
    pub codes: [u64; CLASSES],
    /// Bytes of bodies that came from clients.
    pub received: u64,
    /// Bytes of bodies that went to clients.
    pub sent: u64,
    /// How many took about that long; what is left out at the end is none.
    pub times: Vec<u64>,
}

impl Requests {
    /// Adds another node's, or another slot's.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.received += other.received;
        self.sent += other.sent;
        for (own, more) in self.codes.iter_mut().zip(&other.codes) {
            *own += more;
        }
        if self.times.len() < other.times.len() {
            self.times.resize(other.times.len().min(BUCKETS), 0);
        }
        for (own, more) in self.times.iter_mut().zip(&other.times) {
            *own += more;
        }
    }

    /// The time within which that share of the requests was answered; none without requests.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.times.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = share * float(all);
        let mut before = 0.0;
        for (bucket, count) in self.times.iter().enumerate() {
            let count = float(*count);
            if count > 0.0 && before + count >= wanted {
                let low = low(bucket);
                let micros = low + (bound(bucket) - low) * (wanted - before) / count;
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            before += count;
        }
        None
    }

    /// About how many took longer than that.
    #[must_use]
    pub fn slower(&self, time: Duration) -> f64 {
        let micros = time.as_secs_f64() * 1e6;
        let part = |(bucket, count): (usize, &u64)| {
            let (low, high) = (low(bucket), bound(bucket));
            float(*count) * ((high - micros) / (high - low)).clamp(0.0, 1.0)
        };
        self.times.iter().enumerate().map(part).sum()
    }

    /// A request ended. Code 0: without an answer. Of its bodies so many bytes came and went.
    pub fn add(&mut self, code: u16, took: Duration, (received, sent): (u64, u64)) {
        self.count += 1;
        self.errors += u64::from(code >= 500 || code == 0);
        let class = usize::from(code / 100).min(CLASSES - 1);
        self.codes[class] += 1;
        self.received += received;
        self.sent += sent;
        let bucket = bucket(took);
        if self.times.len() <= bucket {
            self.times.resize(bucket + 1, 0);
        }
        self.times[bucket] += 1;
    }
}

/// Counts of a canary's whole time fit.
#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn float(count: u64) -> f64 {
    count as f64
}

fn low(bucket: usize) -> f64 {
    if bucket == 0 { 0.0 } else { bound(bucket - 1) }
}

fn bound(bucket: usize) -> f64 {
    FIRST * FACTOR.powi(i32::try_from(bucket).unwrap_or(i32::MAX))
}

fn bucket(took: Duration) -> usize {
    let micros = took.as_secs_f64() * 1e6;
    (0..BUCKETS).find(|at| micros <= bound(*at)).unwrap_or(BUCKETS - 1)
}

/// Requests by slots of time, the oldest given up for the newest.
#[derive(Clone, Debug)]
pub struct Window {
    slots: [(u64, Requests); FIGURE_SLOTS],
}

impl Default for Window {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| (0, Requests::default())) }
    }
}

/// The number of the slot of a time since the start, from 1.
fn slot(now: Duration) -> u64 {
    now.as_secs() / FIGURE_SLOT.as_secs() + 1
}

impl Window {
    /// A request ended. Code 0: without an answer.
    pub fn add(&mut self, now: Duration, code: u16, took: Duration, bytes: (u64, u64)) {
        let number = slot(now);
        let at = usize::try_from(number % FIGURE_SLOTS as u64).unwrap_or(0);
        let (of, requests) = &mut self.slots[at];
        if *of != number {
            (*of, *requests) = (number, Requests::default());
        }
        requests.add(code, took, bytes);
    }

    /// The requests of the last minute, without the slot that is not over.
    #[must_use]
    pub fn minute(&self, now: Duration) -> Requests {
        self.last(now, FIGURE_SLOTS as u64 - 1)
    }

    /// Requests a second, in the last ten seconds.
    #[must_use]
    pub fn per_second(&self, now: Duration) -> f64 {
        float(self.last(now, 2).count) / (2.0 * FIGURE_SLOT.as_secs_f64())
    }

    fn last(&self, now: Duration, slots: u64) -> Requests {
        let current = slot(now);
        let mut all = Requests::default();
        for (number, requests) in &self.slots {
            if *number > 0 && *number < current && *number + slots >= current {
                all.merge(requests);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_last_seconds() {
        let mut window = Window::default();
        let at = Duration::from_secs;
        for second in 0..10 {
            for _ in 0..5 {
                window.add(at(second), 200, Duration::from_millis(3), (0, 0));
            }
        }
        window.add(at(9), 503, Duration::from_secs(2), (0, 0));
        assert!((window.per_second(at(10)) - 5.1).abs() < 0.001);
        let minute = window.minute(at(30));
        assert_eq!((minute.count, minute.errors), (51, 1));
        assert!((window.per_second(at(30))).abs() < 0.001);
        assert_eq!(window.minute(at(120)).count, 0);
    }

    #[test]
    fn a_quantile_is_near_the_time_and_figures_add_up() {
        let (mut one, mut other) = (Requests::default(), Requests::default());
        for _ in 0..98 {
            one.add(200, Duration::from_millis(10), (1, 2));
        }
        other.add(200, Duration::from_millis(400), (1, 2));
        other.add(200, Duration::from_millis(400), (1, 2));
        one.merge(&other);
        let median = one.quantile(0.5).unwrap().as_millis();
        let p99 = one.quantile(0.99).unwrap().as_millis();
        assert!((8..=12).contains(&median), "{median}");
        assert!((330..=480).contains(&p99), "{p99}");
        assert_eq!((one.received, one.sent, one.codes), (100, 200, [0, 0, 100, 0, 0, 0]));
        assert!((one.slower(Duration::from_millis(100)) - 2.0).abs() < 0.001);
        assert_eq!(Requests::default().quantile(0.5), None);
    }
}
