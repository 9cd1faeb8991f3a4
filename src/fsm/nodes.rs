//! Nodes that fall silent and come back.
//!
//! Owns what becomes of their allocations. Never judges who is silent: that is the leader's
//! (`silence`).

#[cfg(test)]
mod tests;

use super::allocation::not_found;
use super::command::{Notice, Register, Sign};
use super::model::{
    AllocKind, Allocation, AllocationStatus, Condition, Desired, Exit, ExitReason, Health,
    NodeStatus, Phase, ProgressPhase,
};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AppName, BootId, NodeId};
use crate::units::{Millis, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    /// From now on entries may need that level. For good: a node that doesn't know it halts.
    pub(super) fn raise(
        &mut self,
        level: u32,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let all_know = self.nodes.values().all(|node| node.feature_level >= level);
        if level <= self.level() || !all_know {
            return Err(Rejection::Stale);
        }
        self.feature_level = level;
        touched.nodes = true;
        Ok(Outcome::Done)
    }

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
        node.condition = Condition::default();
        let why = format!("node {} is down", node.name);
        self.nodes.insert(id, Arc::new(node));
        touched.nodes = true;
        self.lose_all(id, &why, touched);
        Ok(Outcome::Done)
    }

    /// Something is wrong with a node that is there, or no longer.
    pub(super) fn notice(
        &mut self,
        notice: &Notice,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let old = self.node(notice.node)?;
        if old.boot != notice.boot || !old.is_up() {
            return Err(Rejection::Stale);
        }
        let mut node = (**old).clone();
        let seen = &mut node.condition;
        let since = |lasts: Option<Millis>, known: Option<Timestamp>| {
            let since = lasts.map(|lasts| Timestamp(self.time.0.saturating_sub(lasts.0)));
            since.map(|since| known.unwrap_or(since))
        };
        match notice.sign {
            Sign::Silent(lasts) => seen.silent_since = since(lasts, seen.silent_since),
            Sign::Runtime(lasts) => seen.runtime_since = since(lasts, seen.runtime_since),
            Sign::Clock(ahead) => seen.clock_ahead = ahead,
        }
        if node.condition == old.condition {
            return Err(Rejection::Stale);
        }
        let answers = node.condition.answers() != old.condition.answers();
        self.nodes.insert(node.id, Arc::new(node));
        touched.nodes = true;
        if answers {
            self.outdate_on(notice.node, touched);
        }
        Ok(Outcome::Done)
    }

    /// What runs on a node is lost.
    pub(super) fn lose_all(&mut self, id: NodeId, why: &str, touched: &mut Touched) {
        let live: Vec<Allocation> = self
            .allocations_on(id)
            .filter(|allocation| allocation.is_live())
            .map(|allocation| (**allocation).clone())
            .collect();
        let apps: BTreeSet<AppName> = live.iter().map(|a| a.app.clone()).collect();
        for allocation in live {
            self.lose(allocation, why, touched);
        }
        // What was planned with them is stale.
        for app in apps {
            self.outdate(&app, touched);
        }
    }

    fn lose(&mut self, mut allocation: Allocation, why: &str, touched: &mut Touched) {
        let message = Some(why.to_owned());
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
            node.condition = Condition::default();
            self.reports.remove(&id);
        }
        node.cpu = register.cpu;
        node.memory = register.memory;
        node.version = register.version;
        node.feature_level = register.feature_level;
        if let Some(reach) = register.reach.filter(|_| self.is_next()) {
            (node.address, node.peer_port) = (reach.address, reach.peer_port);
        }
        self.nodes.insert(node.id, Arc::new(node));
        touched.nodes = true;
        if is_down {
            self.take_back(id, touched);
        }
        Ok(Outcome::Done)
    }

    /// What was lost with a node that is back, and that plan has not given up since, is live again:
    /// what its node makes of it shows in the next report.
    fn take_back(&mut self, id: NodeId, touched: &mut Touched) {
        let is_wanted = |a: &&Arc<Allocation>| {
            let app = self.apps.get(&a.app);
            a.observed.phase == Phase::Lost
                && a.desired == Desired::Run
                && a.kind != AllocKind::Task
                && app.is_some_and(|app| app.services.contains_key(&a.workload))
        };
        let wanted: Vec<_> = self.allocations_on(id).filter(is_wanted).cloned().collect();
        // What was planned without them is stale.
        for app in wanted.iter().map(|a| a.app.clone()).collect::<BTreeSet<_>>() {
            self.outdate(&app, touched);
        }
        for lost in wanted {
            // The node may have less than it had, and its volumes may be another's.
            if self.holds(id, &lost.spec) && self.may_take_back(&lost) {
                let mut back = Allocation::clone(&lost);
                back.observed = seen_again(&lost);
                back.phase_since = self.time;
                let back = self.put_allocation(back, touched);
                self.take_back_volumes(&back, touched);
            }
        }
    }
}

/// What is known of an allocation whose node is back: what it was, until a report says more.
fn seen_again(lost: &Allocation) -> AllocationStatus {
    let seen = lost.observed.clone();
    let (phase, health) = match lost.first_running {
        Some(_) => (Phase::Running, Health::Checking),
        None => (Phase::Pending, Health::None),
    };
    AllocationStatus { phase, health, exit: None, ..seen }
}
