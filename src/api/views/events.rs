//! A deployment as a stream of events.
//!
//! Owns their numbers: every event of a revision has one for ever, so that whoever saw number n
//! goes on with n + 1. Never keeps what was sent to whom.

use super::node_name;
use crate::api::wire::{
    AcceptedEvent, DeploymentPhase, DoneEvent, FailedEvent, LayerProgress, ProgressEvent,
};
use crate::fsm::State;
use crate::fsm::model::{Allocation, DeployStatus, Deployment, Phase, Progress};
use crate::id::{AllocId, NodeId, Revision};
use crate::node::oci::pull::{LayerPull, Pull, Pulls};
use crate::units::Timestamp;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The place of an event: `REVISION-NUMBER`, and `REVISION-NUMBER.LIVE` of one that tells how a
/// pull goes on. Those are not kept: whoever saw one goes on behind the step before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Which deployment.
    pub revision: Revision,
    /// 0: accepted; n: the n-th step; one more than there are steps: the end.
    pub number: usize,
    /// 0, or the number of a figure told after that step.
    pub live: u32,
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
        write!(f, "{}-{}", self.revision, self.number)?;
        if self.live > 0 { write!(f, ".{}", self.live) } else { Ok(()) }
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (revision, number) = text.split_once('-').unwrap_or((text, ""));
        let (number, live) = number.split_once('.').unwrap_or((number, "0"));
        let revision = Revision(revision.parse()?);
        Ok(Self { revision, number: number.parse()?, live: live.parse()? })
    }
}

impl EventId {
    /// The place of a kept event.
    #[must_use]
    pub fn new(revision: Revision, number: usize) -> Self {
        Self { revision, number, live: 0 }
    }

    /// Where whoever saw this one goes on: the next kept event, and figures with further numbers.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
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
    let place = |number| EventId::new(revision, number);
    let mut events = Vec::new();
    if next == 0 {
        let accepted = AcceptedEvent { revision: revision.0, plan: deployment.plan.clone() };
        events.push((place(0), Event::Accepted(accepted)));
    }
    let steps = deployment.progress.range(next.saturating_sub(1)..);
    events.extend(steps.map(|(n, step)| (place(n + 1), progress(state, deployment, step))));
    let last = deployment.progress.len() + 1;
    let ended = deployment.status != DeployStatus::Running;
    if ended && next <= last {
        events.push((place(last), end(state, deployment)));
    }
    Some(Followed { events, ended })
}

fn progress(state: &State, deployment: &Deployment, step: &Progress) -> Event {
    Event::Progress(ProgressEvent {
        phase: step.phase.into(),
        service: step.service.to_string(),
        allocation: step.allocation.as_ref().map(|id| id.to_string()),
        node: step.node.map(|id| node_name(state, id)),
        elapsed: seconds(step.time.since(deployment.started_at).0),
        bytes: None,
        total: None,
        layers: None,
        message: step.message.clone(),
    })
}

/// How the pulls of a deployment go on that run on `node`.
#[must_use]
pub fn pulling(
    state: &State,
    revision: Revision,
    (node, now): (NodeId, Timestamp),
    pulls: &Pulls,
) -> Vec<ProgressEvent> {
    let Some(deployment) = state.deployments.get(&revision) else { return Vec::new() };
    if deployment.status != DeployStatus::Running {
        return Vec::new();
    }
    let is_pulling = |a: &&Arc<Allocation>| {
        let of_it = deployment.touched.contains(&a.workload) || a.revision == revision;
        a.app == deployment.app && of_it && a.observed.phase == Phase::Pulling
    };
    let event = |a: &Arc<Allocation>| {
        let pull = pull_of(state, a, pulls)?;
        let mut event = ProgressEvent {
            phase: DeploymentPhase::Pulling,
            service: a.workload.to_string(),
            allocation: Some(a.id.to_string()),
            node: Some(node_name(state, a.node)),
            elapsed: seconds(now.since(deployment.started_at).0),
            bytes: None,
            total: None,
            layers: None,
            message: None,
        };
        fill(&mut event, pull);
        Some(event)
    };
    state.allocations_on(node).filter(is_pulling).filter_map(event).collect()
}

/// Puts into a step that says "pulling" how far the pull is by now, if it runs on `node`.
pub fn fill_in(state: &State, event: &mut ProgressEvent, node: NodeId, pulls: &Pulls) {
    if event.phase != DeploymentPhase::Pulling {
        return;
    }
    let id = event.allocation.as_deref().map(AllocId::from);
    let allocation = id.and_then(|id| state.allocations.get(&id)).filter(|a| a.node == node);
    if let Some(pull) = allocation.and_then(|a| pull_of(state, a, pulls)) {
        fill(event, pull);
    }
}

fn pull_of<'a>(state: &State, allocation: &Allocation, pulls: &'a Pulls) -> Option<&'a Pull> {
    pulls.get(state.spec(&allocation.spec)?.spec.run().digest.as_ref()?)
}

fn fill(event: &mut ProgressEvent, pull: &Pull) {
    event.bytes = Some(pull.bytes());
    event.total = Some(pull.total());
    let layer = |layer: &LayerPull| LayerProgress {
        digest: layer.digest.to_string(),
        bytes: layer.bytes,
        total: layer.total,
    };
    event.layers = Some(pull.layers.iter().map(layer).collect());
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
        status: deployment.status.into(),
        restored: restored(state, deployment),
        elapsed,
    })
}

/// The revision whose services run again after a failure: the last that succeeded before it.
fn restored(state: &State, deployment: &Deployment) -> Option<u64> {
    if deployment.status != DeployStatus::Failed {
        return None;
    }
    let older = state.deployments.range(..deployment.revision).rev();
    let mut of_app = older.map(|(_, d)| d).filter(|d| d.app == deployment.app);
    let found = of_app.find(|d| d.status == DeployStatus::Succeeded)?;
    (!found.services.is_empty()).then_some(found.revision.0)
}

fn seconds(milliseconds: u64) -> f64 {
    // Far below 2^52, where it would lose digits.
    milliseconds as f64 / 1000.0
}
