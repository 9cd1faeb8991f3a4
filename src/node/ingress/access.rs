//! Access logs: what they are called.
//!
//! Owns the names under which a node keeps them beside the logs of containers. Never writes one.

use crate::fsm::State;
use crate::id::{AllocId, WorkloadName};
use std::collections::BTreeSet;

/// The log of requests to a service; without one: of those that no route takes. No allocation is
/// called like that.
#[must_use]
pub fn log_of(service: Option<&WorkloadName>) -> AllocId {
    AllocId::from(format!("@{}", service.map_or("", WorkloadName::as_str)))
}

/// All that a node may have.
#[must_use]
pub fn logs_of(state: &State) -> BTreeSet<AllocId> {
    let mut all = BTreeSet::from([log_of(None)]);
    for app in state.apps.values() {
        all.extend(app.services.keys().map(|service| log_of(Some(service))));
    }
    all
}
