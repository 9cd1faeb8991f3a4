//! One service against its target: what to place, drain, stop and forget.
//!
//! Owns the update policy. Never ends a deployment: that is `judge`.

use super::{Context, RolloutStatus, Unplaced};
use crate::bugs::{Bug, is_on};
use crate::fsm::State;
use crate::fsm::canary::Version;
use crate::fsm::command::{Action, Place};
use crate::fsm::model::{Allocation, Desired, Health, Phase, Service};
use crate::id::{AllocId, NodeId, SpecHash, WorkloadName};
use crate::limits;
use crate::scheduler::place::Refusal;
use crate::spec::model::{ServiceSpec, UpdateOrder};
use crate::units::{Millis, Timestamp};
use std::ops::Range;
use std::sync::Arc;

/// Some of a service's replicas, and what they are to be.
pub(super) struct Group<'a> {
    /// The version that they are to have; absent: they are to end.
    pub target: Option<Version<'a>>,
    /// What is older is replaced.
    pub generation: u64,
    /// Their seats.
    pub seats: Range<u32>,
    /// What there is of them.
    pub all: Vec<&'a Arc<Allocation>>,
}

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
    fn has_healthy(&self, state: &State) -> bool {
        let works = |one| works(state, one);
        self.new.is_some_and(works) || self.old.is_some_and(works)
    }

    /// It is as asked; that its node is draining is no concern of a deployment.
    fn is_as_asked(&self, state: &State) -> bool {
        let works = |one| works(state, one);
        let has_moved = self.new.is_some_and(works) && self.old.is_none();
        has_moved || self.moving && self.old.is_some_and(works)
    }
}

impl<'a> Context<'a> {
    /// Plans a service's next steps.
    pub(super) fn roll(&mut self, name: &WorkloadName, service: &Service) -> RolloutStatus {
        let state = self.state;
        let target = service.target.as_ref().and_then(|hash| state.version(hash));
        let seats = 0..target.map_or(0, |target| target.spec.replicas);
        let (generation, all) = (service.generation, state.allocations_of(name).collect());
        self.roll_group(name, &Group { target, generation, seats, all })
    }

    /// Plans the next steps of some of a service's replicas.
    pub(super) fn roll_group(&mut self, name: &WorkloadName, group: &Group<'a>) -> RolloutStatus {
        let state = self.state;
        let all = &group.all;
        let spec = group.target.map(|target| target.spec);
        let run = group.target.map(|target| &target.stored.run);
        let is_current = |allocation: &Allocation| {
            let their_run = state.spec(&allocation.spec).map(|stored| &stored.run);
            their_run == run && allocation.generation == group.generation
        };
        let at = |replica: u32| Some(replica.checked_sub(group.seats.start)? as usize);
        let mut slots: Vec<Slot<'a>> = Vec::new();
        slots.resize_with(group.seats.len(), Slot::default);
        let (mut is_busy, mut gave_up, mut lingers) = (false, false, false);
        for allocation in all.iter().filter(|a| a.is_live()) {
            let slot = allocation.replica().and_then(|r| slots.get_mut(at(r)?));
            if allocation.desired != Desired::Run {
                let ends = !self.is_overdue(allocation);
                lingers |= ends;
                is_busy |= ends && !self.is_out_of_the_way(allocation);
                if let Some(slot) = slot {
                    slot.leaving |= self.holds_seat(allocation);
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
            if let Some(spec) = spec.filter(|_| is_new && slot.is_some())
                && self.gives_up(name, spec, allocation)
            {
                (is_busy, gave_up) = (true, true);
                continue;
            }
            let seat = slot.map(|s| if is_new { &mut s.new } else { &mut s.old });
            match seat {
                Some(seat) if seat.is_none_or(|sitting| rank(allocation) < rank(sitting)) => {
                    if let Some(surplus) = seat.replace(allocation) {
                        self.retire(surplus);
                        is_busy = true;
                    }
                }
                _ => (is_busy, _) = (true, self.retire(allocation)),
            }
        }
        for allocation in all.iter().filter(|a| !a.is_live()) {
            let slot = allocation.replica().and_then(|r| slots.get(at(r)?));
            let is_awaited = slot.is_some_and(|slot| !slot.has_healthy(state));
            let may_serve = is_current(allocation) || spec.is_some_and(is_start_first);
            if !(is_awaited && may_serve && self.may_return(allocation)) {
                self.close(allocation);
            }
        }
        for slot in &mut slots {
            slot.moving = slot.old.is_some_and(is_current);
        }
        self.forget(all);
        // Where one was given up just now is known in the next step.
        let target = group.target.filter(|_| !gave_up);
        let first = group.seats.start;
        let unplaced = target.and_then(|target| self.fill(name, target, first, &slots));
        let all_new = slots.iter().all(|slot| slot.is_as_asked(state));
        let converged = all_new && !is_busy;
        RolloutStatus { converged, lingers, unplaced, ..RolloutStatus::default() }
    }

    /// Replaces and adds, within the update policy.
    fn fill(
        &mut self,
        name: &WorkloadName,
        target: Version<'a>,
        first: u32,
        slots: &[Slot<'_>],
    ) -> Option<String> {
        let state = self.state;
        let Version { spec, hash, .. } = target;
        let works = |one: &Allocation| works(state, one);
        let start_first = is_start_first(spec);
        let limit = spec.update.max_parallel as usize + usize::from(is_on(Bug::TooManyAtOnce));
        let mut busy = if start_first {
            slots.iter().filter(|s| s.old.is_some() && s.new.is_some()).count()
        } else {
            slots.iter().filter(|s| !s.has_healthy(state)).count()
        };
        let starting = slots.iter().filter(|s| s.new.is_some_and(|n| !works(n))).count();
        let mut refusals = None;
        self.spread(name, slots);
        for (replica, slot) in (first..).zip(slots) {
            if self.is_full() {
                break;
            }
            let verdict = match (slot.new, slot.old) {
                (Some(new), Some(old)) => {
                    if works(new) {
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
                    let may = if works(old) { busy < limit } else { starting < limit };
                    if !may {
                        continue;
                    }
                    let has_place = self.may_stop_first(old, spec);
                    if has_place.is_ok() {
                        busy += usize::from(works(old));
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

    /// Begins to place what is missing: what is replaced counts for nothing, for the new ones are
    /// spread by themselves.
    fn spread(&mut self, name: &WorkloadName, slots: &[Slot<'_>]) {
        let state = self.state;
        if slots.iter().any(|slot| slot.new.is_none()) {
            let stay = slots.iter().filter_map(|slot| Some(slot.new?.node));
            self.placer().begin_beside(state, name, stay);
        }
    }

    pub(super) fn place(
        &mut self,
        name: &WorkloadName,
        replica: u32,
        spec: &ServiceSpec,
        hash: &SpecHash,
        replaces: Option<AllocId>,
    ) -> Result<(), Vec<(NodeId, Refusal)>> {
        if let Some((volume, to)) = self.state.moving_volume(hash) {
            let node = self.state.nodes.get(&to).map(|node| node.name.clone()).unwrap_or_default();
            return Err(vec![(to, Refusal::Moving { name: volume, node })]);
        }
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
        if allocation.is_routable() {
            self.actions.push(Action::Drain { allocation: id.clone() });
            if self.state.has_ports(&allocation.spec) && !is_on(Bug::StopUnsettled) {
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
                let is_late = self.is_due_in(at, limits::SETTLE_DEADLINE.into());
                if self.is_settled(index) || is_late {
                    self.actions.push(Action::Settled { allocation: id });
                }
            }
            Desired::Draining { settled: Some(since), .. } => {
                if self.is_due_in(since, limits::DRAIN_DELAY.into()) {
                    self.actions.push(Action::Stop { allocation: id });
                }
            }
            Desired::Run | Desired::Stop => {}
        }
    }

    /// It works, as far as is known now: nothing is known of what runs on a silent node.
    pub(super) fn works(&self, allocation: &Allocation) -> bool {
        works(self.state, allocation)
    }

    /// What must leave its node stops only if it has another; and nobody would hear of the end of
    /// one whose node doesn't answer.
    fn may_stop_first(
        &mut self,
        old: &Allocation,
        spec: &ServiceSpec,
    ) -> Result<(), Vec<(NodeId, Refusal)>> {
        match (self.is_leaving(old), unanswering(self.state, old.node)) {
            (_, Some(why)) => Err(vec![(old.node, why)]),
            (true, None) => self.placer().place(&spec.run).map(drop),
            (false, None) => Ok(()),
        }
    }

    /// It is about to end, no traffic leads to it any more, and nothing that it holds is another's
    /// next: its end is nobody's concern.
    fn is_out_of_the_way(&self, allocation: &Allocation) -> bool {
        let stored = self.state.spec(&allocation.spec);
        let writes = stored.is_some_and(|stored| stored.spec.run().persistent().next().is_some());
        allocation.desired == Desired::Stop && !writes
    }

    /// It was asked to end and doesn't, for longer than it may take.
    fn is_overdue(&mut self, allocation: &Allocation) -> bool {
        let since = allocation.course.ends_since;
        since.is_some_and(|since| self.has_outlasted(allocation, since))
    }

    /// What is asked to end has had its time, and more.
    pub(super) fn has_outlasted(&mut self, allocation: &Allocation, since: Timestamp) -> bool {
        self.is_due_in(since, self.state.end_bound(allocation))
    }

    /// Whether its end is waited for where two may not be at once: what never ran ends by itself,
    /// as soon as its node gets to it.
    pub(super) fn holds_seat(&self, allocation: &Allocation) -> bool {
        let never_ran = allocation.first_running.is_none()
            && (allocation.observed.phase <= Phase::Pulling
                || unanswering(self.state, allocation.node).is_some());
        let was_idle =
            allocation.course.was_idle && unanswering(self.state, allocation.node).is_some();
        !(allocation.course.given_up.is_some() && (never_ran || was_idle))
    }

    /// It is lost with a node that may come back with it.
    pub(super) fn may_return(&self, allocation: &Allocation) -> bool {
        let node = self.state.nodes.get(&allocation.node);
        allocation.desired == Desired::Run
            && allocation.observed.phase == Phase::Lost
            && node.is_some_and(|node| !node.is_up())
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

fn works(state: &State, allocation: &Allocation) -> bool {
    is_healthy(allocation) && (!state.is_silent(allocation.node) || is_on(Bug::TrustSilent))
}

/// Why a node doesn't carry out what it is asked.
fn unanswering(state: &State, node: NodeId) -> Option<Refusal> {
    let condition = state.nodes.get(&node)?.condition;
    let silent = condition.silent_since.map(|_| Refusal::Silent);
    silent.or_else(|| condition.runtime_since.map(|_| Refusal::Degraded))
}

pub(super) fn is_healthy(allocation: &Allocation) -> bool {
    let seen = &allocation.observed;
    seen.phase == Phase::Running && seen.health == Health::Healthy
}

/// Of two for one seat the lower stays: the healthy one, then the older.
pub(super) fn rank(allocation: &Allocation) -> (bool, Timestamp, &AllocId) {
    (!is_healthy(allocation), allocation.created_at, &allocation.id)
}
