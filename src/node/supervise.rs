//! The restart decision for a failed actor.
//!
//! Owns backoff and the bound on restarts. Never starts or stops anything.

use crate::limits;
use crate::units::Millis;
use std::collections::VecDeque;
use std::time::Duration;

/// What to do about a failed actor.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this long.
    RestartAfter(Duration),
    /// It failed too often: end the process, so that the service manager starts it anew.
    GiveUp,
}

/// The failures of one actor within the last minute.
#[derive(Clone, Debug, Default)]
pub struct History {
    failures: VecDeque<Millis>,
}

impl History {
    /// Takes a failure into account. `now` is a monotonic time.
    pub fn failed(&mut self, now: Millis) -> Decision {
        let window = Millis::from(limits::RESTART_WINDOW);
        while self.failures.front().is_some_and(|at| at.0 + window.0 <= now.0) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let count = self.failures.len();
        if count > limits::RESTARTS_PER_WINDOW {
            return Decision::GiveUp;
        }
        let doublings = u32::try_from(count - 1).unwrap_or(u32::MAX).min(16);
        Decision::RestartAfter(limits::RESTART_FIRST * 2u32.pow(doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_and_gives_up_after_too_many_in_a_minute() {
        let mut history = History::default();
        let delays: Vec<Decision> = (0..6).map(|n| history.failed(Millis(n))).collect();
        let ms = |n| Decision::RestartAfter(Duration::from_millis(n));
        assert_eq!(delays, [ms(50), ms(100), ms(200), ms(400), ms(800), Decision::GiveUp]);
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let mut history = History::default();
        for minute in 0..20 {
            let decision = history.failed(Millis::secs(minute * 61));
            assert_eq!(decision, Decision::RestartAfter(limits::RESTART_FIRST));
        }
    }
}
