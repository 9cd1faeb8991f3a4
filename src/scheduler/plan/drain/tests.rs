//! Tests of draining nodes: replicas move within the policy, tasks end, what can't move stays.

use crate::fsm::command::{Action, Deploy, Register, Report, RunAction, Spawn, Spawned};
use crate::fsm::model::{
    AllocationStatus, DeployKind, DeployStatus, Desired, Health, Phase, WorkloadSpec,
};
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, Revision};
use crate::limits;
use crate::scheduler::plan::{Plan, Scope, SettledIndexes as Seen, TASKS, plan};
use crate::spec;
use crate::units::{Bytes, Millis, Timestamp};
use std::collections::BTreeMap;

/// A cluster of so many nodes with 1 GB each.
struct Case {
    state: State,
    now: u64,
    seq: u64,
}

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

    fn change(&mut self, command: Command) {
        let _ = apply_next(&mut self.state, Timestamp(self.now), command).outcome.unwrap();
    }

    /// Deploys `web` with these fields, and a task `job`; everything runs and is healthy.
    fn up(mut self, fields: &str) -> Self {
        let text = format!(
            "service \"web\" {{\nimage \"web:1\"\nport 80\n{fields}\n}}\n\
             task \"job\" {{ image \"job:1\"; memory \"100M\" }}\n"
        );
        let spec = spec::parse("file", &text).unwrap();
        let services = spec.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        let tasks = spec.tasks.into_iter().map(|(n, t)| (n, WorkloadSpec::Task(t)));
        self.change(Command::Deploy(Deploy {
            app: "shop".into(),
            kind: DeployKind::Up,
            base: None,
            services: services.collect(),
            tasks: tasks.collect(),
            file: text,
            replace: false,
            plan: None,
        }));
        self.settle();
        self.well();
        self.settle();
        assert_eq!(self.state.deployments[&Revision(1)].status, DeployStatus::Succeeded);
        self
    }

    /// Deploys the file with one text replaced.
    fn update(&mut self, from: &str, to: &str) {
        let file = self.state.apps.values().next().unwrap().file.replace(from, to);
        let spec = spec::parse("file", &file).unwrap();
        let services = spec.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        self.change(Command::Deploy(Deploy {
            app: "shop".into(),
            kind: DeployKind::Up,
            base: None,
            services: services.collect(),
            tasks: BTreeMap::new(),
            file,
            replace: false,
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

    fn report(&mut self, id: &AllocId, phase: Phase, health: Health) {
        self.seq += 1;
        let node = self.state.allocations[id].node;
        let seen = AllocationStatus { attempt: Attempt(1), phase, health, ..Default::default() };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let boot = self.state.nodes[&node].boot;
        self.change(Command::Report(Report { node, boot, seq: self.seq, allocations }));
    }

    /// What should run does so healthily, what should end has ended.
    fn well(&mut self) {
        let live: Vec<_> =
            self.state.allocations.values().filter(|a| a.is_live()).cloned().collect();
        for one in live {
            match one.desired {
                Desired::Run => self.report(&one.id, Phase::Running, Health::Healthy),
                Desired::Stop => self.report(&one.id, Phase::Stopped, Health::None),
                Desired::Draining { .. } => {}
            }
        }
    }

    /// Time passes until the stop of what drains.
    fn later(&mut self) {
        self.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
    }

    fn drain(&mut self, node: u64, deadline: Option<u64>) {
        let deadline = deadline.map(Timestamp);
        self.change(Command::Drain { node: NodeId(node), deadline });
    }

    /// Replicas that live on a node, and of these those that get traffic.
    fn on(&self, node: u64) -> (usize, usize) {
        let live = || self.state.allocations_on(NodeId(node)).filter(|a| a.is_live());
        (live().count(), live().filter(|a| a.is_routable()).count())
    }

    fn healthy(&self) -> usize {
        self.state.allocations.values().filter(|a| a.is_routable()).count()
    }
}

fn places(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Place(_))).count()
}

fn drains(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Drain { .. })).count()
}

#[test]
fn with_start_first_the_replacement_is_healthy_before_the_original_goes() {
    let mut case = Case::new(2).up("replicas 4\nmemory \"200M\"");
    assert_eq!((case.on(1), case.on(2)), ((2, 2), (2, 2)));
    case.drain(2, None);
    let mut moved = 0;
    for _ in 0..10 {
        let actions = case.settle();
        assert!(places(&actions) <= 1 && drains(&actions) <= 1, "one at a time: {actions:?}");
        assert!(case.healthy() >= 4, "{actions:?}");
        moved += places(&actions);
        case.well();
        case.later();
    }
    assert_eq!((moved, case.on(1), case.on(2)), (2, (4, 4), (0, 0)));
}

#[test]
fn with_stop_first_no_more_are_missing_than_the_policy_allows() {
    let policy = "update order=\"stop-first\" max-parallel=1";
    let mut case = Case::new(2).up(&format!("replicas 4\nmemory \"200M\"\n{policy}"));
    case.drain(2, None);
    for left in [1, 0] {
        let actions = case.settle();
        assert_eq!((places(&actions), drains(&actions)), (0, 1));
        assert_eq!(case.healthy(), 3);
        case.later();
        case.settle();
        case.well();
        assert_eq!(places(&case.settle()), 1);
        assert_eq!((case.healthy(), case.on(2).0), (3, left));
        case.well();
    }
    assert_eq!((case.settle(), case.healthy()), (vec![], 4));
}

#[yare::parameterized(
    start_first = { "start-first" },
    stop_first = { "stop-first" },
)]
fn what_fits_no_other_node_stays(order: &str) {
    let fields = format!("replicas 2\nmemory \"600M\"\nupdate order=\"{order}\"");
    let mut case = Case::new(2).up(&fields);
    case.drain(2, None);
    assert_eq!(case.settle(), []);
    let plan = case.plan();
    assert_eq!((plan.unplaced.len(), plan.stuck.len()), (0, 1));
    assert_eq!(case.healthy(), 2);
    // A deployment that leaves it as it is has no trouble with it.
    case.update("port 80", "port 80\nstop grace=\"3s\"");
    case.settle();
    assert_eq!(case.state.deployments[&Revision(2)].status, DeployStatus::Succeeded);
    assert_eq!(case.healthy(), 2);
}

#[test]
fn a_new_version_that_fits_no_node_fails_though_the_old_one_is_to_leave() {
    let order = "update order=\"stop-first\"";
    let mut case = Case::new(2).up(&format!("replicas 2\nmemory \"600M\"\n{order}"));
    case.drain(2, None);
    case.update("web:1", "web:2");
    for _ in 0..3 {
        case.settle();
        case.well();
        case.later();
    }
    assert_eq!(case.healthy(), 2, "the old one serves until its successor has a place");
    let plan = case.plan();
    assert_eq!((plan.unplaced.len(), plan.stuck.len()), (1, 0));
    case.now += Millis::from(limits::UNPLACED_DEADLINE).0;
    for _ in 0..4 {
        case.settle();
        case.well();
        case.later();
    }
    assert_eq!(case.state.deployments[&Revision(2)].status, DeployStatus::Failed);
    assert_eq!(case.healthy(), 2);
}

#[test]
fn an_undrain_leaves_the_original_and_drops_what_was_to_replace_it() {
    let mut case = Case::new(2).up("replicas 2\nmemory \"200M\"");
    case.drain(2, None);
    assert_eq!(places(&case.settle()), 1);
    case.change(Command::Undrain { node: NodeId(2) });
    case.settle();
    case.well();
    assert_eq!(case.settle(), []);
    assert_eq!((case.on(1), case.on(2)), ((1, 1), (1, 1)));
}

#[test]
fn runs_of_tasks_finish_or_are_ended_at_the_deadline() {
    let mut case = Case::new(1).up("memory \"100M\"");
    let (id, name) = (AllocId::from("job-aaaa"), "job".into());
    let what = Spawned::Task { name, env: BTreeMap::new() };
    case.change(Command::Spawn(Spawn { id: id.clone(), what }));
    case.settle();
    case.well();
    case.drain(1, None);
    assert_eq!(case.settle(), [], "without a deadline it finishes");
    let deadline = case.now + 10_000;
    case.drain(1, Some(deadline));
    assert_eq!(case.settle(), []);
    assert_eq!(case.plan().wake.get(&TASKS.into()), Some(&Timestamp(deadline)));
    case.now = deadline;
    assert_eq!(case.settle(), [Action::Run(RunAction::Kill { run: id.clone() })]);
    assert_eq!(case.state.allocations[&id].desired, Desired::Stop);
}

#[test]
fn a_draining_node_is_waited_for_when_traffic_moves() {
    // A draining is settled only when the draining node has settled it, too.
    let mut case = Case::new(2).up("replicas 1\nmemory \"200M\"");
    let home = case.state.allocations.values().next().unwrap().node;
    case.drain(home.0, None);
    case.settle();
    case.well();
    let draining = case.plan().commands;
    draining.into_iter().for_each(|command| case.change(command));
    let settled = case.state.nodes.keys().filter(|id| **id != home);
    let settled = settled.map(|id| (*id, case.state.index)).collect();
    let seen = Seen { settled, ..Seen::default() };
    let next = plan(&case.state, &seen, Timestamp(case.now), 1, &Scope::All);
    assert!(next.commands.is_empty(), "{next:?}");
}
