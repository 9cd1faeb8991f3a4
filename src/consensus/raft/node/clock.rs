//! Raft's clock: how patient a node is, and what its patience ends with.
//!
//! Owns elections' time-outs, who is believed to lead, and what of a follower's signs of life waits
//! for its disk. Never reads a clock: ticks come from
//! outside.

use super::Node;
use crate::id::NodeId;
use crate::limits;
use crate::mix::{STEP, mixed};
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

/// Ticks between two voters that ask for votes in turn, where the disk is quick: one is elected
/// within less.
const TURN_TICKS: usize = 2;

impl Node {
    /// raft-rs draws a number of its own whenever term or part change: this one takes its place,
    /// so that equal inputs give equal behaviour.
    pub(super) fn set_patience(&mut self) {
        let patience = self.patience;
        let raft = &mut self.raw.raft;
        // Until a leader is heard, or this node has asked for votes.
        let is_waiting = raft.state == StateRole::Follower && raft.election_elapsed >= patience;
        self.turn = self.turn.filter(|_| is_waiting);
        if let Some(turn) = self.turn {
            let apart = TURN_TICKS * patience / limits::ELECTION_TICKS;
            raft.set_randomized_election_timeout(patience + 1 + turn * apart);
            return;
        }
        let part = (raft.term << 2) | raft.state as u64;
        let more = mixed(self.draw ^ part.wrapping_mul(STEP));
        let more = more as usize % patience;
        raft.set_randomized_election_timeout(patience + more);
    }

    /// An election starts after so many ticks without a sign of life, at the least.
    pub fn be_patient(&mut self, ticks: usize) {
        self.patience = ticks.clamp(limits::ELECTION_TICKS, limits::ELECTION_TICKS_MAX);
        self.set_patience();
    }

    /// Gives the lead up, if this node has it and others can take it: its disk takes too long.
    /// They notice that it is silent; it asks for no votes before its disk has answered.
    pub fn step_down(&mut self) -> bool {
        let raft = &mut self.raw.raft;
        let can = raft.state == StateRole::Leader && !raft.prs().is_singleton();
        if can {
            let term = raft.term;
            raft.become_follower(term, 0);
            self.set_patience();
        }
        can
    }

    /// A tick of the clock.
    pub fn tick(&mut self) {
        if self.is_installing() {
            return;
        }
        self.raw.tick();
        let raft = &mut self.raw.raft;
        // It doesn't vote, so raft-rs lets it believe in its leader for ever.
        if !raft.promotable() && raft.pass_election_timeout() {
            raft.leader_id = 0;
        }
        self.set_patience();
    }

    /// After how many ticks the clock has something to do, one at least.
    #[must_use]
    pub fn due(&self) -> usize {
        let raft = &self.raw.raft;
        let wait = match raft.state {
            StateRole::Leader => {
                let heartbeat = raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed());
                heartbeat.min(raft.election_timeout().saturating_sub(raft.election_elapsed))
            }
            _ if raft.promotable() => {
                raft.randomized_election_timeout().saturating_sub(raft.election_elapsed)
            }
            _ if raft.leader_id != 0 => {
                raft.randomized_election_timeout().saturating_sub(raft.election_elapsed)
            }
            _ => limits::ELECTION_TICKS,
        };
        wait.max(1)
    }

    /// The connection over which a peer sends has ended. If that is the leader, it most likely has
    /// died: its time is over now, and the voters ask for votes in turn, the least id first, so
    /// that no two of them split the votes. A leader that lives lets itself be heard before, or is
    /// believed by the others.
    pub fn unheard(&mut self, node: NodeId) {
        let raft = &mut self.raw.raft;
        if raft.leader_id == node.0 && raft.state == StateRole::Follower {
            let voters = raft.prs().conf().voters().ids();
            let before = voters.iter().filter(|id| *id != node.0 && *id < self.id).count();
            raft.election_elapsed = raft.election_elapsed.max(self.patience);
            self.turn = Some(before);
            self.set_patience();
        }
    }

    /// Of the messages that wait for the disk, those that say nothing about it leave at once: that
    /// a leader is heard, in a term that is durable. Otherwise a slow disk looks like silence.
    pub(super) fn sort_out(&self, held: Vec<Message>, send: &mut Vec<Message>) -> Vec<Message> {
        let is_sign = |message: &Message| {
            message.get_msg_type() == MessageType::MsgHeartbeatResponse
                && message.term == self.durable_term
        };
        let (signs, held): (Vec<_>, Vec<_>) = held.into_iter().partition(is_sign);
        send.extend(signs);
        held
    }
}
