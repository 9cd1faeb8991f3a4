//! Allocations as documents.
//!
//! Never judges them.

use super::{LiveUsage, node_name};
use crate::api::wire::{
    AllocationHealth, AllocationStatus, AllocationView, CpuUse, ExitView, MemoryUse, WorkloadKind,
};
use crate::fsm::State;
use crate::fsm::model::{
    self, AllocKind, Allocation, Desired, Exit, ExitReason, Health, Phase, Run,
};
use crate::scheduler::place::{Placer, need};
use crate::units::Timestamp;
use std::borrow::Cow;

/// An allocation.
#[must_use]
pub fn allocation(state: &State, allocation: &Allocation, seen: &LiveUsage) -> AllocationView {
    let stored = state.spec(&allocation.spec);
    let run = stored.map(|stored| stored.spec.run());
    let port = stored.and_then(|stored| stored.spec.service()?.main_port());
    let answers = !state.is_unanswering(allocation.node);
    let used = seen.allocations.get(&allocation.id).filter(|_| answers);
    let is_unknown = state.is_silent(allocation.node) && allocation.is_live();
    let observed = &*as_shown(allocation);
    AllocationView {
        id: allocation.id.to_string(),
        name: allocation.workload.to_string(),
        kind: match allocation.kind {
            AllocKind::Service { .. } => WorkloadKind::Service,
            AllocKind::Task => WorkloadKind::Task,
        },
        node: node_name(state, allocation.node),
        status: status(allocation),
        health: if is_unknown { AllocationHealth::Unknown } else { observed.health.into() },
        draining: allocation.is_live() && matches!(allocation.desired, Desired::Draining { .. }),
        address: observed.address.zip(port).map(|(ip, port)| format!("{ip}:{port}")),
        cpu: CpuUse {
            used: used.map(|(cpu, _)| cpu.cores()),
            limit: run.and_then(|run| run.cpu).map(|cpu| cpu.cores()),
        },
        memory: MemoryUse {
            used: used.map(|(_, memory)| memory.0),
            limit: run.map(|run| run.memory.0),
        },
        written: seen.written.get(&allocation.id).map(|bytes| bytes.0),
        traffic: super::route::of_replica(seen, &allocation.id),
        restarts: observed.restarts,
        ooms: observed.ooms,
        started_at: observed.started_at.map(|at| at.to_string()),
        created_at: allocation.created_at.to_string(),
        revision: allocation.revision.0,
        message: observed.message.clone(),
        exit: observed.exit.as_ref().map(exit),
        secrets: observed.secrets.iter().map(|(name, v)| (name.to_string(), *v)).collect(),
    }
}

/// What was seen of it; of one that is asked to end, health says nothing any more.
fn as_shown(allocation: &Allocation) -> Cow<'_, model::AllocationStatus> {
    let mut observed = Cow::Borrowed(&allocation.observed);
    if allocation.desired == Desired::Stop && observed.health != Health::None {
        observed.to_mut().health = Health::None;
    }
    observed
}

/// Every allocation, in the order of their ids.
#[must_use]
pub fn allocations(state: &State, seen: &LiveUsage) -> Vec<AllocationView> {
    let placed = state.allocations.values().map(|a| allocation(state, a, seen));
    let waiting = state.derived.waiting.iter().filter_map(|(_, id)| state.runs.get(id));
    let mut all: Vec<_> = placed.chain(waiting.map(|run| waiting_run(state, run))).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// A task's run that has no node yet, among those that have one.
fn waiting_run(state: &State, run: &Run) -> AllocationView {
    let spec = state.spec(&run.spec).map(|stored| stored.spec.run());
    AllocationView {
        id: run.id.to_string(),
        name: run.workload.to_string(),
        kind: WorkloadKind::Task,
        node: String::new(),
        status: AllocationStatus::Pending,
        health: AllocationHealth::None,
        draining: false,
        address: None,
        cpu: CpuUse { used: None, limit: spec.and_then(|s| s.cpu).map(|cpu| cpu.cores()) },
        memory: MemoryUse { used: None, limit: spec.map(|spec| spec.memory.0) },
        written: None,
        traffic: None,
        restarts: 0,
        ooms: 0,
        started_at: None,
        created_at: run.created_at.to_string(),
        revision: 0,
        message: why_waiting(state, run),
        exit: None,
        secrets: Default::default(),
    }
}

/// Why no node takes it now; nothing if one does and the planner is about to say so.
pub(super) fn why_waiting(state: &State, run: &Run) -> Option<String> {
    let spec = state.spec(&run.spec)?.spec.run();
    let mut placer = Placer::new(state);
    placer.begin(state, &run.workload);
    let refusals = placer.place(spec).err()?;
    let each = refusals.iter().map(|(id, why)| format!("{}: {why}", node_name(state, *id)));
    let each = each.collect::<Vec<_>>().join("; ");
    Some(format!("no node fits {}: {each}", need(spec)))
}

/// What a person who reads an allocation's log is told when its program has ended: "exited 1,
/// restarting in 5s". Nothing if it is where it was `before`.
#[must_use]
pub fn ending(before: Option<&Allocation>, after: &Allocation, now: Timestamp) -> Option<String> {
    let place = |a: &Allocation| (a.observed.attempt, a.observed.phase);
    if before.map(place) == Some(place(after)) {
        return None;
    }
    let why = || after.observed.exit.as_ref().map_or_else(|| "ended".to_owned(), said);
    match after.observed.phase {
        Phase::Backoff => {
            let wait = after.observed.retry_at.map(|at| at.since(now).0.div_ceil(1000));
            let wait = wait.map(|seconds| format!(" in {seconds}s")).unwrap_or_default();
            Some(format!("{}, restarting{wait}", why()))
        }
        Phase::Stopped if after.observed.exit.is_none() => Some("stopped".to_owned()),
        Phase::Stopped | Phase::Failed => Some(why()),
        Phase::Lost => Some("lost: its node is gone".to_owned()),
        _ => None,
    }
}

/// How a program ended, in a few words.
pub(super) fn said(exit: &Exit) -> String {
    // What was killed for its health says what was seen of it.
    let seen = exit.message.as_deref().and_then(|message| message.lines().next());
    match (exit.reason, exit.code) {
        (ExitReason::Killed, _) if seen.is_some() => seen.unwrap_or_default().to_owned(),
        (ExitReason::Oom, _) => "out of memory".to_owned(),
        (ExitReason::Error | ExitReason::Completed, Some(code)) => format!("exited {code}"),
        (reason, _) => crate::api::wire::ExitReason::from(reason).to_string(),
    }
}

/// What its node reported, or that it is about to end.
pub(super) fn status(allocation: &Allocation) -> AllocationStatus {
    let phase = allocation.observed.phase;
    let is_ending = allocation.desired == Desired::Stop;
    if is_ending && phase < Phase::Stopping { Phase::Stopping } else { phase }.into()
}

pub(super) fn exit(exit: &Exit) -> ExitView {
    ExitView { code: exit.code, reason: exit.reason.into(), message: exit.message.clone() }
}
