//! Reads that wait for a leader's confirmation.
//!
//! Owns trying again: raft-rs drops a question silently without a leader, or before the leader's
//! first commit, so that each try has a context of its own. Never reads anything.

use super::Identity;
use crate::consensus::raft::node::Node;
use crate::id::Index;
use crate::limits;
use crate::units::Millis;
use raft::ReadState;
use std::collections::BTreeMap;

/// The current gate's question, which nobody waits for and which isn't given up.
const GATE: u64 = 0;

struct Pending<R> {
    who: R,
    since: Millis,
}

/// The reads that wait.
pub(super) struct Reads<R> {
    me: Identity,
    next: u64,
    tries: u64,
    pending: BTreeMap<u64, Pending<R>>,
    watching: bool,
}

impl<R> Reads<R> {
    /// None yet. The draw makes contexts of this process its own.
    pub(super) fn new(me: Identity) -> Self {
        Self { me, next: GATE + 1, tries: 0, pending: BTreeMap::new(), watching: false }
    }

    fn context(&mut self, id: u64) -> Vec<u8> {
        self.tries += 1;
        let numbers = [self.me.node.0, self.me.draw, id, self.tries];
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Asks for a new one; answers who asked if too many wait.
    pub(super) fn ask(&mut self, who: R, now: Millis, node: &mut Node) -> Option<R> {
        if self.pending.len() >= limits::READS_MAX {
            return Some(who);
        }
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Pending { who, since: now });
        node.read_index(self.context(id));
        None
    }

    /// Whether there are any.
    pub(super) fn wait(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Asks for all that wait once more.
    pub(super) fn again(&mut self, node: &mut Node) {
        let ids: Vec<u64> = self.pending.keys().copied().collect();
        for id in ids {
            node.read_index(self.context(id));
        }
    }

    /// Asks for the current gate.
    pub(super) fn ask_gate(&mut self, node: &mut Node) {
        node.read_index(self.context(GATE));
    }

    /// A leader confirmed one: answers who asked, nobody for the current gate, and the index.
    pub(super) fn confirmed(&mut self, read: &ReadState) -> Option<(Option<R>, Index)> {
        let number = |at: usize| {
            let bytes = read.request_ctx.get(8 * at..8 * at + 8)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        if number(0) != Some(self.me.node.0) || number(1) != Some(self.me.draw) {
            return None;
        }
        let id = number(2)?;
        let who = self.pending.remove(&id).map(|pending| pending.who);
        (who.is_some() || id == GATE).then_some((who, Index(read.index)))
    }

    /// When to look for reads to give up, if nobody looks yet.
    pub(super) fn watch(&mut self, now: Millis) -> Option<Millis> {
        if self.watching {
            return None;
        }
        let (_, first) = self.pending.first_key_value()?;
        self.watching = true;
        let waited = now.since(first.since);
        Some(Millis::from(limits::READ_CONFIRM).since(waited))
    }

    /// Gives up what has waited too long.
    pub(super) fn give_up(&mut self, now: Millis) -> Vec<R> {
        self.watching = false;
        let mut late = Vec::new();
        while let Some(first) = self.pending.first_entry() {
            if now.since(first.get().since) < limits::READ_CONFIRM.into() {
                break;
            }
            late.push(first.remove().who);
        }
        late
    }
}
