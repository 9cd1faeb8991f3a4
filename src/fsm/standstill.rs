//! Times when nobody led: they count for no deadline.
//!
//! Owns which are remembered, and when a deadline comes that runs over one. Never finds one: that
//! is the new leader's.

use super::{Outcome, Rejection, State, Touched};
use crate::limits;
use crate::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Nobody led from then to then, in replicated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// The last moment of a leader.
    pub from: Timestamp,
    /// The first of the next.
    pub to: Timestamp,
}

impl State {
    /// Nobody has led since then until now.
    pub(super) fn stood_still(
        &mut self,
        from: Timestamp,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let last = self.standstills.last().map(|last| last.to).unwrap_or_default();
        let (from, to) = (from.max(last), self.time);
        if from >= to {
            return Err(Rejection::Stale);
        }
        let excess = (self.standstills.len() + 1).saturating_sub(limits::STANDSTILLS);
        self.standstills.drain(..excess);
        self.standstills.push(Standstill { from, to });
        // What was planned without knowing of it is stale.
        let apps: Vec<_> = self.apps.keys().cloned().collect();
        for app in apps {
            self.outdate(&app, touched);
        }
        Ok(Outcome::Done)
    }

    /// When a time that began then is over: what nobody led of it doesn't count.
    #[must_use]
    pub fn due(&self, since: Timestamp, bound: Millis) -> Timestamp {
        let mut at = since.plus(bound);
        for one in &self.standstills {
            if one.to > since && one.from < at {
                at = at.plus(one.to.since(one.from.max(since)));
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        before = { 300, 10, 310 },
        after = { 10, 20, 30 },
        over_one = { 90, 20, 210 },
        within_one = { 150, 10, 210 },
        up_to_one = { 90, 10, 100 },
        over_both = { 90, 120, 360 },
        from_the_end_of_one = { 200, 5, 205 },
    )]
    fn a_standstill_counts_for_no_deadline(since: u64, bound: u64, due: u64) {
        let one = |from, to| Standstill { from: Timestamp(from), to: Timestamp(to) };
        let standstills = vec![one(100, 200), one(250, 300)];
        let state = State { standstills, ..State::default() };
        assert_eq!(state.due(Timestamp(since), Millis(bound)), Timestamp(due));
    }

    #[test]
    fn they_are_bounded_and_in_order() {
        let mut state = State::default();
        let mut touched = Touched::default();
        for n in 2..=limits::STANDSTILLS as u64 + 4 {
            state.time = Timestamp(n * 100);
            let from = Timestamp(n * 100 - 150);
            assert!(state.stood_still(from, &mut touched).is_ok());
            assert_eq!(state.stood_still(from, &mut touched), Err(Rejection::Stale));
        }
        assert_eq!(state.standstills.len(), limits::STANDSTILLS);
        assert!(state.standstills.windows(2).all(|two| two[0].to <= two[1].from));
    }
}
