//! Tests of what a deployment removes: it goes last, or as late as what it holds is needed.

use crate::fsm::command::{Action, Deploy, Register, Report, RunAction};
use crate::fsm::model::{
    AllocationStatus, DeployKind, DeployStatus, Desired, Exit, ExitReason, Health, Phase,
    WorkloadSpec,
};
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, Revision, WorkloadName};
use crate::limits;
use crate::scheduler::plan::{Plan, Scope, SettledIndexes as Seen, plan};
use crate::spec;
use crate::units::{Bytes, Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A cluster of so many nodes with 1 GB each.
struct Case {
    state: State,
    now: u64,
    seq: u64,
}

/// A service of one replica.
fn service(name: &str, version: &str, memory: u32, fields: &str) -> String {
    format!(
        "service \"{name}\" {{\nimage \"{name}:{version}\"\nport 80\nmemory \"{memory}M\"\n\
         {fields}\n}}\n"
    )
}

const JOB: &str = "task \"job\" { image \"job:1\"; memory \"100M\" }\n";

impl Case {
    fn new(nodes: u64) -> Self {
        let mut case = Self { state: State::default(), now: 1_000_000, seq: 0 };
        case.change(Command::Init(fixture::init()));
        for n in 1..=nodes {
            if n > 1 {
                case.change(Command::Join(fixture::join(&format!("n{n}"), "")));
            }
            let (node, boot, memory) = (NodeId(n), BootId(n), Bytes(1_000_000_000));
            case.change(Command::Register(Register { node, boot, memory, ..fixture::register() }));
        }
        case
    }

    /// With this file deployed, and everything healthy.
    fn healthy(nodes: u64, file: &str) -> Self {
        let mut case = Self::new(nodes);
        case.deploy(file, DeployKind::Up);
        case.rest();
        assert_eq!(case.status(1), DeployStatus::Succeeded);
        case
    }

    fn change(&mut self, command: Command) {
        let _ = apply_next(&mut self.state, Timestamp(self.now), command).outcome.unwrap();
    }

    fn deploy(&mut self, file: &str, kind: DeployKind) {
        let spec = spec::parse("file", file).unwrap();
        let services = spec.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        let tasks = spec.tasks.into_iter().map(|(n, t)| (n, WorkloadSpec::Task(t)));
        self.change(Command::Deploy(Deploy {
            app: "shop".into(),
            kind,
            base: None,
            services: services.collect(),
            tasks: tasks.collect(),
            file: file.to_owned(),
            replace: true,
            plan: None,
        }));
    }

    fn plan(&self) -> Plan {
        let settled = self.state.nodes.keys().map(|id| (*id, self.state.index)).collect();
        plan(
            &self.state,
            &Seen { settled, ..Seen::default() },
            Timestamp(self.now),
            self.now,
            &Scope::All,
        )
    }

    /// Carries out what is planned until nothing is left to do at this moment; all of it.
    fn settle(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        loop {
            let commands = self.plan().commands;
            if commands.is_empty() {
                return all;
            }
            for command in commands {
                if let Command::Steps(steps) = &command {
                    all.extend(steps.actions.clone());
                }
                self.change(command);
            }
            assert!(all.len() < 1_000, "it never comes to rest: {all:?}");
        }
    }

    fn report(&mut self, id: &AllocId, phase: Phase, health: Health, code: Option<i32>) {
        self.seq += 1;
        let node = self.state.allocations[id].node;
        let reason = match code {
            Some(0) => ExitReason::Completed,
            Some(1) => ExitReason::Error,
            _ => ExitReason::StartFailed,
        };
        let exit = code.map(|code| Exit { code: Some(code), reason, message: None });
        let seen =
            AllocationStatus { attempt: Attempt(1), phase, health, exit, ..Default::default() };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let boot = self.state.nodes[&node].boot;
        self.change(Command::Report(Report { node, boot, seq: self.seq, allocations }));
    }

    /// Of these services, what should run does so healthily, and what should end has ended.
    fn well(&mut self, names: &[&str]) {
        let live: Vec<_> =
            self.state.allocations.values().filter(|a| a.is_live()).cloned().collect();
        for one in live.iter().filter(|a| names.contains(&a.workload.as_str())) {
            match one.desired {
                Desired::Run => self.report(&one.id, Phase::Running, Health::Healthy, None),
                Desired::Stop => self.report(&one.id, Phase::Stopped, Health::None, Some(0)),
                Desired::Draining { .. } => {}
            }
        }
    }

    /// Everything goes well until there is nothing left to do.
    fn rest(&mut self) {
        for _ in 0..20 {
            self.settle();
            self.well(&["web", "api", "old"]);
            self.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
        }
        assert_eq!(self.settle(), []);
    }

    /// The only run of the task ends.
    fn end_job(&mut self, code: i32) {
        let id = self.state.allocations.keys().find(|id| id.as_str().starts_with("job"));
        self.report(&id.unwrap().clone(), Phase::Stopped, Health::None, Some(code));
    }

    fn status(&self, revision: u64) -> DeployStatus {
        self.state.deployments[&Revision(revision)].status
    }

    /// What of a service should run and does.
    fn running(&self, name: &str) -> BTreeSet<AllocId> {
        let name = WorkloadName::from(name);
        let live = self.state.allocations_of(&name).filter(|a| a.is_routable());
        live.map(|a| a.id.clone()).collect()
    }

    /// What a service has that is not gone.
    fn live(&self, name: &str) -> usize {
        self.state.allocations_of(&WorkloadName::from(name)).filter(|a| a.is_live()).count()
    }

    fn reason(&self, revision: u64) -> String {
        self.state.deployments[&Revision(revision)].reason.clone().unwrap_or_default()
    }
}

#[test]
fn what_is_removed_goes_once_all_else_is_healthy_and_followed_up() {
    let before = [service("web", "1", 100, ""), service("old", "1", 100, "replicas 2")].concat();
    let mut case = Case::healthy(2, &before);
    let old = case.running("old");
    let web = service("web", "2", 100, "after-deploy \"job\"");
    case.deploy(&[web, service("api", "1", 100, ""), JOB.to_owned()].concat(), DeployKind::Up);
    case.settle();
    case.well(&["web"]);
    case.rest_of(&["web"]);
    assert_eq!((case.live("web"), case.running("old")), (1, old.clone()), "one is not healthy yet");
    case.rest_of(&["web", "api"]);
    assert_eq!(case.running("old"), old, "the task that follows isn't over");
    case.end_job(0);
    case.settle();
    assert_eq!(case.running("old").len(), 0, "now both leave the traffic");
    assert_eq!(case.live("old"), 2);
    case.rest_of(&["web", "api"]);
    assert_eq!(case.status(2), DeployStatus::Running, "they are not gone yet");
    case.rest();
    assert_eq!((case.live("old"), case.status(2)), (0, DeployStatus::Succeeded));
}

impl Case {
    /// All goes well for these services and nothing is heard of the others, for a while that fails
    /// nothing.
    fn rest_of(&mut self, names: &[&str]) {
        for _ in 0..10 {
            self.settle();
            self.well(names);
            self.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
        }
        self.settle();
    }
}

#[yare::parameterized(
    a_new_version = { "web", "" },
    a_new_service = { "api", "" },
    a_task_after = { "", "after-deploy \"job\"" },
    a_task_before = { "", "before-deploy \"job\"" },
)]
fn a_deployment_that_fails_leaves_it_untouched(broken: &str, fields: &str) {
    let before = [service("web", "1", 100, ""), service("old", "1", 100, "replicas 3")].concat();
    let mut case = Case::healthy(2, &before);
    let old = case.running("old");
    let files = [service("web", "2", 100, fields), service("api", "1", 100, ""), JOB.to_owned()];
    case.deploy(&files.concat(), DeployKind::Up);
    let works: Vec<&str> = ["web", "api"].into_iter().filter(|name| *name != broken).collect();
    let mut last = 0;
    while case.status(2) == DeployStatus::Running {
        case.settle();
        case.well(&works);
        if !fields.is_empty() && last == 10 {
            case.end_job(1);
        }
        let web = case.state.allocations.values().find(|a| {
            let is_broken = a.is_live() && a.workload.as_str() == broken;
            is_broken && !a.is_routable() && a.desired == Desired::Run
        });
        if let Some(id) = web.map(|a| a.id.clone()) {
            case.report(&id, Phase::Failed, Health::None, Some(128));
        }
        let stopping: Vec<AllocId> = case
            .state
            .allocations
            .values()
            .filter(|a| a.is_live() && a.desired == Desired::Stop)
            .map(|a| a.id.clone())
            .collect();
        for id in stopping {
            case.report(&id, Phase::Stopped, Health::None, Some(0));
        }
        assert_eq!(case.running("old"), old, "at {}", case.now);
        case.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
        last += 1;
        assert!(last < 400, "it never ends");
    }
    assert_eq!(case.status(2), DeployStatus::Failed, "{}", case.reason(2));
    assert_eq!((case.live("old"), case.running("old")), (3, old));
}

/// One node of 1 GB holds `old` three times and `web:1`; `web:2` with a memory of so much goes out
/// start-first. How many of `old` make room for it.
#[yare::parameterized(
    there_is_room = { 100, 100, 0 },
    one_is_enough = { 250, 300, 1 },
    two_are_needed = { 250, 500, 2 },
    all_are_needed = { 250, 850, 3 },
    no_use = { 250, 950, 0 },
)]
fn what_holds_the_room_goes_first_and_no_more_of_it(each: u32, need: u32, goes: usize) {
    let before = [service("web", "1", 100, ""), service("old", "1", each, "replicas 3")].concat();
    let mut case = Case::healthy(1, &before);
    case.deploy(&service("web", "2", need, ""), DeployKind::Up);
    case.settle();
    assert_eq!(case.running("old").len(), 3 - goes);
    // They end, and the new one begins, while the others stay.
    let gets = case.live("web");
    assert_eq!(gets, if goes == 0 && need < 900 { 2 } else { 1 });
    for _ in 0..3 {
        case.well(&["old"]);
        case.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
        case.settle();
    }
    assert_eq!(case.running("old").len(), 3 - goes);
    assert_eq!(case.live("web"), if need < 900 { 2 } else { 1 });
    if need < 900 {
        case.rest();
        assert_eq!((case.live("old"), case.status(2)), (0, DeployStatus::Succeeded));
    } else {
        case.now += u64::try_from(limits::UNPLACED_DEADLINE.as_millis()).unwrap();
        case.settle();
        assert!(case.reason(2).contains("web: no node fits for 5m"), "{}", case.reason(2));
        assert_eq!(case.running("old").len(), 3);
    }
}

#[test]
fn it_makes_room_only_when_nothing_else_may_and_is_waited_for() {
    let before = [service("web", "1", 100, ""), service("old", "1", 700, "")].concat();
    let mut case = Case::healthy(1, &before);
    let files = [service("web", "2", 100, ""), service("api", "1", 500, "")];
    case.deploy(&files.concat(), DeployKind::Up);
    let waits = case.settle();
    let told = waits.iter().find_map(|action| match action {
        Action::Wait { message, .. } => Some(message.as_str()),
        _ => None,
    });
    let told = told.unwrap();
    assert!(told.starts_with("api-0 waits until what is removed makes room: no node"), "{told}");
    assert_eq!(case.running("old").len(), 1, "web may yet fail");
    let why = crate::api::why::waiting(&case.state, case.state.apps.values());
    assert!(why.iter().any(|one| one.service.as_str() == "api" && one.gets_room), "{why:?}");
    // However long that takes: its image is pulled for six minutes.
    let web = case.state.allocations_of(&"web".into()).find(|a| !a.is_routable());
    let web = web.unwrap().id.clone();
    for minute in 1..=6 {
        case.now += 60_000;
        case.seq += 1;
        let (attempt, phase) = (Attempt(1), Phase::Pulling);
        let seen =
            AllocationStatus { attempt, phase, pulled: minute, ..AllocationStatus::default() };
        let allocations = BTreeMap::from([(web.clone(), seen)]);
        let (node, boot, seq) = (NodeId(1), BootId(1), case.seq);
        case.change(Command::Report(Report { node, boot, seq, allocations }));
        assert_eq!(case.settle(), [], "minute {minute}");
    }
    case.rest_of(&["web"]);
    assert_eq!((case.live("web"), case.running("old").len()), (1, 0));
    case.rest();
    assert_eq!((case.live("api"), case.status(2)), (1, DeployStatus::Succeeded));
}

#[test]
fn a_task_that_fits_nowhere_else_gets_room_too() {
    let before = [service("web", "1", 250, ""), service("old", "1", 700, "")].concat();
    let mut case = Case::healthy(1, &before);
    let web = service("web", "2", 250, "before-deploy \"job\"");
    case.deploy(&[web, JOB.to_owned()].concat(), DeployKind::Up);
    let actions = case.settle();
    let begun = |a: &Action| matches!(a, Action::Run(RunAction::Hook { .. }));
    assert!(actions.iter().any(begun), "{actions:?}");
    assert_eq!(case.running("old").len(), 0);
    case.rest_of(&["old", "web"]);
    assert_eq!(case.live("job") + case.live("old"), 0);
    case.end_job(0);
    case.rest();
    assert_eq!(case.status(2), DeployStatus::Succeeded);
}

#[test]
fn what_is_taken_down_goes_at_once_beside_one_that_does_not_work() {
    let before = [service("web", "1", 100, ""), service("old", "1", 100, "")].concat();
    let mut case = Case::healthy(1, &before);
    // A change on its way that may fail.
    case.deploy(
        &[service("web", "2", 100, ""), service("old", "1", 100, "")].concat(),
        DeployKind::Up,
    );
    case.settle();
    case.deploy(&service("web", "2", 100, ""), DeployKind::Down);
    case.settle();
    assert_eq!(case.running("old").len(), 0);
}

#[test]
fn what_never_worked_is_not_kept() {
    let mut case = Case::healthy(1, &service("web", "1", 100, ""));
    case.deploy(
        &[service("web", "1", 100, ""), service("old", "1", 100, "")].concat(),
        DeployKind::Up,
    );
    case.settle();
    assert_eq!(case.live("old"), 1);
    case.deploy(&service("web", "2", 100, ""), DeployKind::Up);
    case.settle();
    let old = case.state.allocations_of(&"old".into()).next().unwrap();
    assert_eq!(old.desired, Desired::Stop);
}

#[test]
fn one_that_is_lost_meanwhile_is_replaced() {
    let before = [service("web", "1", 100, ""), service("old", "1", 100, "replicas 2")].concat();
    let mut case = Case::healthy(2, &before);
    case.deploy(&service("web", "2", 100, ""), DeployKind::Up);
    case.settle();
    let lost = case.running("old").into_iter().next().unwrap();
    case.report(&lost, Phase::Failed, Health::None, Some(1));
    case.settle();
    assert_eq!((case.running("old").len(), case.live("old")), (1, 2));
}

#[test]
fn a_published_port_is_handed_over_without_a_gap() {
    let before = [service("web", "1", 100, ""), service("old", "1", 100, "publish 8080")].concat();
    let mut case = Case::healthy(1, &before);
    let files = [service("web", "1", 100, ""), service("api", "1", 100, "publish 8080")];
    case.deploy(&files.concat(), DeployKind::Up);
    case.settle();
    let leads_to = |case: &Case| {
        let map = crate::node::project::publish_map(&case.state, NodeId(1));
        let of_port = map.into_iter().filter(|((port, _), _)| *port == 8080);
        of_port.flat_map(|(_, targets)| targets).map(|(ip, _)| ip).collect::<Vec<_>>()
    };
    let place = |case: &mut Case, name: &str, last: u8| {
        let id = case.state.allocations_of(&name.into()).next().unwrap().id.clone();
        case.seq += 1;
        let address = Some([10, 99, 0, last].into());
        let (attempt, phase, health) = (Attempt(1), Phase::Running, Health::Healthy);
        let seen =
            AllocationStatus { attempt, phase, health, address, ..AllocationStatus::default() };
        let allocations = BTreeMap::from([(id, seen)]);
        let (node, boot, seq) = (NodeId(1), BootId(1), case.seq);
        case.change(Command::Report(Report { node, boot, seq, allocations }));
    };
    place(&mut case, "old", 2);
    case.settle();
    assert_eq!(leads_to(&case), [std::net::Ipv4Addr::new(10, 99, 0, 2)], "until the other works");
    place(&mut case, "api", 3);
    assert_eq!(leads_to(&case), [std::net::Ipv4Addr::new(10, 99, 0, 3)]);
    case.rest();
    assert_eq!(case.status(2), DeployStatus::Succeeded);
}
