//! Tests of nodes that fall silent.

use crate::fsm::command::{Action, Place, Register, Report};
use crate::fsm::deploy::tests::{change, put, running, shop, step};
use crate::fsm::model::{DeployStatus, ExitReason, Health, NodeStatus, Observed, Phase};
use crate::fsm::{Command, Rejection, State, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, Revision, WorkloadName};
use crate::plan::{Observed as Seen, Scope, plan};
use std::collections::BTreeMap;

fn register(node: u64, boot: u64) -> Command {
    let (node, boot) = (NodeId(node), BootId(boot));
    Command::Register(Register { node, boot, ..fixture::register() })
}

fn report(node: u64, boot: u64, seq: u64, id: &AllocId) -> Command {
    let seen = Observed {
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
    // What was judged of its earlier life counts no more, and what is lost stays lost.
    assert_eq!(change(&mut state, down(2, 2)), Err(Rejection::Stale));
    change(&mut state, report(2, 3, 1, &id)).unwrap();
    assert_eq!(state.allocations[&id].observed.phase, Phase::Lost);
    assert_eq!(crate::project::assignment(&state.allocations[&id]), None);
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

#[test]
fn the_planner_replaces_what_is_lost_elsewhere() {
    let (mut state, id) = two();
    change(&mut state, down(2, 2)).unwrap();
    let next = plan(&state, &Seen::default(), state.time, 7, &Scope::All);
    let Some(Command::Steps(steps)) = next.commands.first() else { panic!("{next:?}") };
    assert!(steps.actions.contains(&Action::Stop { allocation: id }));
    let placed = steps.actions.iter().find_map(|action| match action {
        Action::Place(place) if place.workload.as_str() == "web" => Some(place.node),
        _ => None,
    });
    assert_eq!(placed, Some(NodeId(1)));
}
