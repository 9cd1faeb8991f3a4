//! The leader's clock: replicated time from a monotonic clock, slewed toward wall time.
//!
//! Never reads a clock itself and never runs backwards.

use crate::units::{Millis, Timestamp};

/// Of the difference to wall time, this part of the time that passed is made up: one in 20.
const SLEW: u64 = 20;

/// A clock that a leader makes when it begins to lead.
#[derive(Clone, Copy, Debug)]
pub struct LeaderClock {
    now: Timestamp,
    monotonic: Millis,
}

impl LeaderClock {
    /// Goes on from `start`: where the last leader's time was when it was last heard of, plus what
    /// passed since. The first leader of a boot takes wall time, unless the state is ahead of it.
    #[must_use]
    pub fn new(start: Timestamp, monotonic: Millis) -> Self {
        Self { now: start, monotonic }
    }

    /// The time now, from the host's monotonic and wall clocks. It lags or leads wall time after a
    /// jump, and comes back to it by a twentieth of the time that passes.
    pub fn read(&mut self, wall: Timestamp, monotonic: Millis) -> Timestamp {
        let passed = monotonic.0.saturating_sub(self.monotonic.0);
        let straight = self.now.0 + passed;
        let most = passed / SLEW;
        let slewed = if wall.0 >= straight {
            straight + most.min(wall.0 - straight)
        } else {
            straight - most.min(straight - wall.0)
        };
        self.now = Timestamp(slewed);
        self.monotonic = Millis(self.monotonic.0 + passed);
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_monotonic_clock_when_wall_time_jumps() {
        let start = Timestamp(1_000_000);
        let mut clock = LeaderClock::new(start, Millis(50));
        assert_eq!(clock.read(Timestamp(1_001_000), Millis(1_050)), Timestamp(1_001_000));
        // An hour ahead, then an hour back: one second is one second, give or take a twentieth.
        assert_eq!(clock.read(Timestamp(4_602_000), Millis(2_050)), Timestamp(1_002_050));
        assert_eq!(clock.read(Timestamp(1_000), Millis(3_050)), Timestamp(1_003_000));
    }

    #[test]
    fn never_runs_backwards() {
        let mut clock = LeaderClock::new(Timestamp(5_000), Millis(0));
        assert_eq!(clock.read(Timestamp(0), Millis(0)), Timestamp(5_000));
        assert_eq!(clock.read(Timestamp(0), Millis(100)), Timestamp(5_095));
    }
}
