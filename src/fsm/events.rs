//! What happened in the cluster: a bounded ring of events, read off (before, entry, after).
//!
//! Owns which changes are worth an event and what it says. Never changes anything but the ring, and
//! looks at nothing that the entry did not touch.

mod canary;
mod certificate;
mod kind;
mod node;

pub use kind::EventKind;

#[cfg(test)]
mod tests;

use crate::fsm::model::{AllocKind, Allocation, DeployStatus, Deployment, Desired, Exit};
use crate::fsm::model::{ExitReason, Health, Phase};
use crate::fsm::{State, Touched};
use crate::id::{AllocId, AppName, NodeId, Revision, TokenId, WorkloadName};
use crate::limits;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts all events of the cluster, from 1.
    pub id: u64,
    /// When, in replicated time.
    pub time: Timestamp,
    pub kind: EventKind,
    pub app: Option<AppName>,
    pub revision: Option<Revision>,
    /// Of which service or task.
    pub workload: Option<WorkloadName>,
    pub allocation: Option<AllocId>,
    /// On or of which node.
    pub node: Option<NodeId>,
    /// More about it.
    pub message: Option<String>,
}

/// Adds to the ring of `after` what an entry that turned `before` into it has brought about.
pub fn record(before: &State, after: &mut State, touched: &Touched) {
    if touched.is_empty() {
        return;
    }
    let mut found = Found { time: after.time, events: Vec::new() };
    if touched.nodes {
        found.nodes(before, after);
    }
    for app in &touched.apps {
        found.app(app, before, after);
    }
    for id in &touched.allocations {
        let old = before.allocations.get(id).map(|a| &**a);
        if let Some(new) = after.allocations.get(id) {
            found.allocation(old, new);
        }
    }
    for id in &touched.tokens {
        found.token(id, before, after);
    }
    for host in &touched.certificates {
        found.certificate(host, before, after);
    }
    if touched.routes {
        found.pauses(before, after);
    }
    found.keep(after);
}

/// Adds what a node's report of an allocation has brought about.
pub fn record_observed(state: &mut State, old: &Allocation, new: &Allocation) {
    let mut found = Found { time: state.time, events: Vec::new() };
    found.allocation(Some(old), new);
    found.keep(state);
}

/// The kept events behind the one with this id, in order.
pub fn after(state: &State, id: u64) -> impl Iterator<Item = &Arc<Event>> {
    state.events.range(id.saturating_add(1)..).map(|(_, event)| event)
}

/// What one entry has brought about.
struct Found {
    time: Timestamp,
    events: Vec<Event>,
}

impl Found {
    fn keep(self, state: &mut State) {
        for mut event in self.events {
            state.last_event += 1;
            event.id = state.last_event;
            state.events.insert(event.id, Arc::new(event));
            if state.events.len() > limits::EVENTS_KEPT
                && let Some(oldest) = state.events.get_min().map(|(id, _)| *id)
            {
                state.events.remove(&oldest);
            }
        }
    }

    fn push(&mut self, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            id: 0,
            time: self.time,
            kind,
            app: None,
            revision: None,
            workload: None,
            allocation: None,
            node: None,
            message: None,
        };
        fill(&mut event);
        self.events.push(event);
    }

    fn nodes(&mut self, before: &State, after: &State) {
        for (id, new) in &after.nodes {
            let old = before.nodes.get(id);
            if old.is_some_and(|old| Arc::ptr_eq(old, new)) {
                continue;
            }
            for kind in node::kinds(old.map(|old| &**old), new) {
                let message = Some(node::message(kind, new));
                self.push(kind, |event| (event.node, event.message) = (Some(*id), message));
            }
        }
        for (id, old) in before.nodes.iter().filter(|(id, _)| !after.nodes.contains_key(*id)) {
            let message = Some(old.name.clone());
            self.push(EventKind::NodeRemoved, |event| {
                (event.node, event.message) = (Some(*id), message);
            });
        }
    }

    fn app(&mut self, name: &AppName, before: &State, after: &State) {
        let Some(app) = after.apps.get(name) else { return };
        let old = before.apps.get(name);
        let earlier = old.map(|old| old.revision).filter(|r| *r != app.revision);
        for revision in earlier.into_iter().chain([app.revision]) {
            let Some(new) = after.deployments.get(&revision) else { continue };
            let old = before.deployments.get(&revision);
            if !old.is_some_and(|old| Arc::ptr_eq(old, new)) {
                self.deployment(old.map(|old| &**old), new);
            }
        }
        let Some(old) = old.filter(|old| old.revision == app.revision) else { return };
        for (service, new) in &app.services {
            let is_older = |old: &crate::fsm::model::Service| old.generation < new.generation;
            if old.services.get(service).is_some_and(is_older) {
                self.push(EventKind::ServiceRestarting, |event| {
                    event.app = Some(name.clone());
                    event.workload = Some(service.clone());
                });
            }
        }
    }

    fn deployment(&mut self, old: Option<&Deployment>, new: &Deployment) {
        let mut push = |kind, workload: Option<&WorkloadName>, message| {
            self.push(kind, |event| {
                event.app = Some(new.app.clone());
                event.revision = Some(new.revision);
                event.workload = workload.cloned();
                event.message = message;
            });
        };
        let Some(old) = old else {
            return push(EventKind::DeploymentAccepted, None, None);
        };
        for (_, step) in new.progress.range(old.progress.len()..) {
            if step.is_waiting() {
                let message = step.message.clone();
                push(EventKind::DeploymentWaiting, Some(&step.service), message);
            }
        }
        for (service, canary) in &new.canaries {
            for kind in canary::kinds(old.canaries.get(service), canary) {
                push(kind, Some(service), canary::message(kind, service, new));
            }
        }
        let failed = new.failed_service.as_ref();
        if old.reverting.is_none() && new.reverting.is_some() {
            push(EventKind::DeploymentReverting, failed, new.reason.clone());
        }
        if old.status == new.status {
            return;
        }
        let kind = match new.status {
            DeployStatus::Running => return,
            DeployStatus::Succeeded => EventKind::DeploymentSucceeded,
            DeployStatus::Failed => EventKind::DeploymentFailed,
            DeployStatus::Aborted => EventKind::DeploymentAborted,
            DeployStatus::Superseded => EventKind::DeploymentSuperseded,
        };
        push(kind, failed, new.reason.clone());
    }

    fn allocation(&mut self, old: Option<&Allocation>, new: &Allocation) {
        let mut push = |kind, message: Option<String>| {
            self.push(kind, |event| {
                event.app = Some(new.app.clone());
                event.revision = Some(new.revision);
                event.workload = Some(new.workload.clone());
                event.allocation = Some(new.id.clone());
                event.node = Some(new.node);
                event.message = message;
            });
        };
        let Some(old) = old else {
            let message = new.replaces.as_ref().map(|id| format!("replaces {id}"));
            return push(EventKind::AllocationPlaced, message);
        };
        if let Some(message) = unsettled(old.desired, new.desired) {
            push(EventKind::DrainUnsettled, Some(message));
        }
        if old.course.given_up.is_none() && new.course.given_up.is_some() {
            push(EventKind::AllocationGivenUp, new.course.given_up.clone());
        }
        let (was, is) = (&old.observed, &new.observed);
        if was.attempt.0 > 0 && is.attempt > was.attempt {
            let message = Some(format!("attempt {}", is.attempt));
            push(EventKind::AllocationRestarting, message);
        }
        if (was.attempt, was.phase) != (is.attempt, is.phase)
            && let Some((kind, message)) = of_phase(new)
        {
            push(kind, message);
        }
        if was.health != is.health {
            match is.health {
                Health::Healthy => push(EventKind::AllocationHealthy, None),
                Health::Unhealthy => push(EventKind::AllocationUnhealthy, is.message.clone()),
                Health::None | Health::Checking => {}
            }
        }
    }

    fn pauses(&mut self, before: &State, after: &State) {
        for (host, new) in &after.pauses {
            let old = before.pauses.get(host);
            if old.is_some_and(|old| Arc::ptr_eq(old, new)) {
                continue;
            }
            let words = if new.message.is_empty() { "" } else { ": " };
            let message = format!("{host}{words}{}", new.message);
            self.push(EventKind::RoutePaused, |event| event.message = Some(message));
        }
        for host in before.pauses.keys().filter(|host| !after.pauses.contains_key(*host)) {
            self.push(EventKind::RouteResumed, |event| event.message = Some(host.clone()));
        }
    }

    fn token(&mut self, id: &TokenId, before: &State, after: &State) {
        let (kind, message) = match (before.tokens.get(id), after.tokens.get(id)) {
            (None, Some(new)) => {
                let role = new.role.name();
                (EventKind::TokenCreated, format!("{id}, {role}"))
            }
            (Some(token), None) if token.expires_at.is_some_and(|at| at <= after.time) => {
                (EventKind::TokenRevoked, format!("{id}, expired"))
            }
            (Some(token), None)
                if token.uses == Some(1) && after.nodes.len() > before.nodes.len() =>
            {
                (EventKind::TokenRevoked, format!("{id}, used up"))
            }
            (Some(_), None) => (EventKind::TokenRevoked, id.to_string()),
            _ => return,
        };
        self.push(kind, |event| event.message = Some(message));
    }
}

/// A draining that was called settled only since its time was over.
fn unsettled(old: Desired, new: Desired) -> Option<String> {
    let (
        Desired::Draining { settled: None, .. },
        Desired::Draining { at, settled: Some(settled), .. },
    ) = (old, new)
    else {
        return None;
    };
    let bound = limits::SETTLE_DEADLINE;
    let is_late = settled.since(at).duration() >= bound;
    is_late.then(|| format!("a node has not settled its draining in {}s", bound.as_secs()))
}

fn of_phase(new: &Allocation) -> Option<(EventKind, Option<String>)> {
    let seen = &new.observed;
    let ended = || seen.exit.as_ref().map(describe);
    Some(match seen.phase {
        Phase::Running => (EventKind::AllocationRunning, None),
        Phase::Backoff => (EventKind::AllocationExited, ended()),
        Phase::Stopped if new.desired == Desired::Run || new.kind == AllocKind::Task => {
            (EventKind::AllocationExited, ended())
        }
        Phase::Stopped => (EventKind::AllocationStopped, None),
        Phase::Failed => (EventKind::AllocationFailed, ended().or_else(|| seen.message.clone())),
        Phase::Lost => (EventKind::AllocationLost, None),
        Phase::Pending | Phase::Pulling | Phase::Starting | Phase::Stopping => return None,
    })
}

/// How a program ended, with its first words on that.
fn describe(exit: &Exit) -> String {
    let how = match (exit.reason, exit.code) {
        (ExitReason::Oom, _) => "out of memory".to_owned(),
        (ExitReason::Completed | ExitReason::Error, Some(code)) => format!("exited {code}"),
        (ExitReason::Completed, None) => "completed".to_owned(),
        (ExitReason::Error, None) => "ended".to_owned(),
        (ExitReason::Timeout, _) => "timed out".to_owned(),
        (ExitReason::Killed, _) => "killed".to_owned(),
        (ExitReason::Lost, _) => "lost".to_owned(),
        (ExitReason::StartFailed, _) => "could not be started".to_owned(),
        (ExitReason::PullFailed, _) => "its image could not be pulled".to_owned(),
    };
    let line = exit.message.as_deref().and_then(|text| text.lines().find(|l| !l.is_empty()));
    line.map_or_else(|| how.clone(), |line| format!("{how}: {line}"))
}
