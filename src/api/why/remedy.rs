//! What would give a waiting replica a place: each candidate tried with the real placer.
//!
//! Owns the candidates and their words. Never offers one that doesn't help.

use crate::fsm::State;
use crate::fsm::model::{Node, NodeStatus};
use crate::id::{AllocId, NodeId, VolumeName, WorkloadName};
use crate::limits;
use crate::scheduler::place::{Placer, Refusal};
use crate::scheduler::plan::Unplaced;
use crate::spec::model::{RunSpec, ServiceSpec, UpdateOrder};
use crate::units::{Bytes, MilliCpu};
use std::sync::Arc;

/// A change that gives a waiting replica a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The node takes allocations again.
    Undrain(NodeId),
    /// The node gets these labels.
    Label(NodeId, Vec<(String, String)>),
    /// The service asks for less.
    Lower {
        /// Cores, if they are too many.
        cpu: Option<MilliCpu>,
        /// Memory, if it is too much.
        memory: Option<Bytes>,
    },
    /// So much less is reserved on the node.
    Free {
        node: NodeId,
        /// Cores and memory that one more replica lacks.
        one: (MilliCpu, Bytes),
        /// The same of all that wait.
        all: (MilliCpu, Bytes),
    },
    /// The old replica goes before the new one comes.
    StopFirst(AllocId),
    /// The service has fewer replicas.
    Replicas(u32),
    /// The node is heard of again.
    Return(NodeId),
    /// The node that has the volume's data takes it.
    Home(VolumeName, String),
    /// There is another node.
    AddNode(MilliCpu, Bytes),
}

/// What would give the replica a place, the smallest change first. So many of the service wait.
#[must_use]
pub fn remedies(state: &State, waiting: &Unplaced, count: usize) -> Vec<Remedy> {
    let Some(spec) = target(state, &waiting.service) else { return Vec::new() };
    let run = &spec.run;
    let mut found = Vec::new();
    for (id, why) in &waiting.refusals {
        let Some(node) = state.nodes.get(id) else { continue };
        found.extend(match why {
            Refusal::Draining => Some(Remedy::Undrain(*id)),
            Refusal::Down => Some(Remedy::Return(*id)),
            Refusal::Constraint { .. } => Some(Remedy::Label(*id, missing(node, run))),
            _ => None,
        });
    }
    found.extend(lower(state, run));
    found.extend(free(state, run, count));
    found.extend(stop_first(state, waiting, spec));
    found.retain(|remedy| remedy.helps(state, &waiting.service, run));
    let others = state.allocations_of(&waiting.service);
    let seats: std::collections::BTreeSet<u32> =
        others.filter(|a| a.is_live()).filter_map(|a| a.replica()).collect();
    let fewer = u32::try_from(seats.len()).unwrap_or(u32::MAX);
    if fewer > 0 && fewer < spec.replicas {
        found.push(Remedy::Replicas(fewer));
    }
    found.sort_by_key(Remedy::size);
    let pinned = waiting.refusals.iter().find_map(|(_, why)| match why {
        Refusal::Volume { name, node } => Some((name.clone(), node.clone())),
        _ => None,
    });
    if let Some((name, node)) = pinned.filter(|_| found.is_empty()) {
        found.push(Remedy::Home(name, node));
    }
    if found.is_empty() {
        found.push(Remedy::AddNode(run.reserved_cpu(), run.memory));
    }
    found
}

fn target<'a>(state: &'a State, service: &WorkloadName) -> Option<&'a ServiceSpec> {
    let target = state.owner(service)?.services.get(service)?.target.as_ref()?;
    state.spec(target)?.spec.service()
}

fn missing(node: &Node, run: &RunSpec) -> Vec<(String, String)> {
    let wanted = run.constraints.iter();
    let wanted = wanted.filter(|(label, value)| node.labels.get(*label) != Some(value));
    wanted.map(|(label, value)| (label.clone(), value.clone())).collect()
}

/// What the state leaves free on a node.
fn left(state: &State, node: &Node) -> (MilliCpu, Bytes) {
    let used = state.derived.reserved.get(&node.id).copied().unwrap_or_default();
    let cpu = node.cpu.0.saturating_sub(used.cpu.0);
    (MilliCpu(cpu), Bytes(node.memory.0.saturating_sub(used.memory.0)))
}

/// Nodes that only lack room.
fn candidates<'a>(state: &'a State, run: &'a RunSpec) -> impl Iterator<Item = &'a Arc<Node>> {
    let ready = state.nodes.values().filter(|node| node.status == NodeStatus::Ready);
    ready.filter(|node| missing(node, run).is_empty())
}

/// Asking for less, as little less as possible: in whole hundredths of a core and megabytes.
fn lower(state: &State, run: &RunSpec) -> Option<Remedy> {
    let less = candidates(state, run).filter_map(|node| {
        let (cpu, memory) = left(state, node);
        let cpu = (cpu < run.reserved_cpu()).then_some(MilliCpu(cpu.0 / 10 * 10));
        let memory = (memory < run.memory).then_some(Bytes(memory.0 / 1_000_000 * 1_000_000));
        let can_run = cpu.is_none_or(|cpu| cpu.0 > 0)
            && memory.is_none_or(|memory| memory.0 >= limits::MEMORY_MIN);
        can_run.then_some(Remedy::Lower { cpu, memory })
    });
    less.max_by_key(|remedy| match remedy {
        Remedy::Lower { cpu, memory } => {
            let both = cpu.is_some() && memory.is_some();
            (!both, memory.map_or(u64::MAX, |m| m.0), cpu.map_or(u64::MAX, |c| c.0))
        }
        _ => (false, 0, 0),
    })
}

/// Making room on the node that lacks least.
fn free(state: &State, run: &RunSpec, count: usize) -> Option<Remedy> {
    let needs = |count: u64| {
        (run.reserved_cpu().0.saturating_mul(count), run.memory.0.saturating_mul(count))
    };
    let short = candidates(state, run).filter_map(|node| {
        if node.cpu < run.reserved_cpu() || node.memory < run.memory {
            return None;
        }
        let (cpu, memory) = left(state, node);
        let cpu = run.reserved_cpu().0.saturating_sub(cpu.0);
        let memory = run.memory.0.saturating_sub(memory.0);
        // By its share of the node.
        let share = |lacks: u64, of: u64| lacks.saturating_mul(1_000) / of.max(1);
        let most = share(memory, node.memory.0).max(share(cpu, node.cpu.0));
        Some((most, node.id, memory, cpu))
    });
    let (_, node, memory, cpu) = short.min()?;
    let one = (MilliCpu(cpu), Bytes(memory));
    let found = state.nodes.get(&node)?;
    let (left, (cpu, memory)) = (left(state, found), needs(count as u64));
    let fits = cpu <= found.cpu.0 && memory <= found.memory.0;
    let lacks = (cpu.saturating_sub(left.0.0), memory.saturating_sub(left.1.0));
    let all = if fits { (MilliCpu(lacks.0), Bytes(lacks.1)) } else { one };
    Some(Remedy::Free { node, one, all })
}

fn stop_first(state: &State, waiting: &Unplaced, spec: &ServiceSpec) -> Option<Remedy> {
    if spec.update.order == UpdateOrder::StopFirst {
        return None;
    }
    let mut own = state.allocations_of(&waiting.service);
    let old = own.find(|a| a.is_live() && a.replica() == Some(waiting.replica))?;
    Some(Remedy::StopFirst(old.id.clone()))
}

impl Remedy {
    /// Whether the replica has a place then.
    fn helps(&self, state: &State, service: &WorkloadName, run: &RunSpec) -> bool {
        let mut state = state.clone();
        let mut run = run.clone();
        match self {
            Self::Undrain(id) | Self::Return(id) => {
                change(&mut state, *id, |node| node.status = NodeStatus::Ready);
            }
            Self::Label(id, labels) => {
                change(&mut state, *id, |node| node.labels.extend(labels.iter().cloned()));
            }
            Self::Lower { cpu, memory } => {
                run.cpu = cpu.or(run.cpu);
                run.memory = memory.unwrap_or(run.memory);
            }
            Self::Free { node, one: (cpu, memory), .. } => {
                release(&mut state, *node, *cpu, *memory);
            }
            Self::StopFirst(id) => {
                let Some(old) = state.allocations.get(id).cloned() else { return false };
                let held = state.reservation(&old.spec);
                release(&mut state, old.node, held.cpu, held.memory);
            }
            Self::Replicas(_) | Self::Home(..) | Self::AddNode(..) => return true,
        }
        let mut placer = Placer::new(&state);
        placer.begin(&state, service);
        placer.place(&run).is_ok()
    }

    /// Smaller changes come first.
    fn size(&self) -> u8 {
        match self {
            Self::Undrain(_) => 0,
            Self::Label(..) => 1,
            Self::Lower { .. } => 2,
            Self::Free { .. } => 3,
            Self::StopFirst(_) => 4,
            Self::Replicas(_) => 5,
            Self::Return(_) => 6,
            Self::Home(..) => 7,
            Self::AddNode(..) => 8,
        }
    }

    /// As a person reads it.
    #[must_use]
    pub fn text(&self, state: &State) -> String {
        let name = |id: &NodeId| {
            state.nodes.get(id).map_or_else(|| id.to_string(), |node| node.name.clone())
        };
        match self {
            Self::Undrain(node) => format!("undrain {}", name(node)),
            Self::Return(node) => format!("bring {} back", name(node)),
            Self::Home(volume, node) => format!("make room on {node}, which has volume {volume}"),
            Self::Label(node, labels) => {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
                format!("label {} {}", name(node), labels.join(" "))
            }
            Self::Lower { cpu, memory } => {
                let cpu = cpu.map(|cpu| format!("cpu to {}", cpu.cores()));
                let memory = memory.map(|memory| format!("memory to {}M", memory.0 / 1_000_000));
                let both: Vec<String> = cpu.into_iter().chain(memory).collect();
                format!("lower {}", both.join(" and "))
            }
            Self::Free { node, one, all } => {
                let figures = |(cpu, memory): &(MilliCpu, Bytes), of: &str| {
                    let megabytes = || format!("{}M{of}", memory.0.div_ceil(1_000_000));
                    let cpu = (cpu.0 > 0).then_some(*cpu);
                    let memory = (memory.0 > 0).then(megabytes);
                    (memory, cpu)
                };
                let (memory, cpu) = figures(all, " of memory");
                let both: Vec<String> = memory.into_iter().chain(cpu.map(cores)).collect();
                let both = both.join(" and ");
                let (memory, cpu) = figures(one, "");
                let cpu = cpu.map(|cpu| cpu.cores().to_string());
                let alone: Vec<String> = memory.into_iter().chain(cpu).collect();
                let alone = if one == all {
                    String::new()
                } else {
                    format!(" ({} fit one more)", alone.join(" and "))
                };
                format!("free {both}{alone} on {}", name(node))
            }
            Self::StopFirst(_) => "update with order=\"stop-first\"".to_owned(),
            Self::Replicas(count) => format!("lower replicas to {count}"),
            Self::AddNode(cpu, memory) => {
                format!("add a node with {} and {memory} of memory", cores(*cpu))
            }
        }
    }
}

fn cores(cpu: MilliCpu) -> String {
    format!("{} core{}", cpu.cores(), if cpu.0 == 1_000 { "" } else { "s" })
}

fn change(state: &mut State, id: NodeId, how: impl FnOnce(&mut Node)) {
    if let Some(node) = state.nodes.get(&id) {
        let mut node = Node::clone(node);
        how(&mut node);
        state.nodes.insert(id, Arc::new(node));
    }
}

fn release(state: &mut State, node: NodeId, cpu: MilliCpu, memory: Bytes) {
    if let Some(held) = state.derived.reserved.get_mut(&node) {
        held.cpu.0 = held.cpu.0.saturating_sub(cpu.0);
        held.memory.0 = held.memory.0.saturating_sub(memory.0);
    }
}
