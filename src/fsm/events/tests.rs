//! Tests of the ring of events.

use super::*;
use crate::api::views;
use crate::fsm::command::{Action, Deploy, Members, Place, Register, Report, Steps};
use crate::fsm::model::{AllocationStatus, DeployKind, Role, WorkloadSpec};
use crate::fsm::{Command, apply_next, fixture};
use crate::id::{Attempt, BootId};
use crate::spec;
use std::collections::BTreeMap;

const FILE: &str = "app \"shop\"\nservice \"web\" {\n    image \"web:1\"\n    port 80\n}\n";

/// Applies a command a second later; gives the new events' kinds with their messages.
fn change(state: &mut State, command: Command) -> Vec<(&'static str, String)> {
    let last = state.last_event;
    let time = Timestamp(state.time.0 + 1_000);
    let _ = apply_next(state, time, command).outcome.unwrap();
    // A test ends soon.
    let kind = |e: &Event| &*e.kind.to_string().leak();
    let told = |e: &Arc<Event>| (kind(e), e.message.clone().unwrap_or_default());
    after(state, last).map(told).collect()
}

fn cluster() -> State {
    let mut state = State::default();
    assert_eq!(
        change(&mut state, Command::Init(fixture::init())),
        [("node-joined", "n1".to_owned())]
    );
    let registered = change(&mut state, Command::Register(fixture::register()));
    assert_eq!(registered, [("node-registered", "n1".to_owned())]);
    state
}

fn deploy(file: &str) -> Command {
    let spec = spec::parse("file", file).unwrap();
    let services = spec.services.into_iter();
    Command::Deploy(Deploy {
        app: spec.app,
        kind: DeployKind::Up,
        base: None,
        services: services.map(|(name, s)| (name, WorkloadSpec::Service(s))).collect(),
        tasks: BTreeMap::new(),
        file: file.to_owned(),
        replace: false,
        plan: None,
    })
}

fn act(action: Action) -> Command {
    Command::Steps(Steps { actions: vec![action], ..Default::default() })
}

fn place(state: &State, id: &str) -> Command {
    let workload = WorkloadName::from("web");
    let target = state.owner(&workload).unwrap().services[&workload].target.clone();
    let (id, node, spec) = (AllocId::from(id), NodeId(1), target.unwrap());
    act(Action::Place(Place { id, workload, replica: 0, node, spec, replaces: None }))
}

fn report(state: &State, seen: AllocationStatus) -> Command {
    let seq = state.reports.get(&NodeId(1)).map_or(1, |last| last + 1);
    let allocations = BTreeMap::from([(AllocId::from("web-0-aaaa"), seen)]);
    Command::Report(Report { node: NodeId(1), boot: BootId(1), seq, allocations })
}

fn seen(attempt: u32, phase: Phase, health: Health) -> AllocationStatus {
    AllocationStatus { attempt: Attempt(attempt), phase, health, ..Default::default() }
}

fn kinds(events: &[(&'static str, String)]) -> Vec<&'static str> {
    events.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn the_life_of_an_allocation_is_told() {
    let mut state = cluster();
    assert_eq!(kinds(&change(&mut state, deploy(FILE))), ["deployment-accepted"]);
    let placing = place(&state, "web-0-aaaa");
    assert_eq!(kinds(&change(&mut state, placing)), ["allocation-placed"]);
    let exit =
        Some(Exit { code: Some(1), reason: ExitReason::Error, message: Some("x\ny".into()) });
    let backoff = AllocationStatus { exit, ..seen(1, Phase::Backoff, Health::None) };
    let refused = Some("10.99.8.5:80 refused".to_owned());
    let sick = AllocationStatus { message: refused, ..seen(2, Phase::Running, Health::Unhealthy) };
    let told = |text: &str| text.to_owned();
    for (seen, expected) in [
        (seen(1, Phase::Pulling, Health::None), vec![]),
        // A batch may leave steps out.
        (
            seen(1, Phase::Running, Health::Healthy),
            vec![("allocation-running", told("")), ("allocation-healthy", told(""))],
        ),
        (seen(1, Phase::Running, Health::Healthy), vec![]),
        (backoff, vec![("allocation-exited", told("exited 1: x"))]),
        (
            sick,
            vec![
                ("allocation-restarting", told("attempt 2")),
                ("allocation-running", told("")),
                ("allocation-unhealthy", told("10.99.8.5:80 refused")),
            ],
        ),
    ] {
        let command = report(&state, seen);
        assert_eq!(change(&mut state, command), expected);
    }
    let allocation: AllocId = "web-0-aaaa".into();
    let drain = Action::Drain { allocation: allocation.clone() };
    assert!(kinds(&change(&mut state, act(drain))).is_empty());
    state.time = state.time.plus(crate::units::Millis(2_000));
    let late = change(&mut state, act(Action::Settled { allocation: allocation.clone() }));
    assert_eq!(kinds(&late), ["drain-unsettled"]);
    assert!(kinds(&change(&mut state, act(Action::Stop { allocation }))).is_empty());
    let command = report(&state, seen(2, Phase::Stopped, Health::None));
    assert_eq!(kinds(&change(&mut state, command)), ["allocation-stopped"]);
    let last = state.events.get_max().unwrap().1.clone();
    assert_eq!(last.allocation, Some("web-0-aaaa".into()));
    assert_eq!((last.app.clone(), last.node), (Some("shop".into()), Some(NodeId(1))));
}

#[test]
fn the_ends_of_deployments_and_tokens_are_told() {
    let mut state = cluster();
    change(&mut state, deploy(FILE));
    let (revision, service) = (Revision(1), WorkloadName::from("web"));
    let message = "web-0: no node fits".to_owned();
    let wait = Action::Wait { revision, service: service.clone(), message: message.clone() };
    assert_eq!(change(&mut state, act(wait)), [("deployment-waiting", message)]);
    let revert = Action::Revert { revision, service, reason: "broken".to_owned() };
    let reverting = change(&mut state, act(revert));
    assert_eq!(reverting, [("deployment-reverting", "broken".to_owned())]);
    let end = Action::Finish { revision, status: DeployStatus::Failed, degraded: vec![] };
    assert_eq!(change(&mut state, act(end)), [("deployment-failed", "broken".to_owned())]);
    let (id, hash) = ("ab12".into(), String::new());
    let create = Command::CreateToken { id, role: Role::Read, hash, expires_at: None };
    assert_eq!(change(&mut state, create), [("token-created", "ab12, read".to_owned())]);
    let revoke = Command::RevokeToken { id: "ab12".into() };
    assert_eq!(change(&mut state, revoke), [("token-revoked", "ab12".to_owned())]);
}

#[test]
fn a_rejected_entry_tells_nothing() {
    let mut state = cluster();
    let before = state.events.len();
    let command = Command::RevokeToken { id: "none".into() };
    assert!(apply_next(&mut state, Timestamp(9_000), command).outcome.is_err());
    assert_eq!(state.events.len(), before);
}

#[test]
fn the_ring_is_bounded_and_its_ids_go_on() {
    let mut state = cluster();
    for n in 0..limits::EVENTS_KEPT as u64 {
        let (id, hash) = (format!("t{n}").into(), String::new());
        change(&mut state, Command::CreateToken { id, role: Role::Read, hash, expires_at: None });
    }
    assert_eq!(state.events.len(), limits::EVENTS_KEPT);
    let last = state.last_event;
    assert_eq!(last, limits::EVENTS_KEPT as u64 + 2);
    assert_eq!(after(&state, last).count(), 0);
    assert_eq!(after(&state, last + 5).count(), 0);
    assert_eq!(after(&state, last - 1).next().unwrap().id, last);
    assert_eq!(after(&state, 0).next().unwrap().id, 3, "the oldest went");
    let missed = views::missed(&state, 1).unwrap();
    assert_eq!((missed.id, missed.kind.to_string().as_str()), (2, "events-missed"));
    assert_eq!(missed.message.unwrap(), "1 event is missing: the newest 1000 are kept");
    assert_eq!(views::missed(&state, 2), None);
    let decoded = State::decode(&state.encode().unwrap()).unwrap();
    assert_eq!((decoded.last_event, decoded.events.len()), (last, limits::EVENTS_KEPT));
}

#[test]
fn what_becomes_of_nodes_is_told() {
    let mut state = cluster();
    let join = fixture::join("n2", "");
    let name = || "n2".to_owned();
    let two = NodeId(2);
    assert_eq!(change(&mut state, Command::Join(join)), [("node-joined", name())]);
    let register = Register { node: two, boot: BootId(2), ..fixture::register() };
    let told = change(&mut state, Command::Register(register));
    assert_eq!(told, [("node-registered", name()), ("node-up", name())]);
    let members = Members { voters: [NodeId(1)].into(), learners: [two].into() };
    let told = change(&mut state, Command::Members(members));
    assert_eq!(told, [("node-learner", name())]);
    let label = |value: Option<&str>| {
        let labels = [("zone".to_owned(), value.map(str::to_owned))].into();
        Command::Label { node: two, labels }
    };
    let told = change(&mut state, label(Some("eu-1")));
    assert_eq!(told, [("node-labelled", "zone=eu-1".to_owned())]);
    assert_eq!(change(&mut state, label(Some("eu-1"))), [], "as it was");
    let told = change(&mut state, label(None));
    assert_eq!(told, [("node-labelled", "no labels".to_owned())]);
    let deadline = Some(Timestamp(60_000));
    let told = change(&mut state, Command::Drain { node: two, deadline });
    let until = "tasks until 1970-01-01T00:01:00.000Z".to_owned();
    assert_eq!(told, [("node-draining", until)]);
    let told = change(&mut state, Command::Undrain { node: two });
    assert_eq!(told, [("node-up", name())]);
    let told = change(&mut state, Command::NodeDown { node: two, boot: BootId(2) });
    assert_eq!(told, [("node-down", name())]);
    let told = change(&mut state, Command::Drain { node: two, deadline: None });
    assert_eq!(told, [("node-draining", name())]);
    let told = change(&mut state, Command::Remove { node: two });
    assert_eq!(told, [("node-removed", name())]);
}
