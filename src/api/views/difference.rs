//! What two revisions of an app differ in.
//!
//! Owns the comparison of their services and tasks. What a field's change is, is in `fields`.

use super::plan;
use crate::api::wire::{DiffChangeView, DiffView, WorkloadKind};
use crate::fsm::State;
use crate::fsm::model::{Deployment, WorkloadSpec};
use crate::id::{SpecHash, WorkloadName};
use crate::scheduler::preview::{Sign, diff};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the first one's services and tasks in the second one.
#[must_use]
pub fn difference(state: &State, from: &Deployment, to: &Deployment) -> DiffView {
    let mut changes = between(state, &WorkloadKind::Service, &from.services, &to.services);
    changes.extend(between(state, &WorkloadKind::Task, &from.tasks, &to.tasks));
    DiffView { app: from.app.to_string(), from: from.revision.0, to: to.revision.0, changes }
}

fn between(
    state: &State,
    kind: &WorkloadKind,
    from: &BTreeMap<WorkloadName, SpecHash>,
    to: &BTreeMap<WorkloadName, SpecHash>,
) -> Vec<DiffChangeView> {
    let names: BTreeSet<&WorkloadName> = from.keys().chain(to.keys()).collect();
    let spec = |hash: Option<&SpecHash>| hash.and_then(|hash| Some(&state.spec(hash)?.spec));
    let change = |name: &&WorkloadName| {
        let (before, after) = (from.get(*name), to.get(*name));
        if before == after {
            return None;
        }
        let (before, after) = (spec(before), spec(after));
        let sign = match (before, after) {
            (None, _) => Sign::Add,
            (_, None) => Sign::Remove,
            _ => Sign::Change,
        };
        let differ = before.zip(after).map(|(a, b)| diff(a, b)).unwrap_or_default();
        let image = after.or(before).map(WorkloadSpec::run).map(|run| run.image.clone());
        Some(DiffChangeView {
            name: name.to_string(),
            kind: kind.clone(),
            change: sign.into(),
            image: image.unwrap_or_default(),
            fields: differ.iter().map(plan::field).collect(),
        })
    };
    names.iter().filter_map(change).collect()
}
