//! A service whose rollout or removal waits for something else: what runs stays as it is.
//!
//! Owns that what is missing meanwhile is replaced by what last succeeded. Never brings anything
//! new and never takes anything away but the second of two in one seat.

use super::rollout::{is_start_first, rank};
use super::{Context, Unplaced};
use crate::bugs::{Bug, is_on};
use crate::fsm::model::{Allocation, Desired, Service};
use crate::id::{SpecHash, WorkloadName};
use crate::spec::model::ServiceSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl<'a> Context<'a> {
    /// Keeps a service as it runs, and whole if `fills`. A restart waits: the rollout replaces
    /// everything anyway.
    pub(super) fn hold(&mut self, name: &WorkloadName, service: &Service, fills: bool) {
        let state = self.state;
        let all: Vec<&'a Arc<Allocation>> = state.allocations_of(name).collect();
        let (mut taken, mut healthy) = (BTreeSet::new(), BTreeSet::new());
        let mut leaving = BTreeSet::new();
        let stored = service.stable.as_ref().and_then(|hash| Some((hash, state.spec(hash)?)));
        let stable = stored.and_then(|(hash, stored)| Some((hash, stored.spec.service()?)));
        let stable = stable.filter(|_| fills && !is_on(Bug::HoldNothing));
        let run = stored.map(|(_, stored)| &stored.run);
        let mut gave_up = false;
        for allocation in self.one_a_seat(&all) {
            let Some(replica) = allocation.replica() else { continue };
            let is_stable = state.spec(&allocation.spec).map(|stored| &stored.run) == run;
            if let Some((_, spec)) = stable.filter(|_| is_stable)
                && self.gives_up(name, spec, allocation)
            {
                gave_up = true;
                continue;
            }
            taken.insert(replica);
            if self.works(allocation) {
                healthy.insert(replica);
            }
        }
        for allocation in all.iter().filter(|a| a.is_live() && a.desired != Desired::Run) {
            leaving.extend(allocation.replica().filter(|_| self.holds_seat(allocation)));
            self.continue_stop(allocation);
        }
        for allocation in all.iter().filter(|a| !a.is_live()) {
            let is_awaited = allocation.replica().is_some_and(|r| !healthy.contains(&r));
            if !(is_awaited && self.may_return(allocation)) {
                self.close(allocation);
            }
        }
        self.forget(&all);
        // Where one was given up just now is known in the next step.
        if let Some((hash, spec)) = stable.filter(|_| !gave_up) {
            let is_free = |replica: &u32| {
                let waits = !is_start_first(spec) && leaving.contains(replica);
                !taken.contains(replica) && !waits
            };
            let free: Vec<u32> = (0..spec.replicas).filter(is_free).collect();
            self.fill_up(name, hash, spec, &free);
        }
    }

    /// What should run, each in a seat of its own: of two alike in one the other goes, as when a
    /// node comes back with what was replaced meanwhile.
    fn one_a_seat(&mut self, all: &[&'a Arc<Allocation>]) -> Vec<&'a Allocation> {
        let mut seats: BTreeMap<(Option<u32>, Option<&SpecHash>, u64), &'a Allocation> =
            BTreeMap::new();
        for allocation in all.iter().filter(|a| a.is_live() && a.desired == Desired::Run) {
            let run = self.state.spec(&allocation.spec).map(|stored| &stored.run);
            let seat = (allocation.replica(), run, allocation.generation);
            let surplus = match seats.get(&seat).copied() {
                Some(sitting) if rank(sitting) <= rank(allocation) => Some(&***allocation),
                _ => seats.insert(seat, allocation),
            };
            if let Some(surplus) = surplus {
                self.retire(surplus);
            }
        }
        seats.into_values().collect()
    }

    fn fill_up(&mut self, name: &WorkloadName, hash: &SpecHash, spec: &ServiceSpec, free: &[u32]) {
        if free.is_empty() {
            return;
        }
        let state = self.state;
        self.placer().begin(state, name);
        for replica in free {
            // What fits nowhere is tried again when something changes.
            if let Err(refusals) = self.place(name, *replica, spec, hash, None) {
                self.unplaced.push(Unplaced::new(name, *replica, refusals));
            }
        }
    }
}
