//! Connections whose other end has not shown who it is: how many, of whom, and who has to go.
//!
//! Owns the bounds on them, and how often what they do is logged. Never refuses the newest one: a
//! source that opens many loses its own oldest, so that those of others get in.

use super::guard::network;
use crate::limits;
use crate::units::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Those that are there, by source.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    each: usize,
    last: u64,
    count: usize,
    sources: BTreeMap<IpAddr, BTreeSet<u64>>,
}

/// One that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its number.
    pub id: u64,
    /// The number of the one that has to go for it.
    pub out: Option<u64>,
}

impl Crowd {
    /// At most so many in all, and of one source.
    #[must_use]
    pub fn new(most: usize, each: usize) -> Self {
        Self { most, each, last: 0, count: 0, sources: BTreeMap::new() }
    }

    /// One more comes in.
    pub fn enter(&mut self, source: IpAddr) -> Entered {
        let source = network(source);
        let own = self.sources.get(&source).map_or(0, BTreeSet::len);
        let out = if own >= self.each {
            self.oldest_of(source)
        } else if self.count >= self.most {
            let largest = self.sources.iter().max_by_key(|(_, ids)| ids.len());
            largest.map(|(source, _)| *source).and_then(|source| self.oldest_of(source))
        } else {
            None
        };
        if let Some((source, id)) = out {
            self.remove(source, id);
        }
        self.last += 1;
        self.sources.entry(source).or_default().insert(self.last);
        self.count += 1;
        Entered { id: self.last, out: out.map(|(_, id)| id) }
    }

    /// One has shown who it is, or is gone.
    pub fn leave(&mut self, source: IpAddr, id: u64) {
        self.remove(network(source), id);
    }

    fn oldest_of(&self, source: IpAddr) -> Option<(IpAddr, u64)> {
        Some((source, *self.sources.get(&source)?.first()?))
    }

    fn remove(&mut self, source: IpAddr, id: u64) {
        let Some(ids) = self.sources.get_mut(&source) else { return };
        if ids.remove(&id) {
            self.count -= 1;
        }
        if ids.is_empty() {
            self.sources.remove(&source);
        }
    }
}

/// How often something of a kind is logged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Often {
    told: Option<Millis>,
    left_out: u64,
}

impl Often {
    /// It happened once more: how often since it was told last, if it is to be told now.
    #[must_use]
    pub fn happened(&mut self, now: Millis) -> Option<u64> {
        let pause = Millis::from(limits::STRANGERS_TOLD);
        self.left_out += 1;
        if self.told.is_some_and(|told| now.since(told) < pause) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_that_opens_many_loses_its_own_oldest() {
        let mut crowd = Crowd::new(10, 3);
        let ids: Vec<u64> = (0..3).map(|_| crowd.enter(source("192.0.2.1")).id).collect();
        let other = crowd.enter(source("192.0.2.2"));
        assert_eq!(other.out, None);
        assert_eq!(crowd.enter(source("192.0.2.1")).out, Some(ids[0]));
        assert_eq!(crowd.enter(source("192.0.2.1")).out, Some(ids[1]));
        crowd.leave(source("192.0.2.1"), ids[2]);
        assert_eq!(crowd.enter(source("192.0.2.1")).out, None);
        assert_eq!(crowd.count, 4);
    }

    #[test]
    fn a_newcomer_gets_in_however_many_there_are() {
        let mut crowd = Crowd::new(6, 4);
        let most: Vec<u64> = (0..4).map(|_| crowd.enter(source("192.0.2.1")).id).collect();
        // The same network of a provider's customer.
        let few = ["2001:db8::1", "2001:db8::2"].map(|one| crowd.enter(source(one)).id);
        assert_eq!(crowd.enter(source("192.0.2.3")).out, Some(most[0]));
        assert_eq!(crowd.enter(source("192.0.2.4")).out, Some(most[1]));
        let mut left = [(); 4].map(|()| crowd.enter(source("192.0.2.9")).out);
        left.sort_unstable();
        assert!(
            left.iter()
                .flatten()
                .all(|out| [most[2], most[3], few[0], few[1]].contains(out) || *out > few[1])
        );
        assert_eq!(crowd.count, 6);
        // One that has gone already.
        crowd.leave(source("192.0.2.1"), most[0]);
        assert_eq!(crowd.count, 6);
    }

    #[test]
    fn what_happens_often_is_told_now_and_then_with_its_count() {
        let mut often = Often::default();
        let pause = limits::STRANGERS_TOLD.as_millis() as u64;
        assert_eq!(often.happened(Millis(0)), Some(1));
        assert_eq!(often.happened(Millis(1)), None);
        assert_eq!(often.happened(Millis(pause - 1)), None);
        assert_eq!(often.happened(Millis(pause)), Some(3));
        assert_eq!(often.happened(Millis(pause + 1)), None);
    }
}
