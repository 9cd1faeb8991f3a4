//! Allocations as documents.
//!
//! Never judges them.

use super::{Observed, node_name};
use crate::fsm::State;
use crate::fsm::model::{AllocKind, Allocation, Desired, Exit, ExitReason, Health, Phase};
use crate::wire::{AllocationView, CpuUse, ExitView, MemoryUse};

/// An allocation.
#[must_use]
pub fn allocation(state: &State, allocation: &Allocation, seen: &Observed) -> AllocationView {
    let stored = state.spec(&allocation.spec);
    let run = stored.map(|stored| stored.spec.run());
    let port = stored.and_then(|stored| stored.spec.service()?.main_port());
    let used = seen.allocations.get(&allocation.id);
    let observed = &allocation.observed;
    AllocationView {
        id: allocation.id.0.clone(),
        name: allocation.workload.0.clone(),
        kind: match allocation.kind {
            AllocKind::Service { .. } => "service",
            AllocKind::Task => "task",
        }
        .to_owned(),
        node: node_name(state, allocation.node),
        status: phase(status_of(allocation)).to_owned(),
        health: health(observed.health).to_owned(),
        address: observed.address.zip(port).map(|(ip, port)| format!("{ip}:{port}")),
        cpu: CpuUse {
            used: used.map(|(cpu, _)| cpu.cores()),
            limit: run.and_then(|run| run.cpu).map(|cpu| cpu.cores()),
        },
        memory: MemoryUse {
            used: used.map(|(_, memory)| memory.0),
            limit: run.map(|run| run.memory.0),
        },
        restarts: observed.restarts,
        started_at: observed.started_at.map(|at| at.to_string()),
        created_at: allocation.created_at.to_string(),
        revision: allocation.revision.0,
        message: observed.message.clone(),
        exit: observed.exit.as_ref().map(exit),
    }
}

/// Every allocation, in the order of their ids.
#[must_use]
pub fn allocations(state: &State, seen: &Observed) -> Vec<AllocationView> {
    state.allocations.values().map(|a| allocation(state, a, seen)).collect()
}

/// What its node reported, or that it is about to end.
fn status_of(allocation: &Allocation) -> Phase {
    let phase = allocation.observed.phase;
    let is_ending = allocation.desired == Desired::Stop;
    if is_ending && phase < Phase::Stopping { Phase::Stopping } else { phase }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Pulling => "pulling",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Backoff => "backoff",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed => "failed",
        Phase::Lost => "lost",
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::None => "none",
        Health::Checking => "checking",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

fn exit(exit: &Exit) -> ExitView {
    ExitView {
        code: exit.code,
        reason: reason(exit.reason).to_owned(),
        message: exit.message.clone(),
    }
}

/// The name of an exit's reason.
pub(super) fn reason(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Completed => "completed",
        ExitReason::Error => "error",
        ExitReason::Oom => "oom",
        ExitReason::Timeout => "timeout",
        ExitReason::Killed => "killed",
        ExitReason::Lost => "lost",
        ExitReason::StartFailed => "start-failed",
        ExitReason::PullFailed => "pull-failed",
    }
}
