//! The end of a deployment: success, failure, the bounded way back.
//!
//! Owns the verdict. Never places or stops anything itself.

#[cfg(test)]
mod tests;

use super::rollout::is_start_first;
use super::{Context, RolloutStatus};
use crate::fsm::command::Action;
use crate::fsm::model::{Allocation, App, DeployStatus, Deployment, Desired, ExitReason, Phase};
use crate::id::{AllocId, WorkloadName};
use crate::limits;
use crate::spec::model::ServiceSpec;
use crate::units::{Millis, Timestamp};
use std::collections::BTreeMap;

impl Context<'_> {
    pub(super) fn judge(&mut self, app: &App, rollouts: &BTreeMap<&WorkloadName, RolloutStatus>) {
        let state = self.state;
        let Some(deployment) = state.running_deployment(&app.name) else { return };
        let is_behind = |name: &&WorkloadName| {
            rollouts.get(name).is_some_and(|rollout| self.is_behind(deployment, rollout))
        };
        let behind: Vec<&WorkloadName> = deployment.touched.iter().filter(is_behind).collect();
        if let Some(since) = deployment.reverting {
            return self.judge_revert(deployment, since, &behind);
        }
        if let Some((service, reason)) = self.hook_failure(deployment) {
            self.actions = vec![Action::Revert { revision: deployment.revision, service, reason }];
            return;
        }
        let is_led = self.lead(deployment);
        if behind.is_empty() {
            // What is planned in the same step shows in the next: only then is it over.
            if is_led && self.is_quiet() && self.is_followed_up(deployment) {
                self.finish(deployment, DeployStatus::Succeeded, Vec::new());
            }
            return;
        }
        for name in behind {
            let rollout = rollouts.get(name);
            let unplaced = rollout.and_then(|s| s.unplaced.as_deref());
            let gets_room = rollout.is_some_and(|s| s.gets_room);
            if let Some(refusals) = unplaced {
                self.tell_waiting(deployment, name, refusals, gets_room);
            }
            // What is about to have a place is not waited for in vain.
            let unplaced = unplaced.filter(|_| !gets_room);
            if let Some(reason) = self.failure(deployment, name, unplaced) {
                let (revision, service) = (deployment.revision, name.clone());
                self.actions = vec![Action::Revert { revision, service, reason }];
                return;
            }
        }
        self.judge_canaries(app, rollouts);
    }

    /// Tells of the replicas that all nodes lead traffic to by now; whether those are all that
    /// work.
    fn lead(&mut self, deployment: &Deployment) -> bool {
        let (led, waits) = self.led(deployment);
        self.actions.extend(led.into_iter().map(|allocation| Action::Routed { allocation }));
        !waits
    }

    /// The replicas that all nodes lead traffic to by now and that this wasn't told of, and whether
    /// there are others; a node that takes too long isn't waited for.
    pub(super) fn led(&mut self, deployment: &Deployment) -> (Vec<AllocId>, bool) {
        let state = self.state;
        let (mut led, mut waits) = (Vec::new(), false);
        for allocation in deployment.touched.iter().flat_map(|name| state.allocations_of(name)) {
            let since = allocation.course.unrouted.filter(|_| allocation.is_routable());
            let Some(since) = since.filter(|since| since.at >= deployment.started_at) else {
                continue;
            };
            let is_late = self.is_due_in(since.at, limits::SETTLE_DEADLINE.into());
            if self.is_settled(since.index) || is_late {
                led.push(allocation.id.clone());
            } else {
                waits = true;
            }
        }
        (led, waits)
    }

    /// Whether a deployment waits for a service: for the ends of what it replaces only where it
    /// must.
    pub(super) fn is_behind(&self, deployment: &Deployment, rollout: &RolloutStatus) -> bool {
        !rollout.converged || rollout.lingers && self.waits_for_ends(deployment)
    }

    /// The way back: until all is as it was, or its time is over.
    fn judge_revert(
        &mut self,
        deployment: &Deployment,
        since: Timestamp,
        behind: &[&WorkloadName],
    ) {
        let status = match deployment.is_taken_back_by_hand() {
            true => DeployStatus::Aborted,
            false => DeployStatus::Failed,
        };
        if behind.is_empty() {
            self.finish(deployment, status, Vec::new());
        } else if self.is_due_in(since, self.revert_bound(deployment)) {
            let degraded = behind.iter().map(|name| (*name).clone()).collect();
            self.finish(deployment, status, degraded);
        }
    }

    fn finish(
        &mut self,
        deployment: &Deployment,
        status: DeployStatus,
        degraded: Vec<WorkloadName>,
    ) {
        let revision = deployment.revision;
        self.actions.push(Action::Finish { revision, status, degraded });
    }

    fn revert_bound(&self, deployment: &Deployment) -> Millis {
        let deadlines = deployment.touched.iter().filter_map(|name| {
            let service = self.state.apps.get(&deployment.app)?.services.get(name)?;
            let spec = self.target(service.target.as_ref()?)?;
            let turns = u64::from(spec.replicas.div_ceil(spec.update.max_parallel.max(1)));
            let turn = spec.update.healthy_deadline.0 + spec.stop.grace.0;
            Some(Millis(turns.max(1) * turn))
        });
        let longest = deadlines.max().unwrap_or_default();
        Millis(longest.0 + Millis::from(limits::REVERT_MARGIN).0)
    }

    fn target(&self, hash: &crate::id::SpecHash) -> Option<&ServiceSpec> {
        self.state.spec(hash)?.spec.service()
    }

    /// Why a service can't reach its target, once that is certain.
    fn failure(
        &mut self,
        deployment: &Deployment,
        name: &WorkloadName,
        unplaced: Option<&str>,
    ) -> Option<String> {
        let state = self.state;
        if let Some(refusals) = unplaced
            && let Some(why) = self.unplaced(deployment, name, refusals)
        {
            return Some(why);
        }
        let service = state.apps.get(&deployment.app)?.services.get(name)?;
        let spec = self.target(service.target.as_ref()?)?.clone();
        let run = &state.spec(service.target.as_ref()?)?.run;
        for allocation in state.allocations_of(name) {
            let is_new = state.spec(&allocation.spec).is_some_and(|s| s.run == *run)
                && allocation.generation == service.generation;
            let is_asked = allocation.desired == Desired::Run;
            let is_lost = allocation.observed.phase == Phase::Lost;
            if let Some(why) = self.outlasts(deployment, allocation, &spec) {
                return Some(why);
            }
            let is_behind = is_new && is_asked && !is_lost && !self.works(allocation);
            if is_behind && !self.is_given_up(allocation) {
                let why = self.allocation_failure(deployment, allocation, &spec);
                if let Some(why) = why {
                    return Some(format!("{}: {why}", allocation.id));
                }
            }
        }
        None
    }

    /// What fits nowhere waits from the last placement on, but not for ever.
    fn unplaced(
        &mut self,
        deployment: &Deployment,
        name: &WorkloadName,
        refusals: &str,
    ) -> Option<String> {
        let placed = self.state.allocations_of(name).map(|a| a.created_at).max();
        // While its tasks ran, nothing was to be placed.
        let tasks = deployment.hooks.iter().filter_map(|hook| hook.ended_at).max();
        let since = placed.max(tasks).unwrap_or_default().max(deployment.started_at);
        if self.is_due_in(since, limits::UNPLACED_DEADLINE.into()) {
            let waited = limits::UNPLACED_DEADLINE.as_secs() / 60;
            return Some(format!("{name}: no node fits for {waited}m: {refusals}"));
        }
        None
    }

    /// What is asked to end doesn't, and what is to take its seat waits for that.
    fn outlasts(
        &mut self,
        deployment: &Deployment,
        allocation: &Allocation,
        spec: &ServiceSpec,
    ) -> Option<String> {
        let is_seat = allocation.replica().is_some_and(|replica| replica < spec.replicas);
        let waits = is_seat && !is_start_first(spec) && allocation.first_running.is_some();
        let since = allocation.course.ends_since.filter(|_| waits && allocation.is_live())?;
        let is_late = self.has_outlasted(allocation, since.max(deployment.started_at));
        let node = self.state.nodes.get(&allocation.node).map_or("?", |node| node.name.as_str());
        is_late.then(|| format!("{} does not end on {node}", allocation.id))
    }

    fn allocation_failure(
        &mut self,
        deployment: &Deployment,
        allocation: &Allocation,
        spec: &ServiceSpec,
    ) -> Option<String> {
        let seen = &allocation.observed;
        let exit = seen.exit.as_ref();
        let said = exit.and_then(|e| e.message.as_ref());
        let because = || said.map(|text| format!(": {text}")).unwrap_or_default();
        // What the program wrote stands on lines of its own.
        let output = || said.map(|text| format!("\n{text}")).unwrap_or_default();
        let ended = matches!(seen.phase, Phase::Backoff | Phase::Failed);
        if let Some(exit) = exit.filter(|_| ended) {
            match exit.reason {
                ExitReason::StartFailed => {
                    return Some(format!("could not be started{}", because()));
                }
                ExitReason::PullFailed => {
                    return Some(format!("image could not be pulled{}", because()));
                }
                _ => {}
            }
            if seen.restarts.saturating_add(1) >= limits::DEPLOY_CRASHES {
                if let (ExitReason::Killed, Some(said)) = (exit.reason, said) {
                    // It says which probe failed, and with what.
                    return Some(said.clone());
                }
                let how = describe(exit.reason, exit.code);
                return Some(format!("{how} {}×{}", seen.restarts.saturating_add(1), output()));
            }
        }
        let (since, bound, what) = match allocation.first_running {
            Some(ran) => {
                let since = if allocation.was_healthy { allocation.phase_since } else { ran };
                (since, spec.update.healthy_deadline, "not healthy")
            }
            None => {
                // A pull that gets further may take as long as it needs.
                let since = allocation.created_at.max(allocation.pulled_at.unwrap_or_default());
                (since, Millis::from(limits::UNPLACED_DEADLINE), "not started")
            }
        };
        // One that an earlier deployment began has the whole time of this one.
        let due = self.is_due_in(since.max(deployment.started_at), bound);
        let now = seen.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        due.then(|| format!("{what} in {bound}{now}{}", output()))
    }
}

/// How an exit is told to people.
fn describe(reason: ExitReason, code: Option<i32>) -> String {
    match (reason, code) {
        (ExitReason::Oom, _) => "out of memory".to_owned(),
        (ExitReason::Killed, _) => "killed".to_owned(),
        (_, Some(code)) => format!("exited {code}"),
        (_, None) => "ended".to_owned(),
    }
}
