//! Drives raft-rs's asynchronous path: what came in goes to it, what it wants done comes out.
//!
//! Owns the order of things: nothing is handed out before it is durable where it must be, and
//! nothing counts as applied before root said so. Never does any of it itself.

use super::log::{LogView, Recovered};
use crate::bugs::{Bug, is_on};
use crate::id::NodeId;
use crate::limits;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::{Config, RawNode, ReadOnlyOption, ReadState, SnapshotStatus, StateRole};
use std::collections::VecDeque;

mod clock;
mod members;

pub use members::{Conf, Member};

/// Why consensus couldn't be started or went on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// raft-rs refused.
    #[error("consensus: {0}")]
    Raft(#[from] raft::Error),
}

/// What one round wants done: send and hand out at once, write in order.
#[derive(Debug, Default)]
#[must_use]
pub struct Round {
    /// Messages to peers.
    pub send: Vec<Message>,
    /// What must become durable; then call [`Node::persisted`] with its number.
    pub write: Option<Write>,
    /// Committed entries for root, in order.
    pub committed: Vec<Entry>,
    /// Reads that a leader confirmed.
    pub reads: Vec<ReadState>,
}

/// What must become durable, as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    /// Ascending; a later one's durability implies this one's.
    pub number: u64,
    /// A leader's snapshot: the log begins anew behind it.
    pub snapshot: Option<Snapshot>,
    /// Entries; those at and after the first one's index are replaced.
    pub entries: Vec<Entry>,
    /// Term, vote, commit index.
    pub hard: HardState,
    /// A new configuration and the index of the entry that made it.
    pub conf: Option<(u64, ConfState)>,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lead {
    /// The leader, 0 if none is known.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// Whether this node leads.
    pub is_leader: bool,
}

/// A write that isn't durable yet.
struct Pending {
    number: u64,
    /// The last ready that is done with it.
    ready: u64,
    /// The last entry in it, index and term.
    last: Option<(u64, u64)>,
    /// Messages that must not leave before.
    held: Vec<Message>,
    /// The term that is durable with it.
    term: u64,
}

/// More was confirmed to the others than the log holds: it is an older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// The last entry that the log holds.
    pub last: u64,
    /// The last one that was confirmed, as far as the leader says.
    pub confirmed: u64,
}

/// The consensus of this node.
pub struct Node {
    id: u64,
    draw: u64,
    raw: RawNode<LogView>,
    pending: VecDeque<Pending>,
    released: Vec<Message>,
    members: members::Members,
    acknowledged: u64,
    handed_out: VecDeque<(u64, u64)>,
    handed_out_bytes: u64,
    written_commit: u64,
    /// The term that is durable.
    durable_term: u64,
    /// Ticks without a sign of life after which an election starts, at the least.
    patience: usize,
    /// How many voters ask for votes before this one, since the leader's connection has ended.
    turn: Option<usize>,
    next_number: u64,
}

fn config(id: u64, applied: u64) -> Config {
    Config {
        id,
        applied,
        election_tick: limits::ELECTION_TICKS,
        heartbeat_tick: limits::HEARTBEAT_TICKS,
        max_size_per_msg: limits::APPEND_MAX,
        max_inflight_msgs: limits::APPENDS_IN_FLIGHT,
        max_committed_size_per_ready: limits::READY_MAX,
        max_election_tick: 2 * limits::ELECTION_TICKS_MAX,
        check_quorum: true,
        pre_vote: true,
        read_only_option: match is_on(Bug::ReadWithoutQuorum) {
            true => ReadOnlyOption::LeaseBased,
            false => ReadOnlyOption::Safe,
        },
        ..Config::default()
    }
}

impl Node {
    /// The consensus of node `id` over what its log store found. The draw decides how patient it
    /// is before each election.
    pub fn new(id: NodeId, found: &Recovered, view: LogView, draw: u64) -> Result<Self, NodeError> {
        let applied = found.snapshot.0;
        let raw = RawNode::new(&config(id.0, applied), view, &super::logger::logger())?;
        let mut new = Self {
            id: id.0,
            draw,
            raw,
            pending: VecDeque::new(),
            released: Vec::new(),
            members: members::Members::new(found),
            acknowledged: applied,
            handed_out: VecDeque::new(),
            handed_out_bytes: 0,
            written_commit: found.hard.commit,
            durable_term: found.hard.term,
            patience: limits::ELECTION_TICKS,
            turn: None,
            next_number: 1,
        };
        new.set_patience();
        Ok(new)
    }

    /// Appends an entry if this node leads; answers its index and term.
    pub fn propose(&mut self, data: Vec<u8>) -> Option<(u64, u64)> {
        if self.raw.raft.state != StateRole::Leader {
            return None;
        }
        // Dropped while leadership is being handed over, too.
        self.raw.propose(Vec::new(), data).ok()?;
        Some((self.raw.raft.raft_log.last_index(), self.raw.raft.term))
    }

    /// A peer's message. One that can't be used is dropped, as the network might have done.
    ///
    /// # Errors
    /// It shows that the log is an older copy: nothing that this node says may count any more.
    pub fn step(&mut self, message: Message) -> Result<(), Older> {
        if message.get_msg_type() == MessageType::MsgTimeoutNow && self.is_installing() {
            return Ok(());
        }
        // A leader says no more than what this node confirmed to it in this very term.
        let last = self.raw.raft.raft_log.last_index();
        let beat = message.get_msg_type() == MessageType::MsgHeartbeat;
        if beat && message.term >= self.raw.raft.term && message.commit > last {
            return Err(Older { last, confirmed: message.commit });
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "a peer's raft message is of no use");
        }
        self.set_patience();
        Ok(())
    }

    /// Whether a member may send this. Each speaks for itself alone; entries are never proposed by
    /// raft's own messages, and the lead is never handed over by them; and no term is so far ahead
    /// that there would be none left.
    #[must_use]
    pub fn may_say(&self, from: NodeId, message: &Message) -> bool {
        let kind = message.get_msg_type();
        let is_local = matches!(kind, MessageType::MsgPropose | MessageType::MsgTransferLeader);
        let is_near = message.term <= self.raw.raft.term.saturating_add(limits::TERMS_AHEAD);
        message.from == from.0 && message.to == self.id && !is_local && is_near
    }

    /// A leader's snapshot isn't durable yet. raft-rs would look for changes of the configuration
    /// in entries that are no more, if it asked for votes now.
    fn is_installing(&self) -> bool {
        self.raw.raft.raft_log.applied < self.raw.store().compacted()
    }

    /// A sole voter need not wait for an election timeout: becomes the leader as soon as it has
    /// applied what it knows to be committed.
    pub fn lead_if_alone(&mut self) {
        let raft = &self.raw.raft;
        let replayed = raft.raft_log.applied == raft.raft_log.committed;
        let sole = raft.prs().is_singleton() && raft.promotable();
        if sole && replayed && raft.state != StateRole::Leader && self.pending.is_empty() {
            // It can only be refused for entries that wait to be applied: asked again after them.
            let _ = self.raw.campaign();
        }
    }

    /// Whether no other node takes part, so that no clock is needed.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let progress = self.raw.raft.prs();
        progress.iter().all(|(id, _)| *id == self.id)
    }

    /// Whether a write is on its way to the disk.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What is to be done next, until there is nothing.
    pub fn round(&mut self) -> Option<Round> {
        let released = std::mem::take(&mut self.released);
        if !self.raw.has_ready() || self.overfull() && !self.must_go_on() {
            let conf_write = self.members.take_write().map(|conf| self.write_conf(conf));
            let nothing = released.is_empty() && conf_write.is_none();
            let write = conf_write;
            return (!nothing).then(|| Round { send: released, write, ..Round::default() });
        }
        let most = if self.overfull() { 0 } else { limits::READY_MAX };
        self.raw.raft.set_max_committed_size_per_ready(most);
        let mut ready = self.raw.ready();
        let mut round = Round { send: released, ..Round::default() };
        round.send.append(&mut ready.take_messages());
        round.reads = ready.take_read_states();
        round.committed = ready.take_committed_entries();
        let held = self.sort_out(ready.take_persisted_messages(), &mut round.send);
        let number = ready.number();
        let snapshot = Some(ready.snapshot().clone()).filter(|s| !s.is_empty());
        let entries = ready.take_entries();
        self.hand_out(&round.committed);
        // Noted in any case: a change may be committed by what brings new entries.
        let changes = self.members.must_write(&round.committed);
        let needless = is_on(Bug::ForgetVote) && entries.is_empty() && snapshot.is_none();
        let needed = ready.must_sync() && !needless || changes;
        if let Some(snapshot) = &snapshot {
            self.raw.mut_store().install(snapshot);
            self.members.installed(snapshot);
            // Root is told of it before all that comes behind it.
            self.acknowledged = self.acknowledged.max(snapshot.get_metadata().index);
        }
        self.raw.mut_store().append(&entries);
        self.raw.advance_append_async(ready);
        if needed {
            round.write = Some(self.write(number, snapshot, entries, held));
        } else {
            self.nothing_to_write(number, held, &mut round.send);
        }
        Some(round)
    }

    /// Too much is with root already: hand out no more than one entry a round.
    fn overfull(&self) -> bool {
        self.handed_out_bytes > limits::HANDED_OUT_MAX
    }

    /// Something other than handing out is due.
    fn must_go_on(&self) -> bool {
        let raft = &self.raw.raft;
        !raft.msgs.is_empty()
            || !raft.read_states.is_empty()
            || !raft.raft_log.unstable_entries().is_empty()
            || self.raw.snap().is_some_and(|s| !s.is_empty())
    }

    fn hand_out(&mut self, committed: &[Entry]) {
        for entry in committed {
            let bytes = (entry.data.len() + entry.context.len()) as u64;
            self.handed_out.push_back((entry.index, bytes));
            self.handed_out_bytes += bytes;
        }
    }

    fn write(
        &mut self,
        ready: u64,
        snapshot: Option<Snapshot>,
        entries: Vec<Entry>,
        held: Vec<Message>,
    ) -> Write {
        let number = self.next_number;
        self.next_number += 1;
        let last = match (entries.last(), &snapshot) {
            (Some(e), _) => Some((e.index, e.term)),
            (None, Some(s)) => Some((s.get_metadata().index, s.get_metadata().term)),
            (None, None) => None,
        };
        self.members.writing(number);
        self.pending.push_back(Pending { number, ready, last, held, term: 0 });
        let hard = self.raw.raft.hard_state();
        if let Some(pending) = self.pending.back_mut() {
            pending.term = hard.term;
        }
        self.written_commit = hard.commit;
        Write { number, snapshot, entries, hard, conf: self.members.take_write() }
    }

    fn write_conf(&mut self, conf: (u64, ConfState)) -> Write {
        let mut write = self.write(0, None, Vec::new(), Vec::new());
        write.conf = Some(conf);
        write
    }

    /// A ready without anything to write counts as persisted with the write before it.
    fn nothing_to_write(&mut self, ready: u64, held: Vec<Message>, send: &mut Vec<Message>) {
        match self.pending.back_mut() {
            Some(pending) => {
                pending.ready = ready;
                pending.held.extend(held);
            }
            None => {
                self.raw.on_persist_ready(ready);
                send.extend(held);
            }
        }
    }

    /// The write with this number, and so all before it, is durable. Answers whether the
    /// configuration has changed with it.
    pub fn persisted(&mut self, number: u64) -> bool {
        while self.pending.front().is_some_and(|p| p.number <= number) {
            let Some(done) = self.pending.pop_front() else { break };
            if let Some((index, term)) = done.last {
                self.raw.mut_store().persisted(index, term);
            }
            self.durable_term = self.durable_term.max(done.term);
            if done.ready > 0 {
                self.raw.on_persist_ready(done.ready);
            }
            self.released.extend(done.held);
        }
        let changed = self.members.persisted(number, &mut self.raw);
        self.advance_applied();
        changed
    }

    /// Root has applied everything up to `index`. Answers the bytes that this freed.
    pub fn applied(&mut self, index: u64) {
        self.acknowledged = self.acknowledged.max(index);
        while self.handed_out.front().is_some_and(|(i, _)| *i <= index) {
            if let Some((_, bytes)) = self.handed_out.pop_front() {
                self.handed_out_bytes -= bytes;
            }
        }
        self.advance_applied();
    }

    /// Changes of the configuration count as applied only when they are in force.
    fn advance_applied(&mut self) {
        let log = &self.raw.raft.raft_log;
        let durable = log.committed.min(log.persisted);
        let to = self.members.limit(self.acknowledged).min(durable);
        if to > log.applied {
            self.raw.advance_apply_to(to);
        }
    }

    /// Who leads.
    #[must_use]
    pub fn lead(&self) -> Lead {
        let raft = &self.raw.raft;
        let is_leader = raft.state == StateRole::Leader;
        Lead { leader: raft.leader_id, term: raft.term, is_leader }
    }

    /// Asks the leader to confirm a read; the context comes back in [`Round::reads`], or never.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.raw.read_index(context);
    }

    /// The commit index, once this node leads and has committed in its own term.
    #[must_use]
    pub fn confirmed(&self) -> Option<u64> {
        let raft = &self.raw.raft;
        let confirmed = raft.state == StateRole::Leader && raft.commit_to_current_term();
        confirmed.then_some(raft.raft_log.committed)
    }

    /// The applied index as raft-rs knows it.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.raw.raft.raft_log.applied
    }

    /// The view of the log.
    #[must_use]
    pub fn log(&self) -> &LogView {
        self.raw.store()
    }

    /// Gives or takes away the snapshot that peers are sent.
    pub fn set_sendable(&mut self, snapshot: Option<Snapshot>) {
        self.raw.mut_store().set_sendable(snapshot);
    }

    /// A snapshot at `index` is durable: drops the entries up to `to`. Answers where the log now
    /// begins.
    pub fn compact(&mut self, index: u64, to: u64) -> u64 {
        self.members.compact(index);
        self.raw.mut_store().compact(to);
        self.raw.store().compacted()
    }

    /// What a last write before stopping holds, if the commit index on the disk lags.
    #[must_use]
    pub fn last_write(&mut self) -> Option<Write> {
        let lags = self.raw.raft.raft_log.committed > self.written_commit;
        lags.then(|| self.write(0, None, Vec::new(), Vec::new()))
    }

    /// A peer couldn't be reached.
    pub fn unreachable(&mut self, node: NodeId) {
        self.raw.report_unreachable(node.0);
    }

    /// A snapshot for a peer has arrived, or has failed.
    pub fn snapshot_sent(&mut self, node: NodeId, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(node.0, status);
    }
}

#[cfg(test)]
mod tests;
