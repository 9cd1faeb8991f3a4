//! Volumes: who holds one, where its data is, and which copy of it counts.

use super::*;
use crate::fsm::Command;
use crate::fsm::command::Report;
use crate::fsm::command::{Action, Place, Steps};
use crate::fsm::deploy::tests::{change, put, running};
use crate::fsm::model::{AllocationStatus, Health, WorkloadSpec};
use crate::spec::model::VolumeSpec;

/// A service with a volume, not placed yet.
pub(super) fn with_volume() -> (State, SpecHash) {
    let mut state = running();
    put(&mut state, &[("db", "postgres")]);
    let app = state.owner(&"db".into()).unwrap().clone();
    let hash = app.services[&"db".into()].target.clone().unwrap();
    let mut stored = (*state.specs[&hash]).clone();
    let WorkloadSpec::Service(service) = &mut stored.spec else { panic!("a service") };
    service.run.volumes.push(VolumeSpec {
        name: "data".to_owned(),
        path: "/data".to_owned(),
        ephemeral: false,
        size: Some(Bytes(5)),
    });
    state.specs.insert(hash.clone(), Arc::new(stored));
    (state, hash)
}

pub(super) fn place(id: &str, node: u64, spec: &SpecHash) -> Command {
    Command::Steps(Steps {
        actions: vec![Action::Place(Place {
            id: id.into(),
            workload: "db".into(),
            replica: 0,
            node: NodeId(node),
            spec: spec.clone(),
            replaces: None,
        })],
        ..Steps::default()
    })
}

pub(super) fn seen(state: &mut State, id: &str, seq: u64, phase: Phase) {
    let boot = state.nodes[&NodeId(1)].boot;
    let observed = AllocationStatus { phase, health: Health::None, ..AllocationStatus::default() };
    let allocations = [(AllocId::from(id), observed)].into();
    let report = Report { node: NodeId(1), boot, seq, allocations };
    change(state, Command::Report(report)).unwrap();
}

pub(super) fn volume(state: &State) -> Volume {
    Volume::clone(&state.volumes[&VolumeName::from("data")])
}

#[test]
fn one_allocation_at_a_time_holds_it() {
    let (mut state, spec) = with_volume();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    assert_eq!((volume(&state).node, volume(&state).fence), (NodeId(1), 1));
    assert_eq!(change(&mut state, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
    assert!(!volume(&state).used);
    seen(&mut state, "db-0-aaaa", 1, Phase::Running);
    assert!(volume(&state).used, "its data must be there from now on");
    seen(&mut state, "db-0-aaaa", 2, Phase::Stopped);
    change(&mut state, place("db-0-bbbb", 1, &spec)).unwrap();
    assert_eq!((volume(&state).holder.as_str(), volume(&state).fence), ("db-0-bbbb", 2));
}

#[test]
fn exactly_one_copy_is_the_volume_at_every_moment_of_a_move() {
    let (mut state, spec) = with_volume();
    let node = state.nodes[&NodeId(1)].clone();
    let second = crate::fsm::model::Node { id: NodeId(2), ..(*node).clone() };
    state.nodes.insert(NodeId(2), Arc::new(second));
    let ask = |change: fn(VolumeName, NodeId) -> VolumeChange, node| {
        Command::Volumes(change("data".into(), NodeId(node)))
    };
    let to = |node| ask(|name, to| VolumeChange::Move { name, to }, node);
    let moved = |state: &State, node| {
        let copy = volume(state).moving.map_or(0, |moving| moving.copy);
        let name = VolumeName::from("data");
        Command::Volumes(VolumeChange::Moved { name, node: NodeId(node), copy })
    };
    let left = |node| ask(|name, node| VolumeChange::Left { name, node }, node);
    let found = |node| ask(|name, node| VolumeChange::Found { name, node }, node);
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    seen(&mut state, "db-0-aaaa", 1, Phase::Running);
    assert!(change(&mut state, to(1)).is_err(), "it is there");
    assert!(change(&mut state, to(9)).is_err(), "no such node");
    change(&mut state, to(2)).unwrap();
    let first = moved(&state, 2);
    let written = change(&mut state, first.clone());
    assert_eq!(written, Err(Rejection::Stale), "it is written still");
    seen(&mut state, "db-0-aaaa", 2, Phase::Stopped);
    for at in [1, 2] {
        let nowhere = change(&mut state, place("db-0-bbbb", at, &spec));
        assert_eq!(nowhere, Err(Rejection::Stale), "not while it moves");
    }
    change(&mut state, to(1)).unwrap();
    assert_eq!(volume(&state).moving, None, "called off");
    assert_eq!(change(&mut state, first.clone()), Err(Rejection::Stale), "too late");
    change(&mut state, to(2)).unwrap();
    assert_eq!(change(&mut state, first), Err(Rejection::Stale), "an older copy");
    let why = "no space left on device".to_owned();
    let (name, node) = (VolumeName::from("data"), NodeId(2));
    let copy = volume(&state).moving.unwrap().copy;
    let stay = VolumeChange::Stay { name, node, copy, why };
    change(&mut state, Command::Volumes(stay)).unwrap();
    assert_eq!((volume(&state).node, volume(&state).moving), (NodeId(1), None));
    change(&mut state, to(2)).unwrap();
    assert_eq!(volume(&state).stayed, None);
    let second = moved(&state, 2);
    change(&mut state, second).unwrap();
    assert_ne!(volume(&state).copy, 0);
    assert_eq!((volume(&state).node, volume(&state).left), (NodeId(2), Some(NodeId(1))));
    assert!(change(&mut state, to(1)).is_err(), "an old copy is there");
    assert_eq!(change(&mut state, left(2)), Err(Rejection::Stale));
    change(&mut state, left(1)).unwrap();
    assert_eq!(change(&mut state, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
    change(&mut state, place("db-0-cccc", 2, &spec)).unwrap();
    assert_eq!(change(&mut state, found(1)), Err(Rejection::Stale), "its node is a member");
    state.nodes.remove(&NodeId(2));
    change(&mut state, found(1)).unwrap();
    assert_eq!(volume(&state).node, NodeId(1));
}

#[test]
fn it_stays_where_its_data_is_and_goes_only_by_itself() {
    let (mut state, spec) = with_volume();
    let delete = || Command::Volumes(VolumeChange::Delete { name: "data".into() });
    let gone = |node| {
        let (name, node) = ("data".into(), NodeId(node));
        Command::Volumes(VolumeChange::Gone { name, node })
    };
    assert!(change(&mut state, delete()).is_err(), "there is none yet");
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    assert!(change(&mut state, delete()).is_err(), "it is used");
    seen(&mut state, "db-0-aaaa", 1, Phase::Stopped);
    let mut elsewhere = volume(&state);
    elsewhere.node = NodeId(7);
    let mut other = state.clone();
    other.volumes.insert("data".into(), Arc::new(elsewhere));
    assert_eq!(change(&mut other, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
    let mut app = crate::fsm::model::App::clone(state.owner(&"db".into()).unwrap());
    app.services.clear();
    state.apps.insert(app.name.clone(), Arc::new(app));
    seen(&mut state, "db-0-aaaa", 2, Phase::Stopped);
    assert_eq!(change(&mut state, gone(1)), Err(Rejection::Stale), "nobody gave it up");
    change(&mut state, delete()).unwrap();
    assert!(volume(&state).deleting);
    assert_eq!(change(&mut state, gone(2)), Err(Rejection::Stale));
    change(&mut state, gone(1)).unwrap();
    assert!(state.volumes.is_empty());
}
