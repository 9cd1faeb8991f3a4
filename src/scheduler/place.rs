//! Placement: filter, score, explain.
//!
//! Owns which node a replica goes to and why others don't fit. Never changes the state: what it
//! hands out is set aside in its own copy of the nodes' free amounts.

use crate::fsm::State;
use crate::fsm::model::{Node, NodeStatus};
use crate::id::{NodeId, WorkloadName};
use crate::spec::model::RunSpec;
use crate::units::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a node does not take a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is draining.
    Draining,
    /// It is silent.
    Down,
    /// Its label has another value, or none.
    Constraint {
        /// The label.
        label: String,
        /// What the node has.
        have: Option<String>,
    },
    /// Too few cores are free.
    Cpu {
        /// What is free.
        free: MilliCpu,
    },
    /// Too little memory is free.
    Memory {
        /// What is free.
        free: Bytes,
    },
}

impl Refusal {
    /// What is in the way, and in figures.
    #[must_use]
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Draining => ("draining", String::new()),
            Self::Down => ("down", String::new()),
            Self::Constraint { label, have: Some(have) } => {
                ("constraint", format!("{label}={have}"))
            }
            Self::Constraint { label, have: None } => ("constraint", format!("no label {label}")),
            Self::Cpu { free } => ("cpu", format!("{free} free")),
            Self::Memory { free } => ("memory", format!("{free} free")),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = self.parts();
        f.write_str(format!("{what} {detail}").trim_end())
    }
}

/// How well a node takes a replica; the least is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Other replicas of the service on it.
    pub same: u32,
    /// What would be left of its memory.
    pub memory: Bytes,
    /// What is free of its processors.
    pub cpu: MilliCpu,
    /// Which node.
    pub node: NodeId,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = match self.same {
            0 => "no other replica".to_owned(),
            1 => "1 other replica".to_owned(),
            count => format!("{count} other replicas"),
        };
        write!(f, "{others}, {} of memory left", self.memory)
    }
}

/// The nodes with what is free on them, for a run of placements.
#[derive(Clone)]
pub struct Placer {
    slots: Vec<Slot>,
}

#[derive(Clone)]
struct Slot {
    node: Arc<Node>,
    cpu: u64,
    memory: u64,
    /// Replicas of the service that is being placed.
    same: u32,
}

impl Placer {
    /// With what the state's live allocations leave free.
    #[must_use]
    pub fn new(state: &State) -> Self {
        let slots = state.nodes.values().map(|node| {
            let used = state.derived.reserved.get(&node.id).copied().unwrap_or_default();
            Slot {
                cpu: node.cpu.0.saturating_sub(used.cpu.0),
                memory: node.memory.0.saturating_sub(used.memory.0),
                same: 0,
                node: Arc::clone(node),
            }
        });
        Self { slots: slots.collect() }
    }

    /// Begins a service: its replicas are spread over the nodes.
    pub fn begin(&mut self, state: &State, service: &WorkloadName) {
        let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
        for allocation in state.allocations_of(service).filter(|a| a.is_live()) {
            *counts.entry(allocation.node).or_default() += 1;
        }
        for slot in &mut self.slots {
            slot.same = counts.get(&slot.node.id).copied().unwrap_or(0);
        }
    }

    /// Sets a node aside for one more replica: the one with the fewest of the service, then the
    /// fullest that still fits, then the lowest id.
    ///
    /// # Errors
    /// Every node's refusal, if none fits.
    pub fn place(&mut self, run: &RunSpec) -> Result<NodeId, Vec<(NodeId, Refusal)>> {
        let need = (run.reserved_cpu().0, run.memory.0);
        let fits = |slot: &&mut Slot| slot.refusal(run).is_none();
        let best = self.slots.iter_mut().filter(fits).min_by_key(|slot| slot.score(run));
        let Some(slot) = best else {
            let explain = |slot: &Slot| Some((slot.node.id, slot.refusal(run)?));
            return Err(self.slots.iter().filter_map(explain).collect());
        };
        slot.cpu -= need.0;
        slot.memory -= need.1;
        slot.same += 1;
        Ok(slot.node.id)
    }

    /// Takes a replica of the service that was begun off its node again.
    pub fn give_back(&mut self, node: NodeId, run: &RunSpec) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.node.id == node) {
            slot.cpu += run.reserved_cpu().0;
            slot.memory += run.memory.0;
            slot.same = slot.same.saturating_sub(1);
        }
    }

    /// Every node with its score, the best first, then those that don't take one more replica.
    #[must_use]
    pub fn rank(&self, run: &RunSpec) -> Vec<(NodeId, Result<Score, Refusal>)> {
        let verdict = |slot: &Slot| match slot.refusal(run) {
            None => (slot.node.id, Ok(slot.score(run))),
            Some(why) => (slot.node.id, Err(why)),
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
            same: self.same,
            memory: Bytes(self.memory.saturating_sub(run.memory.0)),
            cpu: MilliCpu(self.cpu),
            node: self.node.id,
        }
    }

    fn refusal(&self, run: &RunSpec) -> Option<Refusal> {
        match self.node.status {
            NodeStatus::Draining => return Some(Refusal::Draining),
            NodeStatus::Down => return Some(Refusal::Down),
            NodeStatus::Ready => {}
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
