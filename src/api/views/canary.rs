//! Canaries as documents.
//!
//! Never judges them.

use crate::api::wire::{CanaryStage, CanaryView};
use crate::fsm::State;
use crate::fsm::canary::Watched;
use crate::fsm::model::{Canary, Deployment};
use crate::id::WorkloadName;

/// The canaries of a deployment, by service.
pub(super) fn canaries(state: &State, deployment: &Deployment) -> Vec<CanaryView> {
    let of_service = |name: &WorkloadName| {
        let is_it = |watched: &Watched| watched.deployment.revision == deployment.revision;
        let under_way = state.canary(&deployment.app, name).filter(is_it);
        let known = deployment.canaries.get(name);
        if under_way.is_none() && known.is_none() {
            return None;
        }
        let span = under_way.filter(|_| known.is_none_or(|known| known.verdict.is_none()));
        let until = span.zip(known).map(|(watched, known)| {
            let times = if known.longer { crate::limits::CANARY_LONGEST } else { 1 };
            let span = crate::units::Millis(watched.spec.duration.0.saturating_mul(times));
            state.due(known.since, span).to_string()
        });
        let verdict = known.and_then(|known| known.verdict.as_ref());
        Some(CanaryView {
            service: name.to_string(),
            stage: stage(known),
            replicas: under_way.map(|watched| watched.spec.count),
            since: known.map(|known| known.since.to_string()),
            until,
            by_hand: verdict.is_some_and(|verdict| verdict.by_hand),
            reason: verdict.map(|verdict| verdict.why.clone()),
        })
    };
    deployment.touched.iter().filter_map(of_service).collect()
}

fn stage(known: Option<&Canary>) -> CanaryStage {
    match known.map(|known| (&known.verdict, known.longer)) {
        None => CanaryStage::Starting,
        Some((None, false)) => CanaryStage::Watched,
        Some((None, true)) => CanaryStage::Extended,
        Some((Some(verdict), _)) if verdict.promoted => CanaryStage::Promoted,
        Some((Some(_), _)) => CanaryStage::TakenBack,
    }
}
