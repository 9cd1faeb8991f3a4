//! Nodes that give their work away: whose turn it is to leave, and what can't.
//!
//! A replica on a draining node counts as an old version of itself, so that it is replaced as an
//! update would do it, within the service's policy: never is more missing than that allows. What
//! has no other node stays where it is. Runs of tasks finish, or are ended at the drain's deadline.
//! Never ends a drain: people do, or the node's removal.

#[cfg(test)]
mod tests;

use super::{Context, Unplaced};
use crate::fsm::command::{Action, RunAction};
use crate::fsm::model::{AllocKind, Allocation, Desired, NodeStatus};
use crate::id::{NodeId, WorkloadName};
use crate::place::{Placer, Refusal};
use crate::spec::model::RunSpec;

impl Context<'_> {
    /// Its node is to give it away.
    pub(super) fn is_leaving(&self, allocation: &Allocation) -> bool {
        let node = self.state.nodes.get(&allocation.node);
        node.is_some_and(|node| node.status == NodeStatus::Draining)
    }

    /// Sets a node aside for a replica that has to stop before the next one starts; if there is
    /// none, it stays.
    pub(super) fn has_place(&mut self, name: &WorkloadName, replica: u32, run: &RunSpec) -> bool {
        let placer = self.placer.get_or_insert_with(|| Placer::new(self.state));
        placer.begin(self.state, name);
        match placer.place(run) {
            Ok(_) => true,
            Err(refusals) => {
                self.tell_stuck(name, replica, refusals);
                false
            }
        }
    }

    /// A replica on a draining node that fits no other.
    pub(super) fn tell_stuck(
        &mut self,
        service: &WorkloadName,
        replica: u32,
        refusals: Vec<(NodeId, Refusal)>,
    ) {
        self.stuck.push(Unplaced { service: service.clone(), replica, refusals });
    }

    /// Ends the runs of tasks on nodes whose drain has come to its deadline.
    pub(super) fn end_drained_runs(&mut self) {
        let state = self.state;
        for node in state.nodes.values().filter(|node| node.status == NodeStatus::Draining) {
            let Some(deadline) = node.drain.and_then(|drain| drain.deadline) else { continue };
            let goes_on = |a: &&std::sync::Arc<Allocation>| {
                a.kind == AllocKind::Task && a.is_live() && a.desired != Desired::Stop
            };
            let mut runs = state.allocations_on(node.id).filter(goes_on).peekable();
            if runs.peek().is_some() && self.is_due(deadline) {
                let kill = |a: &std::sync::Arc<Allocation>| {
                    Action::Run(RunAction::Kill { run: a.id.clone() })
                };
                self.actions.extend(runs.map(kill));
            }
        }
    }
}
