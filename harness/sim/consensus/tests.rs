//! Many seeds of consensus, and each deliberate bug found by some.

use super::run;
use crate::bugs::{Bug, switch};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_the_promises_of_consensus() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SEEDS").unwrap_or(60)),
    };
    for seed in first..first + count {
        if let Err(why) = run(seed) {
            panic!("{why}");
        }
    }
}

#[test]
fn a_seed_of_consensus_replays_identically_and_does_something() {
    let (one, two) = (run(1).unwrap(), run(1).unwrap());
    assert_eq!(one, two);
    assert!(one.1 > 50 && one.2 > 50, "{} entries, {} reads", one.1, one.2);
}

#[yare::parameterized(
    acknowledge_early = { Bug::AcknowledgeEarly },
    forget_vote = { Bug::ForgetVote },
    lose_joint_leave = { Bug::LoseJointLeave },
    skip_quorum = { Bug::ReadWithoutQuorum },
)]
fn a_deliberate_bug_of_consensus_is_found(bug: Bug) {
    switch(Some(bug));
    let found = (0..300).find_map(|seed| run(seed).err());
    switch(None);
    assert!(found.is_some(), "no seed finds {bug:?}");
}
