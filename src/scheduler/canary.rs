//! Whether a new version does worse than the old one: their requests of the same time, compared.
//!
//! Owns the comparison and the sum of what the nodes counted. Never ends a canary: that is plan.

mod ledger;
#[cfg(test)]
mod tests;

pub use ledger::{Counted, Ledger};

use crate::fsm::model::Canary;
use crate::id::Revision;
use crate::limits::{CANARY_SURE, CANARY_SURE_EARLY};
use crate::node::ingress::figures::Requests;
use crate::spec::model::CanarySpec;
use crate::units::Timestamp;
use std::time::Duration;

/// Which canary of a service: of that deployment, begun then.
pub type Stage = (Revision, Timestamp);

/// The requests of a canary and of the old replicas, of all nodes, since it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Of which canary.
    pub stage: Stage,
    /// Those of the new version.
    pub new: Requests,
    /// Those of the old one.
    pub old: Requests,
    /// Every node that is there has told what it counted, or had the time to.
    pub complete: bool,
}

/// How sure a difference must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Looked at again and again, before the time is over.
    Early,
    /// Looked at once.
    Usual,
}

/// What the requests say. Each with the figures, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing can be said.
    TooFew(String),
    /// It is no worse, as far as that shows.
    Good(String),
    Worse(String),
}

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    part: f64,
    of: f64,
}

/// The share of requests that a service's 99th percentile leaves out.
const SLOWEST: f64 = 0.01;

impl Sample {
    /// Whether it is of that canary.
    #[must_use]
    pub fn is_of(&self, revision: Revision, canary: &Canary) -> bool {
        self.stage == (revision, canary.since)
    }

    /// Compares the two.
    #[must_use]
    pub fn compare(&self, spec: &CanarySpec, certainty: Certainty) -> Verdict {
        if self.new.count < u64::from(spec.min_requests) {
            let (count, least) = (self.new.count, spec.min_requests);
            return Verdict::TooFew(format!("{count} of {least} requests"));
        }
        let z = match certainty {
            Certainty::Early => CANARY_SURE_EARLY,
            Certainty::Usual => CANARY_SURE,
        };
        self.compare_at(spec, z)
    }

    /// Compares the two, however few the requests and small the difference are.
    #[must_use]
    pub fn compare_whatever(&self, spec: &CanarySpec) -> Verdict {
        self.compare_at(spec, 0.0)
    }

    fn compare_at(&self, spec: &CanarySpec, z: f64) -> Verdict {
        let (new, old) = (&self.new, &self.old);
        let allowed = spec.max_error_rate.map_or(0.0, |rate| f64::from(rate) / 100_000.0);
        let failed = |of: &Requests| Share { part: float(of.errors), of: float(of.count) };
        if failed(new).exceeds(failed(old), allowed, z) {
            let most = match spec.max_error_rate {
                Some(rate) => format!(" (at most {}%)", f64::from(rate) / 1000.0),
                None => String::new(),
            };
            return Verdict::Worse(format!("{}{most}, {}", errors(new), errors_of_old(old)));
        }
        if let Some(ratio) = spec.max_latency_ratio.map(|ratio| f64::from(ratio) / 1000.0)
            && let (Some(now), Some(before)) = (new.quantile(0.99), old.quantile(0.99))
        {
            let most = before.mul_f64(ratio);
            let slow = |of: &Requests| Share { part: of.slower(most), of: float(of.count) };
            if slow(new).exceeds(slow(old), SLOWEST, z) {
                return Verdict::Worse(format!(
                    "p99 {} of {} requests, more than {ratio} × {} of {} on the old replicas",
                    millis(now),
                    new.count,
                    millis(before),
                    old.count
                ));
            }
        }
        let times = new.quantile(0.99).zip(old.quantile(0.99));
        let times = times.map(|(now, before)| format!("; p99 {}, {}", millis(now), millis(before)));
        Verdict::Good(format!(
            "{}, {}{}",
            errors(new),
            errors_of_old(old),
            times.unwrap_or_default()
        ))
    }
}

impl Share {
    fn share(self) -> f64 {
        if self.of > 0.0 { self.part / self.of } else { 0.0 }
    }

    /// It is above what is allowed, by more than the deviation of that, and above the other one by
    /// more than chance explains: the test of two proportions, pooled and corrected for continuity
    /// (Fleiss, Statistical Methods for Rates and Proportions). Where the other one has no
    /// requests, what is allowed stands for its share.
    fn exceeds(self, other: Self, allowed: f64, z: f64) -> bool {
        // A share of few requests lies above what is allowed by chance, too.
        let chance = if z > 0.0 { (allowed * (1.0 - allowed) / self.of).sqrt() } else { 0.0 };
        if self.share() <= allowed + chance {
            return false;
        }
        let (usual, inverse) = match other.of > 0.0 {
            true => (other.share(), 1.0 / self.of + 1.0 / other.of),
            false => (allowed, 1.0 / self.of),
        };
        let pooled = match other.of > 0.0 {
            true => (self.part + other.part) / (self.of + other.of),
            // Without any, one of a thousand.
            false => allowed.max(0.001),
        };
        let deviation = (pooled * (1.0 - pooled) * inverse).sqrt();
        let correction = if z > 0.0 { inverse / 2.0 } else { 0.0 };
        let difference = self.share() - usual - correction;
        difference > z * deviation
    }
}

/// Counts of requests are far below 2^52, where digits would be lost.
#[allow(clippy::cast_precision_loss, reason = "shares for a comparison")]
fn float(count: u64) -> f64 {
    count as f64
}

fn percent(of: &Requests) -> String {
    let share = Share { part: float(of.errors), of: float(of.count) }.share() * 100.0;
    let digits = if share > 0.0 && share < 0.1 { 2 } else { 1 };
    let text = format!("{share:.digits$}");
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

fn errors(new: &Requests) -> String {
    format!("{} of {} requests failed", percent(new), new.count)
}

fn errors_of_old(old: &Requests) -> String {
    match old.count {
        0 => "none came to the old replicas".to_owned(),
        count => format!("{} of {count} on the old replicas", percent(old)),
    }
}

fn millis(time: Duration) -> String {
    match time.as_secs_f64() * 1000.0 {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 10_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.0}s", ms / 1000.0),
    }
}
