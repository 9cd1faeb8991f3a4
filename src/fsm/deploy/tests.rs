//! Tests of revisions that meet one that is on its way.

use crate::fsm::command::{Action, Deploy, Place, Report, Steps};
use crate::fsm::model::{
    AllocationStatus, App, DeployKind, DeployStatus, Health, Phase, WorkloadSpec,
};
use crate::fsm::{Command, Outcome, Rejection, State, apply_next, fixture};
use crate::id::{AllocId, AppName, Attempt, BootId, NodeId, Revision, WorkloadName};
use crate::spec;
use std::collections::BTreeMap;

pub(in crate::fsm) fn change(state: &mut State, command: Command) -> Result<Outcome, Rejection> {
    let time = state.time;
    apply_next(state, time, command).outcome
}

/// A revision of these services, each with an image.
pub(crate) fn deploy(state: &State, services: &[(&str, &str)]) -> Deploy {
    let one = |(name, image): &(&str, &str)| {
        let text = format!("service \"{name}\" {{\n image \"{image}\"\n port 80\n}}\n");
        let service = spec::parse("file", &text).unwrap().services.into_values().next().unwrap();
        (WorkloadName::from(*name), WorkloadSpec::Service(service))
    };
    Deploy {
        app: "shop".into(),
        kind: DeployKind::Up,
        base: Some(state.apps.get(&AppName::from("shop")).map_or(Revision(0), |app| app.revision)),
        services: services.iter().map(one).collect(),
        tasks: BTreeMap::new(),
        file: format!("{services:?}"),
        replace: false,
        plan: None,
    }
}

pub(crate) fn put(state: &mut State, services: &[(&str, &str)]) -> (u64, bool) {
    let deploy = deploy(state, services);
    match change(state, Command::Deploy(deploy)).unwrap() {
        Outcome::Revision { revision, new } => (revision.0, new),
        other => panic!("{other:?}"),
    }
}

/// Takes down what is not named.
pub(in crate::fsm) fn take_down(state: &mut State, services: &[(&str, &str)]) {
    let deploy = Deploy { kind: DeployKind::Down, ..deploy(state, services) };
    change(state, Command::Deploy(deploy)).unwrap();
}

pub(in crate::fsm) fn step(state: &mut State, action: Action) {
    change(state, Command::Steps(Steps { actions: vec![action], ..Default::default() })).unwrap();
}

fn finish(state: &mut State, revision: u64, status: DeployStatus) {
    step(state, Action::Finish { revision: Revision(revision), status, degraded: vec![] });
}

fn revert(state: &mut State, revision: u64) {
    let (revision, service) = (Revision(revision), "web".into());
    step(state, Action::Revert { revision, service, reason: "web-0-x: exited 1 3×".to_owned() });
}

pub(in crate::fsm) fn shop(state: &State) -> &App {
    &state.apps[&AppName::from("shop")]
}

fn image(state: &State, name: &str) -> Option<String> {
    let service = shop(state).services.get(&WorkloadName::from(name))?;
    Some(state.spec(service.target.as_ref()?)?.spec.run().image.clone())
}

fn touched(state: &State, revision: u64) -> Vec<&str> {
    state.deployments[&Revision(revision)].touched.iter().map(WorkloadName::as_str).collect()
}

/// A node, and r1 that runs: web:1 and db:1.
pub(crate) fn running() -> State {
    let mut state = State::default();
    change(&mut state, Command::Init(fixture::init())).unwrap();
    change(&mut state, Command::Register(fixture::register())).unwrap();
    assert_eq!(put(&mut state, &[("web", "web:1"), ("db", "db:1")]), (1, true));
    finish(&mut state, 1, DeployStatus::Succeeded);
    state
}

#[test]
fn a_newer_revision_ends_the_running_one_and_takes_over_what_it_touched() {
    let mut state = running();
    assert_eq!(put(&mut state, &[("web", "web:2"), ("db", "db:1")]), (2, true));
    assert_eq!(touched(&state, 2), ["web"]);
    assert_eq!(put(&mut state, &[("web", "web:2"), ("db", "db:2")]), (3, true));
    let old = &state.deployments[&Revision(2)];
    assert_eq!((old.status, old.ended_at), (DeployStatus::Superseded, Some(state.time)));
    assert_eq!(old.reason.as_deref(), Some("superseded by r3"));
    // web is as wanted already, but nobody has seen it healthy yet.
    assert_eq!(touched(&state, 3), ["db", "web"]);
    assert_eq!(shop(&state).stable, Some(Revision(1)));
    revert(&mut state, 3);
    assert_eq!(image(&state, "web").as_deref(), Some("web:1"));
    assert_eq!(image(&state, "db").as_deref(), Some("db:1"));
    let late =
        Action::Finish { revision: Revision(2), status: DeployStatus::Succeeded, degraded: vec![] };
    let late = Steps { actions: vec![late], ..Default::default() };
    assert_eq!(change(&mut state, Command::Steps(late)), Err(Rejection::Stale));
}

#[test]
fn back_to_what_was_is_a_revision_while_something_else_is_on_its_way() {
    let mut state = running();
    put(&mut state, &[("web", "web:2"), ("db", "db:1"), ("new", "new:1")]);
    assert_eq!(put(&mut state, &[("web", "web:1"), ("db", "db:1")]), (3, true));
    assert_eq!(touched(&state, 3), ["new", "web"]);
    finish(&mut state, 3, DeployStatus::Succeeded);
    assert!(!shop(&state).services.contains_key(&WorkloadName::from("new")));
    assert_eq!(put(&mut state, &[("web", "web:1"), ("db", "db:1")]), (3, false));
}

#[test]
fn the_same_again_joins_the_running_one_unless_it_is_on_its_way_back() {
    let mut state = running();
    let wanted = [("web", "web:2"), ("db", "db:1")];
    put(&mut state, &wanted);
    assert_eq!(put(&mut state, &wanted), (2, false));
    assert_eq!(state.deployments[&Revision(2)].status, DeployStatus::Running);
    revert(&mut state, 2);
    assert_eq!(put(&mut state, &wanted), (3, true));
    let old = &state.deployments[&Revision(2)];
    assert_eq!(old.status, DeployStatus::Superseded);
    let reason = "superseded by r3 on the way back: web-0-x: exited 1 3×";
    assert_eq!(old.reason.as_deref(), Some(reason));
    // Also what the way back leads to is a revision of its own: it isn't reached yet.
    revert(&mut state, 3);
    assert_eq!(put(&mut state, &[("web", "web:1"), ("db", "db:1")]), (4, true));
    assert_eq!(touched(&state, 4), ["web"]);
}

#[test]
fn down_while_something_is_on_its_way_removes_all_of_it() {
    let mut state = running();
    put(&mut state, &[("web", "web:2"), ("new", "new:1")]);
    let mut nothing = deploy(&state, &[]);
    nothing.kind = DeployKind::Down;
    change(&mut state, Command::Deploy(nothing)).unwrap();
    assert_eq!(touched(&state, 3), ["db", "new", "web"]);
    // What is about to go is in nobody's way.
    assert_eq!(put(&mut state, &[("other", "other:1")]), (4, true));
    assert_eq!(touched(&state, 4), ["db", "new", "other", "web"]);
}

#[test]
fn a_rollback_aborts_and_another_app_is_not_disturbed() {
    let mut state = running();
    let mut other = deploy(&state, &[("api", "api:1")]);
    (other.app, other.base) = ("two".into(), Some(Revision(0)));
    change(&mut state, Command::Deploy(other)).unwrap();
    put(&mut state, &[("web", "web:2"), ("db", "db:1")]);
    let back = crate::scheduler::revise::rollback(&state, Some(&"shop".into()), None).unwrap();
    change(&mut state, Command::Deploy(back)).unwrap();
    let status = |r| state.deployments[&Revision(r)].status;
    let statuses = [status(1), status(2), status(3), status(4)];
    use DeployStatus::{Aborted, Running, Succeeded};
    assert_eq!(statuses, [Succeeded, Running, Aborted, Running]);
    let reason = state.deployments[&Revision(3)].reason.as_deref();
    assert_eq!(reason, Some("aborted by the rollback r4"));
    assert_eq!(image(&state, "web").as_deref(), Some("web:1"));
}

#[test]
fn a_restart_while_a_deployment_runs_raises_the_generation() {
    let mut state = running();
    put(&mut state, &[("web", "web:2"), ("db", "db:1")]);
    change(&mut state, Command::RestartService { service: "web".into() }).unwrap();
    assert_eq!(shop(&state).services[&WorkloadName::from("web")].generation, 1);
    assert_eq!(state.deployments[&Revision(2)].status, DeployStatus::Running);
}

#[test]
fn of_two_who_saw_the_same_the_second_is_told_to_look_again() {
    let mut state = running();
    let first = deploy(&state, &[("web", "web:2")]);
    let second = deploy(&state, &[("web", "web:3")]);
    change(&mut state, Command::Deploy(first)).unwrap();
    let (app, expected, now) = ("shop".into(), Revision(1), Revision(2));
    let moved = Rejection::Moved { app, expected, now };
    assert_eq!(change(&mut state, Command::Deploy(second)), Err(moved));
}

#[test]
fn what_still_runs_when_its_time_is_over_keeps_its_owner() {
    let mut state = running();
    put(&mut state, &[("web", "web:1"), ("db", "db:1"), ("new", "new:1")]);
    let spec = shop(&state).services[&WorkloadName::from("new")].target.clone().unwrap();
    let id = AllocId::from("new-0-aaaa");
    let (workload, node) = ("new".into(), NodeId(1));
    let place = Place { id: id.clone(), workload, replica: 0, node, spec, replaces: None };
    step(&mut state, Action::Place(place));
    revert(&mut state, 2);
    let (revision, status) = (Revision(2), DeployStatus::Failed);
    step(&mut state, Action::Finish { revision, status, degraded: vec!["new".into()] });
    assert!(state.owner(&"new".into()).is_some());
    step(&mut state, Action::Stop { allocation: id.clone() });
    let seen = AllocationStatus {
        attempt: Attempt(1),
        phase: Phase::Stopped,
        health: Health::None,
        ..Default::default()
    };
    let allocations = BTreeMap::from([(id, seen)]);
    let report = Report { node: NodeId(1), boot: BootId(1), seq: 1, allocations };
    change(&mut state, Command::Report(report)).unwrap();
    put(&mut state, &[("web", "web:1"), ("db", "db:1")]);
    finish(&mut state, 3, DeployStatus::Succeeded);
    assert!(state.owner(&"new".into()).is_none());
}

#[test]
fn what_a_kept_revision_pins_is_kept_and_no_longer() {
    let mut state = running();
    let pinned = |state: &State, image: &str| {
        state.specs.values().any(|stored| stored.spec.run().image == image)
    };
    for version in 2..=crate::limits::REVISIONS_PER_APP as u64 {
        let (revision, _) = put(&mut state, &[("web", &format!("web:{version}"))]);
        assert_eq!(revision, version);
        finish(&mut state, revision, DeployStatus::Succeeded);
    }
    assert!(pinned(&state, "web:1") && pinned(&state, "db:1"), "r1 can be gone back to");
    let (last, _) = put(&mut state, &[("web", "web:last")]);
    finish(&mut state, last, DeployStatus::Succeeded);
    assert!(!pinned(&state, "web:1") && !pinned(&state, "db:1"), "r1 is forgotten");
    assert!(pinned(&state, "web:2") && pinned(&state, "web:last"));
}

#[test]
fn an_empty_file_shares_no_name_with_what_runs() {
    let mut state = running();
    let empty = |state: &State, kind, replace| {
        Command::Deploy(Deploy { kind, replace, ..deploy(state, &[]) })
    };
    let mut before = state.clone();
    let up = empty(&state, DeployKind::Up, false);
    assert!(change(&mut before, up.clone()).is_ok(), "as older nodes do");
    state.feature_level = crate::fsm::NEXT_LEVEL;
    let refused = change(&mut state, up).unwrap_err();
    assert_eq!(refused, Rejection::NothingShared { app: "shop".into() });
    for (kind, replace) in [(DeployKind::Down, false), (DeployKind::Up, true)] {
        let mut state = state.clone();
        let command = empty(&state, kind, replace);
        change(&mut state, command).unwrap();
    }
}

#[test]
fn figures_that_no_file_may_have_are_refused_once_every_node_refuses_them() {
    let state = running();
    let next = State { feature_level: crate::fsm::NEXT_LEVEL, ..state.clone() };
    let with = |change: &dyn Fn(&mut crate::spec::model::ServiceSpec)| {
        let mut deploy = deploy(&state, &[("web", "web:2")]);
        deploy.replace = true;
        for spec in deploy.services.values_mut() {
            if let WorkloadSpec::Service(service) = spec {
                change(service);
            }
        }
        Command::Deploy(deploy)
    };
    let most = crate::units::Millis(u64::MAX);
    type Edit<'a> = &'a dyn Fn(&mut crate::spec::model::ServiceSpec);
    let cases: [(Edit, &str); 4] = [
        (&|service| service.replicas = u32::MAX, "a number of replicas"),
        (&|service| service.update.healthy_deadline = most, "a time"),
        (&|service| service.stop.grace = most, "a time"),
        (&|service| service.run.memory = crate::units::Bytes(u64::MAX), "a size"),
    ];
    for (edit, what) in cases {
        let refused = change(&mut next.clone(), with(edit)).unwrap_err();
        assert!(refused.to_string().contains(&format!("web has {what}")), "{refused}");
        change(&mut state.clone(), with(edit)).expect("as earlier versions have it");
    }
    change(&mut next.clone(), with(&|_| {})).unwrap();
}
