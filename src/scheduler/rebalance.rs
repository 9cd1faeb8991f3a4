//! Replicas that crowd a node while others have room, as on a node that joined late.
//!
//! Owns which of them are replaced. The replacement itself is the rollout's, within the service's
//! update policy; persistent volumes stay where they are, and so do their services.

#[cfg(test)]
mod tests;

use super::place::Placer;
use crate::fsm::State;
use crate::fsm::model::{Allocation, Desired};
use crate::id::{AllocId, NodeId, WorkloadName};
use crate::spec::model::RunSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A replica that goes to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub service: WorkloadName,
    /// What is replaced.
    pub allocation: AllocId,
    /// Where it is.
    pub from: NodeId,
    /// Where its replacement would go.
    pub to: NodeId,
}

/// What spreads the replicas of all services, or of one, as evenly as the nodes' room allows. An
/// app that is being deployed is left alone.
#[must_use]
pub fn moves(state: &State, only: Option<&WorkloadName>) -> Vec<Move> {
    let mut placer = Placer::new(state);
    let mut all = Vec::new();
    for app in state.apps.values().filter(|app| state.running_deployment(&app.name).is_none()) {
        for (name, service) in &app.services {
            let stored = service.target.as_ref().and_then(|target| state.spec(target));
            let spec = stored.and_then(|stored| stored.spec.service());
            let Some(spec) = spec.filter(|_| only.is_none_or(|only| only == name)) else {
                continue;
            };
            if spec.run.persistent().next().is_none() {
                all.extend(of_service(state, &mut placer, name, &spec.run));
            }
        }
    }
    all
}

/// The command's part of it: whose replacement is wanted.
#[must_use]
pub fn allocations(moves: &[Move]) -> BTreeSet<AllocId> {
    moves.iter().map(|one| one.allocation.clone()).collect()
}

fn of_service(state: &State, placer: &mut Placer, name: &WorkloadName, run: &RunSpec) -> Vec<Move> {
    let runs = |a: &&Arc<Allocation>| a.is_live() && a.desired == Desired::Run;
    let mut stay: Vec<&Arc<Allocation>> = state.allocations_of(name).filter(runs).collect();
    let mut moves: Vec<Move> = Vec::new();
    loop {
        let moved = moves.iter().map(|one| one.to);
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in stay.iter().map(|one| one.node).chain(moved) {
            *counts.entry(node).or_default() += 1;
        }
        let count = |node: NodeId| counts.get(&node).copied().unwrap_or(0);
        // Of the fullest node the last replica.
        let last = stay.iter().enumerate().max_by_key(|(_, a)| (count(a.node), a.replica()));
        let Some((at, crowding)) = last.map(|(at, one)| (at, Arc::clone(one))) else { break };
        let others = stay.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<NodeId> =
            others.map(|(_, one)| one.node).chain(moves.iter().map(|one| one.to)).collect();
        placer.begin_beside(state, name, others.into_iter());
        let Ok(to) = placer.place(run) else { break };
        if count(to) + 1 >= count(crowding.node) {
            placer.give_back(to, run);
            break;
        }
        stay.remove(at);
        let (service, allocation) = (name.clone(), crowding.id.clone());
        moves.push(Move { service, allocation, from: crowding.node, to });
    }
    moves
}
