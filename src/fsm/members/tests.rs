//! Tests of joining, labels, draining and removal.

use crate::fsm::command::{Action, Members, Place, Reach, Register};
use crate::fsm::deploy::tests::{change, running, shop, step};
use crate::fsm::model::{NodeStatus, Phase, RaftRole};
use crate::fsm::{Command, Outcome, Rejection, State, fixture};
use crate::id::{AllocId, BootId, NodeId, WorkloadName};
use crate::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

fn join(state: &mut State, name: &str, key: &str) -> Result<(u64, String), Rejection> {
    match change(state, Command::Join(fixture::join(name, key)))? {
        Outcome::Node { id, subnet } => Ok((id.0, subnet.to_string())),
        other => panic!("{other:?}"),
    }
}

fn register(state: &mut State, node: u64, boot: u64) {
    let (node, boot) = (NodeId(node), BootId(boot));
    change(state, Command::Register(Register { node, boot, ..fixture::register() })).unwrap();
}

fn down(state: &mut State, node: u64) {
    let node = NodeId(node);
    let boot = state.nodes[&node].boot;
    change(state, Command::NodeDown { node, boot }).unwrap();
}

fn status(state: &State, node: u64) -> NodeStatus {
    state.nodes[&NodeId(node)].status
}

/// web runs on that node.
fn place(state: &mut State, node: u64) -> AllocId {
    let spec = shop(state).services[&WorkloadName::from("web")].target.clone().unwrap();
    let id = AllocId::from("web-0-aaaa");
    let (workload, node) = ("web".into(), NodeId(node));
    let place = Place { id: id.clone(), workload, replica: 0, node, spec, replaces: None };
    step(state, Action::Place(place));
    id
}

#[test]
fn a_node_joins_with_an_id_and_a_subnet_and_is_down_until_it_registers() {
    let mut state = running();
    state.time = Timestamp(5_000);
    assert_eq!(join(&mut state, "n2", "k2"), Ok((2, "10.99.8.0".to_owned())));
    assert_eq!(join(&mut state, "n3", "k3"), Ok((3, "10.99.16.0".to_owned())));
    let node = &state.nodes[&NodeId(2)];
    assert_eq!((node.status, node.part, node.boot), (NodeStatus::Down, RaftRole::Out, BootId(0)));
    assert_eq!(node.down_since, Some(Timestamp(5_000)));
    register(&mut state, 2, 8);
    let node = &state.nodes[&NodeId(2)];
    assert_eq!((node.status, node.down_since), (NodeStatus::Ready, None));
    assert_eq!(status(&state, 3), NodeStatus::Down);
}

#[test]
fn the_same_request_once_more_has_the_same_answer() {
    let mut state = running();
    let first = join(&mut state, "n2", "k2");
    assert_eq!(join(&mut state, "n2", "k2"), first);
    assert_eq!(state.nodes.len(), 2);
    // Another machine under that name is another node.
    assert_eq!(join(&mut state, "n2", "other"), Ok((3, "10.99.16.0".to_owned())));
    assert!(state.removed.contains(&NodeId(2)));
}

#[test]
fn of_two_machines_that_join_at_once_under_one_name_the_first_has_it_for_a_minute() {
    let mut state = running();
    state.feature_level = crate::fsm::NEXT_LEVEL;
    state.time = Timestamp(5_000);
    let first = join(&mut state, "n2", "k2");
    let refused = join(&mut state, "n2", "other").unwrap_err();
    assert_eq!(refused.to_string(), "node n2 was just let in and is not ready yet");
    assert_eq!(join(&mut state, "n2", "k2"), first, "the same request once more");
    assert!(state.nodes.contains_key(&NodeId(2)) && state.removed.is_empty());
    // It never came.
    state.time = Timestamp(65_000);
    assert_eq!(join(&mut state, "n2", "other"), Ok((3, "10.99.16.0".to_owned())));
    // One that was there and is down has no such time.
    register(&mut state, 3, 8);
    down(&mut state, 3);
    assert_eq!(join(&mut state, "n2", "again"), Ok((4, "10.99.24.0".to_owned())));
}

#[test]
fn a_node_that_has_moved_registers_where_it_is_now() {
    let mut state = running();
    join(&mut state, "n2", "k2").unwrap();
    let reach = Some(Reach { address: "192.0.2.77".to_owned(), peer_port: 5_000 });
    let moved = Register { node: NodeId(2), boot: BootId(8), reach, ..fixture::register() };
    let place = |state: &State| {
        let node = &state.nodes[&NodeId(2)];
        (node.address.clone(), node.peer_port)
    };
    let before = place(&state);
    change(&mut state, Command::Register(moved.clone())).unwrap();
    assert_eq!(place(&state), before, "an older member would not have done it");
    state.feature_level = crate::fsm::NEXT_LEVEL;
    change(&mut state, Command::Register(moved)).unwrap();
    assert_eq!(place(&state), ("192.0.2.77".to_owned(), 5_000));
    register(&mut state, 2, 9);
    assert_eq!(place(&state), ("192.0.2.77".to_owned(), 5_000), "it says nothing of it");
}

#[test]
fn a_wiped_node_takes_its_own_place_once_it_is_down() {
    let mut state = running();
    join(&mut state, "n2", "k2").unwrap();
    register(&mut state, 2, 8);
    let id = place(&mut state, 2);
    let refused = join(&mut state, "n2", "new").unwrap_err();
    assert_eq!(refused.to_string(), "node n2 is a member already, and it is ready");
    down(&mut state, 2);
    assert_eq!(join(&mut state, "n2", "new"), Ok((3, "10.99.16.0".to_owned())));
    assert_eq!(state.allocations[&id].observed.phase, Phase::Lost);
    assert!(state.removed.contains(&NodeId(2)) && !state.nodes.contains_key(&NodeId(2)));
    // What the buried one says counts for nothing.
    let late = Register { node: NodeId(2), boot: BootId(9), ..fixture::register() };
    assert!(matches!(change(&mut state, Command::Register(late)), Err(Rejection::NotFound { .. })));
}

#[test]
fn subnets_are_given_in_turn_until_none_is_left() {
    let mut state = running();
    for n in 2..=32 {
        join(&mut state, &format!("n{n}"), "k").unwrap();
    }
    let refused = join(&mut state, "n33", "k").unwrap_err();
    assert_eq!(refused.to_string(), "the cluster's subnet 10.99.0.0/16 has no /21 left");
    assert_eq!(state.last_node, NodeId(32));
    register(&mut state, 2, 8);
    change(&mut state, Command::Remove { node: NodeId(7) }).unwrap();
    assert_eq!(join(&mut state, "n33", "k"), Ok((33, "10.99.48.0".to_owned())));
}

#[test]
fn the_configuration_says_who_takes_which_part() {
    let mut state = running();
    join(&mut state, "n2", "k2").unwrap();
    join(&mut state, "n3", "k3").unwrap();
    let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<BTreeSet<_>>();
    // One that is gone meanwhile is in nobody's way.
    let members = Members { voters: ids(&[1, 2, 9]), learners: ids(&[3]) };
    change(&mut state, Command::Members(members)).unwrap();
    let parts: Vec<RaftRole> = state.nodes.values().map(|node| node.part).collect();
    assert_eq!(parts, [RaftRole::Voter, RaftRole::Voter, RaftRole::Learner]);
    change(&mut state, Command::Members(Members { voters: ids(&[2]), ..Members::default() }))
        .unwrap();
    let parts: Vec<RaftRole> = state.nodes.values().map(|node| node.part).collect();
    assert_eq!(parts, [RaftRole::Out, RaftRole::Voter, RaftRole::Out]);
}

#[test]
fn labels_are_set_and_taken_away() {
    let mut state = running();
    let label = |state: &mut State, labels: &[(&str, Option<&str>)]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)));
        change(state, Command::Label { node: NodeId(1), labels: labels.collect() })
    };
    label(&mut state, &[("zone", Some("eu-1")), ("disk", Some("ssd"))]).unwrap();
    label(&mut state, &[("zone", Some("eu-2")), ("disk", None), ("none", None)]).unwrap();
    let want = BTreeMap::from([("zone".to_owned(), "eu-2".to_owned())]);
    assert_eq!(state.nodes[&NodeId(1)].labels, want);
    let many: Vec<String> = (0..64).map(|n| format!("l{n}")).collect();
    let many: Vec<(&str, Option<&str>)> = many.iter().map(|l| (l.as_str(), Some("x"))).collect();
    let refused = label(&mut state, &many).unwrap_err();
    assert_eq!(refused.to_string(), "there are too many labels on node n1");
    assert_eq!(state.nodes[&NodeId(1)].labels, want);
}

#[test]
fn a_node_drains_until_it_is_told_otherwise_also_over_its_own_end() {
    let mut state = running();
    join(&mut state, "n2", "k2").unwrap();
    register(&mut state, 2, 8);
    let id = place(&mut state, 2);
    let version = shop(&state).version;
    let node = NodeId(2);
    let refused = change(&mut state, Command::Undrain { node }).unwrap_err();
    assert_eq!(refused.to_string(), "node n2 is not draining");
    change(&mut state, Command::Drain { node, deadline: Some(Timestamp(9)) }).unwrap();
    assert_eq!(status(&state, 2), NodeStatus::Draining);
    assert!(shop(&state).version > version, "what was planned is stale");
    assert!(state.allocations[&id].is_live());
    down(&mut state, 2);
    assert_eq!(status(&state, 2), NodeStatus::Down);
    register(&mut state, 2, 9);
    assert_eq!(status(&state, 2), NodeStatus::Draining);
    change(&mut state, Command::Drain { node, deadline: None }).unwrap();
    assert_eq!(state.nodes[&node].drain.unwrap().deadline, None);
    change(&mut state, Command::Undrain { node }).unwrap();
    assert_eq!(status(&state, 2), NodeStatus::Ready);
    // One that is down is told so too, and it is down still.
    down(&mut state, 2);
    change(&mut state, Command::Drain { node, deadline: None }).unwrap();
    change(&mut state, Command::Undrain { node }).unwrap();
    assert_eq!(status(&state, 2), NodeStatus::Down);
}

#[test]
fn a_node_is_removed_for_ever_once_nothing_is_left_on_it() {
    let mut state = running();
    let alone = change(&mut state, Command::Remove { node: NodeId(1) }).unwrap_err();
    assert_eq!(alone, Rejection::LastNode { name: "n1".to_owned() });
    join(&mut state, "n2", "k2").unwrap();
    // The other one has never been heard.
    let alone = change(&mut state, Command::Remove { node: NodeId(1) }).unwrap_err();
    assert_eq!(alone, Rejection::LastNode { name: "n1".to_owned() });
    register(&mut state, 2, 8);
    let ready = change(&mut state, Command::Remove { node: NodeId(2) }).unwrap_err();
    assert_eq!(ready.to_string(), "node n2 still takes work");
    place(&mut state, 2);
    let busy = change(&mut state, Command::Remove { node: NodeId(2) }).unwrap_err();
    assert_eq!(busy.to_string(), "node n2 still holds web-0-aaaa");
    change(&mut state, Command::Drain { node: NodeId(2), deadline: None }).unwrap();
    assert!(change(&mut state, Command::Remove { node: NodeId(2) }).is_err());
    // The only vote goes to another node first.
    change(&mut state, Command::Drain { node: NodeId(1), deadline: None }).unwrap();
    let vote = change(&mut state, Command::Remove { node: NodeId(1) }).unwrap_err();
    assert_eq!(vote.to_string(), "node n1 votes, and only 0 of the other 0 voters are there");
    down(&mut state, 2);
    change(&mut state, Command::Remove { node: NodeId(2) }).unwrap();
    assert!(state.removed.contains(&NodeId(2)) && !state.nodes.contains_key(&NodeId(2)));
    assert_eq!(join(&mut state, "n2", "k2"), Ok((3, "10.99.16.0".to_owned())), "a new id");
}

#[test]
fn a_voter_is_removed_if_the_others_have_a_majority_without_it() {
    let three = || {
        let mut state = running();
        for n in 2..=3 {
            join(&mut state, &format!("n{n}"), "k").unwrap();
            register(&mut state, n, n);
        }
        let voters = [1, 2, 3].map(NodeId).into();
        change(&mut state, Command::Members(Members { voters, ..Members::default() })).unwrap();
        change(&mut state, Command::Drain { node: NodeId(1), deadline: None }).unwrap();
        state
    };
    let mut state = three();
    change(&mut state, Command::Remove { node: NodeId(1) }).unwrap();
    let mut state = three();
    down(&mut state, 3);
    let vote = change(&mut state, Command::Remove { node: NodeId(1) }).unwrap_err();
    assert_eq!(vote.to_string(), "node n1 votes, and only 1 of the other 2 voters are there");
}

#[test]
fn what_an_older_program_kept_is_read() {
    let mut state = running();
    state.removed.insert(NodeId(9));
    let text = String::from_utf8(state.encode().unwrap()).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    for field in ["removed", "ca"] {
        old.as_object_mut().unwrap().remove(field);
    }
    let node = old["nodes"]["1"].as_object_mut().unwrap();
    for field in ["peer_port", "down_since", "drain", "part", "feature_level", "public_key"] {
        node.remove(field).unwrap();
    }
    node.remove("keyring");
    node.insert("voter".to_owned(), true.into());
    let old = State::decode(old.to_string().as_bytes()).unwrap();
    assert_eq!(old.nodes[&NodeId(1)].part, RaftRole::Voter);
    assert!(old.removed.is_empty());
    assert_eq!(State::decode(text.as_bytes()).unwrap(), state);
}
