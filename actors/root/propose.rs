//! Proposals of this node: numbered, handed to the leader, and again until they are applied.
//!
//! Owns what waits for its outcome. An entry is answered when it is applied here; the state's
//! sessions see to it that one that was sent twice has one effect. Never encodes a command.

use super::{Child, Msg, RootRef, State, ToChild};
use crate::actors::raft as consensus;
use crate::fsm::{Command, Outcome, Rejection};
use crate::id::Index;
use crate::limits;
use crate::raft::Entry;
use ractor::RpcReplyPort;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A change that somebody wants.
pub struct Proposal {
    /// What to do, encoded.
    pub command: Result<Vec<u8>, serde_json::Error>,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// For the answer.
    pub reply: RpcReplyPort<Result<Done, ProposeError>>,
}

impl Proposal {
    /// Encoded by the one who asks, so that root does not spend its time on it.
    #[must_use]
    pub fn new(
        command: &Command,
        idempotency_key: Option<String>,
        reply: RpcReplyPort<Result<Done, ProposeError>>,
    ) -> Self {
        Self { command: serde_json::to_vec(command), idempotency_key, reply }
    }
}

/// A change that was carried out.
#[derive(Clone, Debug)]
pub struct Done {
    /// The entry's index.
    pub index: Index,
    /// What it answered.
    pub outcome: Outcome,
}

/// Why a change was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// The state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No leader answers; nothing was done.
    #[error("no leader: changes are refused")]
    NoLeader,
    /// A leader may have taken it and didn't say so.
    #[error("the change was not confirmed in time; it may still be carried out")]
    Unconfirmed,
    /// Too much is on its way.
    #[error("too many changes are on their way: try again")]
    Overloaded,
    /// The command is too large for the log.
    #[error("the change is too large for the log")]
    TooLarge,
    /// The node is about to end.
    #[error("the node is stopping")]
    Stopping,
}

/// Why an entry is not in the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Who was asked doesn't lead.
    NotLeader,
    /// Too much is on its way.
    Overloaded,
    /// It is larger than any may be.
    TooLarge,
}

impl From<consensus::ProposeError> for Refusal {
    fn from(error: consensus::ProposeError) -> Self {
        match error {
            consensus::ProposeError::NotLeader { .. } => Self::NotLeader,
            consensus::ProposeError::Overloaded { .. } => Self::Overloaded,
            consensus::ProposeError::TooLarge { .. } => Self::TooLarge,
        }
    }
}

struct Waiting {
    since: Instant,
    reply: RpcReplyPort<Result<Done, ProposeError>>,
    entry: Entry,
    /// How often it was handed to a leader.
    sent: u32,
    /// How often one said that it didn't take it.
    refused: u32,
}

/// What waits for its outcome, by number.
#[derive(Default)]
pub(super) struct Pending {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    /// Not taken by whom they were handed to.
    refused: BTreeSet<u64>,
    /// A [`Msg::Again`] is on its way.
    armed: bool,
}

impl Pending {
    fn remove(&mut self, seq: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&seq)?;
        self.bytes -= waiting.entry.command.len();
        self.refused.remove(&seq);
        Some(waiting)
    }

    fn is_full(&self, more: usize) -> bool {
        let bytes = (self.bytes + more) as u64;
        self.waiting.len() >= limits::PROPOSALS_MAX || bytes > limits::UNAPPLIED_MAX
    }
}

impl State {
    pub(super) fn propose(&mut self, proposal: Proposal, myself: &RootRef) {
        let Proposal { command, idempotency_key, reply } = proposal;
        let node = self.member.as_ref().map(|member| member.node);
        let Some(node) = node.filter(|_| self.family.raft().is_some()) else {
            // The caller may have gone, here and below.
            let _ = reply.send(Err(ProposeError::NoLeader));
            return;
        };
        let Ok(command) = command else {
            let _ = reply.send(Err(ProposeError::TooLarge));
            return;
        };
        if self.pending.is_full(command.len()) {
            let _ = reply.send(Err(ProposeError::Overloaded));
            return;
        }
        self.pending.last += 1;
        let seq = self.pending.last;
        let low_water = self.pending.waiting.keys().next().map_or(seq, |first| *first) - 1;
        let entry = Entry {
            feature_level: self.fsm.level(),
            node: node.0,
            boot: self.boot.0,
            seq,
            low_water,
            time_ms: 0,
            idempotency_key: idempotency_key.unwrap_or_default(),
            command,
        };
        self.pending.bytes += entry.command.len();
        let waiting = Waiting { since: Instant::now(), reply, entry, sent: 0, refused: 0 };
        self.pending.waiting.insert(seq, waiting);
        self.hand_over(&[seq]);
        self.arm_again(myself);
    }

    pub(super) fn answer(&mut self, seq: u64, answer: Result<Done, ProposeError>) {
        if let Some(waiting) = self.pending.remove(seq) {
            if answer.is_ok() {
                self.vitals.committed(waiting.since.elapsed());
            }
            // The caller may have gone: the change stands.
            let _ = waiting.reply.send(answer);
        }
    }

    /// Hands everything that waits to the leader: it is a new one, or can be reached again.
    pub(super) fn hand_over_all(&mut self) {
        let all: Vec<u64> = self.pending.waiting.keys().copied().collect();
        self.hand_over(&all);
    }

    fn hand_over(&mut self, which: &[u64]) {
        let Some(leader) = self.leader else { return };
        let mut entries = Vec::with_capacity(which.len());
        for seq in which {
            if let Some(waiting) = self.pending.waiting.get_mut(seq) {
                waiting.sent += 1;
                entries.push(waiting.entry.clone());
            }
        }
        if self.leads() {
            entries.into_iter().for_each(|entry| self.append(entry));
        } else if !entries.is_empty() {
            self.family.tell(Child::Peer, ToChild::Forward(leader, entries));
        }
    }

    /// Puts an entry into the log of this node, which leads, with its time.
    pub(super) fn append(&mut self, mut entry: Entry) {
        entry.time_ms = self.now().0;
        let message = consensus::Msg::Propose { entry, reply: None };
        self.family.tell(Child::Raft, ToChild::Raft(message));
    }

    /// An entry of this process was not taken. It may have been before: then it may still come.
    pub(super) fn on_refused(&mut self, seq: u64, refusal: Refusal, myself: &RootRef) {
        let Some(waiting) = self.pending.waiting.get_mut(&seq) else { return };
        waiting.refused += 1;
        match refusal {
            Refusal::TooLarge => self.answer(seq, Err(ProposeError::TooLarge)),
            Refusal::Overloaded if waiting.sent == 1 => {
                self.answer(seq, Err(ProposeError::Overloaded));
            }
            Refusal::Overloaded | Refusal::NotLeader => {
                self.pending.refused.insert(seq);
                self.arm_again(myself);
            }
        }
    }

    /// Those that were refused go to the leader again; those that no leader took in time are
    /// answered.
    pub(super) fn send_again(&mut self, myself: &RootRef) {
        self.pending.armed = false;
        if !self.leads() {
            let late = |waiting: &Waiting| waiting.since.elapsed() > limits::LEADER_WAIT;
            let late = self.pending.waiting.iter().filter(|(_, waiting)| late(waiting));
            let late = late.map(|(seq, waiting)| (*seq, waiting.refused < waiting.sent));
            for (seq, may_be_taken) in late.collect::<Vec<_>>() {
                let error =
                    if may_be_taken { ProposeError::Unconfirmed } else { ProposeError::NoLeader };
                self.answer(seq, Err(error));
            }
        }
        let refused: Vec<u64> = std::mem::take(&mut self.pending.refused).into_iter().collect();
        self.hand_over(&refused);
        self.arm_again(myself);
    }

    pub(super) fn arm_again(&mut self, myself: &RootRef) {
        let refused = !self.pending.refused.is_empty();
        let may_be_late = !self.leads() && !self.pending.waiting.is_empty();
        if !self.pending.armed && (refused || may_be_late) {
            self.pending.armed = true;
            myself.send_after(limits::PROPOSE_AGAIN, || Msg::Again);
        }
    }
}
