//! Reads that wait for a leader's confirmation.
//!
//! Owns trying again: raft-rs drops a question silently without a leader, or before the leader's
//! first commit, so that each try has a context of its own. Never reads anything.

use super::ReadError;
use crate::id::{Index, NodeId};
use crate::limits;
use crate::raft::node::Node;
use ractor::RpcReplyPort;
use raft::ReadState;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

type Reply = RpcReplyPort<Result<Index, ReadError>>;

/// The current gate's question, which nobody waits for and which isn't given up.
const GATE: u64 = 0;

struct Pending {
    reply: Reply,
    since: Instant,
}

/// The reads that wait.
pub(super) struct Reads {
    node: u64,
    boot: u64,
    next: u64,
    tries: u64,
    pending: BTreeMap<u64, Pending>,
    watching: bool,
}

impl Reads {
    /// None; `boot` makes contexts of this process its own.
    pub(super) fn new(node: NodeId, boot: u64) -> Self {
        let (next, tries, pending, watching) = (GATE + 1, 0, BTreeMap::new(), false);
        Self { node: node.0, boot, next, tries, pending, watching }
    }

    fn context(&mut self, id: u64) -> Vec<u8> {
        self.tries += 1;
        [self.node, self.boot, id, self.tries].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Asks for a new one.
    pub(super) fn ask(&mut self, reply: Reply, node: &mut Node) {
        if self.pending.len() >= limits::READS_MAX {
            // Whoever asked may be gone.
            let _ = reply.send(Err(ReadError::Unconfirmed));
            return;
        }
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Pending { reply, since: Instant::now() });
        node.read_index(self.context(id));
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

    /// A leader confirmed one; answers the index if it was the current gate's.
    pub(super) fn confirmed(&mut self, read: &ReadState) -> Option<Index> {
        let number = |at: usize| {
            let bytes = read.request_ctx.get(8 * at..8 * at + 8)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        if number(0) != Some(self.node) || number(1) != Some(self.boot) {
            return None;
        }
        let id = number(2)?;
        if let Some(pending) = self.pending.remove(&id) {
            // Whoever asked may be gone.
            let _ = pending.reply.send(Ok(Index(read.index)));
        }
        (id == GATE).then_some(Index(read.index))
    }

    /// When to look for reads to give up, if nobody looks yet.
    pub(super) fn watch(&mut self) -> Option<Duration> {
        if self.watching {
            return None;
        }
        let (_, first) = self.pending.first_key_value()?;
        self.watching = true;
        Some(limits::READ_CONFIRM.saturating_sub(first.since.elapsed()))
    }

    /// Gives up what has waited too long.
    pub(super) fn give_up(&mut self) {
        self.watching = false;
        while let Some(first) = self.pending.first_entry() {
            if first.get().since.elapsed() < limits::READ_CONFIRM {
                return;
            }
            // Whoever asked may be gone.
            let _ = first.remove().reply.send(Err(ReadError::Unconfirmed));
        }
    }
}
