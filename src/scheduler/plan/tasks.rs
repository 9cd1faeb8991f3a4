//! Tasks: what waits gets a node, what is due begins, what is old is forgotten; and the tasks of a
//! deployment.
//!
//! Owns when a run is placed, given up or killed, and when a service's rollout may start. Never
//! ends a deployment: that is `judge`.

use super::Context;
use crate::bugs::{Bug, is_on};
use crate::fsm::command::{Action, RunAction};
use crate::fsm::model::{
    App, DeployKind, Deployment, Desired, Exit, ExitReason, HookRun, HookWhen, Run, RunCause,
    TaskSchedule, WorkloadSpec,
};
use crate::id::{AllocId, WorkloadName};
use crate::limits;
use crate::spec::model::ServiceSpec;
use crate::units::{Millis, Timestamp};

impl Context<'_> {
    /// Plans all runs and schedules.
    pub(super) fn plan_runs(&mut self) {
        self.end_purposeless();
        self.end_drained_runs();
        let state = self.state;
        for (since, id) in &state.derived.waiting {
            if let Some(run) = state.runs.get(id).filter(|run| self.has_purpose(run)) {
                self.place_run(run, *since);
            }
        }
        for (name, schedule) in &state.schedules {
            self.follow_schedule(name, schedule);
        }
        for (ended, id) in &state.derived.ended_runs {
            if !self.is_due(ended.plus(Millis::from(limits::ENDED_KEPT))) {
                break;
            }
            self.run_action(RunAction::Forget { run: id.clone() });
        }
    }

    fn run_action(&mut self, action: RunAction) {
        self.actions.push(Action::Run(action));
    }

    /// Kills the runs of deployments that are over or on their way back, and of apps that were
    /// taken down.
    fn end_purposeless(&mut self) {
        let state = self.state;
        for id in state.derived.runs.values().flat_map(|of| &of.live) {
            let Some(run) = state.runs.get(id) else { continue };
            let is_ending = state.allocations.get(id).is_some_and(|a| a.desired == Desired::Stop);
            if !is_ending && !self.has_purpose(run) {
                self.run_action(RunAction::Kill { run: id.clone() });
            }
        }
    }

    fn has_purpose(&self, run: &Run) -> bool {
        if let RunCause::Hook { revision, .. } = run.cause {
            return self.state.deployments.get(&revision).is_some_and(|d| d.goes_forward());
        }
        let Some(app) = &run.app else { return true };
        let runs_something = |app: &App| {
            !app.tasks.is_empty() || app.services.values().any(|service| service.target.is_some())
        };
        self.state.apps.get(app).is_some_and(|app| runs_something(app))
    }

    fn place_run(&mut self, run: &Run, since: Timestamp) {
        let state = self.state;
        let Some(spec) = state.spec(&run.spec) else { return };
        self.placer().begin(state, &run.workload);
        match self.placer().place(spec.spec.run()) {
            Ok(node) => self.run_action(RunAction::Place { run: run.id.clone(), node }),
            Err(why) => {
                if self.is_due_in(since, limits::UNPLACED_DEADLINE.into()) {
                    let minutes = limits::UNPLACED_DEADLINE.as_secs() / 60;
                    let refusals = self.explain(&why);
                    let message = Some(format!("no node fits for {minutes}m: {refusals}"));
                    let exit = Exit { code: None, reason: ExitReason::StartFailed, message };
                    self.run_action(RunAction::Fail { run: run.id.clone(), exit });
                }
            }
        }
    }

    fn follow_schedule(&mut self, name: &WorkloadName, schedule: &TaskSchedule) {
        let Some(due) = schedule.due else { return };
        if !self.is_due(due) {
            return;
        }
        let is_busy = self.state.runs_by_schedule(name);
        let run = (!is_busy).then(|| self.new_run_id(name));
        self.run_action(RunAction::Fire { task: name.clone(), due, run });
    }

    fn new_run_id(&mut self, task: &WorkloadName) -> AllocId {
        self.fresh_id(task, 0, |low| AllocId::task(task, low))
    }

    /// Whether a service's rollout has to wait for its tasks; begins the next of them.
    pub(super) fn waits_for_tasks(&mut self, app: &App, name: &WorkloadName) -> bool {
        let Some(deployment) = self.state.running_deployment(&app.name) else { return false };
        let Some(service) = hooked(self, deployment, app, name) else { return false };
        let are_done = self.are_done(deployment, HookWhen::Before, name, &service.before_deploy);
        !are_done && !is_on(Bug::RollBeforeTasks)
    }

    /// Whether all tasks that follow the rollout have succeeded; begins the next of them.
    pub(super) fn is_followed_up(&mut self, deployment: &Deployment) -> bool {
        let state = self.state;
        let Some(app) = state.apps.get(&deployment.app) else { return true };
        let mut all = true;
        for name in deployment.touched.iter() {
            if let Some(service) = hooked(self, deployment, app, name) {
                all &= self.are_done(deployment, HookWhen::After, name, &service.after_deploy);
            }
        }
        all
    }

    /// Whether a deployment goes on only when what it takes away has ended: it was asked to take
    /// down, or tasks follow it, which may do what the old version would not stand.
    pub(super) fn waits_for_ends(&self, deployment: &Deployment) -> bool {
        let Some(app) = self.state.apps.get(&deployment.app) else { return false };
        let mut services =
            deployment.touched.iter().filter_map(|name| hooked(self, deployment, app, name));
        let has_tasks = services.any(|service| !service.after_deploy.is_empty());
        deployment.kind == DeployKind::Down || has_tasks
    }

    /// Whether these tasks have succeeded in this deployment, one after the other. One that several
    /// services name runs once.
    fn are_done(
        &mut self,
        deployment: &Deployment,
        when: HookWhen,
        service: &WorkloadName,
        tasks: &[WorkloadName],
    ) -> bool {
        for task in tasks {
            let begun = deployment.hooks.iter().find(|h| h.when == when && h.task == *task);
            match begun {
                Some(hook) if has_succeeded(hook) => {}
                Some(_) => return false,
                None => {
                    self.begin_hook(deployment, when, service, task);
                    return false;
                }
            }
        }
        true
    }

    fn begin_hook(
        &mut self,
        deployment: &Deployment,
        when: HookWhen,
        service: &WorkloadName,
        task: &WorkloadName,
    ) {
        let is_it = |action: &Action| {
            let Action::Run(RunAction::Hook { task: other, .. }) = action else { return false };
            other == task
        };
        // The run of a deployment before this one may still be on its way out.
        let of_deployment = |id: &AllocId| {
            self.state.runs.get(id).is_some_and(|r| matches!(r.cause, RunCause::Hook { .. }))
        };
        let live = self.state.derived.runs.get(task).map(|of| &of.live);
        if live.into_iter().flatten().any(of_deployment) || self.actions.iter().any(is_it) {
            return;
        }
        let run = self.new_run_id(task);
        let (revision, service, task) = (deployment.revision, service.clone(), task.clone());
        self.run_action(RunAction::Hook { revision, when, service, task, run });
    }

    /// A deployment's task that failed: the service that named it, and why for people.
    pub(super) fn hook_failure(&self, deployment: &Deployment) -> Option<(WorkloadName, String)> {
        let failed = |hook: &&HookRun| hook.exit.is_some() && !has_succeeded(hook);
        let hook = deployment.hooks.iter().find(failed)?;
        let exit = hook.exit.as_ref()?;
        let how = match (exit.reason, exit.code) {
            (ExitReason::Oom, _) => "out of memory".to_owned(),
            (ExitReason::Timeout, _) => {
                let run = self.state.runs.get(&hook.run);
                match run.and_then(|run| Some(&self.state.spec(&run.spec)?.spec)) {
                    Some(WorkloadSpec::Task(task)) => format!("timed out after {}", task.timeout),
                    _ => "timed out".to_owned(),
                }
            }
            (ExitReason::Killed, _) => "killed".to_owned(),
            (ExitReason::Lost, _) => "lost with its node".to_owned(),
            (ExitReason::StartFailed, _) => "could not be started".to_owned(),
            (ExitReason::PullFailed, _) => "image could not be pulled".to_owned(),
            (_, Some(code)) => format!("exited {code}"),
            (_, None) => "ended".to_owned(),
        };
        let never_ran = matches!(exit.reason, ExitReason::StartFailed | ExitReason::PullFailed);
        let sign = if never_ran { ": " } else { "\n" };
        let said = exit.message.as_ref().map(|text| format!("{sign}{text}")).unwrap_or_default();
        let reason = format!("{} {}: {how}{said}", hook.when.field(), hook.run);
        Some((hook.service.clone(), reason))
    }
}

/// A service of a deployment whose tasks are to run: it goes forward, changes the service, and is
/// more than another number of replicas.
fn hooked<'a>(
    context: &Context<'a>,
    deployment: &Deployment,
    app: &App,
    name: &WorkloadName,
) -> Option<&'a ServiceSpec> {
    let is_rollout = deployment.kind != DeployKind::Scale && deployment.goes_forward();
    if !is_rollout || !deployment.touched.contains(name) {
        return None;
    }
    let target = app.services.get(name)?.target.as_ref()?;
    context.state.spec(target)?.spec.service()
}

fn has_succeeded(hook: &HookRun) -> bool {
    hook.exit.as_ref().is_some_and(|exit| exit.reason == ExitReason::Completed)
}
