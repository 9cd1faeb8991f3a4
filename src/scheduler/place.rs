//! Placement: filter, score, explain.
//!
//! Owns which node a replica goes to and why others don't fit. Never changes the state: what it
//! hands out is set aside in its own copy of the nodes' free amounts.

use super::homes::Homes;
pub use super::refusal::Refusal;
use crate::fsm::State;
use crate::fsm::model::{Desired, Node, NodeStatus};
use crate::id::{NodeId, WorkloadName};
use crate::limits;
use crate::spec::model::RunSpec;
use crate::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How well a node takes a replica; the least is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// When the service last did not work there, if that counts still.
    pub avoided: Option<Timestamp>,
    /// Other replicas of the service on it.
    pub same: u32,
    /// A volume of it is attached elsewhere.
    pub away: bool,
    /// What would be left of its memory.
    pub memory: Bytes,
    /// What is free of its processors.
    pub cpu: MilliCpu,
    pub node: NodeId,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = match self.same {
            0 => "no other replica".to_owned(),
            1 => "1 other replica".to_owned(),
            count => format!("{count} other replicas"),
        };
        write!(f, "{others}, {} of memory left", self.memory)?;
        if self.away {
            f.write_str(", its volume is attached elsewhere")?;
        }
        if self.avoided.is_some() { f.write_str(", did not work there") } else { Ok(()) }
    }
}

/// The nodes with what is free on them, for a run of placements.
#[derive(Clone)]
pub struct Placer {
    slots: Vec<Slot>,
    now: Timestamp,
}

/// What each placement looks at of every node stands in it, so that few follow the pointers.
#[derive(Clone)]
struct Slot {
    id: NodeId,
    node: Arc<Node>,
    homes: Arc<Homes>,
    /// The node takes replicas at all.
    is_open: bool,
    cpu: u64,
    memory: u64,
    /// Replicas of the service that is being placed.
    same: u32,
    /// When that service last did not work here, if that counts still.
    avoided: Option<Timestamp>,
}

impl Placer {
    /// With what the state's live allocations leave free, at the state's time.
    #[must_use]
    pub fn new(state: &State) -> Self {
        Self::at(state, state.time)
    }

    /// The same, at another time.
    #[must_use]
    pub fn at(state: &State, now: Timestamp) -> Self {
        let homes = Arc::new(Homes::of(state));
        let slots = state.nodes.values().map(|node| {
            let used = state.derived.reserved.get(&node.id).copied().unwrap_or_default();
            Slot {
                id: node.id,
                is_open: closed(node).is_none(),
                cpu: node.cpu.0.saturating_sub(used.cpu.0),
                memory: node.memory.0.saturating_sub(used.memory.0),
                same: 0,
                avoided: None,
                node: Arc::clone(node),
                homes: Arc::clone(&homes),
            }
        });
        Self { slots: slots.collect(), now }
    }

    /// Begins a service: its replicas are spread over the nodes. Those that end don't count.
    pub fn begin(&mut self, state: &State, service: &WorkloadName) {
        let all = state.allocations_of(service);
        let stay = all.filter(|a| a.is_live() && a.desired == Desired::Run).map(|a| a.node);
        self.begin_beside(state, service, stay);
    }

    /// The same, beside those of its replicas that stay, each by its node: what is about to be
    /// replaced doesn't count.
    pub fn begin_beside(
        &mut self,
        state: &State,
        service: &WorkloadName,
        stay: impl Iterator<Item = NodeId>,
    ) {
        let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
        for node in stay {
            *counts.entry(node).or_default() += 1;
        }
        let avoids = state.avoids(service);
        let counting = |at: Timestamp| self.now.since(at) < limits::NODE_AVOIDED.into();
        for slot in &mut self.slots {
            slot.same = counts.get(&slot.id).copied().unwrap_or(0);
            let avoided = avoids.and_then(|avoids| avoids.get(&slot.id));
            slot.avoided = avoided.map(|avoided| avoided.at).filter(|at| counting(*at));
        }
    }

    /// Whether another node takes the service that was begun, and it did not fail there lately.
    #[must_use]
    pub fn fits_elsewhere(&self, run: &RunSpec, node: NodeId) -> bool {
        let is_other = |slot: &&Slot| slot.id != node && slot.avoided.is_none();
        self.slots.iter().filter(is_other).any(|slot| slot.refusal(run).is_none())
    }

    /// Sets a node aside for one more replica: where the service worked, or failed longest ago; of
    /// those the one with the fewest of it, then the fullest that still fits, then the lowest id.
    ///
    /// # Errors
    /// Every node's refusal, if none fits.
    pub fn place(&mut self, run: &RunSpec) -> Result<NodeId, Vec<(NodeId, Refusal)>> {
        let need = (run.reserved_cpu().0, run.memory.0);
        let fits = |slot: &&mut Slot| slot.refusal(run).is_none();
        let best = self.slots.iter_mut().filter(fits).min_by_key(|slot| slot.score(run));
        let Some(slot) = best else {
            let explain = |slot: &Slot| Some((slot.id, slot.refusal(run)?));
            return Err(self.slots.iter().filter_map(explain).collect());
        };
        slot.cpu -= need.0;
        slot.memory -= need.1;
        slot.same += 1;
        Ok(slot.id)
    }

    /// Takes a replica of the service that was begun off its node again.
    pub fn give_back(&mut self, node: NodeId, run: &RunSpec) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == node) {
            slot.cpu += run.reserved_cpu().0;
            slot.memory += run.memory.0;
            slot.same = slot.same.saturating_sub(1);
        }
    }

    /// Every node with its score, the best first, then those that don't take one more replica.
    #[must_use]
    pub fn rank(&self, run: &RunSpec) -> Vec<(NodeId, Result<Score, Refusal>)> {
        let verdict = |slot: &Slot| match slot.refusal(run) {
            None => (slot.id, Ok(slot.score(run))),
            Some(why) => (slot.id, Err(why)),
        };
        let mut all: Vec<_> = self.slots.iter().map(verdict).collect();
        all.sort_by_key(|(id, verdict)| match verdict {
            Ok(score) => (false, Some(*score), *id),
            Err(_) => (true, None, *id),
        });
        all
    }
}

impl Slot {
    fn score(&self, run: &RunSpec) -> Score {
        Score {
            avoided: self.avoided,
            same: self.same,
            away: self.homes.is_away(self.id, run),
            memory: Bytes(self.memory.saturating_sub(run.memory.0)),
            cpu: MilliCpu(self.cpu),
            node: self.id,
        }
    }

    fn refusal(&self, run: &RunSpec) -> Option<Refusal> {
        if let Some(why) = self.homes.refusal(&self.node, run) {
            return Some(why);
        }
        if !self.is_open {
            return closed(&self.node);
        }
        for (label, want) in &run.constraints {
            let have = self.node.labels.get(label);
            if have != Some(want) {
                let (label, have) = (label.clone(), have.cloned());
                return Some(Refusal::Constraint { label, have });
            }
        }
        if self.cpu < run.reserved_cpu().0 {
            return Some(Refusal::Cpu { free: MilliCpu(self.cpu) });
        }
        if self.memory < run.memory.0 {
            return Some(Refusal::Memory { free: Bytes(self.memory) });
        }
        None
    }
}

/// Why a node takes nothing, whatever it is.
fn closed(node: &Node) -> Option<Refusal> {
    match node.status {
        NodeStatus::Draining => Some(Refusal::Draining),
        NodeStatus::Down => Some(Refusal::Down),
        NodeStatus::Ready if node.condition.silent_since.is_some() => Some(Refusal::Silent),
        NodeStatus::Ready => node.condition.runtime_since.map(|_| Refusal::Degraded),
    }
}

/// What a container asks of a node, for people: `cpu 0.5, memory 512M, zone=eu-1`.
#[must_use]
pub fn need(run: &RunSpec) -> String {
    let cpu = run.reserved_cpu().cores();
    let labels = run.constraints.iter().map(|(label, value)| format!(", {label}={value}"));
    format!("cpu {cpu}, memory {}{}", run.memory, labels.collect::<String>())
}

/// Whether some node, empty, could hold it; else the largest amounts that any has.
///
/// # Errors
/// The most cores and the most memory of any node with the labels.
pub fn could_ever_fit(state: &State, run: &RunSpec) -> Result<(), (MilliCpu, Bytes)> {
    let mut most = (MilliCpu(0), Bytes(0));
    for node in state.nodes.values() {
        let has_labels = run.constraints.iter().all(|(k, v)| node.labels.get(k) == Some(v));
        if !has_labels {
            continue;
        }
        if node.cpu >= run.reserved_cpu() && node.memory >= run.memory {
            return Ok(());
        }
        most = (most.0.max(node.cpu), most.1.max(node.memory));
    }
    Err(most)
}
