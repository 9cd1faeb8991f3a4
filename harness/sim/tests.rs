//! Many seeds, and each deliberate bug found by some.

use super::run;
use crate::bugs::{Bug, switch};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds run without being asked for more.
const SEEDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The first failure among the seeds, found on all processors.
pub(super) fn first_failure(
    first: u64,
    count: u64,
    bug: Option<Bug>,
    failure: impl Fn(u64) -> Option<String> + Sync,
) -> Option<String> {
    let next = AtomicU64::new(first);
    let failed = std::sync::Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                switch(bug);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if let Some(why) = failure(seed) {
                        failed.lock().unwrap().get_or_insert(why);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn every_seed_keeps_the_invariants() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("STATE_SEEDS").or(number("SEEDS")).unwrap_or(SEEDS)),
    };
    if let Some(why) = first_failure(first, count, None, |seed| run(seed).err()) {
        panic!("{why}");
    }
}

#[test]
fn nodes_come_back_in_time_for_what_they_had() {
    let returns = |seed| run(seed).map_err(drop).unwrap().returns;
    assert!((0..20).map(returns).sum::<u32>() >= 3);
}

#[test]
fn nodes_are_drained_and_removed() {
    let removals = |seed| run(seed).map_err(drop).unwrap().removals;
    assert!((0..60).map(removals).sum::<u32>() >= 3);
}

#[test]
fn services_are_removed_and_some_make_room() {
    let (mut last, mut early) = (0, 0);
    for seed in 0..400 {
        let departed = run(seed).map_err(drop).unwrap().departed;
        last += departed.last;
        early += departed.early;
        if last >= 20 && early >= 3 {
            return;
        }
    }
    panic!("{last} at the end, {early} to make room");
}

#[test]
fn a_seed_replays_identically() {
    for seed in 0..5 {
        let (one, two) = (run(seed).map_err(drop).unwrap(), run(seed).map_err(drop).unwrap());
        assert_eq!(one.state.hash(), two.state.hash());
        assert_eq!(one.trace, two.trace);
    }
}

#[yare::parameterized(
    stop_unsettled = { Bug::StopUnsettled },
    too_many_at_once = { Bug::TooManyAtOnce },
    forget_revert = { Bug::ForgetRevert },
    take_stale_steps = { Bug::TakeStaleSteps },
    release_early = { Bug::ReleaseEarly },
    roll_before_tasks = { Bug::RollBeforeTasks },
    drain_at_once = { Bug::DrainAtOnce },
    depart_at_once = { Bug::DepartAtOnce },
)]
fn a_deliberate_bug_is_found(bug: Bug) {
    let found = first_failure(0, 500, Some(bug), |seed| run(seed).err());
    assert!(found.is_some(), "no seed finds {bug:?}");
}
