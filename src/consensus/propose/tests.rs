//! Tests of proposals that are refused, late, or applied where this node didn't see it.

use super::*;
use crate::fsm::{Command, apply, fixture};

const NODE: NodeId = NodeId(1);
const BOOT: BootId = BootId(7);
const LATE: Millis = Millis(limits::LEADER_WAIT.as_millis() as u64 + 1);

fn entry(size: usize) -> Entry {
    Entry { node: NODE.0, boot: BOOT.0, command: vec![0; size], ..Entry::default() }
}

/// Proposals with one that was handed over and refused so often.
fn one(sent: u32, refused: u32) -> Proposals<&'static str> {
    let mut proposals = Proposals::default();
    assert_eq!(proposals.add("a", entry(1), Millis(0)), Ok(1));
    for _ in 0..sent {
        assert_eq!(proposals.hand_over(&[1]).len(), 1);
    }
    for _ in 0..refused {
        assert_eq!(proposals.refused(1, Refusal::NotLeader), None);
    }
    proposals
}

#[test]
fn numbers_go_up_and_the_low_water_stays_below_what_waits() {
    let mut proposals = Proposals::default();
    for who in ["a", "b", "c"] {
        proposals.add(who, entry(1), Millis(0)).unwrap();
    }
    let low = |proposals: &mut Proposals<_>, seq| proposals.hand_over(&[seq])[0].low_water;
    assert_eq!([1, 2, 3].map(|seq| low(&mut proposals, seq)), [0, 0, 0]);
    assert_eq!(proposals.remove(2), Some(("b", Millis(0))));
    proposals.add("d", entry(1), Millis(0)).unwrap();
    assert_eq!(low(&mut proposals, 4), 0, "the first one waits still");
    proposals.remove(1);
    proposals.add("e", entry(1), Millis(0)).unwrap();
    assert_eq!(low(&mut proposals, 5), 2);
    assert_eq!(proposals.all(), [3, 4, 5]);
}

#[yare::parameterized(
    no_leader_was_known = { 0, 0, ProposeError::NoLeader },
    everybody_refused = { 2, 2, ProposeError::NoLeader },
    one_said_nothing = { 2, 1, ProposeError::Unconfirmed },
)]
fn what_is_late_is_given_up(sent: u32, refused: u32, error: ProposeError) {
    let mut proposals = one(sent, refused);
    assert_eq!(proposals.late(Millis(LATE.0 - 1)), []);
    assert_eq!(proposals.late(LATE), [("a", error)]);
    assert!(proposals.is_empty() && proposals.take_refused().is_empty());
}

#[test]
fn what_was_refused_goes_again_until_it_is_too_large_or_too_much() {
    let mut proposals = one(1, 1);
    assert!(proposals.need_a_look(true));
    assert_eq!(proposals.take_refused(), [1]);
    assert!(!proposals.need_a_look(true) && proposals.need_a_look(false));
    assert_eq!(one(2, 1).refused(1, Refusal::Overloaded), None, "it may have been taken before");
    let full = one(1, 0).refused(1, Refusal::Overloaded);
    assert_eq!(full, Some(("a", ProposeError::Overloaded)));
    assert_eq!(one(2, 1).refused(1, Refusal::TooLarge), Some(("a", ProposeError::TooLarge)));
}

#[test]
fn what_waits_is_bounded() {
    let mut proposals = Proposals::default();
    let half = limits::UNAPPLIED_MAX as usize / 2;
    assert_eq!(proposals.add("a", entry(half), Millis(0)), Ok(1));
    assert_eq!(proposals.add("b", entry(half + 1), Millis(0)), Err("b"));
    proposals.remove(1);
    assert_eq!(proposals.add("b", entry(half + 1), Millis(0)), Ok(2));
}

#[test]
fn what_a_snapshot_covers_is_answered_from_its_session() {
    let mut state = State::default();
    let session = SessionStep { node: NODE, boot: BOOT, seq: 1, low_water: 0 };
    let (time, idempotency_key) = (Timestamp(1), None);
    let command = Command::Init(fixture::init());
    let init = fsm::Entry { time, session, idempotency_key, command };
    assert!(apply(&mut state, Index(3), init).outcome.is_ok());
    state.index = Index(9);
    let mut proposals = one(1, 0);
    proposals.add("b", entry(1), Millis(0)).unwrap();
    let done = Done { index: Index(9), outcome: Outcome::Done };
    assert_eq!(proposals.covered(&state, NODE, BOOT), [(1, Ok(done))]);
    assert_eq!(proposals.covered(&state, NODE, BootId(8)), [], "of another process");
}
