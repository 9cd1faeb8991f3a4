//! Proposals of this node: to the leader, and again until they are applied.
//!
//! Owns who is answered and when. Never decides what waits or goes again: that is `propose`. Never
//! encodes a command.

use super::{Msg, RootRef, State};
use crate::actors::peer;
use crate::actors::raft as consensus;
use crate::api::views::Expelled;
use crate::consensus::propose::{Answer, Proposals};
pub use crate::consensus::propose::{Done, ProposeError, Refusal};
use crate::consensus::raft::Entry;
use crate::fsm::{Command, Rejection};
use crate::limits;
use crate::units::Millis;
use ractor::RpcReplyPort;

/// A change that somebody wants.
pub struct Proposal {
    /// What to do, encoded.
    pub command: Result<Vec<u8>, serde_json::Error>,
    /// The feature level that every node must have for it.
    pub needs: u32,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// For the answer.
    pub reply: RpcReplyPort<Answer>,
}

impl Proposal {
    /// Encoded by the one who asks, so that root does not spend its time on it.
    #[must_use]
    pub fn new(
        command: &Command,
        idempotency_key: Option<String>,
        reply: RpcReplyPort<Answer>,
    ) -> Self {
        let needs = command.needs();
        Self { command: serde_json::to_vec(command), needs, idempotency_key, reply }
    }
}

/// What waits for its outcome.
#[derive(Default)]
pub(super) struct Pending {
    proposals: Proposals<RpcReplyPort<Answer>>,
    /// A [`Msg::Again`] is on its way.
    armed: bool,
}

impl State {
    pub(super) fn propose(&mut self, proposal: Proposal, myself: &RootRef) {
        let Proposal { command, needs, idempotency_key, reply } = proposal;
        let node = self.member.as_ref().map(|member| member.node);
        // A leader that it may still know doesn't listen to it any more.
        let is_member = self.vitals.expelled != Some(Expelled::Removed);
        let Some(node) = node.filter(|_| is_member && self.children.raft.is_running()) else {
            return answer(reply, Err(ProposeError::NoLeader));
        };
        let Ok(command) = command else {
            return answer(reply, Err(ProposeError::TooLarge));
        };
        if needs > self.fsm.level() {
            return answer(reply, Err(too_early().into()));
        }
        let entry = Entry {
            feature_level: self.fsm.level(),
            node: node.0,
            boot: self.boot.0,
            idempotency_key: idempotency_key.unwrap_or_default(),
            command,
            ..Entry::default()
        };
        match self.pending.proposals.add(reply, entry, self.elapsed()) {
            Ok(seq) => {
                self.hand_over(&[seq]);
                self.arm_again(myself);
            }
            Err(reply) => answer(reply, Err(ProposeError::Overloaded)),
        }
    }

    pub(super) fn elapsed(&self) -> Millis {
        self.started.elapsed().into()
    }

    pub(super) fn answer(&mut self, seq: u64, with: Answer) {
        if let Some((reply, since)) = self.pending.proposals.remove(seq) {
            if with.is_ok() {
                self.vitals.committed(self.elapsed().since(since).duration());
            }
            answer(reply, with);
        }
    }

    /// A snapshot took the state beyond entries of this process.
    pub(super) fn answer_covered(&mut self) {
        let Some(node) = self.member.as_ref().map(|member| member.node) else { return };
        for (seq, with) in self.pending.proposals.covered(&self.fsm, node, self.boot) {
            self.answer(seq, with);
        }
    }

    /// Hands everything that waits to the leader: it is a new one, or can be reached again.
    pub(super) fn hand_over_all(&mut self) {
        let all = self.pending.proposals.all();
        self.hand_over(&all);
    }

    fn hand_over(&mut self, which: &[u64]) {
        let Some(leader) = self.leader else { return };
        let entries = self.pending.proposals.hand_over(which);
        if self.leads() {
            entries.into_iter().for_each(|entry| self.append(entry));
        } else if !entries.is_empty() {
            self.children.peer.tell(peer::Notice::Forward(leader, entries));
        }
    }

    /// Puts an entry into the log of this node, which leads, with its time.
    pub(super) fn append(&mut self, mut entry: Entry) {
        entry.time_ms = self.now().0;
        let message = consensus::Msg::Propose { entry, reply: None };
        self.children.raft.tell(message);
    }

    /// An entry of this process was not taken.
    pub(super) fn on_refused(&mut self, seq: u64, refusal: Refusal, myself: &RootRef) {
        match self.pending.proposals.refused(seq, refusal) {
            Some((reply, error)) => answer(reply, Err(error)),
            None => self.arm_again(myself),
        }
    }

    /// Those that were refused go to the leader again; those that no leader took in time are
    /// answered.
    pub(super) fn send_again(&mut self, myself: &RootRef) {
        self.pending.armed = false;
        if !self.leads() {
            for (reply, error) in self.pending.proposals.late(self.elapsed()) {
                answer(reply, Err(error));
            }
        }
        let refused = self.pending.proposals.take_refused();
        self.hand_over(&refused);
        self.arm_again(myself);
    }

    pub(super) fn arm_again(&mut self, myself: &RootRef) {
        let is_due = self.pending.proposals.need_a_look(self.leads());
        if !self.pending.armed && is_due {
            self.pending.armed = true;
            myself.send_after(limits::PROPOSE_AGAIN, || Msg::Again);
        }
    }
}

/// Some node would not know what to do with the change.
fn too_early() -> Rejection {
    let what = "not every node has the version of mill that this needs: mill nodes".to_owned();
    Rejection::Illegal { what }
}

/// The caller may have gone: the change stands all the same.
fn answer(reply: RpcReplyPort<Answer>, with: Answer) {
    let _ = reply.send(with);
}
