//! Events of canaries.
//!
//! Owns which of their changes are worth one. Never adds it.

use super::EventKind;
use crate::fsm::model::{Canary, Deployment, ProgressPhase};
use crate::id::WorkloadName;

/// What has happened to a canary.
pub(super) fn kinds(old: Option<&Canary>, new: &Canary) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    if old.is_none() && !new.verdict.as_ref().is_some_and(|verdict| verdict.by_hand) {
        kinds.push(EventKind::CanaryStarted);
    }
    if new.longer && !old.is_some_and(|old| old.longer) {
        kinds.push(EventKind::CanaryExtended);
    }
    if let Some(verdict) = &new.verdict
        && old.is_none_or(|old| old.verdict.is_none())
    {
        let promoted = verdict.promoted;
        kinds.push(if promoted { EventKind::CanaryPromoted } else { EventKind::CanaryTakenBack });
    }
    kinds
}

/// What is said of it: why it ended, or what whoever follows the deployment was told last.
pub(super) fn message(
    kind: EventKind,
    service: &WorkloadName,
    deployment: &Deployment,
) -> Option<String> {
    if matches!(kind, EventKind::CanaryPromoted | EventKind::CanaryTakenBack) {
        let verdict = deployment.canaries.get(service)?.verdict.as_ref()?;
        return Some(verdict.why.clone());
    }
    let mut steps = deployment.progress.values().rev();
    let last = steps.find(|s| s.phase == ProgressPhase::Canary && s.service == *service);
    last?.message.clone()
}
