//! What a revision would do before it is made: the diff by field, where replicas would go, a hash.
//!
//! Owns what `plan` says. Never proposes anything, and has no rule of its own on what replaces what
//! or which node is taken: it asks the replicated machine and the planner.

use crate::fsm::State;
use crate::fsm::command::Deploy;
use crate::fsm::model::WorkloadSpec;
use crate::id::{Revision, SpecHash, WorkloadName};
use crate::spec::model::hash_of;
use std::collections::BTreeMap;

/// Hexadecimal digits of a plan's hash.
const HASH_DIGITS: usize = 8;

/// The hash of what a revision would do to its app as it is now: over the app's revision, what it
/// should run, and what it would run, with all digests. Equal hashes do the same.
#[must_use]
pub fn hash(state: &State, deploy: &Deploy) -> String {
    let app = state.apps.get(&deploy.app);
    let services = app.map(|app| {
        let all = app.services.iter();
        all.map(|(name, service)| (name, (&service.target, service.degraded))).collect()
    });
    let services: BTreeMap<&WorkloadName, (&Option<SpecHash>, bool)> = services.unwrap_or_default();
    let tasks = app.map(|app| &app.tasks);
    let now = (app.map_or(Revision(0), |app| app.revision), services, tasks);
    let hash = hash_of(&(&deploy.app, now, hashes(&deploy.services), hashes(&deploy.tasks)));
    hash.as_str().chars().take(HASH_DIGITS).collect()
}

fn hashes(specs: &BTreeMap<WorkloadName, WorkloadSpec>) -> BTreeMap<&WorkloadName, SpecHash> {
    specs.iter().map(|(name, spec)| (name, hash_of(spec))).collect()
}
