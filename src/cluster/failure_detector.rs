//! Which nodes count as lost: the leader's judgement of their silence, on its own clock.
//!
//! Owns the window and the bound on how many may go within a time. Never hears anything itself and
//! never changes the state: it says what to propose.

#[cfg(test)]
mod tests;

use crate::fsm::command::{Notice, Sign};
use crate::fsm::model::{Node, NodeStatus};
use crate::fsm::{Command, State};
use crate::id::{BootId, NodeId};
use crate::limits;
use crate::units::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What a leader has heard in its term.
#[derive(Clone, Debug)]
pub struct Silence {
    /// Nobody's silence counts from before.
    since: Millis,
    ticked: Millis,
    heard: BTreeMap<NodeId, Millis>,
    /// Those that were down at the last look.
    down: Option<BTreeSet<NodeId>>,
    /// When it was seen that each was taken for down last, and how long ago that was then.
    went: BTreeMap<NodeId, (Millis, Millis)>,
}

impl Silence {
    /// A term begins: nobody has been silent yet. `now` is of a clock that never runs back.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        let (heard, went) = (BTreeMap::new(), BTreeMap::new());
        Self { since: now, ticked: now, heard, down: None, went }
    }

    /// A node has let itself be heard.
    pub fn heard(&mut self, node: NodeId, now: Millis) {
        let last = self.heard.entry(node).or_default();
        *last = now.max(*last);
    }

    /// Time passes, a tick each [`limits::SILENCE_TICK`]. One that is late means that this process
    /// stood still: it can't have heard anybody, so that all begins anew. `time` is replicated.
    pub fn tick(&mut self, state: &State, now: Millis, time: Timestamp) {
        let late = limits::SILENCE_TICK + limits::SILENCE_LATE;
        if now.since(self.ticked) > late.into() {
            self.since = now;
        }
        self.ticked = now;
        // One that is down begins anew once it is let in again.
        for node in state.nodes.values().filter(|node| node.status == NodeStatus::Down) {
            self.heard(node.id, now);
        }
        self.count_down(state, now, time);
    }

    /// Remembers who became down lately, also in the terms before.
    fn count_down(&mut self, state: &State, now: Millis, time: Timestamp) {
        // One that was never let in became nothing.
        let is_down = |node: &&Node| !node.is_up() && node.boot != BootId(0);
        let nodes = state.nodes.values().map(|node| &**node);
        let down: Vec<&Node> = nodes.filter(is_down).collect();
        for node in &down {
            let ago = node.down_since.map_or(Millis(0), |at| time.since(at));
            let ago = match &self.down {
                Some(known) if known.contains(&node.id) => continue,
                // At the last look it was there.
                Some(_) => ago.min((limits::SILENCE_TICK + limits::SILENCE_LATE).into()),
                None => ago,
            };
            self.went.insert(node.id, (now, ago));
        }
        self.down = Some(down.into_iter().map(|node| node.id).collect());
        self.went.retain(|_, went| age(*went, now) < limits::NODE_DOWN_WINDOW.into());
    }

    /// What to propose: who is lost, and who is silent and not taken for lost yet. `me` is the
    /// leader's own node.
    #[must_use]
    pub fn judge(&self, state: &State, me: NodeId, now: Millis) -> Vec<Command> {
        let there = || state.nodes.values().filter(|node| node.is_up());
        let is_silent = |node: &&std::sync::Arc<Node>| {
            node.id != me && self.lasts(node.id, now) >= limits::NODE_DOWN.into()
        };
        let mut silent: Vec<_> = there().filter(is_silent).collect();
        silent.sort_by_key(|node| (self.last(node.id), node.id));
        let may_go = silent.first().is_some_and(|node| self.may_go(node.id, state, now));
        let lost = silent.first().filter(|_| may_go).map(|node| node.id);
        let mut commands: Vec<Command> = Vec::new();
        if let Some(node) = silent.first().filter(|_| may_go) {
            commands.push(Command::NodeDown { node: node.id, boot: node.boot });
        }
        if !state.is_next() {
            return commands;
        }
        let sign = |node: &Node, lasts| {
            let (node, boot) = (node.id, node.boot);
            Command::Notice(Notice { node, boot, sign: Sign::Silent(lasts) })
        };
        let is_noticed = |node: &Node| node.condition.silent_since.is_some();
        let held = silent.iter().filter(|node| Some(node.id) != lost && !is_noticed(node));
        commands.extend(held.map(|node| sign(node, Some(self.lasts(node.id, now)))));
        let is_back = |node: &&std::sync::Arc<Node>| {
            let heard = self.heard.get(&node.id).is_some_and(|at| *at > self.since);
            is_noticed(node) && (node.id == me || heard && !is_silent(node))
        };
        commands.extend(there().filter(is_back).map(|node| sign(node, None)));
        commands
    }

    fn last(&self, id: NodeId) -> Millis {
        self.heard.get(&id).map_or(self.since, |at| self.since.max(*at))
    }

    fn lasts(&self, id: NodeId, now: Millis) -> Millis {
        now.since(self.last(id))
    }

    /// Whether one more may be taken for down: many at once are rather this node's own fault. The
    /// first is never held back; one that is back doesn't count, nor do those that are down for
    /// longer.
    fn may_go(&self, node: NodeId, state: &State, now: Millis) -> bool {
        let pace = limits::NODE_DOWN_PACE.into();
        let is_down = |id: &NodeId| self.down.as_ref().is_none_or(|down| down.contains(id));
        let others = || self.went.iter().filter(|(id, _)| **id != node && is_down(id));
        let is_time = others().all(|(_, went)| age(*went, now) >= pace);
        let there = state.nodes.values().filter(|node| node.is_up()).map(|node| node.id);
        let base: BTreeSet<NodeId> = there.chain(self.went.keys().copied()).collect();
        let most = base.len().div_ceil(limits::NODE_DOWN_SHARE);
        is_time && others().count() < most
    }
}

fn age((at, ago): (Millis, Millis), now: Millis) -> Millis {
    Millis(now.since(at).0 + ago.0)
}
