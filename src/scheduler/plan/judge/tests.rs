//! Tests of when a deployment has failed, and what is said while it waits.

use crate::fsm::command::{Action, Deploy, Register, Report};
use crate::fsm::model::{
    AllocationStatus, DeployKind, DeployStatus, Desired, Health, Phase, ProgressPhase, WorkloadSpec,
};
use crate::fsm::{Command, FEATURE_LEVEL, Outcome, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, Index, NodeId, Revision, WorkloadName};
use crate::limits;
use crate::scheduler::plan::{Plan, Scope, SettledIndexes as Seen, plan};
use crate::spec;
use crate::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;

/// A cluster of one node at a moment.
struct Case {
    state: State,
    now: u64,
    seq: u64,
}

impl Case {
    fn new() -> Self {
        let mut case = Self { state: State::default(), now: 1_000_000, seq: 0 };
        case.change(Command::Init(fixture::init()));
        let register =
            Register { cpu: MilliCpu(2_000), memory: Bytes(1_000_000_000), ..fixture::register() };
        case.change(Command::Register(register));
        case
    }

    fn change(&mut self, command: Command) -> Outcome {
        apply_next(&mut self.state, Timestamp(self.now), command).outcome.unwrap()
    }

    /// Deploys one service with these fields.
    fn deploy(&mut self, fields: &str) {
        let text = format!("service \"web\" {{\n{fields}\n}}\n");
        let service = spec::parse("file", &text).unwrap().services.into_values().next().unwrap();
        let services = BTreeMap::from([("web".into(), WorkloadSpec::Service(service))]);
        self.revise(DeployKind::Up, services, text);
    }

    /// Deploys nothing in the place of what there is.
    fn take_away(&mut self, kind: DeployKind) {
        self.revise(kind, BTreeMap::new(), String::new());
    }

    fn revise(
        &mut self,
        kind: DeployKind,
        services: BTreeMap<WorkloadName, WorkloadSpec>,
        file: String,
    ) {
        self.change(Command::Deploy(Deploy {
            app: "shop".into(),
            kind,
            base: None,
            services,
            tasks: BTreeMap::new(),
            file,
            replace: true,
            plan: None,
        }));
    }

    fn plan(&self) -> Plan {
        self.plan_at(self.state.index)
    }

    /// What is planned while the node has made true what is of that entry, and nothing after it.
    fn plan_at(&self, settled: Index) -> Plan {
        let settled = BTreeMap::from([(NodeId(1), settled)]);
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

    fn report(&mut self, id: &AllocId, phase: Phase, health: Health, message: Option<&str>) {
        self.seq += 1;
        let message = message.map(str::to_owned);
        let seen =
            AllocationStatus { attempt: Attempt(1), phase, health, message, ..Default::default() };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let (node, boot, seq) = (NodeId(1), BootId(1), self.seq);
        self.change(Command::Report(Report { node, boot, seq, allocations }));
    }

    fn ids(&self) -> Vec<AllocId> {
        let web = WorkloadName::from("web");
        let live = self.state.allocations_of(&web).filter(|a| a.is_live());
        live.map(|a| a.id.clone()).collect()
    }

    /// The first revision with its replicas placed, where every node knows what is new.
    fn placed(fields: &str) -> Self {
        let mut case = Self::new();
        case.state.feature_level = FEATURE_LEVEL;
        case.deploy(fields);
        case.settle();
        case
    }

    /// The first revision, with all its replicas healthy.
    fn healthy(fields: &str) -> Self {
        let mut case = Self::new();
        case.deploy(fields);
        case.settle();
        for id in case.ids() {
            case.report(&id, Phase::Running, Health::Healthy, None);
        }
        case.settle();
        assert_eq!(case.state.apps[&crate::id::AppName::from("shop")].stable, Some(Revision(1)));
        case
    }
}

impl Case {
    /// So much of a replica's image is there.
    fn pulls(&mut self, id: &AllocId, pulled: u64) {
        self.seq += 1;
        let (attempt, phase) = (Attempt(1), Phase::Pulling);
        let seen = AllocationStatus { attempt, phase, pulled, ..AllocationStatus::default() };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let (node, boot, seq) = (NodeId(1), BootId(1), self.seq);
        self.change(Command::Report(Report { node, boot, seq, allocations }));
    }
}

fn reason(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Revert { reason, .. } => Some(reason.as_str()),
        _ => None,
    })
}

fn minutes() -> u64 {
    u64::try_from(limits::UNPLACED_DEADLINE.as_millis()).unwrap()
}

#[test]
fn it_is_done_once_all_nodes_lead_traffic_to_what_is_new() {
    let mut case = Case::placed("image \"web:1\"\nport 80");
    let id = case.ids().remove(0);
    let before = case.state.index;
    case.report(&id, Phase::Running, Health::Healthy, None);
    assert_eq!(case.plan_at(before).commands, [], "the node doesn't lead there yet");
    let late = Timestamp(case.now).plus(limits::SETTLE_DEADLINE.into());
    assert!(case.plan_at(before).wake.values().any(|at| *at == late));
    let revision = Revision(1);
    let routed = Action::Routed { allocation: id.clone() };
    let (status, degraded) = (DeployStatus::Succeeded, Vec::new());
    let finish = Action::Finish { revision, status, degraded };
    let mut slow = Case { state: case.state.clone(), now: case.now, seq: case.seq };
    assert_eq!(case.settle(), [routed.clone(), finish.clone()]);
    let told = case.state.deployments[&revision].progress.get_max().unwrap().1.clone();
    assert_eq!((told.phase, told.allocation.clone()), (ProgressPhase::Routed, Some(id)));
    slow.now = late.0;
    let planned = slow.plan_at(before).commands;
    let [Command::Steps(steps)] = &planned[..] else { panic!("{planned:?}") };
    assert_eq!(steps.actions, [routed, finish], "one that takes too long isn't waited for");
}

#[test]
fn one_that_works_only_when_it_is_replaced_holds_nothing_up() {
    let fields =
        |version: u32| format!("image \"web:{version}\"\nport 80\nupdate order=\"stop-first\"");
    let mut case = Case::placed(&fields(1));
    let old = case.ids().remove(0);
    case.deploy(&fields(2));
    case.report(&old, Phase::Running, Health::Healthy, None);
    let actions = case.settle();
    assert!(actions.contains(&Action::Drain { allocation: old.clone() }), "{actions:?}");
    let told = case.state.deployments[&Revision(2)].progress.iter();
    assert!(!told.into_iter().any(|(_, one)| one.phase == ProgressPhase::Routed));
}

#[test]
fn what_has_no_port_is_led_nowhere() {
    let mut case = Case::placed("image \"web:1\"");
    let before = case.state.index;
    let id = case.ids().remove(0);
    case.report(&id, Phase::Running, Health::Healthy, None);
    let planned = case.plan_at(before).commands;
    let [Command::Steps(steps)] = &planned[..] else { panic!("{planned:?}") };
    assert!(matches!(steps.actions[..], [Action::Finish { .. }]), "{:?}", steps.actions);
}

#[test]
fn a_registry_that_is_down_is_waited_for_five_minutes_and_what_runs_is_untouched() {
    let mut case = Case::healthy("image \"web:1\"\nport 80");
    let old = case.ids();
    case.deploy("image \"web:2\"\nport 80");
    case.settle();
    let new = case.ids().into_iter().find(|id| !old.contains(id)).unwrap();
    let why = "registry.example.com: connection refused";
    case.report(&new, Phase::Pulling, Health::None, None);
    case.report(&new, Phase::Pulling, Health::None, Some(why));
    let told = case.state.deployments[&Revision(2)].progress.get_max().unwrap().1.clone();
    assert_eq!((told.phase, told.message.as_deref()), (ProgressPhase::Retrying, Some(why)));
    let start = case.now;
    case.now = start + minutes() - 1;
    assert_eq!(case.settle(), []);
    assert_eq!(case.state.allocations[&old[0]].desired, Desired::Run);
    assert!(case.plan().wake.values().any(|at| *at == Timestamp(start + minutes())));
    case.now = start + minutes();
    let actions = case.settle();
    let want = format!("{new}: not started in 5m: {why}");
    assert_eq!(reason(&actions), Some(want.as_str()));
    assert_eq!(case.state.allocations[&old[0]].desired, Desired::Run);
    assert!(actions.contains(&Action::Stop { allocation: new }));
}

#[test]
fn what_fits_nowhere_waits_says_so_and_fails_after_five_minutes() {
    let mut case = Case::healthy("image \"web:1\"\nport 80\nmemory \"600M\"");
    case.deploy("image \"web:2\"\nport 80\nmemory \"700M\"");
    let start = case.now;
    let waits = case.settle();
    let [Action::Wait { service, message, .. }] = &waits[..] else { panic!("{waits:?}") };
    assert_eq!(service.as_str(), "web");
    assert!(message.contains("no node fits") && message.contains("400M free"), "{message}");
    case.now = start + minutes() - 1;
    assert_eq!(case.settle(), [], "it is said once");
    case.now = start + minutes();
    let actions = case.settle();
    let why = reason(&actions).unwrap();
    assert!(why.starts_with("web: no node fits for 5m: n1: memory"), "{why}");
}

#[test]
fn one_that_an_earlier_deployment_began_has_the_whole_time_of_this_one() {
    let mut case = Case::healthy("image \"web:1\"\nport 80");
    let old = case.ids();
    case.deploy("image \"web:2\"\nport 80");
    case.settle();
    let new = case.ids().into_iter().find(|id| !old.contains(id)).unwrap();
    case.report(&new, Phase::Running, Health::Checking, Some("10.121.0.2:80 refused"));
    case.now += 50_000;
    // Another change of the service that leaves its containers as they are.
    case.deploy("image \"web:2\"\nport 80\nstop grace=\"3s\"");
    case.now += 30_000;
    assert_eq!(reason(&case.settle()), None);
    case.now += 30_000;
    let want = format!("{new}: not healthy in 1m: 10.121.0.2:80 refused");
    assert_eq!(reason(&case.settle()), Some(want.as_str()));
}

#[test]
fn a_pull_that_gets_further_may_take_longer() {
    let mut case = Case::healthy("image \"web:1\"\nport 80");
    let old = case.ids();
    case.deploy("image \"web:2\"\nport 80");
    case.settle();
    let new = case.ids().into_iter().find(|id| !old.contains(id)).unwrap();
    let start = case.now;
    for (minute, bytes) in [(1, 100), (4, 200), (8, 300), (10, 300)] {
        case.now = start + minute * 60_000;
        case.pulls(&new, bytes);
        assert_eq!(case.settle(), [], "minute {minute}");
    }
    case.now = start + 8 * 60_000 + minutes() - 1;
    assert_eq!(case.settle(), []);
    case.now += 1;
    let why = case.settle();
    assert_eq!(reason(&why), Some(format!("{new}: not started in 5m").as_str()));
}

impl Case {
    /// Another version, whose replica works; what it replaces gets no traffic any more.
    fn replaced(&mut self, fields: &str) -> (Vec<AllocId>, AllocId) {
        let old = self.ids();
        self.deploy(fields);
        self.settle();
        let new = self.ids().into_iter().find(|id| !old.contains(id)).unwrap();
        self.report(&new, Phase::Running, Health::Healthy, None);
        self.settle();
        assert_eq!(self.status(), DeployStatus::Running, "traffic may lead to the old one");
        self.now += u64::try_from(limits::DRAIN_DELAY.as_millis()).unwrap() + 1;
        self.settle();
        (old, new)
    }

    fn status(&self) -> DeployStatus {
        self.state.deployments[&self.state.last_revision].status
    }
}

#[test]
fn it_is_done_once_no_traffic_leads_to_what_it_replaces() {
    let fields = |version: u32| format!("image \"web:{version}\"\nport 80\nmemory \"400M\"");
    let mut case = Case::healthy(&fields(1));
    let (first, second) = case.replaced(&fields(2));
    assert_eq!(case.status(), DeployStatus::Succeeded);
    let old = &case.state.allocations[&first[0]];
    assert!(old.is_live() && old.desired == Desired::Stop, "it still stops");
    // Its room is free once it has ended, not before.
    case.deploy(&fields(3));
    let waits = case.settle();
    assert!(matches!(&waits[..], [Action::Wait { .. }]), "{waits:?}");
    case.report(&first[0], Phase::Stopped, Health::None, None);
    case.settle();
    assert_eq!(case.ids().len(), 2, "the third has a place beside the second");
    assert!(case.ids().contains(&second));
}

#[yare::parameterized(
    volume = { "volume \"data\" path=\"/data\" size=\"1Gi\"\nstop grace=\"3s\"", false },
    removed = { "", true },
)]
fn what_another_may_want_next_is_waited_for(fields: &str, is_down: bool) {
    let mut case = Case::healthy(&format!("image \"web:1\"\nport 80\n{fields}"));
    let old = case.ids().remove(0);
    let kind = if is_down { DeployKind::Down } else { DeployKind::Up };
    case.take_away(kind);
    for _ in 0..3 {
        case.settle();
        case.now += u64::try_from(limits::DRAIN_DELAY.as_millis()).unwrap() + 1;
    }
    assert_eq!(case.state.allocations[&old].desired, Desired::Stop);
    assert_eq!(case.status(), DeployStatus::Running);
    case.report(&old, Phase::Stopped, Health::None, None);
    case.settle();
    assert_eq!(case.status(), DeployStatus::Succeeded);
}
