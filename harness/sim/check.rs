//! What must hold in every world, after every entry and at rest.
//!
//! Owns the invariants. Never changes the world but for the verdict.

use super::{QUIET, World};
use crate::fsm::command::Action;
use crate::fsm::model::{Allocation, App, DeployStatus, Desired, Health, Node, NodeStatus, Phase};
use crate::fsm::{self, Applied, Command, Entry, Outcome, State};
use crate::id::{AllocId, NodeId, Revision};
use crate::limits;
use crate::scheduler::place::Placer;
use crate::spec::model::{ServiceSpec, UpdateOrder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long it may take until one of two in a seat goes.
const BOTH_FOR: u64 = 30_000;

/// How long somebody led between two moments, in milliseconds.
pub(super) fn led(silences: &[(u64, u64)], begun: u64, now: u64) -> u64 {
    let overlap = |(from, to): &(u64, u64)| to.min(&now).saturating_sub(*from.max(&begun));
    let silent: u64 = silences.iter().map(overlap).sum();
    (now - begun).saturating_sub(silent)
}

/// The seats that are replaced together with that one, and how: while a canary is watched, its own
/// and those of the old version each by themselves.
fn seats_beside<'a>(
    before: &'a State,
    old: &Allocation,
    replica: u32,
    spec: &'a ServiceSpec,
) -> (std::ops::Range<u32>, &'a ServiceSpec) {
    let Some(canary) = before.canary(&old.app, &old.workload) else {
        return (0..spec.replicas, spec);
    };
    let (new, stays) = (canary.new.spec, canary.old.spec);
    let count = canary.spec.count.min(new.replicas);
    let first = if new.update.order == UpdateOrder::StopFirst { count } else { 0 };
    match replica < first {
        true => (0..count, new),
        false => (first..stays.replicas.max(first), stays),
    }
}

impl World {
    pub(super) fn check_entry(&mut self, before: &State, entry: &Entry, applied: &Applied) {
        if applied.outcome.is_ok()
            && let Command::Steps(steps) = &entry.command
        {
            for action in &steps.actions {
                match action {
                    Action::Stop { allocation } => {
                        self.check_stop(before, allocation);
                        self.check_departure(before, allocation);
                    }
                    Action::Finish { revision, status: DeployStatus::Succeeded, .. } => {
                        self.check_finish(before, *revision);
                    }
                    Action::Drain { allocation } => {
                        self.check_removal(before, allocation);
                        self.check_departure(before, allocation);
                    }
                    _ => {}
                }
            }
        }
        self.check_patience(entry, applied);
        self.check_runs(before, entry, applied);
        self.check_members(before, entry, applied);
        self.check_held();
        if applied.outcome.is_ok()
            && let Command::Register(register) = &entry.command
            && before.nodes.get(&register.node).is_some_and(|n| n.status == NodeStatus::Down)
            && let Some(sim) = self.nodes.get_mut(&register.node)
        {
            sim.back = self.state.index;
            self.check_return(before, register.node);
        }
        self.check_seats();
        self.check_capacity();
        self.check_progress(before);
    }

    /// What has succeeded leads no traffic to anything else; that may still be about to end.
    fn check_finish(&mut self, before: &State, revision: Revision) {
        let Some(deployment) = before.deployments.get(&revision) else { return };
        let Some(app) = before.apps.get(&deployment.app) else { return };
        let mut wrong = None;
        for name in deployment.touched.iter() {
            let Some(service) = app.services.get(name) else { continue };
            let stored = service.target.as_ref().and_then(|hash| before.spec(hash));
            let live = before.allocations_of(name).filter(|a| a.is_live());
            for one in live.filter(|a| a.desired != Desired::Stop) {
                let run = before.spec(&one.spec).map(|other| &other.run);
                let is_current = run == stored.map(|stored| &stored.run)
                    && one.generation == service.generation
                    && one.desired == Desired::Run;
                if is_current {
                    continue;
                }
                let late = one.course.ends_since.is_some_and(|since| {
                    self.state.time >= before.due(since, before.end_bound(one))
                });
                if !late {
                    wrong = Some(format!("r{revision} is done while traffic leads to {}", one.id));
                }
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Nothing that may get traffic is stopped before every node has settled its draining, and it
    /// is in nobody's settled zone then.
    fn check_stop(&mut self, before: &State, id: &AllocId) {
        let Some(old) = before.allocations.get(id) else { return };
        let has_ports = spec_of(before, old).is_some_and(|spec| !spec.ports.is_empty());
        match old.desired {
            Desired::Run if old.is_routable() && has_ports => {
                self.fail(format!("{id} was stopped while traffic may lead to it"));
            }
            Desired::Draining { index, at, settled } if has_ports && old.is_live() => {
                // What nobody led of it doesn't count.
                let late = before.due(at, limits::SETTLE_DEADLINE.into());
                // One that was lost since was declared unreachable.
                let counts = |id| {
                    let node = before.nodes.get(id);
                    node.is_some_and(|n: &Arc<Node>| n.is_up())
                };
                let missing: Vec<_> = self
                    .nodes
                    .iter()
                    .filter(|(id, n)| n.seen < index && n.back < index && counts(*id))
                    .map(|(id, _)| *id)
                    .collect();
                if !missing.is_empty() && self.state.time < late {
                    self.fail(format!("{id} was stopped before {missing:?} settled its draining"));
                }
                let named: Vec<_> = self
                    .nodes
                    .iter()
                    .filter(|(_, n)| n.seen >= index)
                    .filter(|(_, n)| n.zone.addresses(id.as_str()).next().is_some())
                    .map(|(id, _)| *id)
                    .collect();
                if !named.is_empty() {
                    self.fail(format!("{id} was stopped while {named:?} answer with its address"));
                }
                let delay = |since| before.due(since, limits::DRAIN_DELAY.into());
                if settled.is_none_or(|since| self.state.time < delay(since)) {
                    self.fail(format!("{id} was stopped too soon after its draining settled"));
                }
            }
            _ => {}
        }
    }

    /// What failed for want of time had it, less the time when nobody led.
    fn check_patience(&mut self, entry: &Entry, applied: &Applied) {
        if let Ok(Outcome::Revision { revision, new: true }) = applied.outcome {
            self.begun.insert(revision, self.now);
        }
        let Command::Steps(steps) = &entry.command else { return };
        for action in steps.actions.iter().filter(|_| applied.outcome.is_ok()) {
            let Action::Revert { revision, reason, .. } = action else { continue };
            let bound = match reason {
                text if text.contains("not healthy in 1m") => 60_000,
                text if text.contains("not started in 5m") => 300_000,
                text if text.contains("no node fits for 5m") => 300_000,
                _ => continue,
            };
            let Some(begun) = self.begun.get(revision).copied() else { continue };
            let had = led(&self.silences, begun, self.now);
            // Time is slewed, and what nobody led for less than a moment counts.
            if self.level > 1 && had * 10 + 60_000 < bound * 9 {
                self.fail(format!("r{revision} had {had} ms of {bound}: {reason}"));
            }
        }
    }

    /// A healthy replica is only taken away as the update policy allows.
    fn check_removal(&mut self, before: &State, id: &AllocId) {
        let Some(old) = before.allocations.get(id).filter(|a| a.is_routable()) else { return };
        let app = self.state.apps.get(&old.app);
        let service = app.and_then(|app| app.services.get(&old.workload));
        let target = service.and_then(|service| service.target.as_ref());
        let Some(spec) = target.and_then(|h| self.state.spec(h)).and_then(|s| s.spec.service())
        else {
            return;
        };
        let Some(replica) = old.replica() else { return };
        let (seats, spec) = seats_beside(before, old, replica, spec);
        if !seats.contains(&replica) {
            return;
        }
        let after: Vec<&Arc<Allocation>> =
            self.state.allocations_of(&old.workload).filter(|a| a.is_routable()).collect();
        if after.iter().any(|a| a.replica() == Some(replica)) {
            return;
        }
        let filled: BTreeSet<u32> =
            after.iter().filter_map(|a| a.replica()).filter(|r| seats.contains(r)).collect();
        let empty = seats.len() - filled.len();
        let allowed = match spec.update.order {
            UpdateOrder::StartFirst => 0,
            UpdateOrder::StopFirst => spec.update.max_parallel as usize,
        };
        if empty > allowed {
            let what = format!("{id} was taken away: {empty} replicas are missing, {allowed} may");
            self.fail(what);
        }
    }

    /// No allocation without an owner, none twice in a seat.
    fn check_seats(&mut self) {
        let mut seats = BTreeSet::new();
        let mut wrong = None;
        let (now, state) = (self.now, &self.state);
        self.returned.retain(|_, at| led(&self.silences, *at, now) < BOTH_FOR);
        // One that is back shares its seat with what was to replace it, until that is noticed.
        let live = state.allocations.values().filter(|a| a.is_live());
        let stays = |a: &&Arc<Allocation>| !self.returned.contains_key(&a.id) && !self.is_moving(a);
        for allocation in live.filter(stays) {
            if allocation.desired != Desired::Run || allocation.replica().is_none() {
                continue;
            }
            let app = self.state.apps.get(&allocation.app);
            if app.is_none_or(|app| !app.services.contains_key(&allocation.workload)) {
                wrong = Some(format!("{} has no owner", allocation.id));
            }
            let run = self.state.spec(&allocation.spec).map(|s| s.run.clone());
            let seat = (allocation.workload.clone(), allocation.kind, run, allocation.generation);
            if !seats.insert(seat) {
                wrong = Some(format!("{} shares its seat with its like", allocation.id));
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// What was lost with a node that is back and was not given up is live again, nothing else.
    fn check_return(&mut self, before: &State, node: NodeId) {
        let mut wrong = None;
        for old in before.allocations_on(node).filter(|a| a.observed.phase == Phase::Lost) {
            let is_live = self.state.allocations.get(&old.id).is_some_and(|a| a.is_live());
            let is_awaited = old.desired == Desired::Run && old.replica().is_some();
            if is_live != is_awaited {
                wrong = Some(format!("{} is live: {is_live}, awaited: {is_awaited}", old.id));
            }
            if is_live {
                self.returned.insert(old.id.clone(), self.now);
                self.returns += 1;
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// No node holds more than it has; the derived sums are those of the allocations.
    fn check_capacity(&mut self) {
        let mut wrong = None;
        for node in self.state.nodes.values() {
            let live =
                self.state.allocations_on(node.id).filter(|a| !a.observed.phase.is_terminal());
            let (mut cpu, mut memory) = (0, 0);
            for allocation in live {
                let part = self.state.reservation(&allocation.spec);
                cpu += part.cpu.0;
                memory += part.memory.0;
            }
            if node.cpu.0 > 0 && (cpu > node.cpu.0 || memory > node.memory.0) {
                wrong = Some(format!("{} holds {cpu}m and {memory} B", node.name));
            }
            let sum = self.state.derived.reserved.get(&node.id).copied().unwrap_or_default();
            if (sum.cpu.0, sum.memory.0) != (cpu, memory) {
                wrong = Some(format!("{} is said to hold {sum:?}, holds {cpu}m", node.name));
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// Time never runs back, and an ended deployment stays as it ended.
    fn check_progress(&mut self, before: &State) {
        if self.state.time < before.time {
            self.fail("replicated time ran back".to_owned());
        }
        let changed = before.deployments.values().find(|old| {
            let new = self.state.deployments.get(&old.revision);
            old.status != DeployStatus::Running && new.is_some_and(|new| new.status != old.status)
        });
        if let Some(old) = changed {
            self.fail(format!("r{} changed after its end", old.revision));
        }
        let left = self.state.deployments.values().find(|d| {
            let newest = self.state.apps.get(&d.app).map(|app| app.revision);
            let is_running = d.status == DeployStatus::Running;
            is_running && newest != Some(d.revision) || is_running != d.ended_at.is_none()
        });
        if let Some(left) = left {
            self.fail(format!("r{} is {:?}, but not the newest", left.revision, left.status));
        }
    }

    /// Whether there is more to see, so long after the quiet time.
    pub(super) fn goes_on(&mut self, late: u64) -> bool {
        let mut all = self.state.deployments.values();
        let is_deploying = || all.any(|one| one.status == DeployStatus::Running);
        late == 0 || late <= QUIET && *self.ledger.prolonged.get_or_insert_with(is_deploying)
    }

    /// At rest: every deployment has ended, desired is actual, and the log gives the same state.
    pub(super) fn check_rest(&mut self) {
        let running = self.state.deployments.values().find(|d| d.status == DeployStatus::Running);
        if let Some(deployment) = running {
            return self.fail(format!("r{} never ended", deployment.revision));
        }
        for name in self.app_names() {
            self.check_app_at_rest(&name);
        }
        self.check_nodes_at_rest();
        self.check_runs_at_rest();
        self.check_drains_at_rest();
        self.check_replay();
    }

    fn check_app_at_rest(&mut self, name: &crate::id::AppName) {
        let Some(app) = self.state.apps.get(name).cloned() else { return };
        self.check_targets(&app);
        for (service, entry) in &app.services {
            let stored = entry.target.as_ref().and_then(|hash| self.state.spec(hash)).cloned();
            let spec = stored.as_ref().and_then(|stored| stored.spec.service());
            let wanted = spec.map_or(0, |spec| spec.replicas) as usize;
            let live = self.state.allocations_of(service).filter(|a| a.is_live());
            // What takes its place may never work: then both stay.
            let stays = |a: &&Arc<Allocation>| self.waits_for_heir(a) || self.outlives_restart(a);
            let live: Vec<_> = live.filter(|a| !stays(a)).cloned().collect();
            let is_right = |a: &&Arc<Allocation>| {
                let run = self.state.spec(&a.spec).map(|s| &s.run);
                run == stored.as_ref().map(|s| &s.run) && a.desired == Desired::Run
            };
            let right = live.iter().filter(is_right).count();
            let healthy = live.iter().filter(|a| a.observed.health == Health::Healthy).count();
            let image = spec.map_or("", |spec| &spec.run.image);
            let can_be = image.starts_with("good") || image.starts_with("slow");
            if entry.degraded {
                continue;
            }
            let is_full =
                spec.is_some_and(|spec| Placer::new(&self.state).place(&spec.run).is_err());
            if is_full && right == live.len() && right < wanted {
                continue;
            }
            if right != wanted || live.len() != wanted || can_be && healthy != wanted {
                let what = format!(
                    "{service} at rest: {right} of {} run the target, {healthy} healthy, \
                     {wanted} wanted",
                    live.len()
                );
                self.fail(what);
            }
        }
    }

    /// Whatever came after: what should run is what last succeeded, whole.
    fn check_targets(&mut self, app: &App) {
        let wanted = app.services.iter().filter_map(|(n, s)| Some((n.clone(), s.target.clone()?)));
        let wanted: BTreeMap<_, _> = wanted.collect();
        let stable = app.stable.and_then(|revision| self.state.deployments.get(&revision));
        let right = stable.map(|deployment| (*deployment.services).clone()).unwrap_or_default();
        if wanted != right {
            let what =
                format!("{} at rest should run {wanted:?}, last good was {right:?}", app.name);
            self.fail(what);
        }
    }

    fn check_nodes_at_rest(&mut self) {
        let mut wrong = None;
        if self.state.nodes.values().any(|node| !node.is_up()) {
            wrong = Some("a node was never let in again".to_owned());
        }
        for (node, sim) in &self.nodes {
            for (id, container) in &sim.containers {
                if super::tasks::is_task(&self.state, id) {
                    // A schedule never rests.
                    continue;
                }
                let wanted = self.state.allocations.get(id);
                let runs = !container.observed.phase.is_terminal();
                if runs && wanted.is_none_or(|a| a.desired != Desired::Run) {
                    wrong =
                        Some(format!("{id} still is {:?} on n{node}", container.observed.phase));
                }
                let is_same = |a: &Arc<Allocation>| {
                    a.observed.phase == Phase::Lost || a.observed == container.observed
                };
                if wanted.is_some_and(|a| !is_same(a)) {
                    wrong = Some(format!("{id} on n{node} is not as the state has it"));
                }
            }
        }
        let missing = self.state.allocations.values().find(|a| {
            let on_node = self.nodes.get(&a.node).is_some_and(|n| n.containers.contains_key(&a.id));
            let is_replica = a.replica().is_some() && a.desired == Desired::Run;
            is_replica && a.observed.phase != Phase::Lost && !on_node
        });
        if let Some(allocation) = missing {
            wrong = Some(format!("{} runs nowhere", allocation.id));
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// Equal logs give equal states, also by way of a snapshot in the middle.
    fn check_replay(&mut self) {
        let mut again = State::default();
        let half = self.log.len() / 2;
        for (n, (index, entry)) in self.log.iter().enumerate() {
            if n == half {
                let bytes = again.encode().unwrap_or_default();
                match State::decode(&bytes) {
                    Ok(state) => again = state,
                    Err(error) => return self.fail(format!("a snapshot can't be read: {error}")),
                }
            }
            let _ = fsm::apply(&mut again, *index, entry.clone());
        }
        if again.hash() != self.state.hash() || again.derived != self.state.derived {
            self.fail("the same log gave another state".to_owned());
        }
    }
}

fn spec_of<'a>(state: &'a State, allocation: &Allocation) -> Option<&'a ServiceSpec> {
    state.spec(&allocation.spec)?.spec.service()
}
