//! One service against its target: what to place, drain, stop and forget.
//!
//! Owns the update policy. Never ends a deployment: that is `judge`.

use super::{Context, Standing, Unplaced};
use crate::bugs::{Bug, is_on};
use crate::fsm::command::{Action, Place};
use crate::fsm::model::{Allocation, Desired, Health, Phase, Service};
use crate::id::{AllocId, NodeId, SpecHash, WorkloadName};
use crate::limits;
use crate::scheduler::place::Refusal;
use crate::spec::model::{ServiceSpec, UpdateOrder};
use crate::units::{Millis, Timestamp};
use std::sync::Arc;

/// A replica's place and who is in it.
#[derive(Default)]
struct Slot<'a> {
    /// Should run and is what the target asks for.
    new: Option<&'a Allocation>,
    /// Should run, but is an earlier version.
    old: Option<&'a Allocation>,
    /// The old one is what the target asks for, but its node is draining.
    moving: bool,
    /// Something of it still ends.
    leaving: bool,
}

impl Slot<'_> {
    fn has_healthy(&self) -> bool {
        self.new.is_some_and(is_healthy) || self.old.is_some_and(is_healthy)
    }

    /// It is as asked; that its node is draining is no concern of a deployment.
    fn is_as_asked(&self) -> bool {
        let has_moved = self.new.is_some_and(is_healthy) && self.old.is_none();
        has_moved || self.moving && self.old.is_some_and(is_healthy)
    }
}

impl<'a> Context<'a> {
    /// Plans a service's next steps.
    pub(super) fn roll(&mut self, name: &WorkloadName, service: &Service) -> Standing {
        let state = self.state;
        let all: Vec<&'a Arc<Allocation>> = state.allocations_of(name).collect();
        let target = service.target.as_ref();
        let stored = target.and_then(|hash| state.spec(hash));
        let spec = stored.and_then(|stored| stored.spec.service());
        let run = stored.map(|stored| &stored.run);
        let replicas = spec.map_or(0, |spec| spec.replicas);
        let is_current = |allocation: &Allocation| {
            let their_run = state.spec(&allocation.spec).map(|stored| &stored.run);
            their_run == run && allocation.generation == service.generation
        };
        let mut slots: Vec<Slot<'a>> = Vec::new();
        slots.resize_with(replicas as usize, Slot::default);
        let mut is_busy = false;
        for allocation in all.iter().filter(|a| a.is_live()) {
            let slot = allocation.replica().and_then(|r| slots.get_mut(r as usize));
            if allocation.desired != Desired::Run {
                is_busy = true;
                if let Some(slot) = slot {
                    slot.leaving = true;
                }
                self.continue_stop(allocation);
                continue;
            }
            let is_leaving = self.is_leaving(allocation);
            if is_leaving && is_on(Bug::DrainAtOnce) {
                self.retire(allocation);
                continue;
            }
            let is_new = is_current(allocation) && !is_leaving;
            let seat = slot.map(|s| if is_new { &mut s.new } else { &mut s.old });
            match seat {
                Some(seat) if seat.is_none_or(|sitting| rank(allocation) < rank(sitting)) => {
                    if let Some(surplus) = seat.replace(allocation) {
                        self.retire(surplus);
                        is_busy = true;
                    }
                }
                _ => {
                    self.retire(allocation);
                    is_busy = true;
                }
            }
        }
        for allocation in all.iter().filter(|a| !a.is_live()) {
            let slot = allocation.replica().and_then(|r| slots.get(r as usize));
            let is_awaited = slot.is_some_and(|slot| !slot.has_healthy());
            let may_serve = is_current(allocation) || spec.is_some_and(is_start_first);
            if !(is_awaited && may_serve && self.may_return(allocation)) {
                self.close(allocation);
            }
        }
        for slot in &mut slots {
            slot.moving = slot.old.is_some_and(is_current);
        }
        self.forget(&all);
        let unplaced = match (spec, target) {
            (Some(spec), Some(hash)) => self.fill(name, spec, hash, &slots),
            _ => None,
        };
        let all_new = slots.iter().all(Slot::is_as_asked);
        Standing { converged: all_new && !is_busy, unplaced, gets_room: false }
    }

    /// Replaces and adds, within the update policy.
    fn fill(
        &mut self,
        name: &WorkloadName,
        spec: &ServiceSpec,
        hash: &SpecHash,
        slots: &[Slot<'_>],
    ) -> Option<String> {
        let start_first = is_start_first(spec);
        let limit = spec.update.max_parallel as usize + usize::from(is_on(Bug::TooManyAtOnce));
        let mut busy = if start_first {
            slots.iter().filter(|s| s.old.is_some() && s.new.is_some()).count()
        } else {
            slots.iter().filter(|s| !s.has_healthy()).count()
        };
        let starting = slots.iter().filter(|s| s.new.is_some_and(|n| !is_healthy(n))).count();
        let mut refusals = None;
        if slots.iter().any(|slot| slot.new.is_none()) {
            let state = self.state;
            self.placer().begin(state, name);
        }
        for (replica, slot) in (0..).zip(slots) {
            let verdict = match (slot.new, slot.old) {
                (Some(new), Some(old)) => {
                    if is_healthy(new) {
                        self.retire(old);
                    }
                    continue;
                }
                (Some(_), None) => continue,
                (None, Some(old)) if start_first => {
                    if busy >= limit {
                        continue;
                    }
                    let placed = self.place(name, replica, spec, hash, Some(old.id.clone()));
                    // If one can't move, the next one may.
                    busy += usize::from(placed.is_ok() || !slot.moving);
                    placed
                }
                (None, Some(old)) => {
                    let may = if is_healthy(old) { busy < limit } else { starting < limit };
                    if !may {
                        continue;
                    }
                    // What must leave its node stops only if it has another.
                    let has_place = match self.is_leaving(old) {
                        true => self.placer().place(&spec.run).map(drop),
                        false => Ok(()),
                    };
                    if has_place.is_ok() {
                        busy += usize::from(is_healthy(old));
                        self.retire(old);
                    }
                    has_place
                }
                (None, None) if slot.leaving && !start_first => continue,
                (None, None) => self.place(name, replica, spec, hash, None),
            };
            if let Err(why) = verdict {
                let one = Unplaced::new(name, replica, why);
                if slot.moving {
                    self.stuck.push(one);
                } else {
                    refusals = Some(self.explain(&one.refusals));
                    self.unplaced.push(one);
                }
            }
        }
        refusals
    }

    pub(super) fn place(
        &mut self,
        name: &WorkloadName,
        replica: u32,
        spec: &ServiceSpec,
        hash: &SpecHash,
        replaces: Option<AllocId>,
    ) -> Result<(), Vec<(NodeId, Refusal)>> {
        let node = self.placer().place(&spec.run)?;
        let id = self.new_id(name, replica);
        let (workload, spec) = (name.clone(), hash.clone());
        self.actions.push(Action::Place(Place { id, workload, replica, node, spec, replaces }));
        Ok(())
    }

    pub(super) fn explain(&self, refusals: &[(crate::id::NodeId, Refusal)]) -> String {
        let name = |id| self.state.nodes.get(id).map_or("?", |node| node.name.as_str());
        let lines = refusals.iter().map(|(id, why)| format!("{}: {why}", name(id)));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// Begins the end of an allocation: out of the traffic first if it gets any.
    pub(super) fn retire(&mut self, allocation: &Allocation) {
        let id = allocation.id.clone();
        let spec = self.state.spec(&allocation.spec).and_then(|stored| stored.spec.service());
        let has_traffic = spec.is_some_and(|spec| !spec.ports.is_empty());
        if allocation.is_routable() {
            self.actions.push(Action::Drain { allocation: id.clone() });
            if has_traffic && !is_on(Bug::StopUnsettled) {
                return;
            }
        }
        self.actions.push(Action::Stop { allocation: id });
    }

    /// Takes a draining allocation further: settled, then the delay, then the stop.
    pub(super) fn continue_stop(&mut self, allocation: &Allocation) {
        let id = allocation.id.clone();
        match allocation.desired {
            Desired::Draining { index, at, settled: None } => {
                let is_late = self.is_due(at.plus(Millis::from(limits::SETTLE_DEADLINE)));
                if self.is_settled(index) || is_late {
                    self.actions.push(Action::Settled { allocation: id });
                }
            }
            Desired::Draining { settled: Some(since), .. } => {
                if self.is_due(since.plus(Millis::from(limits::DRAIN_DELAY))) {
                    self.actions.push(Action::Stop { allocation: id });
                }
            }
            Desired::Run | Desired::Stop => {}
        }
    }

    /// It is lost with a node that may come back with it.
    pub(super) fn may_return(&self, allocation: &Allocation) -> bool {
        let node = self.state.nodes.get(&allocation.node);
        allocation.desired == Desired::Run
            && allocation.observed.phase == Phase::Lost
            && node.is_some_and(|node| !node.is_there())
    }

    /// An allocation that ended by itself should not run any more either.
    pub(super) fn close(&mut self, allocation: &Allocation) {
        if allocation.desired != Desired::Stop {
            self.actions.push(Action::Stop { allocation: allocation.id.clone() });
        }
    }

    /// Drops the records of all but the newest ended allocations of a service.
    pub(super) fn forget(&mut self, all: &[&Arc<Allocation>]) {
        let mut ended: Vec<_> =
            all.iter().filter(|a| !a.is_live() && a.desired == Desired::Stop).collect();
        ended.sort_by_key(|a| std::cmp::Reverse((a.phase_since, a.id.clone())));
        let keep = Millis::from(limits::ENDED_KEPT);
        for (n, allocation) in ended.into_iter().enumerate() {
            let until = allocation.phase_since.plus(keep);
            if n >= limits::ENDED_PER_SERVICE || self.is_due(until) {
                self.actions.push(Action::Forget { allocation: allocation.id.clone() });
            }
        }
    }
}

pub(super) fn is_start_first(spec: &ServiceSpec) -> bool {
    spec.update.order == UpdateOrder::StartFirst
}

pub(super) fn is_healthy(allocation: &Allocation) -> bool {
    let seen = &allocation.observed;
    seen.phase == Phase::Running && seen.health == Health::Healthy
}

/// Of two for one seat the lower stays: the healthy one, then the older.
pub(super) fn rank(allocation: &Allocation) -> (bool, Timestamp, &AllocId) {
    (!is_healthy(allocation), allocation.created_at, &allocation.id)
}
