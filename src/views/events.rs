//! A deployment as a stream of events.
//!
//! Owns their numbers: every event of a revision has one for ever, so that whoever saw number n
//! goes on with n + 1. Never keeps what was sent to whom.

use super::node_name;
use crate::fsm::State;
use crate::fsm::model::{DeployStatus, Deployment, Progress, ProgressPhase};
use crate::id::Revision;
use crate::wire::{AcceptedEvent, DoneEvent, FailedEvent, ProgressEvent};
use std::fmt;
use std::str::FromStr;

/// The place of an event: `REVISION-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Which deployment.
    pub revision: Revision,
    /// 0: accepted; n: the n-th step; one more than there are steps: the end.
    pub number: usize,
}

/// An event of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first.
    Accepted(AcceptedEvent),
    /// A step.
    Progress(ProgressEvent),
    /// The last, if all went well.
    Done(DoneEvent),
    /// The last otherwise.
    Failed(FailedEvent),
}

/// What there is to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Followed {
    /// Events with their places, in order.
    pub events: Vec<(EventId, Event)>,
    /// Nothing will come after them.
    pub ended: bool,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision, self.number)
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (revision, number) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self { revision: Revision(revision.parse()?), number: number.parse()? })
    }
}

impl Event {
    /// Its name in the stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Progress(_) => "progress",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
        }
    }
}

/// The events of a deployment from number `next` on; nothing if it isn't kept any more.
#[must_use]
pub fn events_after(state: &State, revision: Revision, next: usize) -> Option<Followed> {
    let deployment = state.deployments.get(&revision)?;
    let place = |number| EventId { revision, number };
    let mut events = Vec::new();
    if next == 0 {
        let accepted = AcceptedEvent { revision: revision.0, plan: deployment.plan.clone() };
        events.push((place(0), Event::Accepted(accepted)));
    }
    let steps = deployment.progress.iter().enumerate().skip(next.saturating_sub(1));
    events.extend(steps.map(|(i, step)| (place(i + 1), progress(state, deployment, step))));
    let last = deployment.progress.len() + 1;
    let ended = deployment.status != DeployStatus::Running;
    if ended && next <= last {
        events.push((place(last), end(state, deployment)));
    }
    Some(Followed { events, ended })
}

fn progress(state: &State, deployment: &Deployment, step: &Progress) -> Event {
    let phase = match step.phase {
        ProgressPhase::Started => "started",
        ProgressPhase::Pulling => "pulling",
        ProgressPhase::Scheduled => "scheduled",
        ProgressPhase::Starting => "starting",
        ProgressPhase::Healthy => "healthy",
        ProgressPhase::Unhealthy => "unhealthy",
        ProgressPhase::Routed => "routed",
        ProgressPhase::Retrying | ProgressPhase::Waiting => "retrying",
        ProgressPhase::Stopped => "stopped",
        ProgressPhase::Failed => "failed",
    };
    Event::Progress(ProgressEvent {
        phase: phase.to_owned(),
        service: step.service.to_string(),
        allocation: step.allocation.as_ref().map(|id| id.to_string()),
        node: step.node.map(|id| node_name(state, id)),
        elapsed: seconds(step.time.since(deployment.started_at).0),
        bytes: None,
        total: None,
        message: step.message.clone(),
    })
}

fn end(state: &State, deployment: &Deployment) -> Event {
    let revision = deployment.revision.0;
    let ended_at = deployment.ended_at.unwrap_or(state.time);
    let elapsed = seconds(ended_at.since(deployment.started_at).0);
    let reason = match deployment.status {
        DeployStatus::Succeeded | DeployStatus::Running => {
            return Event::Done(DoneEvent { revision, elapsed, success: true });
        }
        DeployStatus::Failed => "failed",
        DeployStatus::Aborted => "aborted by a rollback",
        DeployStatus::Superseded => "superseded by a newer revision",
    };
    Event::Failed(FailedEvent {
        revision,
        service: deployment.failed_service.as_ref().map(|name| name.to_string()),
        reason: deployment.reason.clone().unwrap_or_else(|| reason.to_owned()),
        restored: restored(state, deployment),
        elapsed,
    })
}

/// The revision whose services run again after a failure: the last that succeeded before it.
fn restored(state: &State, deployment: &Deployment) -> Option<u64> {
    let older = state.deployments.range(..deployment.revision).rev();
    let mut of_app = older.map(|(_, d)| d).filter(|d| d.app == deployment.app);
    let found = of_app.find(|d| d.status == DeployStatus::Succeeded)?;
    (!found.services.is_empty()).then_some(found.revision.0)
}

fn seconds(milliseconds: u64) -> f64 {
    // Far below 2^52, where it would lose digits.
    milliseconds as f64 / 1000.0
}
