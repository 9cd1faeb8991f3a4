//! The verdict on health: what a probe's outcome means.
//!
//! Never probes.

use super::{Cause, Effect, Effects, Life, Stage};
use crate::fsm::model::Health;
use crate::limits;
use crate::spec::model::HealthProbe;
use crate::units::{Millis, Timestamp};

impl Life {
    /// Begins to probe a program that runs.
    pub(super) fn watch(&mut self, since: Timestamp, healthy: bool, now: Timestamp) -> Effects {
        if !self.terms.restarts {
            return self.watch_task(since, now);
        }
        self.stage = Stage::Running { since, healthy, failures: 0 };
        self.observed.health = if healthy { Health::Healthy } else { Health::Checking };
        self.op += 1;
        let after = match self.terms.health.probe {
            _ if healthy => Millis(0),
            HealthProbe::Uptime => limits::UPTIME_HEALTHY.into(),
            _ => Millis(0),
        };
        vec![Effect::Report, Effect::Probe(self.op, after)]
    }

    pub(super) fn probed(&mut self, result: Result<(), String>, now: Timestamp) -> Effects {
        let Stage::Running { since, healthy, failures } = self.stage else { return Vec::new() };
        match result {
            Ok(()) => self.probe_succeeded(since),
            Err(seen) => {
                let grace = !healthy && now.since(since) < self.terms.health.grace;
                let failures = if grace { 0 } else { failures + 1 };
                self.stage = Stage::Running { since, healthy, failures };
                self.probe_failed(seen, now)
            }
        }
    }

    fn probe_succeeded(&mut self, since: Timestamp) -> Effects {
        self.stage = Stage::Running { since, healthy: true, failures: 0 };
        let news = self.observed.health != Health::Healthy || self.observed.message.is_some();
        self.observed.health = Health::Healthy;
        self.observed.message = None;
        let mut effects = Vec::new();
        if news {
            effects.push(Effect::Report);
        }
        if self.terms.health.probe != HealthProbe::Uptime {
            effects.push(Effect::Probe(self.op, self.terms.health.interval));
        }
        effects
    }

    fn probe_failed(&mut self, seen: String, now: Timestamp) -> Effects {
        let Stage::Running { since, healthy, failures } = self.stage else { return Vec::new() };
        let age = now.since(since);
        if failures >= limits::UNHEALTHY_FAILURES {
            let (first, rest) = seen.split_once('\n').unwrap_or((&seen, ""));
            let message = format!("{first} ({failures}×)\n{rest}").trim_end().to_owned();
            self.observed.health = Health::Unhealthy;
            self.observed.message = super::headed(&message, "");
            return self.clear(Cause::Unhealthy(message));
        }
        let mut effects = Vec::new();
        // Right after the start a failure only means that the program is not up yet.
        let worth_telling = age.duration() >= limits::PROBE_QUIET;
        let message = super::headed(&seen, "");
        if worth_telling && self.observed.message != message {
            self.observed.message = message;
            effects.push(Effect::Report);
        }
        effects.push(Effect::Probe(self.op, self.pause(healthy, age)));
        effects
    }

    /// Until the first success it is probed quickly while the grace lasts: the pause is a part of
    /// the age, so that it is noticed soon without many probes.
    fn pause(&self, healthy: bool, age: Millis) -> Millis {
        let health = &self.terms.health;
        if healthy || age >= health.grace {
            return health.interval;
        }
        let [least, most] = limits::PROBE_QUICK.map(Millis::from);
        Millis((age.0 / 4).clamp(least.0, most.0)).min(health.interval)
    }
}
