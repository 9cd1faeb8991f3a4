//! Where a revision's replicas would go: the planner's own steps on a copy of the state, with nodes
//! that do at once what they are asked to.
//!
//! Owns the pretended nodes and the pretended clock. Never chooses a node.

use crate::fsm::command::{Action, Report};
use crate::fsm::model::{AllocKind, Allocation, Desired, Exit, ExitReason, Health, Phase};
use crate::fsm::{self, Command, State};
use crate::id::{AllocId, AppName, Attempt, NodeId, WorkloadName};
use crate::limits;
use crate::scheduler::plan::{self, Scope, SettledIndexes, Unplaced};
use crate::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Where replicas would go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The last node that each new replica was given.
    pub placed: BTreeMap<WorkloadName, BTreeMap<u32, NodeId>>,
    /// Replicas that would wait, for the time being without end.
    pub unplaced: Vec<Unplaced>,
    /// It was followed to the end; else there are more replicas than can be foretold.
    pub is_whole: bool,
}

/// Follows what the planner does to an app, until it has nothing more to do or gives up.
#[must_use]
pub fn forecast(mut state: State, app: &AppName) -> Forecast {
    follow(&mut state, app)
}

pub(super) fn follow(state: &mut State, app: &AppName) -> Forecast {
    let mut now = state.time;
    let mut found = Forecast::default();
    // With the tasks, since a rollout may wait for one.
    let scope = Scope::Apps(BTreeSet::from([app.clone(), AppName::from(plan::TASKS)]));
    for _ in 0..limits::FORECAST_STEPS {
        let mut observed = SettledIndexes::default();
        observed.settled.extend(state.nodes.keys().map(|node| (*node, state.index)));
        let plan = plan::plan(state, &observed, now, 0, &scope);
        found.unplaced = plan.unplaced;
        let actions = plan.commands.iter().flat_map(|command| match command {
            Command::Steps(steps) => steps.actions.as_slice(),
            _ => &[],
        });
        let mut is_over = false;
        for action in actions {
            match action {
                Action::Place(place) => {
                    let of_service = found.placed.entry(place.workload.clone()).or_default();
                    of_service.insert(place.replica, place.node);
                }
                // There is no room before the planner gives up.
                Action::Revert { .. } => return Forecast { is_whole: true, ..found },
                Action::Finish { .. } => is_over = true,
                _ => {}
            }
        }
        if plan.commands.is_empty() {
            match plan.wake.values().min() {
                Some(at) if *at > now && state.running_deployment(app).is_some() => now = *at,
                _ => return Forecast { is_whole: true, ..found },
            }
        }
        for command in plan.commands {
            if !apply(state, now, command) {
                return found;
            }
        }
        if is_over {
            return Forecast { is_whole: true, ..found };
        }
        for report in reports(state, app) {
            if !apply(state, now, Command::Report(report)) {
                return found;
            }
        }
    }
    found
}

fn apply(state: &mut State, time: Timestamp, command: Command) -> bool {
    fsm::apply_next(state, time, command).outcome.is_ok()
}

/// What nodes would say that carry out everything at once.
fn reports(state: &State, app: &AppName) -> Vec<Report> {
    let mut of_nodes: BTreeMap<NodeId, BTreeMap<AllocId, fsm::model::AllocationStatus>> =
        BTreeMap::new();
    let own = state.allocations.values().filter(|a| a.app == *app && a.is_live());
    for allocation in own {
        if let Some(seen) = next(allocation) {
            let of_node = of_nodes.entry(allocation.node).or_default();
            of_node.insert(allocation.id.clone(), seen);
        }
    }
    let report = |(node, allocations)| {
        let known = state.nodes.get(&node)?;
        let seq = state.reports.get(&node).copied().unwrap_or(0).saturating_add(1);
        Some(Report { node, boot: known.boot, seq, allocations })
    };
    of_nodes.into_iter().filter_map(report).collect()
}

fn next(allocation: &Allocation) -> Option<fsm::model::AllocationStatus> {
    let mut seen = allocation.observed.clone();
    let is_task = !matches!(allocation.kind, AllocKind::Service { .. });
    seen.attempt = seen.attempt.max(allocation.attempt).max(Attempt(1));
    if allocation.desired == Desired::Stop || is_task {
        let (code, reason) = (Some(0), ExitReason::Completed);
        seen.exit = is_task.then_some(Exit { code, reason, message: None });
        (seen.phase, seen.health) = (Phase::Stopped, Health::None);
        return Some(seen);
    }
    if seen.phase >= Phase::Running {
        return None;
    }
    (seen.phase, seen.health) = (Phase::Running, Health::Healthy);
    Some(seen)
}
