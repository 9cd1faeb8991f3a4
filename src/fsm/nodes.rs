//! Nodes that fall silent and come back.
//!
//! Owns what becomes of their allocations. Never judges who is silent: that is the leader's
//! (`silence`).

#[cfg(test)]
mod tests;

use super::allocation::not_found;
use super::command::Register;
use super::model::{Allocation, Exit, ExitReason, Health, NodeStatus, Phase, ProgressPhase};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AppName, BootId, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    /// The leader has heard nothing of a node for too long: what runs there is lost, and nothing
    /// that this life of it says counts any more.
    pub(super) fn node_down(
        &mut self,
        id: NodeId,
        boot: BootId,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let old = self.nodes.get(&id).ok_or_else(|| not_found("node", &id.to_string()))?;
        if old.boot != boot || old.status == NodeStatus::Down {
            return Err(Rejection::Stale);
        }
        let mut node = (**old).clone();
        node.status = NodeStatus::Down;
        node.down_since = Some(self.time);
        let name = node.name.clone();
        self.nodes.insert(id, Arc::new(node));
        touched.nodes = true;
        let live: Vec<Allocation> = self
            .allocations_on(id)
            .filter(|allocation| allocation.is_live())
            .map(|allocation| (**allocation).clone())
            .collect();
        let apps: BTreeSet<AppName> = live.iter().map(|a| a.app.clone()).collect();
        for allocation in live {
            self.lose(allocation, &name, touched);
        }
        // What was planned with them is stale.
        for app in apps {
            self.outdate(&app, touched);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn lose(&mut self, mut allocation: Allocation, node: &str, touched: &mut Touched) {
        let message = Some(format!("node {node} is down"));
        let seen = &mut allocation.observed;
        seen.phase = Phase::Lost;
        seen.health = Health::None;
        seen.retry_at = None;
        seen.message = None;
        seen.exit = Some(Exit { code: None, reason: ExitReason::Lost, message: message.clone() });
        allocation.phase_since = self.time;
        self.note(&allocation, ProgressPhase::Failed, message);
        self.put_allocation(allocation, touched);
    }

    /// A node begins a life, or is back: then only a new life of it counts, so that an introduction
    /// that was long on its way brings nobody back.
    pub(super) fn register(
        &mut self,
        register: Register,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let id = register.node;
        let old = self.nodes.get(&id).ok_or_else(|| not_found("node", &id.to_string()))?;
        let mut node = (**old).clone();
        let is_new = node.boot != register.boot;
        let is_past = register.after.is_some_and(|after| after != node.boot);
        let is_down = node.status == NodeStatus::Down;
        if is_new && is_past || !is_new && is_down {
            return Err(Rejection::Stale);
        }
        if is_down {
            let drains = node.drain.is_some();
            node.status = if drains { NodeStatus::Draining } else { NodeStatus::Ready };
            node.down_since = None;
        }
        if is_new {
            node.boot = register.boot;
            self.reports.remove(&id);
        }
        node.cpu = register.cpu;
        node.memory = register.memory;
        node.version = register.version;
        node.feature_level = register.feature_level;
        self.nodes.insert(node.id, Arc::new(node));
        touched.nodes = true;
        Ok(Outcome::Done)
    }
}
