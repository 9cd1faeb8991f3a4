//! Volumes of a provider: where one may be attached next, and when.

use super::super::tests::{place, seen, volume, with_volume};
use super::*;
use crate::fsm::Command;
use crate::fsm::command::Register;
use crate::fsm::deploy::tests::change;
use crate::fsm::fixture;
use crate::fsm::model::Phase;
use crate::id::{AllocId, BootId, SpecHash};
use crate::secret::Sealed;
use crate::units::Millis;

/// A cluster of two machines of a provider, and a service with a volume that isn't placed yet.
fn provided() -> (State, SpecHash) {
    let (mut state, spec) = with_volume();
    for n in [1, 2] {
        let mut node = Node::clone(&state.nodes[&NodeId(1)]);
        node.id = NodeId(n);
        node.labels.insert(DROPLET.to_owned(), format!("10{n}"));
        node.labels.insert(REGION.to_owned(), "fra1".to_owned());
        state.nodes.insert(NodeId(n), Arc::new(node));
    }
    let token = Sealed { key: state.keyring_id().unwrap_or_default().to_owned(), text: "t".into() };
    let provider = Provider { kind: ProviderKind::DigitalOcean, api: "http://x".into(), token };
    change(&mut state, Command::Volumes(VolumeChange::Provider(provider))).unwrap();
    (state, spec)
}

fn step(step: ProvidedStep) -> Command {
    Command::Volumes(VolumeChange::Provided { name: "data".into(), step })
}

fn at(state: &State) -> Option<(u64, AttachStep)> {
    let attachment = volume(state).provided.unwrap().attachment;
    attachment.map(|at| (at.node.0, at.step))
}

fn number(state: &State) -> u64 {
    volume(state).provided.unwrap().attachment.unwrap().number
}

fn attached(state: &mut State) {
    let number = number(state);
    change(state, step(ProvidedStep::Attached { number })).unwrap();
}

fn stopped(state: &mut State, seq: u64) {
    seen(state, "db-0-aaaa", seq, Phase::Running);
    seen(state, "db-0-aaaa", seq + 1, Phase::Stopped);
}

fn let_go(state: &mut State, node: u64) {
    let (number, node) = (number(state), NodeId(node));
    change(state, step(ProvidedStep::Unmounted { number, node })).unwrap();
    change(state, step(ProvidedStep::Detached { number })).unwrap();
}

#[test]
fn it_is_attached_where_it_is_wanted_and_made_once() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    let made = volume(&state).provided.unwrap();
    assert!(made.name.starts_with("mill-data-") && made.region == "fra1", "{made:?}");
    assert_eq!(at(&state), Some((1, AttachStep::Attaching)));
    let made = || step(ProvidedStep::Made { id: "id".to_owned(), size: Bytes(1 << 30) });
    change(&mut state, made()).unwrap();
    assert_eq!(change(&mut state, made()), Err(Rejection::Stale), "it is told twice");
    attached(&mut state);
    assert_eq!(at(&state), Some((1, AttachStep::Attached)));
    let number = number(&state);
    let early = change(&mut state, step(ProvidedStep::Release { number }));
    assert_eq!(early, Err(Rejection::Stale), "something has it");
}

#[test]
fn on_its_way_to_a_machine_that_its_node_is_not_it_begins_anew() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    let number = number(&state);
    let release = || step(ProvidedStep::Release { number });
    assert_eq!(change(&mut state, release()), Err(Rejection::Stale), "something wants it");
    let labels = [(DROPLET.to_owned(), Some("109".to_owned()))].into();
    change(&mut state, Command::Label { node: NodeId(1), labels }).unwrap();
    change(&mut state, release()).unwrap();
    let_go(&mut state, 1);
    let again = volume(&state).provided.unwrap().attachment.unwrap();
    assert_eq!((again.droplet.as_str(), again.step), ("109", AttachStep::Attaching));
    attached(&mut state);
    let labels = [(DROPLET.to_owned(), Some("101".to_owned()))].into();
    change(&mut state, Command::Label { node: NodeId(1), labels }).unwrap();
    let release = step(ProvidedStep::Release { number: again.number });
    assert_eq!(change(&mut state, release), Err(Rejection::Stale), "it is mounted there");
}

#[test]
fn another_node_has_it_only_once_the_last_one_has_not() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    attached(&mut state);
    assert_eq!(change(&mut state, place("db-0-bbbb", 2, &spec)), Err(Rejection::Stale));
    stopped(&mut state, 1);
    change(&mut state, place("db-0-bbbb", 2, &spec)).unwrap();
    assert_eq!(at(&state), Some((1, AttachStep::Releasing)));
    let first = number(&state);
    let detached = change(&mut state, step(ProvidedStep::Detached { number: first }));
    assert_eq!(detached, Err(Rejection::Stale), "it may be mounted still");
    let other = step(ProvidedStep::Unmounted { number: first, node: NodeId(2) });
    assert_eq!(change(&mut state, other), Err(Rejection::Stale), "that is the other's to say");
    let_go(&mut state, 1);
    assert_eq!(at(&state), Some((2, AttachStep::Attaching)));
    assert!(number(&state) > first);
    let late = change(&mut state, step(ProvidedStep::Attached { number: first }));
    assert_eq!(late, Err(Rejection::Stale), "that attachment is past");
    attached(&mut state);
}

#[test]
fn of_a_lost_node_it_is_taken_when_its_lease_is_over() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    attached(&mut state);
    seen(&mut state, "db-0-aaaa", 1, Phase::Running);
    let boot = state.nodes[&NodeId(1)].boot;
    change(&mut state, Command::NodeDown { node: NodeId(1), boot }).unwrap();
    change(&mut state, place("db-0-bbbb", 2, &spec)).unwrap();
    let number = number(&state);
    let expired = || step(ProvidedStep::Expired { number });
    assert_eq!(change(&mut state, expired()), Err(Rejection::Stale), "it may still write");
    state.time = state.time.plus(Millis::from(limits::VOLUME_LEASE_OVER));
    change(&mut state, expired()).unwrap();
    assert_eq!(at(&state), Some((1, AttachStep::Detaching)));
    // Back in between, it doesn't go on with what another has.
    let register = Register { boot: BootId(9), after: Some(boot), ..fixture::register() };
    change(&mut state, Command::Register(register)).unwrap();
    assert!(!state.allocations[&AllocId::from("db-0-aaaa")].is_live());
    change(&mut state, step(ProvidedStep::Detached { number })).unwrap();
    assert_eq!(at(&state), Some((2, AttachStep::Attaching)));
}

#[test]
fn a_node_that_is_back_in_time_goes_on() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    attached(&mut state);
    seen(&mut state, "db-0-aaaa", 1, Phase::Running);
    let boot = state.nodes[&NodeId(1)].boot;
    change(&mut state, Command::NodeDown { node: NodeId(1), boot }).unwrap();
    let register = Register { boot: BootId(9), after: Some(boot), ..fixture::register() };
    change(&mut state, Command::Register(register)).unwrap();
    assert!(state.allocations[&AllocId::from("db-0-aaaa")].is_live());
    assert_eq!(at(&state), Some((1, AttachStep::Attached)));
}

#[test]
fn it_is_deleted_once_nothing_names_it_and_nobody_has_it() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    attached(&mut state);
    let delete = || Command::Volumes(VolumeChange::Delete { name: "data".into() });
    assert!(change(&mut state, delete()).is_err(), "a service names it");
    stopped(&mut state, 1);
    state.apps.clear();
    change(&mut state, delete()).unwrap();
    assert_eq!(change(&mut state, step(ProvidedStep::Deleted)), Err(Rejection::Stale));
    let number = number(&state);
    change(&mut state, step(ProvidedStep::Release { number })).unwrap();
    let_go(&mut state, 1);
    change(&mut state, step(ProvidedStep::Deleted)).unwrap();
    assert!(state.volumes.is_empty());
}

#[test]
fn a_move_chooses_where_it_is_attached_next() {
    let (mut state, spec) = provided();
    change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
    attached(&mut state);
    let to = |to| Command::Volumes(VolumeChange::Move { name: "data".into(), to: NodeId(to) });
    assert!(change(&mut state, to(1)).is_err(), "it is there");
    change(&mut state, to(2)).unwrap();
    assert!(state.moving_volume(&spec).is_some(), "what has it is to leave");
    stopped(&mut state, 1);
    assert!(state.moving_volume(&spec).is_none(), "nothing is copied");
    assert_eq!(change(&mut state, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
    change(&mut state, place("db-0-bbbb", 2, &spec)).unwrap();
    assert_eq!((volume(&state).moving, volume(&state).node), (None, NodeId(2)));
}
