//! How long the disk takes, and how patient elections are because of it.
//!
//! Owns what counts as usual: one slow write changes nothing. Never measures anything itself.

use crate::limits;
use crate::units::Millis;

/// Writes that are remembered.
const REMEMBERED: usize = 5;

/// What the last writes took.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    recent: [Millis; REMEMBERED],
    next: usize,
}

impl Pace {
    /// A disk of which one write is known.
    #[must_use]
    pub fn new(first: Millis) -> Self {
        Self { recent: [first; REMEMBERED], next: 0 }
    }

    /// A write took so long.
    pub fn note(&mut self, took: Millis) {
        if let Some(slot) = self.recent.get_mut(self.next) {
            *slot = took;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// What a write usually takes.
    #[must_use]
    pub fn usual(&self) -> Millis {
        let mut sorted = self.recent;
        sorted.sort_unstable();
        sorted[REMEMBERED / 2]
    }

    /// Ticks without a sign of life after which an election starts: in that time a candidate and
    /// those who vote for it must have made their votes durable, each behind another write.
    #[must_use]
    pub fn election_ticks(&self) -> usize {
        let tick = Millis::from(limits::RAFT_TICK).0;
        let needed = (4 * self.usual().0).div_ceil(tick);
        let needed = usize::try_from(needed).unwrap_or(usize::MAX);
        needed.clamp(limits::ELECTION_TICKS, limits::ELECTION_TICKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        quick = { &[1, 2, 1, 3, 1], 1, 9 },
        one_is_slow = { &[1, 2_000, 1, 1, 1], 1, 9 },
        slow = { &[650, 640, 660, 650, 655], 650, 40 },
        becomes_slow = { &[1, 1, 650, 650, 650], 650, 40 },
        bounded = { &[60_000, 60_000, 60_000], 60_000, 90 },
    )]
    fn elections_wait_for_a_disk_that_is_slow_for_good(took: &[u64], usual: u64, ticks: usize) {
        let mut pace = Pace::new(Millis(1));
        took.iter().for_each(|took| pace.note(Millis(*took)));
        assert_eq!((pace.usual(), pace.election_ticks()), (Millis(usual), ticks));
    }

    #[test]
    fn the_first_write_says_how_the_disk_is() {
        assert_eq!(Pace::new(Millis(650)).usual(), Millis(650));
    }
}
