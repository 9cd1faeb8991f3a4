//! Whose lines are wanted.
//!
//! Owns what a name stands for, also while nothing of it runs. Never reads a line.

use crate::actors::api::allocations;
use crate::actors::api::error::ApiError;
use crate::fsm::State;
use crate::fsm::model::Allocation;
use crate::id::{AllocId, AppName, WorkloadName};
use std::collections::BTreeSet;

/// Whose lines are wanted.
pub(super) enum Scope {
    Everything,
    Named { workloads: BTreeSet<WorkloadName>, allocations: BTreeSet<AllocId> },
}

impl Scope {
    pub(super) fn of(state: &State, names: &[&str]) -> Result<Self, ApiError> {
        if names.is_empty() {
            return Ok(Self::Everything);
        }
        let (mut workloads, mut allocations) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            // One that waits for a node has no allocation yet.
            let waiting = AllocId::from(*name);
            if state.runs.contains_key(&waiting) {
                allocations.insert(waiting);
                continue;
            }
            match allocations::by_name(state, name) {
                Ok((_, Some(workload))) => drop(workloads.insert(workload)),
                Ok((found, None)) => allocations.extend(found.iter().map(|a| a.id.clone())),
                Err(error) => {
                    // An app stands for all that is in it.
                    let app = state.apps.get(&AppName::from(*name)).ok_or(error)?;
                    workloads.extend(app.services.keys().chain(app.tasks.keys()).cloned());
                }
            }
        }
        Ok(Self::Named { workloads, allocations })
    }

    pub(super) fn holds(&self, allocation: &Allocation) -> bool {
        match self {
            Self::Everything => true,
            Self::Named { workloads, allocations } => {
                workloads.contains(&allocation.workload) || allocations.contains(&allocation.id)
            }
        }
    }

    /// Nothing of it will ever write a line again.
    pub(super) fn is_over(&self, state: &State) -> bool {
        match self {
            Self::Everything => false,
            Self::Named { workloads, allocations } => {
                let may_come = |id| state.runs.get(id).is_some_and(|run| run.ended_at.is_none());
                let is_live =
                    |id| state.allocations.get(id).is_some_and(|a| a.is_live()) || may_come(id);
                let spawned = |name: &WorkloadName| state.derived.runs.get(name);
                let runs = |name: &WorkloadName| {
                    state.owner(name).is_some()
                        || spawned(name).is_some_and(|of| !of.live.is_empty())
                };
                !workloads.iter().any(runs) && !allocations.iter().any(is_live)
            }
        }
    }

    /// As the query of a request for the same.
    pub(super) fn query(&self) -> String {
        let Self::Named { workloads, allocations } = self else { return String::new() };
        let names = workloads.iter().map(ToString::to_string);
        // Neither has a letter that a query could take for something else.
        let all = names.chain(allocations.iter().map(ToString::to_string));
        all.map(|name| format!("&name={name}")).collect()
    }
}
