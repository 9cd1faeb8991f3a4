//! What one member or a disk may have put into the log or a snapshot: mutated bytes.
//!
//! Owns that nothing of it ends a node: it is refused, or it is applied to a state that every node
//! can read again.

use super::*;
use crate::consensus::raft::consensus::{check_snapshot, committed, packed};
use crate::fsm::command::{Action, Report, Spawn, Spawned, Steps};
use crate::fsm::deploy::tests::{put, running};
use crate::fsm::model::{AllocationStatus, Exit, ExitReason, Health, Phase};
use crate::fsm::{FEATURE_LEVEL, apply, fixture};
use crate::id::{AllocId, Attempt};
use proptest::prelude::*;
use proptest::sample::Index as At;
use prost::Message as _;
use raft::eraftpb;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A change of bytes: where, what, how.
type Cut = (At, u8, u8);

fn mutated(mut bytes: Vec<u8>, cuts: &[Cut]) -> Vec<u8> {
    for (at, byte, how) in cuts {
        if bytes.is_empty() {
            return bytes;
        }
        let at = at.index(bytes.len());
        match how % 6 {
            0 => bytes[at] = *byte,
            1 => drop(bytes.drain(at..(at + usize::from(*byte)).min(bytes.len()))),
            2 => {
                let piece = bytes[at..(at + usize::from(*byte)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => drop(bytes.splice(at..at, *b"18446744073709551615")),
            4 => drop(bytes.splice(at..at, vec![b'['; usize::from(*byte) * 16])),
            _ => drop(bytes.splice(at..at, *br#""\u0000":null,"#)),
        }
    }
    bytes
}

fn seeds(state: &State) -> Vec<Command> {
    let observed = AllocationStatus {
        attempt: Attempt(1),
        phase: Phase::Running,
        health: Health::Healthy,
        exit: Some(Exit { code: Some(1), reason: ExitReason::Error, message: None }),
        ..AllocationStatus::default()
    };
    let report = Report {
        node: NODE,
        boot: state.nodes[&NODE].boot,
        seq: 9,
        allocations: [(AllocId::from("web-0-aaaa"), observed)].into(),
    };
    let task = Spawned::Task { name: "t".into(), env: [("A".into(), "b".into())].into() };
    let stop = Action::Stop { allocation: "web-0-aaaa".into() };
    let planned = state.apps.values().map(|app| (app.name.clone(), app.version)).collect();
    vec![
        Command::Init(fixture::init()),
        Command::Register(fixture::register()),
        Command::Join(fixture::join("n2", "x")),
        Command::Report(report),
        Command::Spawn(Spawn { id: "t-aaaa".into(), what: task }),
        Command::Steps(Steps { planned, actions: vec![stop] }),
        Command::Label { node: NODE, labels: [("a".into(), None)].into() },
        Command::Deploy(crate::fsm::deploy::tests::deploy(state, &[("web", "web:9")])),
    ]
}

const NODE: NodeId = NodeId(1);

fn begun() -> State {
    let mut state = running();
    put(&mut state, &[("web", "web:2"), ("db", "db:1")]);
    state
}

/// As root does: a panic inside is a rejection.
fn applied(state: &State, command: Vec<u8>) -> State {
    let entry = Entry { feature_level: FEATURE_LEVEL, command, seq: 1, ..Entry::default() };
    let data = entry.encode_to_vec();
    let raw = eraftpb::Entry { index: state.index.0 + 1, data, ..eraftpb::Entry::default() };
    let one = CommittedEntry::decode(committed(&raw), FEATURE_LEVEL).expect("a known level");
    let mut next = state.clone();
    let entry = one.entry.expect("an envelope");
    let run = AssertUnwindSafe(|| drop(apply(&mut next, one.index, entry)));
    if catch_unwind(run).is_ok() { next } else { state.clone() }
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_mutated_command_is_refused_or_leaves_a_state_that_can_be_read(
        which in any::<At>(),
        cuts in proptest::collection::vec(any::<Cut>(), 1..4),
    ) {
        let state = begun();
        let seeds = seeds(&state);
        let command = serde_json::to_vec(&seeds[which.index(seeds.len())]).unwrap();
        let after = applied(&state, mutated(command, &cuts));
        let again = State::decode(&after.encode().unwrap());
        prop_assert_eq!(again.unwrap(), after);
    }

    #[test]
    fn a_mutated_entry_of_the_log_is_stepped_over(
        cuts in proptest::collection::vec(any::<Cut>(), 1..6),
        context in any::<bool>(),
    ) {
        let command = serde_json::to_vec(&Command::Register(fixture::register())).unwrap();
        let entry = Entry { feature_level: 1, node: 1, seq: 1, command, ..Entry::default() };
        let bytes = mutated(entry.encode_to_vec(), &cuts);
        let mut raw = eraftpb::Entry { index: 7, ..eraftpb::Entry::default() };
        if context {
            raw.entry_type = eraftpb::EntryType::EntryConfChangeV2.into();
            raw.context = bytes;
        } else {
            raw.data = bytes;
        }
        let one = committed(&raw);
        let level = one.entry.as_ref().map_or(0, |entry| entry.feature_level);
        // Only a level that isn't known may stop a node.
        prop_assert_eq!(CommittedEntry::decode(one, FEATURE_LEVEL).is_ok(), level <= FEATURE_LEVEL);
    }

    #[test]
    fn a_mutated_snapshot_is_refused_or_taken(
        cuts in proptest::collection::vec(any::<Cut>(), 1..6),
        whole in any::<bool>(),
    ) {
        let state = begun().encode().unwrap();
        let state = if whole { state } else { mutated(state, &cuts) };
        let snapshot = eraftpb::Snapshot { data: packed(state), ..eraftpb::Snapshot::default() };
        let mut message = eraftpb::Message::default();
        message.set_snapshot(snapshot);
        message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
        let bytes = prost011::Message::encode_to_vec(&message);
        let bytes = if whole { mutated(bytes, &cuts) } else { bytes };
        // Whatever it says: no panic, and what is let in is one that root can take over.
        let _ = check_snapshot(bytes.into(), FEATURE_LEVEL);
    }
}

#[test]
fn whole_ones_are_taken() {
    let state = begun();
    for command in seeds(&state) {
        let bytes = serde_json::to_vec(&command).unwrap();
        let entry = Entry { feature_level: 1, command: bytes, ..Entry::default() };
        assert_eq!(command_of(&entry).unwrap(), command);
    }
    let mut message = eraftpb::Message::default();
    message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
    let data = packed(state.encode().unwrap());
    message.set_snapshot(eraftpb::Snapshot { data, ..eraftpb::Snapshot::default() });
    let check = |message: &eraftpb::Message, level| {
        check_snapshot(prost011::Message::encode_to_vec(message).into(), level)
    };
    check(&message, FEATURE_LEVEL).unwrap();
    message.mut_snapshot().data = packed(br#"{"feature_level": 9, "new": 1}"#.to_vec());
    check(&message, FEATURE_LEVEL).expect("root says which version to install");
    check(&message, 9).unwrap_err();
    message.mut_snapshot().data = packed(b"{}".to_vec());
    assert!(check(&message, FEATURE_LEVEL).is_err());
}

#[yare::parameterized(
    text = { b"not json", 1 },
    empty = { b"", 1 },
    unknown = { br#"{"evaporate": {}}"#, 1 },
    never_written = { br#""unreadable""#, 1 },
    early = { br#"{"images": {"remove": {"reference": "r", "digest": null}}}"#, 1 },
    deep = { &[b'['; 100_000], 1 },
)]
fn what_is_no_command_at_its_level_is_refused(command: &[u8], feature_level: u32) {
    let entry = Entry { feature_level, command: command.to_vec(), ..Entry::default() };
    let error = check(&entry, FEATURE_LEVEL).unwrap_err();
    assert!(error.to_string().contains("command"), "{error}");
    let state = begun();
    let before = state.clone();
    let after = applied(&state, command.to_vec());
    assert_eq!((after.apps, after.nodes, after.loaded), (before.apps, before.nodes, before.loaded));
}

#[test]
fn a_key_is_bounded() {
    let command = serde_json::to_vec(&Command::Register(fixture::register())).unwrap();
    let mut entry = Entry { feature_level: 1, command, ..Entry::default() };
    check(&entry, FEATURE_LEVEL).unwrap();
    entry.idempotency_key = "k".repeat(limits::IDEMPOTENCY_KEY_MAX + 1);
    assert!(check(&entry, FEATURE_LEVEL).is_err());
    entry.feature_level = FEATURE_LEVEL + 1;
    check(&entry, FEATURE_LEVEL).expect("its level is what refuses it");
}
