//! The hash of a plan: what a revision would do to its app as it is.
//!
//! Owns what goes into it. Never plans anything.

use super::State;
use super::command::Deploy;
use super::model::WorkloadSpec;
use crate::id::{AppName, Revision, SpecHash, WorkloadName};
use crate::spec::model::hash_of;
use serde::Serialize;
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
        all.map(|(name, service)| (name.clone(), (service.target.clone(), service.degraded)))
    });
    let services = services.map(Iterator::collect).unwrap_or_default();
    let base = app.map_or(Revision(0), |app| app.revision);
    let tasks = app.map(|app| BTreeMap::clone(&app.tasks)).unwrap_or_default();
    hash_over(&Base { app: &deploy.app, base, services, tasks }, deploy)
}

/// Whether a text looks like the hash of a plan.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An app as a revision finds it.
#[derive(Serialize)]
pub struct Base<'a> {
    /// Whose revision.
    pub app: &'a AppName,
    pub base: Revision,
    /// Each service's target, and whether it is degraded.
    pub services: BTreeMap<WorkloadName, (Option<SpecHash>, bool)>,
    pub tasks: BTreeMap<WorkloadName, SpecHash>,
}

/// The hash over an app and what it would run.
#[must_use]
pub fn hash_over(base: &Base<'_>, deploy: &Deploy) -> String {
    let hash = hash_of(&(base, hashes(&deploy.services), hashes(&deploy.tasks)));
    hash.as_str().chars().take(HASH_DIGITS).collect()
}

fn hashes(specs: &BTreeMap<WorkloadName, WorkloadSpec>) -> BTreeMap<&WorkloadName, SpecHash> {
    specs.iter().map(|(name, spec)| (name, hash_of(spec))).collect()
}
