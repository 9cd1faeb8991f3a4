//! Whose lines are wanted.
//!
//! Owns what a name stands for, also while nothing of it runs. Never reads a line.

use crate::actors::api::allocations;
use crate::actors::api::error::ApiError;
use crate::fsm::State;
use crate::fsm::model::Allocation;
use crate::id::{AllocId, AppName, NodeId, WorkloadName};
use crate::node::ingress::access;
use std::collections::BTreeSet;

/// Whose lines are wanted.
pub(super) enum Scope {
    Everything,
    Named {
        workloads: BTreeSet<WorkloadName>,
        allocations: BTreeSet<AllocId>,
    },
    /// The access logs of these services; of none: all.
    Requests(BTreeSet<WorkloadName>),
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

    /// The access logs of services.
    pub(super) fn requests(state: &State, names: &[&str]) -> Result<Self, ApiError> {
        let service = |name: &&str| {
            let service = WorkloadName::from(*name);
            let owner = state.owner(&service);
            let known = owner.is_some_and(|app| app.services.contains_key(&service));
            let missing = || ApiError::NotFound { what: "service", name: (*name).to_owned() };
            if known { Ok(service) } else { Err(missing()) }
        };
        names.iter().map(service).collect::<Result<_, _>>().map(Self::Requests)
    }

    /// The access logs that a node may have of it.
    pub(super) fn access_logs(&self, state: &State) -> BTreeSet<AllocId> {
        match self {
            Self::Requests(services) if services.is_empty() => access::logs_of(state),
            Self::Requests(services) => {
                services.iter().map(|service| access::log_of(Some(service))).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The nodes that may have lines of it.
    pub(super) fn nodes(&self, state: &State) -> BTreeSet<NodeId> {
        if let Self::Requests(_) = self {
            return state.nodes.keys().copied().collect();
        }
        let held = state.allocations.values().filter(|allocation| self.holds(allocation));
        held.map(|allocation| allocation.node).collect()
    }

    pub(super) fn holds(&self, allocation: &Allocation) -> bool {
        match self {
            Self::Everything => true,
            Self::Requests(_) => false,
            Self::Named { workloads, allocations } => {
                workloads.contains(&allocation.workload) || allocations.contains(&allocation.id)
            }
        }
    }

    /// The same, of what ran before: of a service each replica's last attempt that has ended, of a
    /// task the last run. What ended before those has a name of its own.
    pub(super) fn holds_previous(&self, state: &State, allocation: &Allocation) -> bool {
        if let Self::Named { allocations, .. } = self
            && allocations.contains(&allocation.id)
        {
            return true;
        }
        let of_task = state.derived.runs.get(&allocation.workload);
        let last = of_task.and_then(|of| of.ended.get_max()).map(|(_, id)| id);
        let had_attempts = match allocation.replica() {
            Some(_) => allocation.is_live(),
            None => last == Some(&allocation.id),
        };
        self.holds(allocation) && had_attempts
    }

    /// Nothing of it will ever write a line again.
    pub(super) fn is_over(&self, state: &State) -> bool {
        match self {
            Self::Everything => false,
            Self::Requests(services) => {
                !services.is_empty() && services.iter().all(|name| state.owner(name).is_none())
            }
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
        // No name has a letter that a query could take for something else.
        let names = |all: &BTreeSet<WorkloadName>| -> String {
            all.iter().map(|name| format!("&name={name}")).collect()
        };
        match self {
            Self::Everything => String::new(),
            Self::Requests(services) => format!("&access=true{}", names(services)),
            Self::Named { workloads, allocations } => {
                let ids: String = allocations.iter().map(|id| format!("&name={id}")).collect();
                names(workloads) + &ids
            }
        }
    }
}
