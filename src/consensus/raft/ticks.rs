//! Raft's clock: ticks are counted when something happens or is due, so that an idle node sleeps.
//!
//! Owns how many have passed and when to look again. Never reads a clock.

use crate::limits;
use crate::units::Millis;

/// The ticks of one process. All times are of its monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    /// Up to here all are counted.
    counted: Millis,
    /// The newest alarm is set for this moment.
    alarm: Option<Millis>,
    /// Its number: what an older one says is known already.
    generation: u64,
}

fn tick() -> u64 {
    Millis::from(limits::RAFT_TICK).0
}

impl Ticks {
    /// Those that have passed since the last look, where something is due after `due` of them.
    ///
    /// A process that overslept has not listened meanwhile: the tick that makes something due
    /// counts only at the next look, when what came in has been taken in.
    #[must_use]
    pub fn pass(&mut self, now: Millis, due: u64) -> u64 {
        let passed = now.since(self.counted).0 / tick();
        if passed <= due {
            self.counted = Millis(self.counted.0 + passed * tick());
            return passed;
        }
        self.counted = now;
        due.saturating_sub(1)
    }

    /// Time begins now: there was nothing to count.
    pub fn begin(&mut self, now: Millis) {
        self.counted = now;
    }

    /// After how long to look again, and the alarm's number, where something is due after `due`
    /// ticks; none if an alarm rings before.
    #[must_use]
    pub fn arm(&mut self, now: Millis, due: u64) -> Option<(Millis, u64)> {
        let at = Millis(self.counted.0 + due * tick());
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return None;
        }
        self.alarm = Some(at);
        self.generation += 1;
        Some((at.since(now), self.generation))
    }

    /// The alarm of this number rang.
    pub fn rang(&mut self, generation: u64) {
        self.alarm = self.alarm.filter(|_| generation != self.generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(count: u64) -> Millis {
        Millis(count * tick())
    }

    #[test]
    fn ticks_are_counted_once_however_often_one_looks() {
        let mut clock = Ticks::default();
        assert_eq!(clock.pass(ticks(2), 10), 2);
        assert_eq!(clock.pass(Millis(2 * tick() + tick() / 2), 8), 0);
        assert_eq!(clock.pass(ticks(3), 8), 1, "the half before is not lost");
        assert_eq!(clock.pass(ticks(10), 7), 7, "it is due in time");
    }

    #[test]
    fn who_overslept_listens_first() {
        let mut clock = Ticks::default();
        assert_eq!(clock.pass(ticks(250), 10), 9);
        assert_eq!(clock.pass(Millis(250 * tick() + 1), 1), 0);
        assert_eq!(clock.pass(ticks(251), 1), 1, "nobody was heard");
        assert_eq!(clock.pass(ticks(300), 1), 0, "one at a time");
        assert_eq!(clock.pass(ticks(301), 1), 1);
    }

    #[test]
    fn an_alarm_that_rings_before_is_enough() {
        let mut clock = Ticks::default();
        assert_eq!(clock.arm(Millis(5), 10), Some((ticks(10).since(Millis(5)), 1)));
        assert_eq!(clock.pass(ticks(4), 10), 4);
        assert_eq!(clock.arm(ticks(4), 10), None, "it looks again then");
        assert_eq!(clock.arm(ticks(4), 2), Some((ticks(2), 2)), "sooner");
        clock.rang(2);
        assert_eq!(clock.pass(ticks(6), 2), 2);
        assert_eq!(clock.arm(ticks(6), 10), Some((ticks(10), 3)));
        clock.rang(1);
        assert_eq!(clock.arm(ticks(10), 10), None, "an older one counts no more");
    }
}
