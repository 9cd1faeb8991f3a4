//! The checker of histories: it accepts what a register can do, and nothing else.

use crate::history::{Call, Operation, Value, Verdict, check, misplaced};
use proptest::prelude::*;
use std::time::Duration;
use yare::parameterized;

fn at(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// Operations as `w1 0 2`: what, beginning, end. `r-` reads nothing, `w-` empties, an end `?` isn't
/// known.
fn history(text: &str) -> Vec<Operation> {
    let one = |(client, line): (usize, &str)| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = words[0][1..].parse().ok();
        let call = if words[0].starts_with('w') { Call::Write(value) } else { Call::Read(value) };
        let time = |word: &str| word.parse().ok().map(at);
        let (began, ended) = (time(words[1]).unwrap(), time(words[2]));
        Operation { client, node: 1, call, began, ended }
    };
    text.split(',').enumerate().map(one).collect()
}

#[parameterized(
    nothing_written = { "r- 0 1, r- 2 3" },
    one_after_the_other = { "w1 0 1, r1 2 3, w2 4 5, r2 6 7, w- 8 9, r- 10 11" },
    a_write_under_way_is_seen_by_one_and_not_by_the_other = { "w1 0 9, r1 1 2, r1 3 4" },
    the_old_value_during_a_write = { "w1 0 1, w2 2 9, r1 3 4, r2 5 6" },
    writes_at_once_in_either_order = { "w1 0 9, w2 0 9, r1 10 11" },
    writes_at_once_the_other_way = { "w1 0 9, w2 0 9, r2 10 11" },
    an_unknown_write_that_never_was = { "w1 0 1, w2 2 ?, r1 3 4, r1 9 10" },
    an_unknown_write_that_came_late = { "w1 0 1, w2 2 ?, r1 3 4, w3 5 6, r3 7 8, r2 9 10" },
    an_unknown_removal = { "w1 0 1, w- 2 ?, r1 3 4, r- 5 6" },
    beginning_at_the_end_of_another = { "w1 0 5, r- 5 6" }
)]
fn a_good_history_is_accepted(text: &str) {
    assert_eq!(check(None, &history(text)), Verdict::Linearizable);
}

#[parameterized(
    a_stale_read = { "w1 0 1, w2 2 3, r1 4 5", 2 },
    a_lost_write = { "w1 0 1, r- 2 3", 1 },
    a_write_that_took_effect_twice = { "w1 0 1, w2 2 3, r2 4 5, r1 6 7", 3 },
    a_value_of_a_write_that_failed = { "w1 0 1, r7 2 3, r1 4 5", 1 },
    back_in_time = { "w1 0 1, w2 2 9, r2 3 4, r1 5 6", 3 },
    seen_before_it_was_written = { "r1 0 1, w1 2 3", 0 },
    two_orders_at_once = { "w1 0 9, w2 0 9, r1 10 11, r2 12 13", 3 },
    an_unknown_write_that_came_twice = { "w2 0 ?, r2 1 2, w3 3 4, r3 5 6, r2 7 8", 4 },
    what_was_removed_came_back = { "w1 0 1, w- 2 3, r- 4 5, r1 6 7", 3 },
    an_unknown_write_before_it_began = { "r2 0 1, w2 2 ?", 0 }
)]
fn a_bad_history_is_refused(text: &str, stuck: usize) {
    let history = history(text);
    assert_eq!(check(None, &history), Verdict::Violation(history[stuck]));
}

#[test]
fn it_begins_with_what_was_there() {
    assert_eq!(check(Some(4), &history("r4 0 1")), Verdict::Linearizable);
    assert_ne!(check(None, &history("r4 0 1")), Verdict::Linearizable);
}

#[test]
fn readings_are_the_last_write_up_to_their_index() {
    let written = [(5, Some(1)), (9, Some(2))];
    let good = [(3, None), (5, Some(1)), (8, Some(1)), (9, Some(2)), (8, Some(7))];
    assert_eq!(misplaced(None, &written, &[Some(7)], &good), None);
    for bad in [(4, Some(1)), (9, Some(1)), (12, None), (12, Some(8))] {
        assert_eq!(misplaced(None, &written, &[Some(7)], &[good[0], bad]), Some(bad));
    }
}

/// A register as it should be, used by clients at once: each operation takes effect at a moment of
/// its own, and its times lie around that. With some clients the outcome of a write gets lost, and
/// with it perhaps the write.
fn lawful(draws: &[(u8, u8, u8, u8)]) -> Vec<Operation> {
    let mut state = None;
    let mut history = Vec::new();
    for (n, (what, before, after, luck)) in draws.iter().enumerate() {
        let moment = 1_000 + n as u64 * 10;
        let client = n % 8;
        let is_lost = *what >= 128 && *luck < 40;
        let call = match what {
            0..128 => Call::Read(state),
            128..144 => Call::Write(None),
            _ => Call::Write(Some(n as u64)),
        };
        if let Call::Write(value) = call
            && !(is_lost && luck % 2 == 0)
        {
            state = value;
        }
        let began = at(moment - u64::from(*before) % 50);
        let ended = at(moment + u64::from(*after) % 50);
        let ended = (!is_lost).then_some(ended);
        history.push(Operation { client, node: 1, call, began, ended });
    }
    history
}

/// Whether a read's value was gone, or not there yet, during the whole of the read.
fn shows_what_was_not(history: &[Operation], read: &Operation, value: Value) -> bool {
    let Some(end) = read.ended else { return false };
    let is_of = |one: &&Operation| one.call == Call::Write(value);
    let Some(write) = history.iter().find(is_of) else { return value.is_some() };
    let is_over = |one: &Operation| {
        let behind = write.ended.is_some_and(|ended| ended < one.began);
        matches!(one.call, Call::Write(_)) && behind && one.ended.is_some_and(|e| e < read.began)
    };
    value.is_some() && (end < write.began || history.iter().any(is_over))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_a_register_does_is_accepted_and_a_wrong_read_in_it_is_not(
        draws in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..200),
        which: usize,
        value: u16,
    ) {
        let mut history = lawful(&draws);
        prop_assert_eq!(check(None, &history), Verdict::Linearizable);
        let reads: Vec<usize> = (0..history.len())
            .filter(|n| matches!(history[*n].call, Call::Read(_)))
            .collect();
        prop_assume!(!reads.is_empty());
        let read = reads[which % reads.len()];
        let wrong = Some(u64::from(value) % history.len() as u64);
        prop_assume!(shows_what_was_not(&history, &history[read], wrong));
        history[read].call = Call::Read(wrong);
        prop_assert!(matches!(check(None, &history), Verdict::Violation(_)));
    }

    #[test]
    fn the_order_in_which_operations_are_told_does_not_matter(
        draws in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..60),
    ) {
        let mut history = lawful(&draws);
        history.reverse();
        prop_assert_eq!(check(None, &history), Verdict::Linearizable);
    }
}
