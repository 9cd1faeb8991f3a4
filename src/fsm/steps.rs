//! Carrying out what plan found: placements, drains, stops, ends of deployments.
//!
//! Owns the checks that a step is legal in the state it meets. Never looks for further steps.

use super::allocation::not_found;
use super::command::{Action, Place, Steps};
use super::model::{
    AllocKind, Allocation, AllocationStatus, App, Avoided, Course, DeployStatus, Deployment,
    Desired, Phase, Progress, ProgressPhase, Verdict,
};
use super::{Outcome, Rejection, State, Touched};
use crate::bugs::{Bug, is_on};
use crate::id::{AllocId, Attempt, NodeId, Revision, SpecHash, WorkloadName};
use crate::limits;
use std::sync::Arc;

impl State {
    pub(super) fn take_steps(
        &mut self,
        steps: Steps,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        for (name, version) in &steps.planned {
            let is_stale = self.apps.get(name).is_none_or(|app| app.version != *version);
            if is_stale && !is_on(Bug::TakeStaleSteps) {
                return Err(Rejection::Stale);
            }
        }
        for action in steps.actions {
            self.act(action, touched)?;
        }
        for name in steps.planned.keys() {
            if let Some(app) = self.apps.get(name) {
                let mut app = (**app).clone();
                app.version += 1;
                self.put_app(app, touched);
            }
        }
        Ok(Outcome::Done)
    }

    fn act(&mut self, action: Action, touched: &mut Touched) -> Result<(), Rejection> {
        match action {
            Action::Place(place) => self.place(place, touched),
            Action::Drain { allocation } => {
                let (index, at) = (self.index, self.time);
                let to = Desired::Draining { index, at, settled: None };
                self.require(&allocation, |a| a.desired == Desired::Run)?;
                self.advance_desired(&allocation, to, touched)
            }
            Action::Settled { allocation } => {
                let Desired::Draining { index, at, settled: None } =
                    self.require(&allocation, |_| true)?
                else {
                    return Err(Rejection::Stale);
                };
                let to = Desired::Draining { index, at, settled: Some(self.time) };
                self.advance_desired(&allocation, to, touched)
            }
            Action::Routed { allocation } => {
                self.led_to(&allocation, touched);
                Ok(())
            }
            Action::Stop { allocation } => {
                self.require(&allocation, |a| !a.is_routable())?;
                self.advance_desired(&allocation, Desired::Stop, touched)
            }
            Action::GiveUp { allocation, why, is_program } => {
                self.give_up(&allocation, why, is_program, touched)
            }
            Action::Forget { allocation } => {
                self.require(&allocation, |a| !a.is_live() && a.desired == Desired::Stop)?;
                self.drop_allocation(&allocation, touched);
                Ok(())
            }
            Action::Wait { revision, service, message } => {
                self.wait(revision, service, message, touched)
            }
            Action::Canary { revision, service, step } => {
                self.step_canary(revision, service, step, touched)
            }
            Action::Revert { revision, service, reason } => {
                self.revert(revision, service, reason, touched)
            }
            Action::Finish { revision, status, degraded } => {
                self.finish(revision, status, &degraded, touched)
            }
            Action::Run(action) => self.act_on_run(action, touched),
        }
    }

    /// Traffic leads to a replica, on every node. Of one that the same steps take out of it nothing
    /// is told.
    fn led_to(&mut self, id: &AllocId, touched: &mut Touched) {
        let old = self.allocations.get(id).filter(|a| a.is_routable());
        let Some(old) = old.filter(|a| a.course.unrouted.is_some()) else { return };
        let mut new = Allocation::clone(old);
        new.course.unrouted = None;
        self.note(&new, ProgressPhase::Routed, None);
        self.put_allocation(new, touched);
    }

    /// A replica does not work where it is: it ends, and its node is avoided for a while.
    fn give_up(
        &mut self,
        id: &AllocId,
        why: String,
        is_program: bool,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        self.require(id, |a| a.is_live() && a.desired == Desired::Run && !a.is_routable())?;
        let mut old =
            self.allocations.get(id).map(|a| Allocation::clone(a)).ok_or(Rejection::Stale)?;
        let app = self.apps.get(&old.app).ok_or(Rejection::Stale)?;
        let mut app = App::clone(app);
        let service = app.services.get_mut(&old.workload).ok_or(Rejection::Stale)?;
        let (at, bound) = (self.time, limits::NODE_AVOIDED.into());
        service.avoids.retain(|_, avoided| at.since(avoided.at) < bound);
        service.avoids.insert(old.node, Avoided { at, why: why.clone(), is_program });
        self.put_app(app, touched);
        let node = self.nodes.get(&old.node).map_or("?", |node| node.name.as_str());
        let told = format!("given up on {node}: {why}");
        old.course.given_up = Some(why);
        let phase = old.observed.phase;
        old.course.was_idle = phase <= Phase::Pulling || phase == Phase::Backoff;
        old.course.ends_since = Some(at);
        old.desired = Desired::Stop;
        self.note(&old, ProgressPhase::Retrying, Some(told));
        self.put_allocation(old, touched);
        Ok(())
    }

    fn require(
        &self,
        id: &AllocId,
        holds: impl Fn(&Allocation) -> bool,
    ) -> Result<Desired, Rejection> {
        let found = self.allocations.get(id);
        let found = found.ok_or_else(|| not_found("allocation", id.as_str()))?;
        if holds(found) { Ok(found.desired) } else { Err(Rejection::Stale) }
    }

    fn place(&mut self, place: Place, touched: &mut Touched) -> Result<(), Rejection> {
        if self.allocations.contains_key(&place.id) {
            return Err(Rejection::Illegal { what: format!("{} exists already", place.id) });
        }
        let owner = self.owner(&place.workload).cloned();
        let owner = owner.ok_or_else(|| not_found("service", place.workload.as_str()))?;
        // Another app's steps may have taken what this plan saw free.
        if !self.specs.contains_key(&place.spec) || !self.has_room(place.node, &place.spec) {
            return Err(Rejection::Stale);
        }
        self.hold_volumes(&place.id, &place.workload, place.node, &place.spec)?;
        touched.volumes = true;
        let generation = owner.services.get(&place.workload).map_or(0, |s| s.generation);
        let allocation = Allocation {
            id: place.id,
            workload: place.workload,
            kind: AllocKind::Service { replica: place.replica },
            app: owner.name.clone(),
            node: place.node,
            spec: place.spec,
            revision: owner.revision,
            generation,
            created_at: self.time,
            replaces: place.replaces,
            desired: Desired::Run,
            attempt: Attempt(1),
            observed: AllocationStatus::default(),
            phase_since: self.time,
            first_running: None,
            was_healthy: false,
            pulled_at: None,
            course: Course::default(),
        };
        self.note(&allocation, ProgressPhase::Scheduled, None);
        self.put_allocation(allocation, touched);
        Ok(())
    }

    pub(super) fn has_room(&self, node: NodeId, spec: &SpecHash) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.takes_work()) && self.holds(node, spec)
    }

    /// What a node has free is enough.
    pub(super) fn holds(&self, node: NodeId, spec: &SpecHash) -> bool {
        let need = self.reservation(spec);
        let used = self.derived.reserved.get(&node).copied().unwrap_or_default();
        self.nodes.get(&node).is_some_and(|node| {
            used.cpu.0 + need.cpu.0 <= node.cpu.0 && used.memory.0 + need.memory.0 <= node.memory.0
        })
    }

    /// Tells whoever follows the deployment that a replica has no place.
    fn wait(
        &mut self,
        revision: Revision,
        service: WorkloadName,
        message: String,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut deployment = self.running(revision)?;
        let (time, phase, message) = (self.time, ProgressPhase::Waiting, Some(message));
        let step = Progress { time, phase, service, allocation: None, node: None, message };
        deployment.add_progress(step);
        touched.apps.insert(deployment.app.clone());
        self.deployments.insert(revision, Arc::new(deployment));
        Ok(())
    }

    pub(super) fn revert(
        &mut self,
        revision: Revision,
        service: WorkloadName,
        reason: String,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut deployment = self.running(revision)?;
        let app = self.apps.get(&deployment.app).ok_or(Rejection::Stale)?;
        let mut app = App::clone(app);
        deployment.reverting = Some(self.time);
        if let Some(canary) = deployment.canaries.get_mut(&service) {
            let (at, why) = (self.time, reason.clone());
            canary.verdict.get_or_insert(Verdict { at, promoted: false, by_hand: false, why });
        }
        deployment.reason = Some(reason);
        deployment.failed_service = Some(service);
        for name in deployment.touched.iter() {
            let Some(service) = app.services.get_mut(name) else { continue };
            service.avoids.retain(|_, avoided| !avoided.is_program);
            if !is_on(Bug::ForgetRevert) {
                service.target = service.stable.clone();
            }
        }
        if let Some(stable) = app.stable.and_then(|stable| self.deployments.get(&stable)) {
            app.tasks = stable.tasks.clone();
            app.file = stable.file.clone();
            app.file_hash = stable.file_hash.clone();
        } else {
            app.tasks = Arc::default();
        }
        self.sync_schedules(&app);
        self.put_app(app, touched);
        self.deployments.insert(revision, Arc::new(deployment));
        Ok(())
    }

    fn finish(
        &mut self,
        revision: Revision,
        status: DeployStatus,
        degraded: &[WorkloadName],
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut deployment = self.running(revision)?;
        let app = self.apps.get(&deployment.app).ok_or(Rejection::Stale)?;
        let mut app = App::clone(app);
        if status == DeployStatus::Succeeded {
            app.stable = Some(revision);
            for service in app.services.values_mut() {
                service.stable = service.target.clone();
            }
        }
        for name in degraded {
            if let Some(service) = app.services.get_mut(name) {
                service.degraded = true;
            }
        }
        // What is not asked to stop yet needs an owner who does.
        let ends = |name: &WorkloadName| {
            self.allocations_of(name).any(|a| a.is_live() && a.desired != Desired::Stop)
        };
        app.services.retain(|name, service| {
            service.target.is_some() || service.stable.is_some() || ends(name)
        });
        deployment.status = status;
        deployment.ended_at = Some(self.time);
        self.deployments.insert(revision, Arc::new(deployment));
        self.put_app(app, touched);
        self.collect_specs();
        Ok(())
    }

    pub(super) fn running(&self, revision: Revision) -> Result<Deployment, Rejection> {
        let found = self.deployments.get(&revision);
        let running = found.filter(|d| d.status == DeployStatus::Running);
        running.map(|d| Deployment::clone(d)).ok_or(Rejection::Stale)
    }

    fn put_app(&mut self, app: App, touched: &mut Touched) {
        touched.apps.insert(app.name.clone());
        self.apps.insert(app.name.clone(), Arc::new(app));
    }
}
