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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("draining"),
            Self::Down => f.write_str("down"),
            Self::Constraint { label, have: Some(have) } => {
                write!(f, "constraint  {label}={have}")
            }
            Self::Constraint { label, have: None } => write!(f, "constraint  no label {label}"),
            Self::Cpu { free } => write!(f, "cpu  {free} free"),
            Self::Memory { free } => write!(f, "memory  {free} free"),
        }
    }
}

/// The nodes with what is free on them, for a run of placements.
pub struct Placer {
    slots: Vec<Slot>,
}

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
        let best = self.slots.iter_mut().filter(fits).min_by_key(|slot| {
            (slot.same, slot.memory.saturating_sub(need.1), slot.cpu, slot.node.id)
        });
        let Some(slot) = best else {
            let explain = |slot: &Slot| Some((slot.node.id, slot.refusal(run)?));
            return Err(self.slots.iter().filter_map(explain).collect());
        };
        slot.cpu -= need.0;
        slot.memory -= need.1;
        slot.same += 1;
        Ok(slot.node.id)
    }
}

impl Slot {
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
