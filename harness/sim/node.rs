//! A node in the simulation: containers that pull, start, fall ill, crash and stop.
//!
//! Owns what the container actor would do, in simulated time.

use super::manners::Manner;
use super::{Event, TROUBLE, World};
use crate::fsm::State;
use crate::fsm::command::{Action, Report};
use crate::fsm::model::{
    AllocKind, Allocation, AllocationStatus, Exit, ExitReason, Health, Node, NodeStatus, Phase,
};
use crate::id::{AllocId, Attempt, BootId, Index, NodeId};
use crate::limits;
use crate::node::dns::Zone;
use crate::node::project::{Assignment, assignment};
use crate::units::Millis;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A node's own knowledge.
#[derive(Debug, Default)]
pub(super) struct SimNode {
    pub boot: BootId,
    pub seq: u64,
    pub sending: bool,
    pub seen: Index,
    /// Nothing reaches it, and it reaches nobody.
    pub cut: bool,
    /// When it was last let in after it was lost.
    pub back: Index,
    pub containers: BTreeMap<AllocId, SimContainer>,
    /// What it does with what it is asked, and since when.
    pub manner: Manner,
    pub manner_since: u64,
    /// What it answers questions about names from.
    pub zone: Zone,
}

/// A container with the number of its last change: a turn for an older one is ignored.
#[derive(Debug, Default)]
pub(super) struct SimContainer {
    pub observed: AllocationStatus,
    pub image: String,
    pub change: u64,
    pub stopping: bool,
}

/// What happens in a container, if nothing else did since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    change: u64,
    to: Phase,
    health: Health,
}

impl SimNode {
    /// A new life of the daemon: containers run on.
    pub(super) fn begin(&mut self, boot: BootId) {
        self.boot = boot;
        self.seq = 0;
        self.sending = false;
    }

    /// What the state does not show yet.
    pub(super) fn unconfirmed(
        &self,
        state: &State,
        _node: NodeId,
    ) -> Option<BTreeMap<AllocId, AllocationStatus>> {
        let differs = self.containers.iter().filter(|(id, container)| {
            let known = state.allocations.get(*id);
            known.is_some_and(|a| {
                a.observed != container.observed && a.observed.phase != Phase::Lost
            })
        });
        let all: BTreeMap<_, _> =
            differs.map(|(id, container)| (id.clone(), container.observed.clone())).collect();
        (!all.is_empty()).then_some(all)
    }
}

impl World {
    /// The node sees the newest state and acts on it.
    pub(super) fn on_view(&mut self, node: NodeId) {
        let state = self.state.clone();
        let Some(sim) = self.nodes.get_mut(&node).filter(|sim| !sim.cut) else { return };
        // What an earlier life of the node said may still be on its way: only once the state knows
        // this one is the last word of that one there.
        // While it counts as lost, nobody has decided what stays here.
        let is_let_in =
            |known: &Arc<Node>| known.boot == sim.boot && known.status != NodeStatus::Down;
        if !state.nodes.get(&node).is_some_and(is_let_in) {
            return;
        }
        if state.index <= sim.seen && !sim.containers.is_empty() {
            return self.report_soon(node);
        }
        sim.seen = state.index;
        sim.zone = Zone::of(&state, node);
        sim.containers.retain(|id, container| {
            state.allocations.contains_key(id) || !container.observed.phase.is_terminal()
        });
        let is_strange = |id: &AllocId, container: &SimContainer| {
            let ours = state.allocations.get(id).filter(|a| a.node == node);
            let ends = container.stopping || container.observed.phase.is_terminal();
            !ends && ours.and_then(|a| assignment(a)).is_none()
        };
        let strangers: Vec<AllocId> = sim
            .containers
            .iter()
            .filter(|(id, container)| is_strange(id, container))
            .map(|(id, _)| id.clone())
            .collect();
        for id in strangers {
            self.stop(node, &id, &AllocationStatus::default());
        }
        for allocation in state.allocations_on(node) {
            let image = state
                .spec(&allocation.spec)
                .map(|s| s.spec.run().image.clone())
                .unwrap_or_default();
            match assignment(allocation) {
                Some(Assignment::Run) => self.want(node, allocation, image),
                Some(Assignment::Stop) => self.stop(node, &allocation.id, &allocation.observed),
                None => {}
            }
        }
        let lag = self.dice.between(1, 30);
        self.after(lag, Event::Settled(node, state.index));
        self.report_soon(node);
    }

    fn want(&mut self, node: NodeId, allocation: &Allocation, image: String) {
        let (id, attempt) = (&allocation.id, allocation.attempt);
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        let container = sim.containers.entry(id.clone()).or_default();
        if container.stopping || container.observed.phase.is_terminal() {
            return;
        }
        let is_new = container.observed.attempt == Attempt(0);
        if is_new {
            container.image = image;
            let last = &allocation.observed;
            if last.attempt == Attempt(0) {
                container.observed.attempt = Attempt(1);
                // Any will do; it only shows whether it is in a zone.
                container.observed.address = Some(Ipv4Addr::new(10, 99, 8, 1));
                return self.set(node, id, Phase::Pulling, Health::None);
            }
            // It ran here before the power was gone.
            container.observed = last.clone();
            if allocation.kind == AllocKind::Task {
                // At most once: what became of it nobody knows.
                let (code, reason, message) = (None, ExitReason::Lost, None);
                container.observed.exit = Some(Exit { code, reason, message });
                return self.set(node, id, Phase::Failed, Health::None);
            }
            container.observed.attempt = attempt.max(Attempt(last.attempt.0 + 1));
        } else if container.observed.attempt < attempt {
            container.observed.attempt = attempt;
        } else {
            return;
        }
        container.observed.restarts += 1;
        let has_image = container.observed.phase != Phase::Pulling;
        let from = if has_image { Phase::Starting } else { Phase::Pulling };
        self.set(node, id, from, Health::None);
    }

    fn stop(&mut self, node: NodeId, id: &AllocId, last: &AllocationStatus) {
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        let container = sim.containers.entry(id.clone()).or_default();
        if container.observed.attempt == Attempt(0) {
            container.observed = last.clone();
        }
        if !container.stopping {
            container.stopping = true;
            container.observed.attempt = container.observed.attempt.max(Attempt(1));
            self.set(node, id, Phase::Stopping, Health::None);
        }
    }

    pub(super) fn on_container(&mut self, node: NodeId, id: &AllocId, turn: Turn) {
        let Some(container) = self.nodes.get(&node).and_then(|sim| sim.containers.get(id)) else {
            return;
        };
        if container.change == turn.change {
            self.set(node, id, turn.to, turn.health);
        }
    }

    pub(super) fn crash_container(&mut self) {
        let running: Vec<(NodeId, AllocId)> = self
            .nodes
            .iter()
            .flat_map(|(node, sim)| sim.containers.iter().map(|(id, c)| (*node, id.clone(), c)))
            .filter(|(_, _, c)| c.observed.phase == Phase::Running)
            .map(|(node, id, _)| (node, id))
            .collect();
        let which = usize::try_from(self.dice.below(running.len() as u64)).unwrap_or(0);
        if let Some((_, id)) = running.get(which).cloned() {
            self.crash(&id);
        }
    }

    /// Its program ends by itself, if it runs.
    pub(super) fn crash(&mut self, id: &AllocId) {
        let runs = |(_, sim): &(&NodeId, &SimNode)| {
            sim.containers.get(id).is_some_and(|c| c.observed.phase == Phase::Running)
        };
        let Some(node) = self.nodes.iter().find(runs).map(|(node, _)| *node) else { return };
        self.note(format!("{id} crashes"));
        let is_task = super::tasks::is_task(&self.state, id);
        let to = if is_task { Phase::Failed } else { Phase::Backoff };
        self.set(node, id, to, Health::None);
    }

    /// Puts a container into a phase and arranges what follows from it.
    pub(super) fn set(&mut self, node: NodeId, id: &AllocId, phase: Phase, health: Health) {
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        let manner = sim.manner;
        let Some(container) = sim.containers.get_mut(id) else { return };
        // Of all containers there ever were: a lost one's turns are nobody else's.
        self.next_change += 1;
        let change = self.next_change;
        container.change = change;
        let from = container.observed.phase;
        if phase == Phase::Starting && from == Phase::Backoff {
            container.observed.attempt = Attempt(container.observed.attempt.0 + 1);
            container.observed.restarts += 1;
        }
        container.observed.phase = phase;
        container.observed.health = health;
        if phase == Phase::Backoff {
            let reason = reason_after(from);
            // A node that refuses can't say of what.
            let code = (manner != Manner::Refuses).then_some(1);
            container.observed.exit = Some(Exit { code, reason, message: None });
        }
        let restarts = container.observed.restarts as usize;
        let image = container.image.split(':').next().unwrap_or_default().to_owned();
        if super::tasks::is_task(&self.state, id) {
            if phase.is_terminal() {
                super::tasks::ending(&mut container.observed, from, &image);
            }
            if let Some((delay, to)) = self.task_turn(phase, &image) {
                let turn = Turn { change, to, health: Health::None };
                self.after(delay, Event::Container(node, id.clone(), turn));
            }
            return self.report_soon(node);
        }
        let next = match manner.instead(phase) {
            Some(next) => next,
            None => self.next_phase(phase, health, &image, restarts),
        };
        if let Some((delay, to)) = next {
            let health = match (to, image.as_str()) {
                (Phase::Running, _) if phase == Phase::Starting => Health::None,
                (Phase::Running, "sick") => Health::Unhealthy,
                (Phase::Running, "ill") if health == Health::Healthy => Health::Unhealthy,
                (Phase::Running, _) => Health::Healthy,
                _ => Health::None,
            };
            let turn = Turn { change, to, health };
            self.after(delay, Event::Container(node, id.clone(), turn));
        }
        self.report_soon(node);
    }

    /// What a container's behaviour makes of it next, and when.
    fn next_phase(
        &mut self,
        phase: Phase,
        health: Health,
        image: &str,
        restarts: usize,
    ) -> Option<(u64, Phase)> {
        let calm = self.now > TROUBLE;
        let dice = &mut self.dice;
        match (phase, image) {
            (Phase::Pulling, "unreachable") => None,
            (Phase::Pulling, "unpullable") => Some((dice.between(50, 500), Phase::Backoff)),
            (Phase::Pulling, _) => Some((dice.between(1, 3_000), Phase::Starting)),
            (Phase::Starting, "unstartable") => Some((50, Phase::Backoff)),
            (Phase::Starting, _) => Some((dice.between(30, 200), Phase::Running)),
            (Phase::Running, "crash") => Some((dice.between(10, 500), Phase::Backoff)),
            (Phase::Running, "flaky") if !calm && dice.chance(20) => {
                Some((dice.between(10, 30_000), Phase::Backoff))
            }
            (Phase::Running, "ill") if health == Health::Unhealthy => Some((100, Phase::Backoff)),
            (Phase::Running, "ill") if !calm && health == Health::Healthy && dice.chance(50) => {
                Some((dice.between(10, 30_000), Phase::Running))
            }
            (Phase::Running, "late") if health == Health::None => Some((70_000, Phase::Running)),
            (Phase::Running, "sick") if health == Health::None => Some((3_000, Phase::Running)),
            (Phase::Running, "slow") if health == Health::None => Some((20_000, Phase::Running)),
            (Phase::Running, _) if health == Health::None => {
                Some((dice.between(1, 2_000), Phase::Running))
            }
            (Phase::Backoff, _) => {
                let last = limits::RESTART_BACKOFF.len() - 1;
                let wait = limits::RESTART_BACKOFF[restarts.min(last)];
                Some((Millis::from(wait).0, Phase::Starting))
            }
            (Phase::Stopping, _) => Some((dice.between(5, 10_000), Phase::Stopped)),
            _ => None,
        }
    }

    fn report_soon(&mut self, node: NodeId) {
        let state = &self.state;
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        if sim.sending || sim.unconfirmed(state, node).is_none() {
            return;
        }
        sim.sending = true;
        let boot = sim.boot;
        let delay = self.dice.between(1, 60);
        self.after(delay, Event::Send(node, boot));
    }
}

/// Why an attempt that failed in this phase has ended.
fn reason_after(phase: Phase) -> ExitReason {
    match phase {
        Phase::Pulling => ExitReason::PullFailed,
        Phase::Starting => ExitReason::StartFailed,
        _ => ExitReason::Error,
    }
}

pub(super) fn describe(action: &Action) -> String {
    match action {
        Action::Place(place) => match &place.replaces {
            Some(old) => format!("place {} on {} for {old}", place.id, place.node),
            None => format!("place {} on {}", place.id, place.node),
        },
        Action::Drain { allocation } => format!("drain {allocation}"),
        Action::Routed { allocation } => format!("routed {allocation}"),
        Action::Settled { allocation } => format!("settled {allocation}"),
        Action::Stop { allocation } => format!("stop {allocation}"),
        Action::Forget { allocation } => format!("forget {allocation}"),
        Action::GiveUp { allocation, why, .. } => format!("give up {allocation}: {why}"),
        Action::Wait { revision, message, .. } => format!("r{revision} waits: {message}"),
        Action::Canary { service, step, .. } => format!("canary of {service}: {step:?}"),
        Action::Revert { revision, reason, .. } => format!("revert r{revision}: {reason}"),
        Action::Finish { revision, status, .. } => format!("finish r{revision}: {status:?}"),
        Action::Run(action) => super::tasks::describe(action),
    }
}

pub(super) fn describe_report(report: &Report) -> String {
    let each = report
        .allocations
        .iter()
        .map(|(id, seen)| format!("{id}.{} {:?}/{:?}", seen.attempt, seen.phase, seen.health));
    format!("n{} reports {}", report.node, each.collect::<Vec<_>>().join(", "))
}
