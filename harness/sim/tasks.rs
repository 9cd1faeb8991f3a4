//! Tasks in the simulation: what a person asks for, how their programs behave, what must hold.
//!
//! Owns everything about runs. An image's name says how its program ends.

use super::{TROUBLE, World};
use crate::fsm::command::{Action, RunAction, Spawn, Spawned};
use crate::fsm::model::{
    AllocKind, AllocationStatus, App, DeployStatus, Desired, Exit, ExitReason, HookWhen, Phase,
    Run, RunCause, WorkloadSpec,
};
use crate::fsm::{Applied, Command, Entry, State};
use crate::id::{AllocId, AppName, WorkloadName};
use crate::limits;
use crate::scheduler::place::Placer;
use crate::spec::model::{StopSpec, TaskSpec};
use crate::units::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// How the programs of tasks end.
const IMAGES: [&str; 8] =
    ["job", "job", "job", "long", "wrong", "endless", "unstartable", "unpullable"];

/// How long a seat may be empty until somebody is placed there.
const BARE_FOR: u64 = 15_000;

/// What is remembered beside the state, to catch what the state forgets.
#[derive(Default)]
pub(super) struct Ledger {
    placed: BTreeSet<AllocId>,
    ended: BTreeSet<AllocId>,
    fired: BTreeMap<WorkloadName, u64>,
    /// Tasks of deployments that succeeded, and those that began.
    hooks: BTreeSet<String>,
    /// Seats of held services in which nobody is though there is room, and since when.
    bare: BTreeMap<(WorkloadName, u32), u64>,
    /// The world has more time to come to rest.
    pub(super) prolonged: Option<bool>,
}

impl World {
    /// Tasks for a random file of an app.
    pub(super) fn random_tasks(&mut self, app: &AppName) -> BTreeMap<WorkloadName, WorkloadSpec> {
        let number = app.as_str()[3..].to_owned();
        let mut tasks = BTreeMap::new();
        for letter in ["m", "n"] {
            if self.dice.chance(70) {
                let name = WorkloadName::from(format!("{letter}{number}"));
                tasks.insert(name, WorkloadSpec::Task(self.random_task()));
            }
        }
        tasks
    }

    /// Names some of an app's tasks in its services.
    pub(super) fn hook_up(
        &mut self,
        services: &mut BTreeMap<WorkloadName, WorkloadSpec>,
        tasks: &BTreeMap<WorkloadName, WorkloadSpec>,
    ) {
        for spec in services.values_mut() {
            let WorkloadSpec::Service(service) = spec else { continue };
            for name in tasks.keys() {
                if self.dice.chance(15) {
                    service.before_deploy.push(name.clone());
                }
                if self.dice.chance(10) {
                    service.after_deploy.push(name.clone());
                }
            }
        }
    }

    pub(super) fn random_task(&mut self) -> TaskSpec {
        let which = usize::try_from(self.dice.below(IMAGES.len() as u64)).unwrap_or(0);
        let minutes = [1, 2, 30][usize::try_from(self.dice.below(3)).unwrap_or(0)];
        let schedule = self.dice.chance(20).then(|| format!("*/{minutes} * * * *"));
        TaskSpec {
            run: self.random_run(IMAGES[which], 20),
            timeout: Millis::secs(self.dice.between(1, 60)),
            schedule,
            stop: StopSpec { signal: None, grace: Millis(10_000) },
        }
    }

    /// A person spawns a task or an image, or kills a run.
    pub(super) fn about_tasks(&mut self) -> Option<Command> {
        if self.dice.chance(25) {
            let live = self.state.runs.values().filter(|run| run.ended_at.is_none());
            let live: Vec<AllocId> = live.map(|run| run.id.clone()).collect();
            let which = usize::try_from(self.dice.below(live.len() as u64)).unwrap_or(0);
            return Some(Command::Kill { run: live.get(which)?.clone() });
        }
        let random = u32::try_from(self.dice.below(1 << 20)).unwrap_or(0);
        if self.dice.chance(40) {
            let name = WorkloadName::from("inline");
            let spec = Box::new(TaskSpec { schedule: None, ..self.random_task() });
            let id = AllocId::task(&name, random);
            return Some(Command::Spawn(Spawn { id, what: Spawned::Image { name, spec } }));
        }
        let all: Vec<_> =
            self.state.apps.values().flat_map(|app| app.tasks.keys()).cloned().collect();
        let which = usize::try_from(self.dice.below(all.len() as u64)).unwrap_or(0);
        let name = all.get(which)?.clone();
        let id = AllocId::task(&name, random);
        let env = BTreeMap::from([("N".to_owned(), self.dice.below(3).to_string())]);
        let env = if self.dice.chance(50) { env } else { BTreeMap::new() };
        Some(Command::Spawn(Spawn { id, what: Spawned::Task { name, env } }))
    }

    /// What follows from a phase of a task's container.
    pub(super) fn task_turn(&mut self, phase: Phase, image: &str) -> Option<(u64, Phase)> {
        let calm = self.now > TROUBLE;
        let dice = &mut self.dice;
        match (phase, image) {
            (Phase::Pulling, "unpullable") => Some((dice.between(50, 500), Phase::Failed)),
            (Phase::Pulling, _) => Some((dice.between(1, 3_000), Phase::Starting)),
            (Phase::Starting, "unstartable") => Some((50, Phase::Failed)),
            (Phase::Starting, _) => Some((dice.between(30, 200), Phase::Running)),
            // The node's deadline, whatever the task's.
            (Phase::Running, "endless") => Some((60_000, Phase::Failed)),
            (Phase::Running, "long") if !calm => {
                Some((dice.between(1_000, 90_000), Phase::Stopped))
            }
            (Phase::Running, "wrong") => Some((dice.between(10, 2_000), Phase::Failed)),
            (Phase::Running, _) => Some((dice.between(10, 5_000), Phase::Stopped)),
            (Phase::Stopping, _) => Some((dice.between(5, 10_000), Phase::Stopped)),
            _ => None,
        }
    }

    pub(super) fn check_runs(&mut self, before: &State, entry: &Entry, applied: &Applied) {
        // One that came twice is answered again and changes nothing.
        let accepted = applied.outcome.is_ok() && !applied.touched.is_empty();
        if accepted && let Command::Steps(steps) = &entry.command {
            for action in &steps.actions {
                match action {
                    Action::Run(action) => self.check_run_action(before, action),
                    Action::Place(place) => self.check_hooks_first(&place.workload),
                    _ => {}
                }
            }
        }
        let mut wrong = None;
        let touched = applied.touched.allocations.iter();
        for (id, run) in touched.filter_map(|id| Some((id, self.state.runs.get(id)?))) {
            let old = before.runs.get(id);
            if let Some(old) = old.filter(|old| old.ended_at.is_some())
                && old != run
            {
                wrong = Some(format!("{id} changed after its end"));
            }
            if run.ended_at.is_some() && old.is_none_or(|old| old.ended_at.is_none()) {
                if !self.ledger.ended.insert(id.clone()) {
                    wrong = Some(format!("{id} ended twice"));
                }
                if self.state.exit_of(run).is_none() {
                    wrong = Some(format!("{id} ended, and nobody knows how"));
                }
            }
            let allocation = self.state.allocations.get(id);
            if let Some(a) = allocation.filter(|a| a.observed.attempt.0 > 1 || a.attempt.0 > 1) {
                wrong = Some(format!("{id} was started again: {:?}", a.observed));
            }
            let live = allocation.map(|a| !a.observed.phase.is_terminal());
            if live.is_some_and(|live| live != run.ended_at.is_none()) {
                wrong = Some(format!("{id} is over here and not there"));
            }
        }
        let kept = || self.kept_wrongly();
        let look = self.state.index.0.is_multiple_of(16);
        if let Some(what) = wrong.or_else(|| look.then(kept).flatten()) {
            self.broken.get_or_insert(what);
        }
    }

    fn kept_wrongly(&self) -> Option<String> {
        let ended = self.state.derived.ended_runs.len();
        let each = self.state.derived.runs.values().map(|of| of.ended.len()).max().unwrap_or(0);
        let too_many = ended > limits::ENDED_TASKS_ALL || each > limits::ENDED_TASKS_EACH;
        let is_task = |kind| kind == AllocKind::Task;
        let allocations = self.state.allocations.values();
        let alone = allocations
            .filter(|a| is_task(a.kind))
            .find(|a| !self.state.runs.contains_key(&a.id))
            .map(|a| format!("{} is of no run", a.id));
        let unknown = |run: &&std::sync::Arc<Run>| self.state.spec(&run.spec).is_none();
        let bare = self.state.runs.values().find(unknown);
        let bare = bare.map(|run| format!("{}'s specification is gone", run.id));
        too_many.then(|| format!("{ended} ended runs are kept")).or(alone).or(bare)
    }

    fn check_run_action(&mut self, before: &State, action: &RunAction) {
        let what = match action {
            RunAction::Place { run, .. } if !self.ledger.placed.insert(run.clone()) => {
                Some(format!("{run} was placed twice"))
            }
            RunAction::Fire { task, due, run } => {
                let last = self.ledger.fired.insert(task.clone(), due.0);
                let of_task = before.runs.values().filter(|r| r.workload == *task);
                let is_scheduled = |r: &Run| matches!(r.cause, RunCause::Scheduled { .. });
                let mut live = of_task.filter(|r| r.ended_at.is_none() && is_scheduled(r));
                if last.is_some_and(|last| last >= due.0) {
                    Some(format!("{task} fired twice for one time"))
                } else if due.0 > self.state.time.0 {
                    Some(format!("{task} fired before its time"))
                } else if run.is_some() && live.next().is_some() {
                    Some(format!("{task} runs twice by its schedule"))
                } else {
                    None
                }
            }
            RunAction::Hook { revision, when, task, .. } => {
                let key = format!("{revision} {when:?} {task}");
                let twice = !self.ledger.hooks.insert(key);
                twice.then(|| format!("{task} ran twice for r{revision}"))
            }
            _ => None,
        };
        if let Some(what) = what {
            self.broken.get_or_insert(what);
        }
    }

    /// The task that a service's rollout waits for.
    fn awaited(&self, service: &WorkloadName) -> Option<WorkloadName> {
        let state = &self.state;
        let app = state.owner(service)?;
        let running = state.running_deployment(&app.name)?;
        let scales = running.kind == crate::fsm::model::DeployKind::Scale;
        if !running.goes_forward() || scales || !running.touched.contains(service) {
            return None;
        }
        let target = app.services.get(service)?.target.as_ref()?;
        let spec = state.spec(target)?.spec.service()?;
        let is_missing = |task: &&WorkloadName| {
            !running.hooks.iter().any(|hook| {
                let good = hook.exit.as_ref().is_some_and(|e| e.reason == ExitReason::Completed);
                hook.when == HookWhen::Before && hook.task == **task && good
            })
        };
        spec.before_deploy.iter().find(is_missing).cloned()
    }

    /// No replica of the new version has a node before the tasks of its deployment succeeded.
    fn check_hooks_first(&mut self, service: &WorkloadName) {
        let Some(task) = self.awaited(service) else { return };
        let state = &self.state;
        let entry = state.owner(service).and_then(|app| app.services.get(service));
        let target = entry.and_then(|entry| entry.target.as_ref());
        let newest = state.allocations_of(service).filter(|a| a.desired == Desired::Run);
        let is_new = newest.filter(|a| Some(&a.spec) == target).max_by_key(|a| a.created_at);
        let stable = entry.and_then(|entry| entry.stable.as_ref());
        if is_new.is_some_and(|a| a.created_at == state.time) && stable != target {
            let what = format!("{service} was placed before {task}");
            self.broken.get_or_insert(what);
        }
    }

    /// While a rollout waits for its tasks, what is missing of what last succeeded is replaced, as
    /// far as there is room.
    pub(super) fn check_held(&mut self) {
        let mut bare = BTreeSet::new();
        let goes_on = |app: &&std::sync::Arc<App>| {
            self.state.running_deployment(&app.name).is_some_and(|d| d.goes_forward())
        };
        let apps = self.state.apps.values().filter(goes_on);
        for (name, service) in apps.flat_map(|app| &app.services) {
            let stored = service.stable.as_ref().and_then(|hash| self.state.spec(hash));
            let Some(spec) = stored.and_then(|stored| stored.spec.service()) else { continue };
            if self.awaited(name).is_none() {
                continue;
            }
            let live = self.state.allocations_of(name).filter(|a| a.is_live());
            let taken: BTreeSet<u32> = live.filter_map(|a| a.replica()).collect();
            let missing = (0..spec.replicas).filter(|replica| !taken.contains(replica));
            let missing: Vec<u32> = missing.collect();
            if !missing.is_empty() && Placer::new(&self.state).place(&spec.run).is_ok() {
                bare.extend(missing.into_iter().map(|replica| (name.clone(), replica)));
            }
        }
        self.ledger.bare.retain(|seat, _| bare.contains(seat));
        for seat in bare {
            let since = *self.ledger.bare.entry(seat.clone()).or_insert(self.now);
            if self.now - since > BARE_FOR {
                let what = format!("{}-{} is missing while tasks run", seat.0, seat.1);
                self.broken.get_or_insert(what);
            }
        }
    }

    /// At rest nothing waits that could be placed, and every deployment that succeeded had its
    /// tasks succeed.
    pub(super) fn check_runs_at_rest(&mut self) {
        let hung = self.state.runs.values().find(|run| {
            let age = self.state.time.since(run.created_at).0;
            run.ended_at.is_none() && age > 600_000
        });
        let mut wrong = hung.map(|run| format!("{} never ended", run.id));
        for deployment in self.state.deployments.values() {
            let good = deployment.status == DeployStatus::Succeeded;
            let failed = deployment.hooks.iter().find(|hook| {
                hook.exit.as_ref().is_none_or(|exit| exit.reason != ExitReason::Completed)
            });
            if let Some(hook) = failed.filter(|_| good) {
                wrong = Some(format!("r{} succeeded without {}", deployment.revision, hook.task));
            }
        }
        if let Some(what) = wrong {
            self.broken.get_or_insert(what);
        }
    }
}

/// Whether a container is of a task, by its image.
pub(super) fn is_task(state: &State, id: &AllocId) -> bool {
    state.runs.contains_key(id)
        || state.allocations.get(id).is_some_and(|a| a.kind == AllocKind::Task)
}

/// How a task's container ended, by where it was.
pub(super) fn ending(observed: &mut AllocationStatus, from: Phase, image: &str) {
    let (code, reason) = match (from, observed.phase) {
        (Phase::Pulling, _) => (None, ExitReason::PullFailed),
        (Phase::Starting, _) => (None, ExitReason::StartFailed),
        (Phase::Stopping, _) => (Some(143), ExitReason::Killed),
        (_, Phase::Stopped) => (Some(0), ExitReason::Completed),
        _ if image == "endless" => (Some(124), ExitReason::Timeout),
        _ => (Some(1), ExitReason::Error),
    };
    observed.exit = Some(Exit { code, reason, message: None });
}

pub(super) fn describe(action: &RunAction) -> String {
    match action {
        RunAction::Place { run, node } => format!("place {run} on {node}"),
        RunAction::Fail { run, exit } => format!("give {run} up: {:?}", exit.message),
        RunAction::Kill { run } => format!("kill {run}"),
        RunAction::Forget { run } => format!("forget {run}"),
        RunAction::Fire { task, due, run } => format!("{task} is due at {due}: {run:?}"),
        RunAction::Hook { revision, when, task, run, .. } => {
            format!("{} {task} of r{revision}: {run}", when.field())
        }
    }
}
