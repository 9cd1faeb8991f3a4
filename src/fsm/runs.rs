//! Runs of tasks: asked for, placed, ended once, forgotten; and their schedules.
//!
//! Owns the legal moves of a run and the bounds on those that are kept. Never decides when a run is
//! placed or a schedule comes true: that is plan.

use super::allocation::not_found;
use super::command::{RunAction, Spawn, Spawned};
use super::model::{
    AllocKind, Allocation, AllocationStatus, App, Course, Deployment, Desired, Exit, ExitReason,
    HookRun, HookWhen, Phase, Progress, ProgressPhase, Run, RunCause, TaskSchedule, WorkloadSpec,
};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AllocId, AppName, Attempt, NodeId, Revision, SpecHash, WorkloadName};
use crate::limits;
use crate::spec::cron::Schedule;
use crate::spec::model::{EnvPart, EnvValue, TaskSpec};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A task is never started again, also not by hand.
pub(super) fn may_restart(allocation: &Allocation) -> Result<(), Rejection> {
    if allocation.kind != AllocKind::Task {
        return Ok(());
    }
    let (id, name) = (&allocation.id, &allocation.workload);
    let what = format!("{id} is a task's run, which never starts again: mill spawn {name}");
    Err(Rejection::Illegal { what })
}

impl State {
    /// The specification of a task of some app.
    #[must_use]
    pub fn task(&self, name: &WorkloadName) -> Option<(&Arc<App>, &SpecHash, &TaskSpec)> {
        let app = self.apps.values().find(|app| app.tasks.contains_key(name))?;
        let hash = app.tasks.get(name)?;
        match &self.spec(hash)?.spec {
            WorkloadSpec::Task(task) => Some((app, hash, task)),
            WorkloadSpec::Service(_) => None,
        }
    }

    /// How a run ended; nothing while it is not over.
    #[must_use]
    pub fn exit_of(&self, run: &Run) -> Option<Exit> {
        run.ended_at?;
        let placed = || Some(exit_of(&self.allocations.get(&run.id)?.observed));
        run.exit.clone().or_else(placed)
    }

    /// Whether a run that a task's schedule began is not over.
    #[must_use]
    pub fn runs_by_schedule(&self, task: &WorkloadName) -> bool {
        let live = self.derived.runs.get(task).into_iter().flat_map(|of| &of.live);
        let mut runs = live.filter_map(|id| self.runs.get(id));
        runs.any(|run| matches!(run.cause, RunCause::Scheduled { .. }))
    }

    pub(super) fn spawn(
        &mut self,
        spawn: Spawn,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let mut bytes = 0;
        let (workload, app, spec) = match spawn.what {
            Spawned::Task { name, env } => {
                let found = self.task(&name).ok_or_else(|| not_found("task", name.as_str()))?;
                let (app, hash, task) = (found.0.name.clone(), found.1.clone(), found.2);
                let other = (!env.is_empty()).then(|| with_env(task.clone(), env));
                let spec = other.map_or(hash, |task| self.store_task(task, &mut bytes));
                (name, Some(app), spec)
            }
            Spawned::Image { name, spec } => {
                self.check_bounds(&name, spec.excess())?;
                let hash = self.store_task(*spec, &mut bytes);
                (name, None, hash)
            }
        };
        let id = spawn.id.clone();
        self.begin_run(spawn.id, (workload, app, spec), RunCause::Spawned, touched)?;
        if let Some(run) = self.runs.get(&id).filter(|_| bytes > 0) {
            let run = Run { bytes, ..Run::clone(run) };
            self.runs.insert(id.clone(), Arc::new(run));
            self.make_room_for_runs(touched)?;
        }
        Ok(Outcome::Run { id })
    }

    fn store_task(&mut self, task: TaskSpec, bytes: &mut u64) -> SpecHash {
        let (hash, stored) = WorkloadSpec::Task(task).store();
        *bytes += self.store_spec(hash.clone(), stored);
        hash
    }

    fn begin_run(
        &mut self,
        id: AllocId,
        what: (WorkloadName, Option<AppName>, SpecHash),
        cause: RunCause,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        if self.runs.contains_key(&id) || self.allocations.contains_key(&id) {
            return Err(Rejection::Illegal { what: format!("{id} exists already") });
        }
        if self.runs.len() - self.derived.ended_runs.len() >= limits::RUNS_LIVE_MAX {
            return Err(Rejection::TooMany { what: "tasks that are not over".to_owned() });
        }
        let (workload, app, spec) = what;
        let created_at = self.time;
        let (ended_at, exit) = (None, None);
        let bytes = 0;
        let run = Run { id, workload, app, spec, cause, created_at, ended_at, exit, bytes };
        touched.allocations.insert(run.id.clone());
        self.index_run(&run);
        self.runs.insert(run.id.clone(), Arc::new(run));
        Ok(())
    }

    /// Ends a run before its program does.
    pub(super) fn kill(
        &mut self,
        id: &AllocId,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let run = self.runs.get(id).ok_or_else(|| not_found("task's run", id.as_str()))?;
        if run.ended_at.is_some() {
            return Err(Rejection::Illegal { what: format!("{id} is over already") });
        }
        if self.allocations.contains_key(id) {
            self.advance_desired(id, Desired::Stop, touched)?;
        } else {
            let exit = Exit { code: None, reason: ExitReason::Killed, message: None };
            self.end_run(id, exit, touched);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn act_on_run(
        &mut self,
        action: RunAction,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        match action {
            RunAction::Place { run, node } => self.place_run(&run, node, touched),
            RunAction::Fail { run, exit } => {
                let waits = |r: &Arc<Run>| r.ended_at.is_none();
                let found = self.runs.get(&run).filter(|found| waits(found));
                if found.is_none() || self.allocations.contains_key(&run) {
                    return Err(Rejection::Stale);
                }
                self.end_run(&run, exit, touched);
                Ok(())
            }
            RunAction::Kill { run } => {
                self.kill(&run, touched).map(drop).map_err(|_| Rejection::Stale)
            }
            RunAction::Forget { run } => {
                let found = self.runs.get(&run).filter(|run| run.ended_at.is_some());
                found.ok_or(Rejection::Stale)?;
                self.forget_run(&run, touched);
                Ok(())
            }
            RunAction::Fire { task, due, run } => self.fire(task, due, run, touched),
            RunAction::Hook { revision, when, service, task, run } => {
                self.begin_hook((revision, when), service, task, run, touched)
            }
        }
    }

    fn place_run(
        &mut self,
        id: &AllocId,
        node: NodeId,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let run = self.runs.get(id).filter(|run| run.ended_at.is_none()).ok_or(Rejection::Stale)?;
        if self.allocations.contains_key(id) || !self.has_room(node, &run.spec) {
            return Err(Rejection::Stale);
        }
        let run = Run::clone(run);
        let owner = run.app.as_ref().and_then(|app| self.apps.get(app));
        let revision = match run.cause {
            RunCause::Hook { revision, .. } => revision,
            _ => owner.map(|app| app.revision).unwrap_or_default(),
        };
        let allocation = Allocation {
            id: run.id.clone(),
            workload: run.workload,
            kind: AllocKind::Task,
            app: run.app.unwrap_or_else(|| AppName::from("")),
            node,
            spec: run.spec,
            revision,
            generation: 0,
            created_at: self.time,
            replaces: None,
            desired: Desired::Run,
            attempt: Attempt(1),
            observed: AllocationStatus::default(),
            phase_since: self.time,
            first_running: None,
            was_healthy: false,
            pulled_at: None,
            course: Course::default(),
        };
        self.derived.waiting.remove(&(run.created_at, run.id));
        self.note(&allocation, ProgressPhase::Scheduled, None);
        self.put_allocation(allocation, touched);
        Ok(())
    }

    /// An allocation has changed: if its program is over, so is the run.
    pub(super) fn follow_run(&mut self, allocation: &Allocation, touched: &mut Touched) {
        if allocation.kind == AllocKind::Task && allocation.observed.phase.is_terminal() {
            self.close_run(&allocation.id, &exit_of(&allocation.observed), None, touched);
        }
    }

    /// Ends a run that never got a node.
    fn end_run(&mut self, id: &AllocId, exit: Exit, touched: &mut Touched) {
        let kept = Some(exit.clone());
        self.close_run(id, &exit, kept, touched);
    }

    fn close_run(&mut self, id: &AllocId, exit: &Exit, kept: Option<Exit>, touched: &mut Touched) {
        let Some(old) = self.runs.get(id).filter(|run| run.ended_at.is_none()).cloned() else {
            return;
        };
        let mut run = Run::clone(&old);
        run.ended_at = Some(self.time);
        run.exit = kept;
        self.unindex_run(&old);
        self.index_run(&run);
        touched.allocations.insert(id.clone());
        touched.apps.extend(run.app.clone());
        let workload = run.workload.clone();
        if let RunCause::Hook { revision, .. } = run.cause {
            self.close_hook(revision, &run, exit);
        }
        self.runs.insert(id.clone(), Arc::new(run));
        self.trim_runs(&workload, touched);
    }

    /// What became of a deployment's task is kept with the deployment.
    fn close_hook(&mut self, revision: Revision, run: &Run, exit: &Exit) {
        let Some(old) = self.deployments.get(&revision) else { return };
        let mut deployment = Deployment::clone(old);
        let Some(hook) = deployment.hooks.iter_mut().find(|hook| hook.run == run.id) else {
            return;
        };
        hook.ended_at = run.ended_at;
        hook.exit = Some(exit.clone());
        self.deployments.insert(revision, Arc::new(deployment));
    }

    fn begin_hook(
        &mut self,
        (revision, when): (Revision, HookWhen),
        service: WorkloadName,
        task: WorkloadName,
        run: AllocId,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let found = self.deployments.get(&revision).ok_or(Rejection::Stale)?;
        let has_begun = found.hooks.iter().any(|hook| hook.when == when && hook.task == task);
        if !found.goes_forward() || has_begun {
            return Err(Rejection::Stale);
        }
        let spec = found.tasks.get(&task).cloned();
        let spec = spec.ok_or_else(|| not_found("task", task.as_str()))?;
        let mut deployment = Deployment::clone(found);
        let cause = RunCause::Hook { revision, when };
        let what = (task.clone(), Some(deployment.app.clone()), spec);
        self.begin_run(run.clone(), what, cause, touched)?;
        deployment.add_progress(Progress {
            time: self.time,
            phase: ProgressPhase::Started,
            service: service.clone(),
            allocation: Some(run.clone()),
            node: None,
            message: Some(format!("{} {task}", when.field())),
        });
        let (ended_at, exit) = (None, None);
        deployment.hooks.push(HookRun { task, when, service, run, ended_at, exit });
        touched.apps.insert(deployment.app.clone());
        self.deployments.insert(revision, Arc::new(deployment));
        Ok(())
    }

    fn fire(
        &mut self,
        task: WorkloadName,
        due: Timestamp,
        run: Option<AllocId>,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let old = self.schedules.get(&task).ok_or(Rejection::Stale)?;
        if old.due != Some(due) {
            return Err(Rejection::Stale);
        }
        let mut schedule = TaskSchedule::clone(old);
        // What else was missed until now is made up for by this one run.
        schedule.since = self.time.max(due);
        schedule.due = next_after(&schedule.expression, schedule.since);
        match run {
            Some(_) if self.runs_by_schedule(&task) => return Err(Rejection::Stale),
            Some(id) => {
                let (app, hash, _) = self.task(&task).ok_or(Rejection::Stale)?;
                let what = (task.clone(), Some(app.name.clone()), hash.clone());
                self.begin_run(id, what, RunCause::Scheduled { due }, touched)?;
                schedule.skipped = None;
            }
            None => schedule.skipped = Some(due),
        }
        let app = self.task(&task).map(|(app, ..)| app.name.clone());
        touched.apps.extend(app);
        self.schedules.insert(task, Arc::new(schedule));
        Ok(())
    }

    /// Schedules that an app's tasks have now: a new or changed one begins now.
    pub(super) fn sync_schedules(&mut self, app: &App) {
        let before = self.apps.get(&app.name).map(|old| old.tasks.clone()).unwrap_or_default();
        for name in before.keys().filter(|name| !app.tasks.contains_key(*name)) {
            self.schedules.remove(name);
        }
        for (name, hash) in app.tasks.iter() {
            let stored = self.spec(hash).map(|stored| &stored.spec);
            let Some(WorkloadSpec::Task(task)) = stored else { continue };
            let Some(expression) = task.schedule.clone() else {
                self.schedules.remove(name);
                continue;
            };
            let known = self.schedules.get(name).is_some_and(|old| old.expression == expression);
            if !known {
                let since = self.time;
                let due = next_after(&expression, since);
                let schedule = TaskSchedule { expression, since, due, skipped: None };
                self.schedules.insert(name.clone(), Arc::new(schedule));
            }
        }
    }

    /// Drops the oldest ended runs beyond what is kept of a task and in all.
    fn trim_runs(&mut self, task: &WorkloadName, touched: &mut Touched) {
        loop {
            let of = self.derived.runs.get(task);
            let too_many = of.filter(|of| of.ended.len() > limits::ENDED_TASKS_EACH);
            let oldest = too_many.and_then(|of| of.ended.get_min()).or_else(|| {
                let all = &self.derived.ended_runs;
                all.get_min().filter(|_| all.len() > limits::ENDED_TASKS_ALL)
            });
            let Some((_, id)) = oldest.cloned() else { return };
            self.forget_run(&id, touched);
        }
    }

    pub(super) fn forget_run(&mut self, id: &AllocId, touched: &mut Touched) {
        let Some(run) = self.runs.remove(id) else { return };
        self.unindex_run(&run);
        self.drop_allocation(id, touched);
        touched.allocations.insert(id.clone());
        let current = run.app.as_ref().and_then(|app| self.apps.get(app)?.tasks.get(&run.workload));
        if current != Some(&run.spec) {
            self.collect_specs();
        }
    }

    pub(super) fn index_run(&mut self, run: &Run) {
        let id = run.id.clone();
        let of = self.derived.runs.entry(run.workload.clone()).or_default();
        match run.ended_at {
            Some(at) => {
                of.ended.insert((at, id.clone()));
                self.derived.ended_runs.insert((at, id));
            }
            None => {
                of.live.insert(id.clone());
                if !self.allocations.contains_key(&id) {
                    self.derived.waiting.insert((run.created_at, id));
                }
            }
        }
    }

    fn unindex_run(&mut self, run: &Run) {
        let Some(of) = self.derived.runs.get_mut(&run.workload) else { return };
        of.live.remove(&run.id);
        if let Some(at) = run.ended_at {
            let place = (at, run.id.clone());
            of.ended.remove(&place);
            self.derived.ended_runs.remove(&place);
        }
        if of.live.is_empty() && of.ended.is_empty() {
            self.derived.runs.remove(&run.workload);
        }
        self.derived.waiting.remove(&(run.created_at, run.id.clone()));
    }
}

impl Deployment {
    /// It is on its way, and not back.
    #[must_use]
    pub fn goes_forward(&self) -> bool {
        self.status == super::model::DeployStatus::Running && self.reverting.is_none()
    }
}

/// The first time after `since` at which a schedule comes true. It was checked when it was read.
fn next_after(expression: &str, since: Timestamp) -> Option<Timestamp> {
    Schedule::parse(expression).ok()?.next(since)
}

/// How an ended program ended, also where its node could not say.
fn exit_of(seen: &AllocationStatus) -> Exit {
    let unknown = || Exit {
        code: None,
        reason: if seen.phase == Phase::Lost { ExitReason::Lost } else { ExitReason::Killed },
        message: None,
    };
    seen.exit.clone().unwrap_or_else(unknown)
}

fn with_env(mut task: TaskSpec, env: BTreeMap<String, String>) -> TaskSpec {
    let value = |text: String| {
        let parts = if text.is_empty() { vec![] } else { vec![EnvPart::Text(text)] };
        EnvValue(parts)
    };
    task.run.env.extend(env.into_iter().map(|(name, text)| (name, value(text))));
    task
}
