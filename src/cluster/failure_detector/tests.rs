//! Tests of who counts as lost, and when.

use super::*;
use crate::fsm::{NEXT_LEVEL, apply_next, fixture};

/// Replicated time at the start.
const START: u64 = 1_000_000;
const NEVER: u64 = u64::MAX;

/// A cluster with so many nodes, node 1 leads. Those named are down for so many seconds; one that
/// never registered too, where that is said.
fn cluster(size: u64, down: &[(u64, u64)]) -> State {
    let mut state = State::default();
    let start = Timestamp(START);
    let _ = apply_next(&mut state, start, Command::Init(fixture::init())).outcome.unwrap();
    state.feature_level = NEXT_LEVEL;
    let first = state.nodes[&NodeId(1)].clone();
    for id in 1..=size {
        let mut node = (*first).clone();
        (node.id, node.boot) = (NodeId(id), BootId(id));
        if let Some((_, seconds)) = down.iter().find(|(down, _)| *down == id) {
            node.status = NodeStatus::Down;
            node.down_since = Some(Timestamp(START.saturating_sub(seconds.saturating_mul(1_000))));
            if *seconds == NEVER {
                node.boot = BootId(0);
            }
        }
        state.nodes.insert(node.id, node.into());
    }
    state
}

/// What a leader finds in so many seconds: who is lost when, and who is silent and held back.
/// Nodes fall silent and are heard again at these seconds.
fn watch(state: State, silences: &[(u64, u64, u64)], seconds: u64) -> Vec<String> {
    let mut state = state;
    let mut silence = Silence::new(Millis(0));
    let mut found = Vec::new();
    for second in 1..=seconds {
        let (now, time) = (Millis(second * 1_000), Timestamp(START + second * 1_000));
        for id in state.nodes.keys().copied() {
            let is_cut = |(node, from, to): &(u64, u64, u64)| {
                *node == id.0 && (*from..*to).contains(&second)
            };
            let is_down = !state.nodes[&id].is_up();
            if !silences.iter().any(is_cut) && !is_down {
                silence.heard(id, now);
            }
        }
        silence.tick(&state, now, time);
        for command in silence.judge(&state, NodeId(1), now) {
            found.push(match &command {
                Command::NodeDown { node, .. } => format!("{second}: {node} down"),
                Command::Notice(Notice { node, sign: Sign::Silent(Some(_)), .. }) => {
                    format!("{second}: {node} silent")
                }
                Command::Notice(Notice { node, .. }) => format!("{second}: {node} heard"),
                other => panic!("{other:?}"),
            });
            let _ = apply_next(&mut state, time, command).outcome.unwrap();
        }
    }
    found
}

#[yare::parameterized(
    too_early = { 3, &[], &[(2, 1, NEVER)], 4, &[] },
    one = { 3, &[], &[(2, 10, NEVER)], 60, &["14: 2 down"] },
    never_the_leader = { 1, &[], &[(1, 1, NEVER)], 60, &[] },
    the_first_of_two = { 2, &[], &[(2, 1, NEVER)], 60, &["5: 2 down"] },
    the_longest_silent_first = { 7, &[], &[(3, 1, NEVER), (2, 2, NEVER)], 60,
        &["5: 3 down", "6: 2 silent", "10: 2 down"] },
    many_at_once_one_after_the_other = { 7, &[], &[(2, 1, NEVER), (3, 1, NEVER), (4, 1, NEVER)], 60,
        &["5: 2 down", "5: 3 silent", "5: 4 silent", "10: 3 down", "15: 4 down"] },
    a_third_in_a_minute = { 4, &[], &[(2, 1, NEVER), (3, 1, NEVER), (4, 1, NEVER)], 80,
        &["5: 2 down", "5: 3 silent", "5: 4 silent", "10: 3 down", "70: 4 down"] },
    one_is_long_down = { 4, &[(4, 3_600)], &[(2, 1, NEVER)], 60, &["5: 2 down"] },
    most_are_long_down = { 7, &[(4, 90), (5, 90), (6, 90)], &[(2, 1, NEVER)], 60, &["5: 2 down"] },
    one_never_registered = { 3, &[(3, NEVER)], &[(2, 1, NEVER)], 60, &["5: 2 down"] },
    one_went_in_the_term_before = { 3, &[(3, 40)], &[(2, 1, NEVER)], 30,
        &["5: 2 silent", "20: 2 down"] },
    one_is_heard_again = { 4, &[], &[(2, 1, NEVER), (3, 1, NEVER), (4, 1, 30)], 40,
        &["5: 2 down", "5: 3 silent", "5: 4 silent", "10: 3 down", "30: 4 heard"] },
)]
fn silence_is_judged(
    size: u64,
    down: &[(u64, u64)],
    silences: &[(u64, u64, u64)],
    seconds: u64,
    want: &[&str],
) {
    assert_eq!(watch(cluster(size, down), silences, seconds), want);
}

#[test]
fn losses_with_time_between_are_all_noticed_down_to_a_bare_quorum() {
    for size in 3..=20 {
        let lost: Vec<u64> = (2..=size / 2 + size % 2).collect();
        let cut = |id: &u64| (*id, 25 * (id - 1), NEVER);
        let silences: Vec<_> = lost.iter().map(cut).collect();
        let seconds = 25 * size + 60;
        let found = watch(cluster(size, &[]), &silences, seconds);
        let down: Vec<&String> = found.iter().filter(|what| what.ends_with("down")).collect();
        assert_eq!(down.len(), lost.len(), "{size} nodes: {found:?}");
    }
}

#[test]
fn a_cluster_of_the_level_before_is_told_of_no_silence() {
    let mut state = cluster(4, &[]);
    state.feature_level = NEXT_LEVEL - 1;
    let found = watch(state, &[(2, 1, NEVER), (3, 1, NEVER)], 12);
    assert_eq!(found, ["5: 2 down", "10: 3 down"]);
}

/// The nodes of which a judgement says that they are down.
fn downs(silence: &Silence, state: &State, now: u64) -> usize {
    let all = silence.judge(state, NodeId(1), Millis(now));
    all.iter().filter(|command| matches!(command, Command::NodeDown { .. })).count()
}

#[test]
fn a_leader_that_stood_still_has_heard_nobody() {
    let state = cluster(3, &[]);
    let mut silence = Silence::new(Millis(0));
    let time = Timestamp(START);
    (1..=4).for_each(|second| silence.tick(&state, Millis(second * 1_000), time));
    assert_eq!(downs(&silence, &state, 5_000), 1);
    silence.tick(&state, Millis(6_001), time);
    assert_eq!(downs(&silence, &state, 6_001), 0);
    silence.tick(&state, Millis(7_500), time);
    assert_eq!(downs(&silence, &state, 11_000), 0);
    assert_eq!(downs(&silence, &state, 11_001), 1);
}

#[test]
fn one_that_was_down_has_the_whole_window_again() {
    let mut silence = Silence::new(Millis(0));
    silence.heard(NodeId(3), Millis(160_000));
    let (time, down) = (Timestamp(START), cluster(3, &[(2, 3_600)]));
    (1..=160).for_each(|second| silence.tick(&down, Millis(second * 1_000), time));
    silence.heard(NodeId(3), Millis(164_000));
    let back = cluster(3, &[]);
    assert_eq!(downs(&silence, &back, 164_999), 0);
    assert_eq!(downs(&silence, &back, 165_000), 1);
}
