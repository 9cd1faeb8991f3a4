//! The allocation table: adding, changing, dropping, with the derived look-ups kept right.
//!
//! Owns the legal moves of an allocation. Never decides which move to make.

use super::model::{
    Allocation, AllocationStatus, App, Desired, ExitReason, Health, Phase, Progress, ProgressPhase,
    Unrouted,
};
use super::{Rejection, Reserved, State, Touched};
use crate::id::{AllocId, AppName, SpecHash};
use crate::limits;
use crate::units::Millis;
use std::sync::Arc;

impl State {
    pub(super) fn index_allocation(&mut self, allocation: &Allocation) {
        let (id, node) = (&allocation.id, allocation.node);
        if allocation.replica().is_some() {
            let name = allocation.workload.clone();
            self.derived.by_workload.entry(name).or_default().insert(id.clone());
        }
        self.derived.by_node.entry(node).or_default().insert(id.clone());
        if allocation.is_live() {
            self.reserve(allocation);
        }
    }

    fn reserve(&mut self, allocation: &Allocation) {
        let add = self.reservation(&allocation.spec);
        let sum = self.derived.reserved.entry(allocation.node).or_default();
        sum.cpu.0 += add.cpu.0;
        sum.memory.0 += add.memory.0;
    }

    pub(super) fn put_allocation(
        &mut self,
        allocation: Allocation,
        touched: &mut Touched,
    ) -> Arc<Allocation> {
        let id = allocation.id.clone();
        touched.allocations.insert(id.clone());
        match self.allocations.get(&id).map(|old| old.is_live()) {
            None => self.index_allocation(&allocation),
            Some(true) if !allocation.is_live() => self.release(&allocation),
            // Its node is back.
            Some(false) if allocation.is_live() => self.reserve(&allocation),
            Some(_) => {}
        }
        let allocation = Arc::new(allocation);
        self.allocations.insert(id, Arc::clone(&allocation));
        self.follow_run(&allocation, touched);
        allocation
    }

    pub(super) fn drop_allocation(&mut self, id: &AllocId, touched: &mut Touched) {
        let Some(old) = self.allocations.remove(id) else { return };
        touched.allocations.insert(id.clone());
        if old.is_live() {
            self.release(&old);
        }
        if let Some(set) = self.derived.by_workload.get_mut(&old.workload) {
            set.remove(id);
            if set.is_empty() {
                self.derived.by_workload.remove(&old.workload);
            }
        }
        if let Some(set) = self.derived.by_node.get_mut(&old.node) {
            set.remove(id);
            if set.is_empty() {
                self.derived.by_node.remove(&old.node);
            }
        }
    }

    fn release(&mut self, allocation: &Allocation) {
        let less = self.reservation(&allocation.spec);
        let sum = self.derived.reserved.entry(allocation.node).or_default();
        sum.cpu.0 = sum.cpu.0.saturating_sub(less.cpu.0);
        sum.memory.0 = sum.memory.0.saturating_sub(less.memory.0);
        if *sum == Reserved::default() {
            self.derived.reserved.remove(&allocation.node);
        }
    }

    /// Moves what is desired of an allocation one step on.
    pub(super) fn advance_desired(
        &mut self,
        id: &AllocId,
        to: Desired,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let old = self.allocations.get(id).ok_or_else(|| not_found("allocation", id.as_str()))?;
        if to < old.desired {
            return Err(Rejection::Stale);
        }
        let mut new = Allocation::clone(old);
        if self.is_next() && new.desired == Desired::Run {
            new.course.ends_since = Some(self.time);
        }
        new.desired = to;
        self.put_allocation(new, touched);
        Ok(())
    }

    /// A deployment is at work on its service.
    #[must_use]
    pub fn is_deployed(&self, allocation: &Allocation) -> bool {
        let running = self.running_deployment(&allocation.app);
        running.is_some_and(|running| running.touched.contains(&allocation.workload))
    }

    /// Others ask for it by a port.
    #[must_use]
    pub fn has_ports(&self, spec: &SpecHash) -> bool {
        let service = self.spec(spec).and_then(|stored| stored.spec.service());
        service.is_some_and(|service| !service.ports.is_empty())
    }

    /// How long what is asked to end may take: out of the traffic, its grace, and more.
    #[must_use]
    pub fn end_bound(&self, allocation: &Allocation) -> Millis {
        let stored = self.spec(&allocation.spec);
        let grace = stored.map(|stored| stored.spec.stop().grace).unwrap_or_default();
        let drain = limits::SETTLE_DEADLINE + limits::DRAIN_DELAY + limits::END_PATIENCE;
        Millis(grace.0.saturating_add(Millis::from(drain).0))
    }

    /// Takes over what a node saw of an allocation. What lies in the past is ignored.
    pub(super) fn observe(
        &mut self,
        old: &Allocation,
        seen: AllocationStatus,
        touched: &mut Touched,
    ) -> Option<Arc<Allocation>> {
        let before = &old.observed;
        let is_past = (seen.attempt, seen.phase) < (before.attempt, before.phase);
        if is_past || before.phase.is_terminal() || *before == seen {
            return None;
        }
        let progress = progress_of(old, &seen);
        let mut new = old.clone();
        if (before.attempt, before.phase) != (seen.attempt, seen.phase) {
            new.phase_since = self.time;
        }
        if seen.phase == Phase::Running && new.first_running.is_none() {
            new.first_running = Some(self.time);
        }
        if seen.pulled > before.pulled {
            new.pulled_at = Some(self.time);
        }
        new.was_healthy |= seen.health == Health::Healthy;
        if self.is_next() {
            new.course.failed_starts = failed_starts(old, &seen);
        }
        new.observed = seen;
        if self.is_next() && old.is_routable() != new.is_routable() {
            let routes = new.is_routable() && self.is_deployed(&new) && self.has_ports(&new.spec);
            let since = Unrouted { index: self.index, at: self.time };
            new.course.unrouted = routes.then_some(since);
        }
        self.use_volumes(&new);
        if old.is_routable() && !new.is_routable() {
            self.outdate(&new.app, touched);
        }
        if let Some((phase, message)) = progress {
            self.note(&new, phase, message);
        }
        Some(self.put_allocation(new, touched))
    }

    /// What was planned for an app while this was otherwise is stale.
    pub(super) fn outdate(&mut self, app: &AppName, touched: &mut Touched) {
        let Some(old) = self.apps.get(app) else { return };
        let mut new = App::clone(old);
        new.version += 1;
        touched.apps.insert(app.clone());
        self.apps.insert(app.clone(), Arc::new(new));
    }

    /// Adds a step to the deployment that works on an allocation's service.
    pub(super) fn note(
        &mut self,
        allocation: &Allocation,
        phase: ProgressPhase,
        message: Option<String>,
    ) {
        let Some(running) = self.running_deployment(&allocation.app) else { return };
        let hook = running.hooks.iter().find(|hook| hook.run == allocation.id);
        let service = match hook {
            Some(hook) => hook.service.clone(),
            None if running.touched.contains(&allocation.workload) => allocation.workload.clone(),
            None => return,
        };
        let revision = running.revision;
        let Some(deployment) = self.deployments.get_mut(&revision) else { return };
        Arc::make_mut(deployment).add_progress(Progress {
            time: self.time,
            phase,
            service,
            allocation: Some(allocation.id.clone()),
            node: Some(allocation.node),
            message,
        });
    }
}

/// How often in a row it has ended before it was healthy.
fn failed_starts(old: &Allocation, seen: &AllocationStatus) -> u32 {
    // An attempt may begin and end between two reports.
    let ends = |one: &AllocationStatus| match one.phase {
        Phase::Pending | Phase::Pulling | Phase::Starting | Phase::Running => {
            one.attempt.0.saturating_sub(1)
        }
        _ => one.attempt.0,
    };
    let (before, count) = (&old.observed, old.course.failed_starts);
    let ended = ends(seen).saturating_sub(ends(before));
    let was_healthy = before.health == Health::Healthy;
    match seen.phase {
        Phase::Running if seen.health == Health::Healthy => 0,
        _ if was_healthy && ended > 0 => ended - 1,
        _ => count.saturating_add(ended),
    }
}

/// What a person following the deployment is told of a change, if anything.
fn progress_of(
    old: &Allocation,
    seen: &AllocationStatus,
) -> Option<(ProgressPhase, Option<String>)> {
    let before = &old.observed;
    let moved = (before.attempt, before.phase) != (seen.attempt, seen.phase);
    let why = || seen.message.clone().or_else(|| seen.exit.as_ref()?.message.clone());
    let takes_over = || old.replaces.as_ref().map(|id| format!("replaces {id}"));
    match seen.phase {
        Phase::Pulling if moved => Some((ProgressPhase::Pulling, seen.message.clone())),
        Phase::Pulling if before.message != seen.message => {
            Some((ProgressPhase::Retrying, seen.message.clone()))
        }
        Phase::Starting if moved => Some((ProgressPhase::Starting, None)),
        Phase::Running if before.health != seen.health => match seen.health {
            Health::Healthy => Some((ProgressPhase::Healthy, takes_over())),
            Health::Unhealthy => Some((ProgressPhase::Unhealthy, why())),
            Health::None | Health::Checking => None,
        },
        Phase::Backoff if moved => Some((ProgressPhase::Retrying, why())),
        Phase::Stopped if moved => Some((ProgressPhase::Stopped, completed(seen))),
        Phase::Failed | Phase::Lost if moved => Some((ProgressPhase::Failed, why())),
        _ => None,
    }
}

/// A task's program that did what it was to do.
fn completed(seen: &AllocationStatus) -> Option<String> {
    let exit = seen.exit.as_ref()?;
    (exit.reason == ExitReason::Completed).then(|| "completed".to_owned())
}

pub(super) fn not_found(what: &str, name: &str) -> Rejection {
    Rejection::NotFound { what: what.to_owned(), name: name.to_owned() }
}
