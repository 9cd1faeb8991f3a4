//! Replicas that don't work where they are: when another node is tried.
//!
//! Owns when a replica is given up, and why. Never places it: its seat is empty then, and is filled
//! as any other, where it was not tried yet. Where no other node takes it, it stays.

use super::Context;
use crate::bugs::{Bug, is_on};
use crate::fsm::command::Action;
use crate::fsm::model::{Allocation, Deployment, Exit, ExitReason, Phase};
use crate::id::{NodeId, WorkloadName};
use crate::limits;
use crate::spec::model::ServiceSpec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a replica is given up.
struct Reason {
    why: String,
    /// It may be the program's fault.
    is_program: bool,
}

impl<'a> Context<'a> {
    /// Gives a replica up that doesn't work here, if another node takes it. Answers whether.
    pub(super) fn gives_up(
        &mut self,
        name: &WorkloadName,
        spec: &ServiceSpec,
        allocation: &Allocation,
    ) -> bool {
        let state = self.state;
        if !state.is_next() || is_on(Bug::StayWithBadNode) {
            return false;
        }
        let deployment = state.running_deployment(&allocation.app);
        let deployment =
            deployment.filter(|d| d.goes_forward() && d.touched.contains(&allocation.workload));
        let Some(reason) = self.failing(allocation, deployment.is_some()) else { return false };
        if deployment.is_some_and(|d| !self.may_try(d, allocation, reason.is_program)) {
            return false;
        }
        self.placer().begin(state, name);
        if !self.placer().fits_elsewhere(&spec.run, allocation.node) {
            return false;
        }
        let (allocation, is_program) = (allocation.id.clone(), reason.is_program);
        self.actions.push(Action::GiveUp { allocation, why: reason.why, is_program });
        true
    }

    /// Why it doesn't work here, once that is long or often enough.
    fn failing(&mut self, allocation: &Allocation, is_rollout: bool) -> Option<Reason> {
        let seen = &allocation.observed;
        let node = self.state.nodes.get(&allocation.node)?;
        let has_not_begun = seen.phase < Phase::Running || seen.phase == Phase::Backoff;
        if has_not_begun && !node.condition.answers() {
            let how = match node.condition.runtime_since {
                Some(_) => "containerd doesn't answer",
                None => "the node is silent",
            };
            return Some(Reason { why: how.to_owned(), is_program: false });
        }
        match seen.phase {
            Phase::Pending | Phase::Pulling | Phase::Starting => {
                let since = allocation.phase_since.max(allocation.pulled_at.unwrap_or_default());
                let bound = limits::START_STALLED;
                let is_due = self.is_due_in(since, bound.into());
                let doing = match seen.phase {
                    Phase::Pending => "not begun",
                    Phase::Pulling => "pulling",
                    _ => "starting",
                };
                let said = seen.message.as_deref().map(|text| format!(": {}", first_line(text)));
                let why = format!("{doing} for {}s{}", bound.as_secs(), said.unwrap_or_default());
                is_due.then(|| Reason { why: shortened(why), is_program: false })
            }
            Phase::Backoff => failed_start(allocation, is_rollout),
            _ => None,
        }
    }

    /// Whether its deployment may try another node: so many, and for so long as some replica came
    /// up lately. A node that was tried longer ago would have its turn again and again.
    fn may_try(&mut self, deployment: &Deployment, one: &Allocation, is_program: bool) -> bool {
        let replicas = self.state.allocations_of(&one.workload);
        let working = replicas.filter(|replica| self.works(replica));
        let came_up = working.filter_map(|replica| replica.first_running);
        let since = came_up.max().unwrap_or_default().max(deployment.started_at);
        if self.is_due_in(since, limits::NODE_AVOIDED.into()) && !is_on(Bug::TryForEver) {
            return false;
        }
        let avoids = self.state.avoids(&one.workload);
        // What is a node's fault says nothing of the program.
        let counts = |other: bool| other || !is_program;
        let lately = avoids.into_iter().flatten().filter(|(_, avoided)| {
            avoided.at >= deployment.started_at && counts(avoided.is_program)
        });
        let mut tried: BTreeSet<NodeId> = lately.map(|(node, _)| *node).collect();
        let of_service = |action: &Action| match action {
            Action::GiveUp { allocation, is_program, .. } if counts(*is_program) => {
                self.state.allocations.get(allocation)
            }
            _ => None,
        };
        let planned: Vec<&Arc<Allocation>> = self.actions.iter().filter_map(of_service).collect();
        tried.extend(planned.iter().filter(|a| a.workload == one.workload).map(|a| a.node));
        tried.insert(one.node);
        let most = if is_program { limits::NODES_FOR_CRASH } else { limits::NODES_FOR_STALL };
        tried.len() < most
    }

    /// It is given up in this step.
    pub(super) fn is_given_up(&self, one: &Allocation) -> bool {
        let is_it = |action: &Action| match action {
            Action::GiveUp { allocation, .. } => *allocation == one.id,
            _ => false,
        };
        self.actions.iter().any(is_it)
    }
}

/// It has failed to start often enough. In a rollout, where somebody waits, what can't be started
/// at all is tried elsewhere at once.
fn failed_start(allocation: &Allocation, is_rollout: bool) -> Option<Reason> {
    let exit = allocation.observed.exit.as_ref()?;
    let count = allocation.course.failed_starts;
    let is_plain = is_rollout && exit.reason == ExitReason::StartFailed && exit.code.is_none();
    if count < limits::STARTS_TRIED && !is_plain {
        return None;
    }
    let is_program = exit.reason != ExitReason::PullFailed;
    let times = if count > 1 { format!(" {count}×") } else { String::new() };
    Some(Reason { why: shortened(format!("{}{times}", told(exit))), is_program })
}

fn told(exit: &Exit) -> String {
    let how = match (exit.reason, exit.code) {
        (ExitReason::Oom, _) => "out of memory".to_owned(),
        (ExitReason::Killed, _) => "unhealthy and killed".to_owned(),
        (ExitReason::Lost, _) => "the container was gone".to_owned(),
        (ExitReason::StartFailed, _) => "could not be started".to_owned(),
        (ExitReason::PullFailed, _) => "image could not be pulled".to_owned(),
        (_, Some(code)) => return format!("exited {code}"),
        (_, None) => "ended".to_owned(),
    };
    // Of what never ran the message is the reason, else the program's own output.
    let said = exit
        .message
        .as_deref()
        .filter(|_| matches!(exit.reason, ExitReason::StartFailed | ExitReason::PullFailed));
    said.map_or_else(|| how.clone(), |text| format!("{how}: {}", first_line(text)))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn shortened(mut text: String) -> String {
    if text.len() > limits::GIVEN_UP_MAX {
        let cut = (0..=limits::GIVEN_UP_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    text
}
