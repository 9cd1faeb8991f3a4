//! Members whose clocks are wrong: the leader's judgement.
//!
//! Owns when one is told of, and when that is over. Never changes the state: it says what to
//! propose; and never sets a clock.

use crate::cluster::clock::middle;
use crate::fsm::command::{Notice, Sign};
use crate::fsm::{Command, State};
use crate::id::NodeId;
use crate::limits;
use crate::units::Millis;
use std::collections::BTreeMap;

/// What to propose of the members' clocks. `ahead` is how far each other one is ahead of the
/// leader's, `me`, in milliseconds.
#[must_use]
pub fn judge(state: &State, me: NodeId, ahead: &BTreeMap<NodeId, i64>) -> Vec<Command> {
    if !state.is_next() {
        return Vec::new();
    }
    let goal = middle(&ahead.values().copied().collect::<Vec<_>>());
    let all = ahead.iter().map(|(id, ahead)| (*id, *ahead)).chain([(me, 0)]);
    let one = |(id, ahead): (NodeId, i64)| {
        let node = state.nodes.get(&id).filter(|node| node.is_up())?;
        let (is, known) = (ahead.saturating_sub(goal), node.condition.clock_ahead);
        // In whole seconds, and not anew with each of them.
        let seconds = is / 1_000 * 1_000;
        let sign = match known {
            0 if is.unsigned_abs() > bound(limits::CLOCK_WARNED) => seconds,
            0 => return None,
            _ if is.unsigned_abs() <= bound(limits::CLOCKS_AGREE) => 0,
            _ if is.abs_diff(known) > known.unsigned_abs() / 4 => seconds,
            _ => return None,
        };
        let sign = Sign::Clock(sign);
        Some(Command::Notice(Notice { node: id, boot: node.boot, sign }))
    };
    all.filter_map(one).collect()
}

fn bound(bound: std::time::Duration) -> u64 {
    Millis::from(bound).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::model::Node;
    use crate::fsm::{NEXT_LEVEL, apply_next, fixture};
    use crate::id::BootId;
    use crate::units::Timestamp;

    #[yare::parameterized(
        all_agree = { &[0, 4_000, -9_000], &[0, 0, 0], &[] },
        one_is_ahead = { &[0, 63_500, 100], &[0, 0, 0], &[(2, 63_000)] },
        the_leader_is_behind = { &[0, 63_500, 63_900], &[0, 0, 0], &[(1, -63_000)] },
        known_already = { &[0, 66_000, 0], &[0, 63_000, 0], &[] },
        much_worse_now = { &[0, 90_000, 0], &[0, 63_000, 0], &[(2, 90_000)] },
        better_and_not_well = { &[0, 9_000, 0], &[0, 10_000, 0], &[] },
        well_again = { &[0, 3_000, 0], &[0, 63_000, 0], &[(2, 0)] },
        only_one_other = { &[0, -20_000], &[0, 0], &[(2, -20_000)] },
    )]
    fn clocks_that_are_wrong_are_told_once(ahead: &[i64], known: &[i64], want: &[(u64, i64)]) {
        let mut state = State::default();
        let init = Command::Init(fixture::init());
        let _ = apply_next(&mut state, Timestamp(0), init).outcome.unwrap();
        state.feature_level = NEXT_LEVEL;
        let first = state.nodes[&NodeId(1)].clone();
        for (id, known) in (1..).zip(known) {
            let mut node = Node::clone(&first);
            (node.id, node.boot) = (NodeId(id), BootId(id));
            node.condition.clock_ahead = *known;
            state.nodes.insert(node.id, node.into());
        }
        let others = (2..).zip(&ahead[1..]).map(|(id, ahead)| (NodeId(id), *ahead)).collect();
        let told = judge(&state, NodeId(1), &others).into_iter().map(|command| match command {
            Command::Notice(Notice { node, sign: Sign::Clock(ahead), .. }) => (node.0, ahead),
            other => panic!("{other:?}"),
        });
        assert_eq!(told.collect::<Vec<_>>(), want);
    }
}
