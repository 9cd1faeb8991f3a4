//! Tasks and their runs as documents.
//!
//! Never judges them.

use super::allocation::{exit, status, why_waiting};
use super::node_name;
use crate::api::wire::{self, AllocationStatus, RunView, TaskView};
use crate::fsm::State;
use crate::fsm::model::{App, ExitReason, Run, RunCause, WorkloadSpec};
use crate::id::WorkloadName;

/// Every task of a file, by app and name.
#[must_use]
pub fn tasks(state: &State) -> Vec<TaskView> {
    let of_app = |app: &App| {
        let all = app.tasks.iter();
        all.filter_map(|(name, hash)| task(state, app, name, &state.spec(hash)?.spec))
            .collect::<Vec<_>>()
    };
    state.apps.values().flat_map(|app| of_app(app)).collect()
}

fn task(state: &State, app: &App, name: &WorkloadName, spec: &WorkloadSpec) -> Option<TaskView> {
    let WorkloadSpec::Task(task) = spec else { return None };
    let schedule = state.schedules.get(name);
    let runs = state.derived.runs.get(name);
    let last = runs.and_then(|of| state.runs.get(&of.ended.get_max()?.1));
    let running = runs.map_or(0, |of| of.live.len());
    Some(TaskView {
        name: name.to_string(),
        app: app.name.to_string(),
        image: task.run.image.clone(),
        schedule: task.schedule.clone(),
        next_run: schedule.and_then(|schedule| schedule.due).map(|at| at.to_string()),
        skipped: schedule.and_then(|schedule| schedule.skipped).map(|at| at.to_string()),
        running: u32::try_from(running).unwrap_or(u32::MAX),
        last: last.map(|last| run(state, last)),
    })
}

/// A run.
#[must_use]
pub fn run(state: &State, run: &Run) -> RunView {
    let allocation = state.allocations.get(&run.id);
    let spec = state.spec(&run.spec).map(|stored| &stored.spec);
    let image = spec.map(|spec| spec.run().image.clone());
    let timeout = match spec {
        Some(WorkloadSpec::Task(task)) => Some(task.timeout.duration().as_secs_f64()),
        _ => None,
    };
    let (cause, due, revision) = match run.cause {
        RunCause::Spawned => (wire::RunCause::Spawned, None, None),
        RunCause::Scheduled { due } => (wire::RunCause::Scheduled, Some(due.to_string()), None),
        RunCause::Hook { revision, when } => (when.into(), None, Some(revision.0)),
    };
    let seen = allocation.map(|a| &a.observed);
    let waits = allocation.is_none() && run.ended_at.is_none();
    let message = seen.and_then(|seen| seen.message.clone());
    RunView {
        id: run.id.to_string(),
        name: run.workload.to_string(),
        app: run.app.as_ref().map(ToString::to_string),
        image: image.unwrap_or_default(),
        cause,
        due,
        revision,
        node: allocation.map(|a| node_name(state, a.node)),
        status: allocation.map_or_else(|| unplaced(run), |a| status(a)),
        created_at: run.created_at.to_string(),
        started_at: seen.and_then(|seen| seen.started_at).map(|at| at.to_string()),
        ended_at: run.ended_at.map(|at| at.to_string()),
        timeout,
        message: message.or_else(|| waits.then(|| why_waiting(state, run)).flatten()),
        exit: state.exit_of(run).as_ref().map(exit),
    }
}

/// Every run that is kept, in the order of their ids.
#[must_use]
pub fn runs(state: &State) -> Vec<RunView> {
    state.runs.values().map(|one| run(state, one)).collect()
}

/// The state of a run that has no node.
fn unplaced(run: &Run) -> AllocationStatus {
    match &run.exit {
        None => AllocationStatus::Pending,
        Some(exit) if exit.reason == ExitReason::Killed => AllocationStatus::Stopped,
        Some(_) => AllocationStatus::Failed,
    }
}
