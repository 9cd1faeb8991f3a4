//! What must hold of services that a deployment removes: they keep their healthy replicas until the
//! rest has succeeded, unless what they hold is needed.
//!
//! Owns these invariants. Never changes the world but for the verdict and the count.

use super::World;
use crate::fsm::command::{Action, RunAction};
use crate::fsm::model::{Allocation, DeployKind, Deployment, Desired, HookWhen};
use crate::fsm::{Command, State};
use crate::id::{AllocId, WorkloadName};
use crate::scheduler::place::Placer;
use std::collections::BTreeSet;

/// Healthy replicas of removed services that were taken away.
#[derive(Default)]
pub(super) struct Count {
    /// After the rest had succeeded.
    pub(super) last: u32,
    /// Before, to make room.
    pub(super) early: u32,
}

impl World {
    /// What was taken away: the rest is as asked and followed up, or something is missing.
    pub(super) fn check_departure(&mut self, before: &State, id: &AllocId) {
        let Some((old, deployment)) = departing(before, id) else { return };
        if is_rest_done(before, deployment) {
            self.departed.last += 1;
        } else if misses_something(before, deployment) {
            self.departed.early += 1;
        } else {
            let what = format!("{} went before the rest of r{}", old.id, deployment.revision);
            self.fail(what);
        }
    }

    /// What is about to be taken away early: something that is missing fits nowhere.
    pub(super) fn check_departures(&mut self, commands: &[Command]) {
        let all = commands.iter().flat_map(|command| match command {
            Command::Steps(steps) => steps.actions.as_slice(),
            _ => &[],
        });
        let places = |action: &Action| {
            matches!(action, Action::Place(_) | Action::Run(RunAction::Place { .. }))
        };
        // What another app or a task gets in the same plan is free no more.
        if all.clone().any(places) {
            return;
        }
        for action in all {
            let (Action::Drain { allocation } | Action::Stop { allocation }) = action else {
                continue;
            };
            let Some((old, deployment)) = departing(&self.state, allocation) else { continue };
            let is_done = is_rest_done(&self.state, deployment);
            if !is_done && !lacks_room(&self.state, deployment) {
                let what = format!("{} would make room that is there already", old.id);
                return self.fail(what);
            }
        }
    }
}

/// A healthy replica that serves, of a service that a deployment on its way removes.
fn departing<'a>(state: &'a State, id: &AllocId) -> Option<(&'a Allocation, &'a Deployment)> {
    let old = state.allocations.get(id).filter(|a| a.is_routable())?;
    let deployment = state.running_deployment(&old.app)?;
    let service = state.apps.get(&old.app)?.services.get(&old.workload)?;
    let is_up = deployment.kind != DeployKind::Down && deployment.goes_forward();
    let is_removed = service.target.is_none() && deployment.touched.contains(&old.workload);
    // Of two in a seat one goes in any case.
    let twins = state.allocations_of(&old.workload).filter(|a| {
        let is_like = a.replica() == old.replica() && a.generation == old.generation;
        is_like && a.is_live() && a.desired == Desired::Run
    });
    let is_one = twins.count() == 1;
    let was_good = service.stable.is_some();
    (is_up && is_removed && was_good && is_one).then_some((&**old, &**deployment))
}

/// Seats of a service that nothing healthy of its target sits in.
fn empty_seats(state: &State, deployment: &Deployment, name: &WorkloadName) -> usize {
    let app = state.apps.get(&deployment.app);
    let Some(service) = app.and_then(|app| app.services.get(name)) else { return 0 };
    let Some(stored) = service.target.as_ref().and_then(|hash| state.spec(hash)) else { return 0 };
    let wanted = stored.spec.service().map_or(0, |spec| spec.replicas);
    let is_right = |a: &&std::sync::Arc<Allocation>| {
        let run = state.spec(&a.spec).map(|other| &other.run);
        a.is_routable() && run == Some(&stored.run) && a.generation == service.generation
    };
    let sits = state.allocations_of(name).filter(is_right).filter_map(|a| a.replica());
    let seats: BTreeSet<u32> = sits.filter(|replica| *replica < wanted).collect();
    wanted as usize - seats.len()
}

fn is_rest_done(state: &State, deployment: &Deployment) -> bool {
    let are_full = deployment.touched.iter().all(|name| empty_seats(state, deployment, name) == 0);
    let ended = |task: &WorkloadName| {
        let mut hooks = deployment.hooks.iter();
        hooks.any(|h| h.when == HookWhen::After && h.task == *task && h.exit.is_some())
    };
    let followed = deployment.touched.iter().all(|name| {
        let target = state.apps.get(&deployment.app).and_then(|app| {
            let target = app.services.get(name)?.target.as_ref()?;
            state.spec(target)?.spec.service()
        });
        target.is_none_or(|spec| spec.after_deploy.iter().all(ended))
    });
    are_full && followed
}

fn misses_something(state: &State, deployment: &Deployment) -> bool {
    let is_missing = |name| empty_seats(state, deployment, name) > 0;
    deployment.touched.iter().any(is_missing) || waiting_runs(state, deployment).next().is_some()
}

fn waiting_runs<'a>(
    state: &'a State,
    deployment: &'a Deployment,
) -> impl Iterator<Item = &'a crate::spec::model::RunSpec> {
    deployment.hooks.iter().filter_map(|hook| {
        let run = state.runs.get(&hook.run)?;
        let waits = state.derived.waiting.contains(&(run.created_at, run.id.clone()));
        Some(state.spec(&run.spec).filter(|_| waits)?.spec.run())
    })
}

/// Something that is missing fits no node, as they are.
fn lacks_room(state: &State, deployment: &Deployment) -> bool {
    let fits = |run| Placer::new(state).place(run).is_ok();
    let app = state.apps.get(&deployment.app);
    let waits = |name: &&WorkloadName| empty_seats(state, deployment, name) > 0;
    let targets = deployment.touched.iter().filter(waits).filter_map(|name| {
        let service = app?.services.get(name)?;
        Some(state.spec(service.target.as_ref()?)?.spec.run())
    });
    // What one plan gives to several may be enough for each of them alone.
    let missing: Vec<_> = targets.chain(waiting_runs(state, deployment)).collect();
    missing.len() > 1 || missing.into_iter().any(|run| !fits(run))
}
