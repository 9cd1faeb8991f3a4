//! How often one source may fail to show who it is.
//!
//! Owns the count. Never refuses who shows a good token: a token can't be guessed, and whoever
//! shares an address with a broken client must not be locked out by it.

use crate::limits;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Failures by source.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    sources: BTreeMap<IpAddr, Bucket>,
}

/// What a source has left: a failure takes one, time gives them back.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    /// When the last one was given back.
    since: Millis,
}

impl Bucket {
    fn at(self, now: Millis) -> Self {
        let each = Millis::from(limits::AUTH_FAILURE_EVERY);
        let back = now.since(self.since).0 / each.0;
        let left = u64::from(self.left).saturating_add(back);
        match u32::try_from(left) {
            Ok(left) if left < limits::AUTH_FAILURES => {
                Self { left, since: Millis(self.since.0 + back * each.0) }
            }
            _ => Self { left: limits::AUTH_FAILURES, since: now },
        }
    }
}

impl Guard {
    /// Whether a source has failed so often that nothing of it is looked at now.
    #[must_use]
    pub fn is_spent(&self, source: IpAddr, now: Millis) -> bool {
        self.sources.get(&network(source)).is_some_and(|bucket| bucket.at(now).left == 0)
    }

    /// A source failed: whether it is told why, or that it was too often.
    #[must_use]
    pub fn failed(&mut self, source: IpAddr, now: Millis) -> bool {
        let source = network(source);
        let is_full = |all: &BTreeMap<IpAddr, Bucket>| {
            all.len() >= limits::AUTH_SOURCES && !all.contains_key(&source)
        };
        if is_full(&self.sources) {
            self.sources.retain(|_, bucket| bucket.at(now).left < limits::AUTH_FAILURES);
        }
        if is_full(&self.sources) {
            // So many at once: nobody new is told anything until some have paid.
            return false;
        }
        let fresh = Bucket { left: limits::AUTH_FAILURES, since: now };
        let bucket = self.sources.entry(source).or_insert(fresh);
        *bucket = bucket.at(now);
        match bucket.left.checked_sub(1) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }
}

/// One customer of a provider has a whole /64.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u64 = 1_000;

    fn failures(guard: &mut Guard, source: &str, now: u64, tries: u32) -> u32 {
        let source = source.parse().unwrap();
        (0..tries).map(|_| u32::from(guard.failed(source, Millis(now)))).sum()
    }

    #[test]
    fn a_source_fails_so_often_and_gets_a_try_back_with_time() {
        let most = limits::AUTH_FAILURES;
        let mut guard = Guard::default();
        let first = "10.0.0.1".parse().unwrap();
        assert!(!guard.is_spent(first, Millis(0)));
        assert_eq!(failures(&mut guard, "10.0.0.1", 0, most + 5), most);
        assert!(guard.is_spent(first, Millis(EVERY - 1)) && !guard.is_spent(first, Millis(EVERY)));
        assert_eq!(failures(&mut guard, "10.0.0.2", 0, 1), 1, "another one");
        assert_eq!(failures(&mut guard, "::ffff:10.0.0.1", 0, 1), 0, "the same one");
        assert_eq!(failures(&mut guard, "10.0.0.1", EVERY * 3 - 1, 5), 2);
        assert_eq!(failures(&mut guard, "10.0.0.1", EVERY * 3, 5), 1);
        assert_eq!(failures(&mut guard, "10.0.0.1", EVERY * 1_000, most + 5), most);
        assert_eq!(failures(&mut guard, "2001:db8::1", 0, most + 5), most);
        assert_eq!(failures(&mut guard, "2001:db8::2", 0, 1), 0, "the same network");
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let mut guard = Guard::default();
        for n in 0..u32::try_from(limits::AUTH_SOURCES).unwrap() + 10 {
            let _ = guard.failed(IpAddr::V4(n.into()), Millis(0));
        }
        assert_eq!(guard.sources.len(), limits::AUTH_SOURCES);
        assert!(guard.failed("192.0.2.1".parse().unwrap(), Millis(EVERY)), "old ones have gone");
        assert_eq!(guard.sources.len(), 1);
    }
}
