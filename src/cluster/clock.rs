//! Replicated time as one node knows it, and the clock of a leader.
//!
//! Owns where a new leader's time begins, when it may step forward to the wall clock, and how it
//! follows that otherwise. Never reads a clock itself and never runs backwards.

#[cfg(test)]
mod tests;

use crate::id::NodeId;
use crate::limits;
use crate::units::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Of the difference to wall time, this part of the time that passed is made up: one in 20.
const SLEW: u64 = 20;

/// What a node knows of replicated time. `now` is of a clock that never runs back.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Replicated time at a moment: each only together with the other.
    known: Option<(Timestamp, Millis)>,
    /// When there last was a leader, in this boot.
    led: Option<Millis>,
    has_leader: bool,
    lead: Option<LeaderClock>,
    /// How far each other member's clock is ahead of this one's, and when it said so.
    ahead: BTreeMap<NodeId, (i64, Millis)>,
}

/// What a leader knows of time as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Since when nobody led, if that was for long.
    pub silent_since: Option<Timestamp>,
}

impl Clock {
    /// An entry that carries this time was applied, which was committed just now.
    pub fn applied(&mut self, time: Timestamp, now: Millis) {
        if self.lead.is_none() && self.known.is_none_or(|(known, _)| time > known) {
            self.known = Some((time, now));
        }
    }

    /// There is a leader from now on, or none.
    pub fn set_leader(&mut self, is_there: bool, now: Millis) {
        if is_there || self.has_leader {
            self.led = Some(now);
        }
        self.has_leader = is_there;
    }

    /// Whether this node's own clock counts.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    /// This node leads. Its time goes on from what it last knew, with what has passed since;
    /// `state` is the state's time.
    pub fn begin(&mut self, state: Timestamp, wall: Timestamp, now: Millis) -> Begun {
        let known = self.known.map(|(time, at)| time.plus(now.since(at)));
        let start = match known {
            Some(known) => known.max(state),
            // A cluster that begins.
            None if state == Timestamp(0) => wall,
            None => state,
        };
        self.lead = Some(LeaderClock::new(start, now));
        let gap = self.led.filter(|_| !self.has_leader).map(|led| now.since(led));
        let gap = gap.filter(|gap| *gap >= limits::STANDSTILL_MIN.into());
        let silent_since = gap.map(|gap| Timestamp(start.0.saturating_sub(gap.0)));
        Begun { silent_since }
    }

    /// This node leads no more.
    pub fn end(&mut self, now: Millis) {
        if let Some(lead) = self.lead.take() {
            self.known = Some((lead.straight(now), now));
        }
    }

    /// Another member has said what its clock shows: so many milliseconds more than this one's.
    pub fn heard(&mut self, node: NodeId, ahead: i64, now: Millis) {
        self.ahead.retain(|_, (_, at)| now.since(*at) < limits::CLOCK_FRESH.into());
        self.ahead.insert(node, (ahead, now));
        let all: Vec<i64> = self.ahead.values().map(|(ahead, _)| *ahead).collect();
        if let Some(lead) = &mut self.lead {
            lead.target = middle(&all);
        }
    }

    /// Steps forward to the wall clock at once, where that is due and the clocks of most members
    /// agree. `others` are the other members that are there. Answers what the time was before.
    pub fn step(
        &mut self,
        others: &BTreeSet<NodeId>,
        wall: Timestamp,
        now: Millis,
    ) -> Option<Timestamp> {
        let fresh = |(node, (_, at)): &(&NodeId, &(i64, Millis))| {
            others.contains(*node) && now.since(*at) < limits::CLOCK_FRESH.into()
        };
        let known: Vec<i64> = self.ahead.iter().filter(fresh).map(|(_, (a, _))| *a).collect();
        let lead = self.lead.as_mut().filter(|lead| lead.may_step)?;
        if now.since(lead.begun) > limits::CLOCK_STEP.into() {
            lead.may_step = false;
            return None;
        }
        let target = middle(&known);
        let bound = Millis::from(limits::CLOCKS_AGREE).0;
        let agrees = |ahead: &&i64| ahead.abs_diff(target) <= bound;
        let count = known.iter().chain([&0]).filter(agrees).count();
        if 2 * count <= others.len() + 1 {
            return None;
        }
        lead.may_step = false;
        lead.target = target;
        let (before, to) = (lead.read(wall, now), shifted(wall, target));
        if to.since(before) < limits::STANDSTILL_MIN.into() {
            return None;
        }
        lead.now = to;
        Some(before)
    }

    /// Looks whether the wall clock went ahead of what passed here, as when the host was suspended:
    /// then a step may be due.
    pub fn watch_wall(&mut self, wall: Timestamp, now: Millis) {
        let Some(lead) = &mut self.lead else { return };
        let shows = wall.0.saturating_sub(now.0);
        let before = lead.shows.replace(shows).unwrap_or(shows);
        if shows.abs_diff(before) > Millis::from(limits::CLOCK_WARNED).0 {
            // What the others said was compared with what this clock showed before.
            self.ahead.clear();
        }
        if shows.saturating_sub(before) > Millis::from(limits::CLOCK_WARNED).0 {
            (lead.may_step, lead.begun) = (true, now);
        }
    }

    /// A step may be due.
    #[must_use]
    pub fn may_step(&self) -> bool {
        self.lead.is_some_and(|lead| lead.may_step)
    }

    /// A leader's time now, from the host's clocks; absent where it doesn't lead.
    pub fn read(&mut self, wall: Timestamp, now: Millis) -> Option<Timestamp> {
        Some(self.lead.as_mut()?.read(wall, now))
    }

    /// The same, without going on.
    #[must_use]
    pub fn peek(&self, now: Millis) -> Option<Timestamp> {
        Some(self.lead?.straight(now))
    }
}

/// The middle of what members' clocks are ahead of this one's, which is among them; of two the one
/// that is nearer to this one's.
#[must_use]
pub fn middle(others: &[i64]) -> i64 {
    let mut all: Vec<i64> = others.iter().copied().chain([0]).collect();
    all.sort_unstable();
    let (low, high) = ((all.len() - 1) / 2, all.len() / 2);
    let both = [all.get(low), all.get(high)];
    both.into_iter().flatten().copied().min_by_key(|ahead| ahead.unsigned_abs()).unwrap_or(0)
}

fn shifted(time: Timestamp, by: i64) -> Timestamp {
    Timestamp(time.0.saturating_add_signed(by))
}

/// A clock that a leader makes when it begins to lead.
#[derive(Clone, Copy, Debug)]
struct LeaderClock {
    now: Timestamp,
    monotonic: Millis,
    begun: Millis,
    /// What the wall clock showed less what this one did.
    shows: Option<u64>,
    /// It has not been compared with the other members' yet.
    may_step: bool,
    /// How far what it follows is ahead of this host's wall clock.
    target: i64,
}

impl LeaderClock {
    fn new(start: Timestamp, now: Millis) -> Self {
        Self { now: start, monotonic: now, begun: now, shows: None, may_step: true, target: 0 }
    }

    fn straight(&self, now: Millis) -> Timestamp {
        self.now.plus(now.since(self.monotonic))
    }

    /// It lags or leads wall time after a jump, and comes back to it by a twentieth of the time
    /// that passes.
    fn read(&mut self, wall: Timestamp, monotonic: Millis) -> Timestamp {
        let passed = monotonic.since(self.monotonic).0;
        let (straight, goal) = (self.straight(monotonic).0, shifted(wall, self.target).0);
        let most = passed / SLEW;
        let slewed = if goal >= straight {
            straight + most.min(goal - straight)
        } else {
            straight - most.min(straight - goal)
        };
        self.now = Timestamp(slewed);
        self.monotonic = Millis(self.monotonic.0 + passed);
        self.now
    }
}
