//! Tests of replicated time over elections, standstills and clocks that are wrong.

use super::*;

const WALL: u64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

/// Wall time at a moment, by a clock that is right.
fn wall(now: u64) -> Timestamp {
    Timestamp(WALL + now)
}

fn others(count: u64) -> BTreeSet<NodeId> {
    (2..=count).map(NodeId).collect()
}

/// A leader whose time begins at `start` seconds behind the wall clock.
fn leader(behind: u64) -> Clock {
    let mut clock = Clock::default();
    let begun = clock.begin(Timestamp(WALL - behind * 1_000), wall(0), Millis(0));
    assert_eq!(begun.silent_since, None);
    clock
}

#[test]
fn follows_the_monotonic_clock_when_wall_time_jumps() {
    let mut clock = Clock::default();
    clock.begin(Timestamp(0), wall(0), Millis(50));
    assert_eq!(clock.read(wall(1_000), Millis(1_050)), Some(wall(1_000)));
    // An hour ahead, then an hour back: one second is one second, give or take a twentieth.
    assert_eq!(clock.read(wall(3_602_000), Millis(2_050)), Some(wall(2_050)));
    assert_eq!(clock.read(Timestamp(1_000), Millis(3_050)), Some(wall(3_000)));
    // Never backwards.
    assert_eq!(clock.read(Timestamp(0), Millis(3_050)), Some(wall(3_000)));
}

#[test]
fn idle_time_before_a_change_of_the_leader_is_not_lost() {
    let mut follower = Clock::default();
    follower.set_leader(true, Millis(0));
    follower.applied(wall(1_000), Millis(1_000));
    // Nothing is written for 170 s; then an entry without a newer time.
    follower.applied(wall(1_000), Millis(171_000));
    follower.set_leader(false, Millis(171_000));
    let begun = follower.begin(wall(1_000), wall(171_300), Millis(171_300));
    assert_eq!(begun.silent_since, None, "an election");
    assert_eq!(follower.peek(Millis(171_300)), Some(wall(171_300)));
}

#[test]
fn who_leads_no_more_goes_on_from_where_it_was() {
    let mut clock = leader(0);
    clock.set_leader(true, Millis(0));
    assert_eq!(clock.read(wall(1_000), Millis(1_000)), Some(wall(1_000)));
    clock.set_leader(false, Millis(60_000));
    clock.end(Millis(60_000));
    assert_eq!(clock.peek(Millis(60_000)), None);
    let begun = clock.begin(wall(1_000), wall(90_000), Millis(90_000));
    assert_eq!(begun.silent_since, Some(wall(60_000)), "30 s without a leader");
    assert_eq!(clock.peek(Millis(90_000)), Some(wall(90_000)));
}

#[yare::parameterized(
    alone = { 1, &[], 3_600, true },
    most_agree = { 3, &[(2, 300)], 3_600, true },
    all_agree = { 3, &[(2, 300), (3, -4_000)], 3_600, true },
    nobody_is_heard = { 3, &[], 3_600, false },
    too_few_are_heard = { 5, &[(2, 0)], 3_600, false },
    this_one_is_an_hour_ahead = { 3, &[(2, -HOUR), (3, -HOUR)], 7_200, true },
    both_differ = { 3, &[(2, -HOUR), (3, HOUR)], 3_600, false },
    two_that_differ = { 2, &[(2, -HOUR)], 3_600, false },
    who_is_no_member_does_not_count = { 1, &[(9, -HOUR)], 3_600, true },
    nothing_to_make_up = { 1, &[], 1, false },
)]
fn steps_where_the_clocks_agree(nodes: u64, heard: &[(u64, i64)], behind: u64, steps: bool) {
    let mut clock = leader(behind);
    for (node, ahead) in heard {
        clock.heard(NodeId(*node), *ahead, Millis(0));
    }
    let before = Timestamp(WALL - behind * 1_000);
    let stepped = clock.step(&others(nodes), wall(0), Millis(0));
    assert_eq!(stepped, steps.then_some(before));
    let known = heard.iter().filter(|(node, _)| *node <= nodes);
    let target = middle(&known.map(|(_, ahead)| *ahead).collect::<Vec<_>>());
    let now = if steps { shifted(wall(0), target) } else { before };
    assert_eq!(clock.peek(Millis(0)), Some(now));
    assert_eq!(clock.step(&others(nodes), wall(0), Millis(0)), None, "not again");
}

#[test]
fn a_step_is_for_the_begin_only_and_never_back() {
    let mut clock = leader(3_600);
    assert!(clock.may_step());
    assert_eq!(clock.step(&others(3), wall(61_000), Millis(61_000)), None);
    assert!(!clock.may_step());
    let mut ahead = Clock::default();
    ahead.begin(wall(3_600_000), wall(0), Millis(0));
    assert_eq!(ahead.step(&others(1), wall(0), Millis(0)), None);
    assert_eq!(ahead.read(wall(20_000), Millis(20_000)), Some(wall(3_619_000)));
}

/// A clock that is an hour ahead of the others' draws nothing after it, and follows theirs.
#[test]
fn a_leader_whose_clock_is_wrong_follows_the_others() {
    let mut clock = leader(100);
    let ahead = |now| shifted(wall(now), HOUR);
    clock.heard(NodeId(2), -HOUR, Millis(0));
    clock.heard(NodeId(3), -HOUR + 200, Millis(0));
    assert!(clock.step(&others(3), ahead(0), Millis(0)).is_some());
    for second in 1..=100 {
        let now = second * 1_000;
        clock.heard(NodeId(2), -HOUR, Millis(now));
        clock.heard(NodeId(3), -HOUR + 200, Millis(now));
        let read = clock.read(ahead(now), Millis(now)).unwrap();
        assert!(read.0.abs_diff(wall(now).0) <= 200, "{second}");
    }
}

#[test]
fn a_host_that_was_suspended_catches_up() {
    let mut clock = leader(0);
    assert_eq!(clock.step(&others(1), wall(0), Millis(0)), None);
    clock.watch_wall(wall(1_000), Millis(1_000));
    assert!(!clock.may_step());
    clock.watch_wall(wall(902_000), Millis(2_000));
    let before = clock.step(&others(1), wall(902_000), Millis(2_000));
    assert_eq!(before, Some(wall(2_100)));
    assert_eq!(clock.peek(Millis(2_000)), Some(wall(902_000)));
}
