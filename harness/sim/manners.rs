//! Nodes in the simulation that are there and don't do what they are asked: they refuse, hang, lie.
//!
//! Owns what such a node does instead. Never cuts one off: that is `fault`.

use super::World;
use crate::fsm::Command;
use crate::fsm::command::{Notice, Sign};
use crate::fsm::model::{AllocationStatus, Health, Phase};
use crate::id::{AllocId, Attempt, NodeId};
use crate::units::Millis;
use std::collections::BTreeMap;

/// A containerd that doesn't answer for so long is told of.
const NOTICED: u64 = 10_000;

/// What a node does with what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// It does it.
    #[default]
    Good,
    /// It can't start anything.
    Refuses,
    /// It reaches no registry.
    PullsNothing,
    /// Its containerd doesn't answer.
    Hangs,
    /// Every program ends at once.
    Crashes,
    /// It tells of what isn't its own, and of what was.
    Lies,
}

pub(super) const BAD: [Manner; 5] =
    [Manner::Refuses, Manner::PullsNothing, Manner::Hangs, Manner::Crashes, Manner::Lies];

impl Manner {
    /// What becomes of a service's container in a phase instead of what should.
    pub(super) fn instead(self, phase: Phase) -> Option<Option<(u64, Phase)>> {
        match (self, phase) {
            (Self::Refuses, Phase::Starting) => Some(Some((50, Phase::Backoff))),
            (Self::PullsNothing, Phase::Pulling) => Some(None),
            (Self::Hangs, Phase::Pulling | Phase::Starting | Phase::Stopping | Phase::Backoff) => {
                Some(None)
            }
            (Self::Crashes, Phase::Running) => Some(Some((300, Phase::Backoff))),
            _ => None,
        }
    }
}

impl World {
    /// From now on a node is so.
    pub(super) fn behave(&mut self, node: NodeId, manner: Manner) {
        let now = self.now;
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        (sim.manner, sim.manner_since) = (manner, now);
        self.note(format!("{node} is {manner:?} from now on"));
        if manner == Manner::Good {
            self.go_on(node);
        }
    }

    /// What was held up goes on.
    fn go_on(&mut self, node: NodeId) {
        let Some(sim) = self.nodes.get(&node) else { return };
        let held = |phase| matches!(phase, Phase::Pulling | Phase::Starting | Phase::Stopping);
        let ids: Vec<(AllocId, Phase)> = sim
            .containers
            .iter()
            .filter(|(_, c)| held(c.observed.phase) || c.observed.phase == Phase::Backoff)
            .map(|(id, c)| (id.clone(), c.observed.phase))
            .collect();
        for (id, phase) in ids {
            self.set(node, &id, phase, Health::None);
        }
    }

    /// All nodes do what they are asked.
    pub(super) fn all_behave(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.nodes[&node].manner != Manner::Good {
                self.behave(node, Manner::Good);
            }
        }
    }

    /// A node says that its containerd doesn't answer, or does again.
    pub(super) fn notice_runtimes(&mut self) {
        if !self.state.is_next() {
            return;
        }
        let mut notices = Vec::new();
        for (id, sim) in self.nodes.iter().filter(|(_, sim)| !sim.cut) {
            let Some(node) = self.state.nodes.get(id).filter(|n| n.boot == sim.boot) else {
                continue;
            };
            let lasts = self.now - sim.manner_since;
            let hangs = sim.manner == Manner::Hangs && lasts > NOTICED;
            let is_known = node.condition.runtime_since.is_some();
            if hangs != is_known && node.is_up() {
                let sign = Sign::Runtime(hangs.then_some(Millis(lasts)));
                notices.push(Notice { node: *id, boot: sim.boot, sign });
            }
        }
        for notice in notices {
            self.propose(Command::Notice(notice));
        }
    }

    /// What a node that lies adds to its report.
    pub(super) fn lies(&mut self, node: NodeId, told: &mut BTreeMap<AllocId, AllocationStatus>) {
        if self.nodes.get(&node).is_none_or(|sim| sim.manner != Manner::Lies) {
            return;
        }
        let others = self.state.allocations.values().filter(|a| a.node != node);
        for other in others {
            let mut lie = other.observed.clone();
            (lie.phase, lie.health) = (Phase::Running, Health::Healthy);
            told.insert(other.id.clone(), lie);
        }
        for own in self.state.allocations_on(node) {
            if self.dice.chance(20) {
                let lie = AllocationStatus { attempt: Attempt(0), ..own.observed.clone() };
                told.entry(own.id.clone()).or_insert(lie);
            }
        }
    }
}
