//! Nodes that give their work away: whose turn it is to leave, and what can't.
//!
//! A replica on a draining node counts as an old version of itself, so that it is replaced as an
//! update would do it, within the service's policy: never is more missing than that allows. What
//! has no other node stays where it is. Runs of tasks finish, or are ended at the drain's deadline.
//! Never ends a drain: people do, or the node's removal.

#[cfg(test)]
mod tests;

use super::Context;
use crate::fsm::command::{Action, RunAction};
use crate::fsm::model::{AllocKind, Allocation, Desired, NodeStatus};

impl Context<'_> {
    /// Its node is to give it away, or its data is.
    pub(super) fn is_leaving(&self, allocation: &Allocation) -> bool {
        let node = self.state.nodes.get(&allocation.node);
        let drains = node.is_some_and(|node| node.status == NodeStatus::Draining);
        drains || self.state.moving_volume(&allocation.spec).is_some()
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
            let since = node.drain.map_or(deadline, |drain| drain.since);
            if runs.peek().is_some() && self.is_due_in(since, deadline.since(since)) {
                let kill = |a: &std::sync::Arc<Allocation>| {
                    Action::Run(RunAction::Kill { run: a.id.clone() })
                };
                self.actions.extend(runs.map(kill));
            }
        }
    }
}
