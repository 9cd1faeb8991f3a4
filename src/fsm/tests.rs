//! Tests of the replicated machine: effects exactly once, and rejections that leave nothing.

use super::model::Role;
use super::{Command, Entry, Outcome, SessionStep, State, apply};
use crate::id::{BootId, Index, NodeId};
use crate::units::Timestamp;

fn entry(time: u64, seq: u64, low_water: u64, command: Command) -> Entry {
    let session = SessionStep { node: NodeId(1), boot: BootId(1), seq, low_water };
    Entry { time: Timestamp(time), session, idempotency_key: None, command }
}

fn create(id: &str) -> Command {
    let (id, hash) = (id.into(), String::new());
    Command::CreateToken { id, role: Role::Read, hash, expires_at: None }
}

#[test]
fn a_proposal_that_comes_twice_is_carried_out_once() {
    let mut state = State::default();
    let revoke = || Command::RevokeToken { id: "t".into() };
    for (index, seq, command, is_done) in [
        (1, 1, create("t"), true),
        (2, 2, revoke(), true),
        // Would fail if it were carried out again.
        (3, 2, revoke(), true),
        (4, 3, revoke(), false),
    ] {
        let outcome = apply(&mut state, Index(index), entry(index, seq, 0, command)).outcome;
        assert_eq!(outcome.is_ok(), is_done, "{outcome:?}");
    }
    assert_eq!(state.index, Index(4));
}

#[test]
fn outcomes_are_kept_until_they_were_seen() {
    let mut state = State::default();
    for seq in 1..=5 {
        let command = create(&format!("t{seq}"));
        let done = apply(&mut state, Index(seq), entry(seq, seq, seq.saturating_sub(3), command));
        assert_eq!(done.outcome, Ok(Outcome::Done));
    }
    let kept: Vec<u64> = state.sessions[&NodeId(1)].outcomes.keys().copied().collect();
    assert_eq!(kept, [3, 4, 5]);
}

#[test]
fn a_rejection_changes_time_and_index_only() {
    let mut state = State::default();
    let _ = apply(&mut state, Index(1), entry(10, 0, 0, create("t")));
    let mut expected = state.clone();
    (expected.index, expected.time) = (Index(2), Timestamp(20));
    let revoke = Command::RevokeToken { id: "other".into() };
    let refused = apply(&mut state, Index(2), entry(20, 0, 0, revoke));
    assert!(refused.outcome.is_err() && refused.touched.is_empty());
    assert_eq!(state, expected);
    // An earlier clock does not turn time back.
    let _ = apply(&mut state, Index(3), entry(5, 0, 0, create("u")));
    assert_eq!(state.time, Timestamp(20));
}

#[test]
fn one_caller_s_keys_never_cost_another_s() {
    let mut state = State { feature_level: super::NEXT_LEVEL, ..State::default() };
    let mut index = 0;
    let mut keyed = |state: &mut State, key: String, id: &str| {
        index += 1;
        let key = Some(key);
        let entry = Entry { idempotency_key: key, ..entry(index, 0, 0, create(id)) };
        let _ = apply(state, Index(index), entry);
    };
    keyed(&mut state, "quiet/k".to_owned(), "q");
    for n in 0..crate::limits::IDEMPOTENCY_EACH + 500 {
        keyed(&mut state, format!("loud/{n}"), "l");
        keyed(&mut state, format!("louder/{n}"), "l");
    }
    let of = |caller: &str| state.idempotency.keys().filter(|k| k.starts_with(caller)).count();
    let most = crate::limits::IDEMPOTENCY_EACH;
    assert_eq!([of("quiet/"), of("loud/"), of("louder/")], [1, most, most]);
    assert!(!state.idempotency.contains_key("loud/0"), "the oldest went");
}
