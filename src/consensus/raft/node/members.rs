//! Changes of the configuration: who votes and who learns.
//!
//! Owns when a committed change comes into force: only after the commit index that covers it is
//! durable, or a node could restart into the old configuration and elect itself alone. Never
//! decides who should be a member.

use crate::bugs::{Bug, is_on};
use crate::consensus::raft::log::{LogView, Recovered};
use crate::id::NodeId;
use crate::limits;
use prost011::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Snapshot,
};
use raft::{ProgressState, RawNode, StateRole};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// One node's part in a change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Votes from now on.
    Voter(NodeId),
    /// Receives the log and doesn't vote.
    Learner(NodeId),
    /// Takes no part any more.
    Removed(NodeId),
}

/// The configuration in force, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who voted before a joint change that isn't left yet; empty outside of one.
    pub outgoing: BTreeSet<NodeId>,
    /// Who receives the log without a vote, also those that become learners at a joint change's
    /// end.
    pub learners: BTreeSet<NodeId>,
    /// Who has nearly all of the log and answers.
    pub caught_up: BTreeSet<NodeId>,
}

impl Conf {
    /// The configuration of a node that leads.
    pub(super) fn of(raw: &RawNode<LogView>) -> Self {
        let progress = raw.raft.prs();
        let state = progress.conf().to_conf_state();
        let ids = |list: &[u64]| -> BTreeSet<NodeId> { list.iter().copied().map(NodeId).collect() };
        let enough = raw.raft.raft_log.last_index().saturating_sub(limits::CAUGHT_UP);
        let is_near = |at: &raft::Progress| {
            at.recent_active && at.state == ProgressState::Replicate && at.matched >= enough
        };
        let near = progress.iter().filter(|(id, at)| **id == raw.raft.id || is_near(at));
        let mut learners = ids(&state.learners);
        learners.extend(ids(&state.learners_next));
        Self {
            voters: ids(&state.voters),
            outgoing: ids(&state.voters_outgoing),
            learners,
            caught_up: near.map(|(id, _)| NodeId(*id)).collect(),
        }
    }

    /// Who has caught up by what was known before, of those that still take part.
    pub(in crate::consensus::raft) fn keep(&mut self, known: &Self) {
        let takes_part = |id: &&NodeId| self.voters.contains(*id) || self.learners.contains(*id);
        let kept: Vec<NodeId> = known.caught_up.iter().filter(takes_part).copied().collect();
        self.caught_up.extend(kept);
    }
}

/// The change as raft-rs takes it; none at all leaves a joint configuration.
pub(super) fn change(members: &[Member]) -> ConfChangeV2 {
    let changes = members.iter().map(|member| {
        let (kind, node) = match member {
            Member::Voter(node) => (ConfChangeType::AddNode, node),
            Member::Learner(node) => (ConfChangeType::AddLearnerNode, node),
            Member::Removed(node) => (ConfChangeType::RemoveNode, node),
        };
        let mut single = ConfChangeSingle { node_id: node.0, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        single
    });
    let mut change = ConfChangeV2 { changes: changes.collect(), ..ConfChangeV2::default() };
    if change.changes.len() > 1 {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    change
}

/// A committed change that isn't in force yet.
struct Due {
    index: u64,
    change: ConfChangeV2,
    /// The write that makes its commit durable, 0 until there is one.
    write: u64,
}

/// The configurations since the snapshot, and the changes on their way.
pub(super) struct Members {
    history: VecDeque<(u64, ConfState)>,
    /// Between the snapshot and the newest configuration that were found at start there may have
    /// been others.
    unknown: Range<u64>,
    due: VecDeque<Due>,
    to_write: Option<(u64, ConfState)>,
}

fn decode(entry: &Entry) -> Option<ConfChangeV2> {
    match entry.get_entry_type() {
        // The old kind is never proposed: see `change`.
        EntryType::EntryNormal | EntryType::EntryConfChange => None,
        EntryType::EntryConfChangeV2 => ConfChangeV2::decode(entry.data.as_slice()).ok(),
    }
}

impl Members {
    pub(super) fn new(found: &Recovered) -> Self {
        let mut history = VecDeque::from([(found.snapshot.0, found.snapshot_conf.clone())]);
        if found.conf_index > found.snapshot.0 {
            history.push_back((found.conf_index, found.conf.clone()));
        }
        let unknown = found.snapshot.0 + 1..found.conf_index;
        Self { history, unknown, due: VecDeque::new(), to_write: None }
    }

    /// Notes the changes among newly committed entries; true if their commit must become durable.
    pub(super) fn must_write(&mut self, committed: &[Entry]) -> bool {
        let known = self.history.back().map_or(0, |(index, _)| *index);
        let before = self.due.len();
        for entry in committed.iter().filter(|e| e.index > known) {
            if let Some(change) = decode(entry) {
                self.due.push_back(Due { index: entry.index, change, write: 0 });
            }
        }
        self.due.len() > before
    }

    /// The write with this number holds the newest commit index.
    pub(super) fn writing(&mut self, number: u64) {
        for due in self.due.iter_mut().filter(|due| due.write == 0) {
            due.write = number;
        }
    }

    /// Puts changes into force whose commit is durable; answers whether there were any.
    pub(super) fn persisted(&mut self, number: u64, raw: &mut RawNode<LogView>) -> bool {
        let before = self.due.len();
        while self.due.front().is_some_and(|due| due.write != 0 && due.write <= number) {
            let Some(due) = self.due.pop_front() else { break };
            if is_on(Bug::LoseJointLeave) && due.change.changes.is_empty() {
                continue;
            }
            match raw.apply_conf_change(&due.change) {
                Ok(conf) => {
                    raw.mut_store().set_conf(conf.clone());
                    self.to_write = Some((due.index, conf.clone()));
                    self.history.push_back((due.index, conf));
                }
                // The same on every node, since all have the same configuration here.
                Err(error) => tracing::error!(%error, "a change of the members is impossible"),
            }
        }
        self.due.len() < before
    }

    /// The configuration that is to be written with the next write.
    pub(super) fn take_write(&mut self) -> Option<(u64, ConfState)> {
        self.to_write.take()
    }

    /// A leader's snapshot brought its own configuration.
    pub(super) fn installed(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.due.clear();
        self.unknown = 0..0;
        self.history = VecDeque::from([(meta.index, meta.get_conf_state().clone())]);
        self.to_write = None;
    }

    /// How far raft-rs may be told that entries were applied.
    pub(super) fn limit(&self, acknowledged: u64) -> u64 {
        self.due.front().map_or(acknowledged, |due| acknowledged.min(due.index - 1))
    }

    /// The configuration at `index`, if it is settled by now and known.
    pub(super) fn at(&self, index: u64) -> Option<ConfState> {
        if self.unknown.contains(&index) {
            return None;
        }
        let unsettled = self.due.front().is_some_and(|due| due.index <= index);
        let mut known = self.history.iter();
        let fits = |(from, _): &&(u64, ConfState)| *from <= index;
        let newest = match is_on(Bug::StaleConf) {
            true => known.find(fits),
            false => known.rfind(fits),
        };
        newest.filter(|_| !unsettled).map(|(_, conf)| conf.clone())
    }

    /// Forgets the configurations before the one at a snapshot's index.
    pub(super) fn compact(&mut self, index: u64) {
        while self.history.get(1).is_some_and(|(from, _)| *from <= index) {
            self.history.pop_front();
        }
    }
}

impl super::Node {
    /// The configuration at an applied index, if it is known.
    #[must_use]
    pub fn conf_at(&self, index: u64) -> Option<ConfState> {
        self.members.at(index)
    }

    /// The configuration in force, and who is near the end of the log; only a leader knows.
    #[must_use]
    pub fn conf(&self) -> Option<Conf> {
        (self.raw.raft.state == StateRole::Leader).then(|| Conf::of(&self.raw))
    }

    /// Nobody can have answered yet since the leader last looked who does.
    pub(in crate::consensus::raft) fn asks_anew(&self) -> bool {
        self.raw.raft.election_elapsed <= self.raw.raft.heartbeat_timeout()
    }

    /// Hands the lead over to a voter that is near the end of the log, if this node has it.
    pub fn transfer(&mut self, to: NodeId) {
        if self.raw.raft.state == StateRole::Leader {
            self.raw.transfer_leader(to.0);
        }
    }

    /// Proposes a change of the configuration; answers where it was appended if this node leads.
    /// A refused change shows as an empty entry. No members at all leave a joint configuration.
    pub fn change(&mut self, members: &[Member], context: Vec<u8>) -> Option<(u64, u64)> {
        if self.raw.raft.state != StateRole::Leader {
            return None;
        }
        self.raw.propose_conf_change(context, change(members)).ok()?;
        Some((self.raw.raft.raft_log.last_index(), self.raw.raft.term))
    }
}
