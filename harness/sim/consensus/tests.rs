//! Many seeds of consensus, and each deliberate bug found by some.

use super::super::tests::first_failure;
use super::{TICK, run, run_slow};
use crate::bugs::Bug;

/// Seeds run without being asked for more.
const SEEDS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn failure(first: u64, count: u64, bug: Option<Bug>) -> Option<String> {
    first_failure(first, count, bug, |seed| run(seed).err())
}

#[test]
fn every_seed_keeps_the_promises_of_consensus() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS)),
    };
    if let Some(why) = failure(first, count, None) {
        panic!("{why}");
    }
}

#[test]
fn a_seed_of_consensus_replays_identically_and_does_something() {
    let (one, two) = (run(1).unwrap(), run(1).unwrap());
    assert_eq!(one, two);
    let did = (one.committed, one.acknowledged, one.reads, one.installed);
    assert!(did.0 > 100 && did.1 > 50 && did.2 > 50 && did.3 > 0, "{did:?}");
    assert!((0..5).map(|seed| run(seed).unwrap().removals).sum::<u64>() > 2);
}

/// Ten ticks a write: more than an election's usual time-out.
#[test]
fn with_slow_disks_everywhere_there_is_a_leader_and_it_stays() {
    for seed in 0..4 {
        let ran = run_slow(seed, 10 * TICK).unwrap();
        assert!(ran.acknowledged > 20, "seed {seed}: {} changes", ran.acknowledged);
        assert!(ran.leaders <= 6, "seed {seed}: {} leaders", ran.leaders);
    }
}

#[yare::parameterized(
    acknowledge_early = { Bug::AcknowledgeEarly },
    forget_vote = { Bug::ForgetVote },
    lose_joint_leave = { Bug::LoseJointLeave },
    skip_quorum = { Bug::ReadWithoutQuorum },
    skip_gate = { Bug::SkipGate },
    forget_outcomes = { Bug::ForgetOutcomes },
    stale_conf = { Bug::StaleConf },
    keep_removed = { Bug::KeepRemoved },
)]
fn a_deliberate_bug_of_consensus_is_found(bug: Bug) {
    assert!(failure(0, 300, Some(bug)).is_some(), "no seed finds {bug:?}");
}
