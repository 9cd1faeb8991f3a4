//! Services that a deployment removes: they run on until the rest of it has succeeded, so that one
//! that fails leaves them untouched.
//!
//! Owns when they go, and what of them goes before: as few replicas as make room for what would fit
//! nowhere else, and not before nothing else can change that. Never ends a deployment: that is
//! `judge`.

#[cfg(test)]
mod tests;

use super::rollout::is_healthy;
use super::{Context, RolloutStatus};
use crate::bugs::{Bug, is_on};
use crate::fsm::command::Action;
use crate::fsm::model::{
    Allocation, App, DeployKind, Deployment, Desired, HookRun, Phase, Service,
};
use crate::id::WorkloadName;
use crate::limits;
use crate::scheduler::place::Placer;
use crate::spec::model::RunSpec;
use crate::units::Millis;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The services that an app's deployment removes.
pub(super) type Departing<'s> = BTreeMap<&'s WorkloadName, &'s Service>;

/// What a deployment needs and has no place for.
struct Want<'a> {
    /// The service whose replica it is; none: a task of the deployment.
    service: Option<WorkloadName>,
    run: &'a RunSpec,
    /// It can't wait for what else goes on.
    is_urgent: bool,
}

impl<'a> Context<'a> {
    /// What the app's deployment removes and what last succeeded had. Who takes something down
    /// wants it gone; what never worked is not missed.
    pub(super) fn departing<'s>(&self, app: &'s App) -> Departing<'s> {
        let running = self.state.running_deployment(&app.name);
        let running = running.filter(|d| d.goes_forward() && d.kind != DeployKind::Down);
        let Some(deployment) = running else { return Departing::new() };
        let goes = |(name, service): &(&WorkloadName, &Service)| {
            let is_removed = service.target.is_none() && service.stable.is_some();
            is_removed && deployment.touched.contains(*name)
        };
        app.services.iter().filter(goes).collect()
    }

    /// Plans them, after all others of the app: on their way once these are as asked and what
    /// follows them has succeeded, as they are until then.
    pub(super) fn depart<'s>(
        &mut self,
        app: &'s App,
        departing: &Departing<'s>,
        rollouts: &mut BTreeMap<&'s WorkloadName, RolloutStatus>,
    ) {
        let Some(deployment) = self.state.running_deployment(&app.name) else { return };
        let may_go = is_on(Bug::DepartAtOnce) || self.is_rest_done(deployment, rollouts);
        if may_go {
            for (name, service) in departing {
                let rollout = self.roll(name, service);
                rollouts.insert(name, rollout);
            }
            return;
        }
        for (name, service) in departing {
            // Nothing comes back in the place of what made room.
            let mut all = self.state.allocations_of(name);
            let is_whole = !all.any(|a| has_gone(a, deployment));
            self.hold(name, service, is_whole);
        }
        self.make_room(deployment, departing, rollouts);
        for name in departing.keys() {
            rollouts.insert(name, RolloutStatus::default());
        }
    }

    fn is_rest_done(
        &mut self,
        deployment: &Deployment,
        rollouts: &BTreeMap<&WorkloadName, RolloutStatus>,
    ) -> bool {
        let mut rest = deployment.touched.iter().filter_map(|name| rollouts.get(name));
        rest.all(|rollout| !self.is_behind(deployment, rollout))
            && !self.led(deployment).1
            && self.is_quiet()
            && self.is_followed_up(deployment)
    }

    /// Nothing happens in this step but that old records are dropped, and news is told.
    pub(super) fn is_quiet(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.all(|action| matches!(action, Action::Forget { .. } | Action::Routed { .. }))
    }

    /// Lets replicas of what departs go before their time, if what the deployment needs has no
    /// other place and nothing else that it does can give it one.
    fn make_room(
        &mut self,
        deployment: &Deployment,
        departing: &Departing<'_>,
        rollouts: &mut BTreeMap<&WorkloadName, RolloutStatus>,
    ) {
        let wants = self.wants(deployment, rollouts);
        if wants.is_empty() {
            return;
        }
        let mut is_still = self.is_still(deployment, departing);
        let mut room = self.room();
        let mut left: Vec<&'a Arc<Allocation>> = departing
            .keys()
            .flat_map(|name| self.state.allocations_of(name))
            .filter(|a| a.is_live() && a.desired == Desired::Run)
            .collect();
        left.sort_by_key(|a| {
            let held = self.state.reservation(&a.spec);
            Reverse((held.memory, held.cpu, a.id.clone()))
        });
        for want in wants {
            let victims = match room.place(want.run) {
                // It has a place as soon as what is on its way out is gone.
                Ok(_) => {
                    is_still &= want.service.is_some();
                    Vec::new()
                }
                Err(_) => match self.fewest(&room, want.run, &left) {
                    Some(victims) => victims,
                    None => continue,
                },
            };
            for victim in &victims {
                self.give_back(&mut room, victim);
                left.retain(|a| a.id != victim.id);
                if is_still || want.is_urgent {
                    self.retire(victim);
                }
            }
            if !victims.is_empty() {
                let _ = room.place(want.run);
            }
            if let Some(name) = want.service {
                if let Some(rollout) = rollouts.get_mut(&name) {
                    rollout.gets_room = true;
                }
                let own = self.unplaced.iter_mut().filter(|one| one.service == name);
                own.for_each(|one| one.gets_room = true);
            }
        }
    }

    /// Tasks and replicas of the deployment that fit nowhere now.
    fn wants(
        &mut self,
        deployment: &Deployment,
        rollouts: &BTreeMap<&WorkloadName, RolloutStatus>,
    ) -> Vec<Want<'a>> {
        let state = self.state;
        let mut wants = Vec::new();
        for hook in &deployment.hooks {
            if !self.is_waiting(hook) {
                continue;
            }
            let Some(run) = state.runs.get(&hook.run) else { continue };
            let Some(stored) = state.spec(&run.spec) else { continue };
            let patience = Millis::from(limits::ROOM_PATIENCE);
            let is_urgent = self.is_due_in(run.created_at, patience);
            wants.push(Want { service: None, run: stored.spec.run(), is_urgent });
        }
        let behind = |name: &WorkloadName| {
            let is_touched = deployment.touched.contains(name);
            is_touched && rollouts.get(name).is_some_and(|s| s.unplaced.is_some())
        };
        for one in self.unplaced.iter().filter(|one| behind(&one.service)) {
            let service = state.owner(&one.service).and_then(|app| app.services.get(&one.service));
            let stored = service.and_then(|service| state.spec(service.target.as_ref()?));
            let Some(stored) = stored else { continue };
            let (service, run) = (Some(one.service.clone()), stored.spec.run());
            wants.push(Want { service, run, is_urgent: false });
        }
        wants
    }

    /// A task of a deployment that has no node yet.
    fn is_waiting(&self, hook: &HookRun) -> bool {
        let run = self.state.runs.get(&hook.run);
        run.is_some_and(|run| {
            self.state.derived.waiting.contains(&(run.created_at, run.id.clone()))
        })
    }

    /// Nothing that the deployment does is on its way: what fits nowhere now never will.
    fn is_still(&self, deployment: &Deployment, departing: &Departing<'_>) -> bool {
        let staying = deployment.touched.iter().filter(|name| !departing.contains_key(name));
        let mut live = staying.flat_map(|name| self.state.allocations_of(name));
        let moves = live.any(|a| a.is_live() && (a.desired != Desired::Run || !is_healthy(a)));
        let is_under_way = |hook: &HookRun| hook.exit.is_none() && !self.is_waiting(hook);
        !moves && self.is_quiet() && !deployment.hooks.iter().any(is_under_way)
    }

    /// What will be free once all is gone that is on its way out.
    fn room(&mut self) -> Placer {
        let mut room = self.placer().clone();
        let live = self.state.allocations.values().filter(|a| a.is_live());
        for leaving in live.filter(|a| a.desired != Desired::Run) {
            self.give_back(&mut room, leaving);
        }
        room
    }

    fn give_back(&self, room: &mut Placer, allocation: &Allocation) {
        if let Some(stored) = self.state.spec(&allocation.spec) {
            room.give_back(allocation.node, stored.spec.run());
        }
    }

    /// The fewest replicas, on one node, without which it has a place.
    fn fewest(
        &self,
        room: &Placer,
        run: &RunSpec,
        left: &[&'a Arc<Allocation>],
    ) -> Option<Vec<&'a Arc<Allocation>>> {
        let of_node = |node| {
            let mut room = room.clone();
            let mut gone = Vec::new();
            for allocation in left.iter().copied().filter(|a| a.node == node) {
                self.give_back(&mut room, allocation);
                gone.push(allocation);
                if room.place(run).is_ok() {
                    return Some(gone);
                }
            }
            None
        };
        let nodes: std::collections::BTreeSet<_> = left.iter().map(|a| a.node).collect();
        nodes.into_iter().filter_map(of_node).min_by_key(Vec::len)
    }
}

/// It ends or has ended because the deployment asked for it, not by itself.
fn has_gone(allocation: &Allocation, deployment: &Deployment) -> bool {
    let has_stopped = allocation.observed.phase == Phase::Stopped
        && allocation.phase_since >= deployment.started_at;
    allocation.desired != Desired::Run && (allocation.is_live() || has_stopped)
}
