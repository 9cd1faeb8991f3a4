//! Tests of who may go on alone, and of what a crash on the way leaves.

use super::*;
use crate::actors::raft::wal::{self, Store as _};
use crate::consensus::raft::Entry;
use crate::consensus::raft::node::Write;
use crate::fsm::{Cluster, Command, fixture};
use prost::Message as _;
use raft::eraftpb::{self, ConfState, HardState};
use std::net::Ipv4Addr;

const OLD: Incarnation = Incarnation(7);

fn entry(index: u64, command: &Command) -> eraftpb::Entry {
    let command = serde_json::to_vec(command).unwrap();
    let data = Entry { command, time_ms: index, ..Entry::default() }.encode_to_vec();
    eraftpb::Entry { index, term: 2, data, ..eraftpb::Entry::default() }
}

/// A member of three: its log has four entries, of which it knows three to be committed.
fn survivor(data: &Path) -> Identity {
    let init = crate::fsm::command::Init { incarnation: OLD, ..fixture::init() };
    let first = ConfState { voters: vec![1], ..ConfState::default() };
    let mut log = wal::open(&data.join(LOG), &first).unwrap();
    let commands = [
        Command::Init(init.clone()),
        Command::Join(fixture::join("n2", "x")),
        Command::Join(fixture::join("n3", "y")),
        Command::Label {
            node: NodeId(1),
            labels: [("late".to_owned(), Some("yes".to_owned()))].into(),
        },
    ];
    let entries = (1..).zip(&commands).map(|(index, one)| entry(index, one)).collect();
    let all = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let hard = HardState { term: 2, vote: 1, commit: 3 };
    let write = Write { number: 1, entries, hard, conf: Some((3, all)), ..Write::default() };
    log.wal.write(&write).unwrap();
    let who = Identity {
        members: [(NodeId(2), "192.0.2.2:4401".to_owned())].into(),
        begun: true,
        ..Identity::first(init)
    };
    who.write(data).unwrap();
    who
}

fn past(data: &Path) -> Past {
    past::read(&data.join(LOG)).unwrap()
}

fn cluster(past: &Past) -> &Cluster {
    past.state.cluster.as_ref().unwrap()
}

/// What a start finds after a crash: one life or the other, whole.
fn started(data: &Path) -> (Identity, Past) {
    let who = Identity::read(data).unwrap().unwrap();
    finish(data, Some(&who)).unwrap();
    let left: Vec<_> = fs::read_dir(data).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("raft.")), "{left:?}");
    (who, past(data))
}

#[test]
fn the_whole_log_counts_and_the_next_one_begins_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let who = survivor(data);
    let held = past(data);
    assert_eq!((held.last, held.term, held.voters.len()), (4, 2, 3));
    carry_out(data, who.clone(), held).unwrap();
    let (now, held) = started(data);
    assert_ne!(now.cluster.incarnation, OLD);
    assert_eq!(now.cluster.incarnation, cluster(&held).incarnation);
    assert_eq!(now.init.unwrap().incarnation, now.cluster.incarnation);
    assert!(now.members.is_empty() && now.begun);
    assert_eq!((held.last, held.term, held.state.index), (5, 3, Index(5)));
    assert_eq!((held.voters, held.outgoing), ([NodeId(1)].into(), BTreeSet::new()));
    assert_eq!(held.state.nodes.keys().collect::<Vec<_>>(), [&NodeId(1)]);
    assert_eq!(held.state.nodes[&NodeId(1)].labels["late"], "yes", "not known to be committed");
}

/// One member made every node halt with it, which only the survivor's recovery can heal.
#[test]
fn what_is_no_command_is_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let who = survivor(dir.path());
    let first = ConfState { voters: vec![1], ..ConfState::default() };
    let mut log = wal::open(&dir.path().join(LOG), &first).unwrap();
    let bad = Entry { node: 2, seq: 1, command: b"not json".to_vec(), ..Entry::default() };
    let envelope =
        eraftpb::Entry { index: 5, term: 2, data: b"none".to_vec(), ..Default::default() };
    let data = bad.encode_to_vec();
    let command = eraftpb::Entry { index: 6, data, ..envelope.clone() };
    let late = Command::Label {
        node: NodeId(1),
        labels: [("later".to_owned(), Some("yes".to_owned()))].into(),
    };
    let entries = vec![envelope, command, entry(7, &late)];
    let hard = HardState { term: 2, vote: 1, commit: 6 };
    log.wal.write(&Write { number: 1, entries, hard, ..Write::default() }).unwrap();
    drop(log);
    let left = past(dir.path());
    assert_eq!((left.last, left.state.nodes.len()), (7, 3));
    assert!(left.state.nodes[&NodeId(1)].labels.contains_key("later"));
    carry_out(dir.path(), who, left).unwrap();
    assert_eq!(started(dir.path()).1.state.nodes.len(), 1);
}

#[test]
fn a_crash_leaves_the_old_life_or_the_new_one() {
    for crash in ["before the identity", "before the old log goes", "in between", "at the end"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let who = survivor(data);
        let next = Incarnation(8);
        prepare(data, &who, past(data), next).unwrap();
        // An earlier one that was never carried out.
        fs::create_dir(draft(data, Incarnation(5))).unwrap();
        let is_new = crash != "before the identity";
        if is_new {
            let cluster = Cluster { incarnation: next, ..who.cluster.clone() };
            Identity { cluster, ..who }.write(data).unwrap();
        }
        match crash {
            // Only a part of it went.
            "before the old log goes" => {
                let log = data.join(LOG);
                let file = fs::read_dir(&log).unwrap().next().unwrap().unwrap();
                fs::remove_file(file.path()).unwrap();
            }
            "in between" => fs::remove_dir_all(data.join(LOG)).unwrap(),
            "at the end" => drop(started(data)),
            _ => {}
        }
        let (who, held) = started(data);
        let wanted = if is_new { (next, 5, 1) } else { (OLD, 4, 3) };
        let found = (who.cluster.incarnation, held.last, held.voters.len());
        assert_eq!(found, wanted, "{crash}");
        assert_eq!(cluster(&held).incarnation, wanted.0, "{crash}");
    }
}

fn judged(voters: &[u64], me: u64, answers: &[(u64, ExpulsionCheck)]) -> Result<(), String> {
    let ids = |list: &[u64]| list.iter().copied().map(NodeId).collect();
    let state = State::default();
    let outgoing = BTreeSet::new();
    let past = Past { state, voters: ids(voters), outgoing, term: 1, last: 1 };
    let answers = answers.iter().map(|(id, says)| (NodeId(*id), *says)).collect();
    judge(&past, NodeId(me), &answers).map_err(|error| error.to_string())
}

#[test]
fn only_a_survivor_without_a_quorum_goes_on_alone() {
    use crate::api::views::Expelled;
    let here = ExpulsionCheck::Member;
    assert_eq!(judged(&[1, 2, 3], 1, &[]), Ok(()));
    assert_eq!(judged(&[1, 2, 3, 4, 5], 1, &[(2, here)]), Ok(()), "two of five");
    assert_eq!(judged(&[1], 2, &[]), Ok(()), "a learner whose one voter is gone");
    // One that never voted does not count.
    assert_eq!(judged(&[1, 2, 3], 1, &[(4, here)]), Ok(()));
    let two = judged(&[1, 2, 3], 1, &[(2, here)]).unwrap_err();
    assert!(two.starts_with("2 answers; with this node that is 2 of 3 voters"), "{two}");
    assert!(judged(&[1, 2, 3], 4, &[(2, here), (3, here)]).unwrap_err().contains("2, 3 answer;"));
    let gone = ExpulsionCheck::Expelled(Expelled::Recovered);
    let other = judged(&[1, 2, 3], 2, &[(1, gone)]).unwrap_err();
    assert!(other.starts_with("1 answers that the cluster goes on without this node"), "{other}");
}

#[test]
fn a_configuration_in_the_middle_of_a_change_needs_both_majorities_to_go_on() {
    let ids = |list: &[u64]| list.iter().copied().map(NodeId).collect();
    let (voters, outgoing) = (ids(&[1, 2, 3]), ids(&[1, 4, 5]));
    let past = Past { state: State::default(), voters, outgoing, term: 1, last: 1 };
    let judge = |answers: &[u64]| {
        let answers = answers.iter().map(|id| (NodeId(*id), ExpulsionCheck::Member)).collect();
        super::judge(&past, NodeId(1), &answers).is_ok()
    };
    assert!(judge(&[2, 3]) && judge(&[4]));
    assert!(!judge(&[2, 4]));
}

#[test]
fn what_would_be_done_names_who_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    survivor(dir.path());
    let state = past(dir.path()).state;
    let text = plan(&state, NodeId(1), &BTreeMap::new());
    for part in ["n2 (192.0.2.9), n3 (192.0.2.9)", "mill clean", "no way back"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = plan(&state, NodeId(1), &[(NodeId(3), ExpulsionCheck::Member)].into());
    assert!(text.contains("n3 answers; stop it first"), "{text}");
    assert_eq!(state.cluster.unwrap().subnet, Ipv4Addr::new(10, 99, 0, 0));
}
