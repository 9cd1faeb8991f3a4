//! What root does for other nodes: takes in their proposals and heartbeats, changes the members.
//!
//! Owns who is told what of it. Never talks to another node itself, and never decides who belongs
//! to the cluster.

use super::{Refusal, RootRef, State};
use crate::actors::raft as consensus;
use crate::actors::{peer, scheduler};
use crate::api::views::Expelled;
use crate::consensus::raft::Entry;
use crate::consensus::raft::node::Member;
use crate::fsm::Touched;
use crate::id::{BootId, Index, NodeId};
use crate::scheduler::canary::Counted;
use crate::units::Timestamp;

/// What the peer actor tells.
#[derive(Debug)]
pub enum PeerEvent {
    /// Another node has proposals for the leader.
    Proposed {
        /// Whose they are.
        from: NodeId,
        /// Without a time: that is the leader's.
        entries: Vec<Entry>,
    },
    /// Proposals of this process were not taken by whom they were sent to.
    Refused(BootId, Vec<(u64, Refusal)>),
    /// Another node has let itself be heard.
    Heard {
        node: NodeId,
        /// Up to where it has made its view true.
        settled: Index,
        /// What its clock showed; nothing where its version doesn't say so.
        clock: Option<Timestamp>,
    },
    /// Another node has told what it counted of canaries.
    Counted {
        node: NodeId,
        /// Its life.
        boot: BootId,
        counted: Vec<Counted>,
    },
    /// Another node can be reached again: what was on its way to it is lost.
    Reached(NodeId),
    /// Another node can't be reached any more, or still not.
    Lost(NodeId),
    /// Another member says that this node is none any more.
    Expelled(Expelled),
}

/// A step of changing who takes part in raft.
#[derive(Debug)]
pub enum MembersStep {
    /// Change the configuration; the command is applied with it.
    Change(Vec<Member>, Result<Vec<u8>, serde_json::Error>),
    /// Leave the joint configuration.
    Leave,
    /// Hand the lead over.
    TransferLeader(NodeId),
}

impl State {
    /// Whether this node leads, as far as raft has told.
    pub(super) fn leads(&self) -> bool {
        self.leader.is_some() && self.leader == self.member.as_ref().map(|member| member.node)
    }

    pub(super) fn on_peer(&mut self, event: PeerEvent, myself: &RootRef) {
        match event {
            PeerEvent::Proposed { from, entries } => self.take_in(from, entries),
            PeerEvent::Refused(boot, refused) if boot == self.boot => {
                for (seq, refusal) in refused {
                    self.on_refused(seq, refusal, myself);
                }
            }
            PeerEvent::Refused(..) => {}
            PeerEvent::Heard { node, settled, clock } if self.leads() => {
                let ahead = clock.map(|clock| self.hear_clock(node, clock, myself));
                self.children.scheduler.tell(scheduler::Msg::Heard(node, settled, ahead));
            }
            PeerEvent::Counted { node, boot, counted } if self.leads() => {
                self.children.scheduler.tell(scheduler::Msg::Counted(node, boot, counted));
            }
            PeerEvent::Heard { .. } | PeerEvent::Counted { .. } => {}
            PeerEvent::Reached(node) => {
                self.vitals.reached(node);
                if self.leader == Some(node) {
                    self.hand_over_all();
                }
            }
            PeerEvent::Lost(node) => self.vitals.lost(node),
            PeerEvent::Expelled(why) => self.expelled(why),
        }
    }

    /// Another node's proposals: into the log, or back.
    fn take_in(&mut self, from: NodeId, entries: Vec<Entry>) {
        for entry in entries {
            // A level that was not raised yet would end every node that doesn't know it. One that
            // was raised just now, and isn't applied here, is tried again.
            if self.leads() && entry.feature_level <= self.fsm.level() {
                self.append(entry);
                continue;
            }
            let (boot, seq) = (BootId(entry.boot), entry.seq);
            self.turn_back(from, boot, seq, Refusal::NotLeader);
        }
    }

    /// Tells another node that a proposal of it is not in the log.
    pub(super) fn turn_back(&self, node: NodeId, boot: BootId, seq: u64, refusal: Refusal) {
        self.children.peer.tell(peer::Notice::Refused { node, boot, seq, refusal });
    }

    fn expelled(&mut self, why: Expelled) {
        if self.vitals.expelled != Some(why) {
            self.vitals.expelled = Some(why);
            tracing::error!("{why}");
            self.publish(&Touched::everything());
        }
    }

    pub(super) fn change_members(&mut self, step: MembersStep) {
        let message = match step {
            MembersStep::Change(_, Err(error)) => {
                return tracing::error!(%error, "a change of the members can't be encoded");
            }
            MembersStep::Change(members, Ok(command)) => {
                let entry = Entry {
                    feature_level: self.fsm.level(),
                    node: self.member.as_ref().map_or(0, |member| member.node.0),
                    boot: self.boot.0,
                    // Nothing waits for it, and it can't come twice.
                    seq: 0,
                    time_ms: self.now().0,
                    command,
                    ..Entry::default()
                };
                consensus::Msg::Change { members, entry }
            }
            MembersStep::Leave => consensus::Msg::Leave,
            MembersStep::TransferLeader(node) => consensus::Msg::TransferLeader(node),
        };
        self.children.raft.tell(message);
    }
}
