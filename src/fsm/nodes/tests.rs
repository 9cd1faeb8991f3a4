//! Tests of nodes that fall silent.

use crate::fsm::command::{Action, Place, Register, Report, Steps};
use crate::fsm::deploy::tests::{change, put, running, shop, step, take_down};
use crate::fsm::model::{
    AllocationStatus, DeployStatus, Drain, ExitReason, Health, NodeStatus, Phase,
};
use crate::fsm::{Command, Rejection, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, Revision, WorkloadName};
use crate::node::project::Assignment;
use crate::scheduler::plan::{Scope, SettledIndexes as Seen, plan};
use crate::units::Millis;
use std::collections::BTreeMap;

fn register(node: u64, boot: u64) -> Command {
    let (node, boot) = (NodeId(node), BootId(boot));
    Command::Register(Register { node, boot, ..fixture::register() })
}

fn report(node: u64, boot: u64, seq: u64, id: &AllocId) -> Command {
    let seen = AllocationStatus {
        attempt: Attempt(1),
        phase: Phase::Running,
        health: Health::Healthy,
        ..Default::default()
    };
    let allocations = BTreeMap::from([(id.clone(), seen)]);
    Command::Report(Report { node: NodeId(node), boot: BootId(boot), seq, allocations })
}

fn down(node: u64, boot: u64) -> Command {
    Command::NodeDown { node: NodeId(node), boot: BootId(boot) }
}

/// A second node beside the first, which runs web and does so healthily.
fn two() -> (State, AllocId) {
    let mut state = running();
    let mut second = (*state.nodes[&NodeId(1)]).clone();
    (second.id, second.name, second.boot) = (NodeId(2), "n2".to_owned(), BootId(2));
    state.nodes.insert(second.id, std::sync::Arc::new(second));
    put(&mut state, &[("web", "web:2"), ("db", "db:1")]);
    let spec = shop(&state).services[&WorkloadName::from("web")].target.clone().unwrap();
    let id = AllocId::from("web-0-aaaa");
    let (workload, node) = ("web".into(), NodeId(2));
    let place = Place { id: id.clone(), workload, replica: 0, node, spec, replaces: None };
    step(&mut state, Action::Place(place));
    change(&mut state, report(2, 2, 1, &id)).unwrap();
    (state, id)
}

#[test]
fn what_ran_on_a_silent_node_is_lost_and_its_resources_are_free() {
    let (mut state, id) = two();
    let version = shop(&state).version;
    assert!(state.derived.reserved.contains_key(&NodeId(2)));
    change(&mut state, down(2, 2)).unwrap();
    let lost = &state.allocations[&id].observed;
    assert_eq!((lost.phase, lost.health), (Phase::Lost, Health::None));
    let exit = lost.exit.as_ref().unwrap();
    assert_eq!(exit.reason, ExitReason::Lost);
    assert_eq!(exit.message.as_deref(), Some("node n2 is down"));
    assert!(!state.derived.reserved.contains_key(&NodeId(2)));
    assert!(shop(&state).version > version);
    let told = state.deployments[&Revision(2)].progress.get_max().unwrap().1.clone();
    assert_eq!(told.message.as_deref(), Some("node n2 is down"));
    assert_eq!(state.deployments[&Revision(2)].status, DeployStatus::Running);
    assert_eq!(change(&mut state, down(2, 2)), Err(Rejection::Stale));
}

#[test]
fn a_silent_node_is_heard_again_after_a_new_introduction_only() {
    let (mut state, id) = two();
    change(&mut state, down(2, 2)).unwrap();
    assert_eq!(change(&mut state, report(2, 2, 2, &id)), Err(Rejection::Stale));
    assert_eq!(change(&mut state, register(2, 2)), Err(Rejection::Stale));
    change(&mut state, register(2, 3)).unwrap();
    assert_eq!(state.nodes[&NodeId(2)].status, NodeStatus::Ready);
    // What was judged of its earlier life counts no more.
    assert_eq!(change(&mut state, down(2, 2)), Err(Rejection::Stale));
}

#[test]
fn one_that_was_draining_is_so_again() {
    let (mut state, _) = two();
    let mut second = (*state.nodes[&NodeId(2)]).clone();
    second.status = NodeStatus::Draining;
    second.drain = Some(Drain { since: state.time, deadline: None });
    state.nodes.insert(second.id, std::sync::Arc::new(second));
    change(&mut state, down(2, 2)).unwrap();
    assert_eq!(state.nodes[&NodeId(2)].status, NodeStatus::Down);
    change(&mut state, register(2, 3)).unwrap();
    assert_eq!(state.nodes[&NodeId(2)].status, NodeStatus::Draining);
    // A daemon that starts again changes nothing about it.
    change(&mut state, register(2, 4)).unwrap();
    assert_eq!(state.nodes[&NodeId(2)].status, NodeStatus::Draining);
}

#[test]
fn what_was_not_given_up_is_there_again_with_its_node() {
    let (mut state, id) = two();
    let before = state.derived.reserved[&NodeId(2)];
    change(&mut state, down(2, 2)).unwrap();
    let version = shop(&state).version;
    change(&mut state, register(2, 3)).unwrap();
    let back = &state.allocations[&id];
    // Whether it is healthy is for its node to say.
    assert_eq!((back.observed.phase, back.observed.health), (Phase::Running, Health::Checking));
    assert_eq!((back.observed.exit.as_ref(), back.is_routable()), (None, false));
    assert_eq!(state.derived.reserved[&NodeId(2)], before);
    assert!(shop(&state).version > version, "what was planned without it is stale");
    assert_eq!(crate::node::project::assignment(back), Some(Assignment::Run));
    change(&mut state, report(2, 3, 1, &id)).unwrap();
    assert!(state.allocations[&id].is_routable());
}

#[test]
fn what_was_given_up_stays_lost() {
    let (mut state, id) = two();
    change(&mut state, down(2, 2)).unwrap();
    step(&mut state, Action::Stop { allocation: id.clone() });
    change(&mut state, register(2, 3)).unwrap();
    change(&mut state, report(2, 3, 1, &id)).unwrap();
    assert_eq!(state.allocations[&id].observed.phase, Phase::Lost);
    assert_eq!(crate::node::project::assignment(&state.allocations[&id]), None);
    assert!(!state.derived.reserved.contains_key(&NodeId(2)));
}

#[test]
fn a_node_that_is_back_with_less_holds_no_more_than_that() {
    let (mut state, id) = two();
    change(&mut state, down(2, 2)).unwrap();
    let Command::Register(less) = register(2, 3) else { unreachable!() };
    let less = Register { memory: crate::units::Bytes(1_000_000), ..less };
    change(&mut state, Command::Register(less)).unwrap();
    assert_eq!(state.allocations[&id].observed.phase, Phase::Lost);
    assert!(asked(&state).contains(&Action::Stop { allocation: id }), "it is waited for no more");
}

#[test]
fn an_introduction_that_was_long_on_its_way_ends_no_later_life() {
    let (mut state, _) = two();
    let after = |boot: u64, after: u64| {
        let Command::Register(register) = register(2, boot) else { unreachable!() };
        Command::Register(Register { after: Some(BootId(after)), ..register })
    };
    change(&mut state, after(4, 2)).unwrap();
    assert_eq!(change(&mut state, after(3, 2)), Err(Rejection::Stale));
    assert_eq!(state.nodes[&NodeId(2)].boot, BootId(4));
    // The same life once more changes nothing, also not which of its reports count.
    let empty = Report { node: NodeId(2), boot: BootId(4), seq: 5, allocations: BTreeMap::new() };
    change(&mut state, Command::Report(empty)).unwrap();
    change(&mut state, after(4, 2)).unwrap();
    assert_eq!(state.reports[&NodeId(2)], 5);
}

/// What the planner asks for.
fn asked(state: &State) -> Vec<Action> {
    let next = plan(state, &Seen::default(), state.time, 7, &Scope::All);
    let steps = next.commands.into_iter().filter_map(|command| match command {
        Command::Steps(steps) => Some(steps.actions),
        _ => None,
    });
    steps.flatten().collect()
}

fn reported(state: &mut State, node: u64, boot: u64, id: &AllocId) {
    let seq = state.reports.get(&NodeId(node)).copied().unwrap_or(0) + 1;
    change(state, report(node, boot, seq, id)).unwrap();
}

/// Node 2 is down with a replica of web; the planner has placed another on node 1.
fn replaced() -> (State, AllocId, AllocId) {
    let (mut state, lost) = two();
    change(&mut state, down(2, 2)).unwrap();
    let actions = asked(&state);
    let mut placed = actions.iter().filter_map(|action| match action {
        Action::Place(place) if place.workload.as_str() == "web" => Some(place.clone()),
        _ => None,
    });
    let place = placed.next().unwrap();
    assert_eq!((place.node, placed.next()), (NodeId(1), None));
    let id = place.id.clone();
    let steps = Steps { actions: vec![Action::Place(place)], ..Default::default() };
    let later = state.time.plus(Millis::secs(1));
    let _ = apply_next(&mut state, later, Command::Steps(steps)).outcome.unwrap();
    (state, lost, id)
}

fn of_web(state: &State, ids: [&AllocId; 2]) -> Vec<Action> {
    let is_of = |action: &Action| match action {
        Action::Stop { allocation } | Action::Drain { allocation } => ids.contains(&allocation),
        Action::Place(place) => place.workload.as_str() == "web",
        _ => false,
    };
    asked(state).into_iter().filter(is_of).collect()
}

fn stop(id: &AllocId) -> Action {
    Action::Stop { allocation: id.clone() }
}

#[test]
fn what_is_lost_is_replaced_elsewhere_and_given_up_once_that_is_healthy() {
    let (mut state, lost, new) = replaced();
    assert_eq!(of_web(&state, [&lost, &new]), [], "the lost one may come back");
    reported(&mut state, 1, 1, &new);
    assert_eq!(of_web(&state, [&lost, &new]), [stop(&lost)]);
}

#[test]
fn the_original_is_kept_where_its_replacement_is_not_healthy_yet() {
    let (mut state, lost, new) = replaced();
    change(&mut state, register(2, 3)).unwrap();
    assert_eq!(of_web(&state, [&lost, &new]), [stop(&new)]);
    reported(&mut state, 2, 3, &lost);
    assert_eq!(of_web(&state, [&lost, &new]), [stop(&new)]);
}

#[test]
fn a_replacement_that_is_healthy_already_takes_over() {
    let (mut state, lost, new) = replaced();
    // Both are told before anything is planned.
    reported(&mut state, 1, 1, &new);
    change(&mut state, register(2, 3)).unwrap();
    assert_eq!(of_web(&state, [&lost, &new]), [stop(&lost)]);
    reported(&mut state, 2, 3, &lost);
    // Of two healthy ones the older stays.
    let drain = Action::Drain { allocation: new.clone() };
    assert_eq!(of_web(&state, [&lost, &new])[0], drain);
}

#[test]
fn an_earlier_version_is_awaited_only_where_two_may_run_side_by_side() {
    for (update, want) in [("start-first", false), ("stop-first", true)] {
        let (mut state, lost, _) = replaced();
        let web = format!("web:3\"; update order=\"{update}");
        put(&mut state, &[("web", &web), ("db", "db:1")]);
        assert_eq!(asked(&state).contains(&stop(&lost)), want, "{update}");
    }
}

#[test]
fn nothing_is_awaited_of_a_service_that_is_taken_down() {
    let (state, lost, _) = replaced();
    let mut down = state.clone();
    take_down(&mut down, &[("db", "db:1")]);
    assert!(asked(&down).contains(&stop(&lost)));
    // One that a file removes stays as it is until the rest is there.
    let mut removed = state;
    put(&mut removed, &[("db", "db:1")]);
    assert!(!asked(&removed).contains(&stop(&lost)));
}
