//! Tests of the planner: tasks on a schedule, in simulated time.

use super::{Scope, SettledIndexes, plan};
use crate::fsm::command::{Action, Deploy, Register, Report, RunAction, Steps};
use crate::fsm::model::{self, DeployKind, Exit, ExitReason, Phase, WorkloadSpec};
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId};
use crate::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;

/// 22:00:00 UTC.
const START: u64 = 1_699_999_200_000;
const MINUTE: u64 = 60_000;

/// A cluster of one node; minutes count from the start.
struct Case {
    state: State,
    minute: u64,
    batch: u64,
}

fn at(minute: u64) -> Timestamp {
    Timestamp(START + minute * MINUTE)
}

impl Case {
    fn new(schedule: &str) -> Self {
        let mut case = Self { state: State::default(), minute: 0, batch: 0 };
        case.change(Command::Init(fixture::init()));
        case.change(Command::Register(Register {
            cpu: MilliCpu(2_000),
            memory: Bytes(1_000_000_000),
            ..fixture::register()
        }));
        case.deploy(schedule);
        case
    }

    fn change(&mut self, command: Command) {
        let _ = apply_next(&mut self.state, at(self.minute), command).outcome.unwrap();
    }

    /// Deploys a task with that schedule, or an app without it.
    fn deploy(&mut self, schedule: &str) {
        let line = format!("schedule \"{schedule}\"");
        let line = if schedule.is_empty() { "" } else { &line };
        let file = format!("app \"shop\"\ntask \"report\" {{ image \"busybox\"; {line} }}\n");
        let spec = crate::spec::parse("file", &file).unwrap();
        let tasks = spec.tasks.into_iter().map(|(name, t)| (name, WorkloadSpec::Task(t)));
        self.change(Command::Deploy(Deploy {
            app: spec.app,
            kind: DeployKind::Up,
            base: None,
            services: BTreeMap::new(),
            tasks: tasks.collect(),
            file: file.clone(),
            replace: true,
            plan: None,
        }));
    }

    /// What is due by that minute: when it was due, and whether it runs.
    fn fires(&mut self, minute: u64) -> Vec<(Timestamp, bool)> {
        self.minute = minute;
        let mut fired = Vec::new();
        loop {
            let settled = BTreeMap::from([(NodeId(1), self.state.index)]);
            let seen = SettledIndexes { settled, ..SettledIndexes::default() };
            let planned = plan(&self.state, &seen, at(minute), self.state.index.0, &Scope::All);
            if planned.commands.is_empty() {
                return fired;
            }
            for command in planned.commands {
                if let Command::Steps(Steps { actions, .. }) = &command {
                    fired.extend(actions.iter().filter_map(|action| match action {
                        Action::Run(RunAction::Fire { due, run, .. }) => {
                            Some((*due, run.is_some()))
                        }
                        _ => None,
                    }));
                }
                self.change(command);
            }
        }
    }

    /// The node reports of every run that is not over.
    fn report(&mut self, phase: Phase) {
        let live = self.state.allocations.values().filter(|a| a.is_live());
        let live: Vec<AllocId> = live.map(|a| a.id.clone()).collect();
        let exit = Exit { code: Some(0), reason: ExitReason::Completed, message: None };
        let exit = phase.is_terminal().then_some(exit);
        let seen =
            model::AllocationStatus { attempt: Attempt(1), phase, exit, ..Default::default() };
        let allocations = live.into_iter().map(|id| (id, seen.clone())).collect();
        self.batch += 1;
        let (node, boot, seq) = (NodeId(1), BootId(1), self.batch);
        self.change(Command::Report(Report { node, boot, seq, allocations }));
    }
}

#[test]
fn runs_missed_while_nobody_led_become_one() {
    let mut case = Case::new("*/5 * * * *");
    assert_eq!(case.fires(4), []);
    assert_eq!(case.fires(187), [(at(5), true)]);
    case.report(Phase::Stopped);
    assert_eq!(case.fires(189), []);
    assert_eq!(case.fires(190), [(at(190), true)]);
    assert_eq!(case.state.runs.len(), 2);
}

#[test]
fn a_run_that_is_still_on_is_not_joined_by_another() {
    let mut case = Case::new("*/5 * * * *");
    assert_eq!(case.fires(5), [(at(5), true)]);
    case.report(Phase::Running);
    assert_eq!(case.fires(10), [(at(10), false)]);
    case.report(Phase::Stopped);
    assert_eq!(case.fires(14), [], "what was skipped is not made up for");
    assert_eq!(case.fires(15), [(at(15), true)]);
}

#[test]
fn a_changed_schedule_begins_when_it_is_changed_and_a_removed_one_ends() {
    let mut case = Case::new("*/5 * * * *");
    assert_eq!(case.fires(2), []);
    case.deploy("0 * * * *");
    assert_eq!(case.fires(59), []);
    assert_eq!(case.fires(60), [(at(60), true)]);
    case.deploy("");
    assert_eq!(case.fires(600), []);
}
