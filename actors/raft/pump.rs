//! Carries out what consensus wants done: send, write, hand out.
//!
//! Never decides any of it, and never waits.

use super::writer::Job;
use super::{Committed, Event, Msg, RaftError, State};
use crate::id::{Index, NodeId, Term};
use crate::limits;
use crate::raft::node::Round;
use crate::raft::{Entry, SNAPSHOT_FORMAT, Snapshot};
use bytes::Bytes;
use prost::Message as _;
use ractor::ActorRef;
use raft::eraftpb::{self, EntryType, Message, MessageType};

impl State {
    /// Goes on until there is nothing to do before something else happens.
    pub(super) fn pump(&mut self, myself: &ActorRef<Msg>) {
        self.node.lead_if_alone();
        loop {
            while let Some(round) = self.node.round() {
                self.carry_out(round, myself);
                if self.failed {
                    return;
                }
            }
            // Either asks what waits once more, so that there may be another round.
            if !self.tell_lead() && !self.tell_confirmed() {
                break;
            }
        }
        self.want_snapshot(myself);
        self.tell_conf();
        self.arm(myself);
    }

    /// What a leader's root needs to plan the members: once a tick, and after a change.
    fn tell_conf(&mut self) {
        if !std::mem::take(&mut self.conf_due) {
            return;
        }
        let conf = self.node.conf();
        if conf != self.conf {
            self.conf.clone_from(&conf);
            if let Some(conf) = conf {
                (self.sink)(Event::Conf(conf));
            }
        }
    }

    fn carry_out(&mut self, round: Round, myself: &ActorRef<Msg>) {
        for message in &round.send {
            self.send(message);
        }
        let snapshot = round.write.as_ref().and_then(|write| write.snapshot.clone());
        if let Some(write) = round.write {
            self.ask(Job::Write(write));
        }
        for read in &round.reads {
            if let Some(index) = self.reads.confirmed(read)
                && !self.confirmed
            {
                self.confirmed = true;
                (self.sink)(Event::Confirmed(index));
            }
        }
        if let Some(snapshot) = snapshot {
            self.snapshots.installed(snapshot.get_metadata().index);
            self.tell_installed(snapshot, myself);
        }
        self.tell_committed(round.committed, myself);
    }

    fn send(&self, message: &Message) {
        let bytes = Bytes::from(prost011::Message::encode_to_vec(message));
        let bulk = message.get_msg_type() == MessageType::MsgSnapshot;
        (self.sink)(Event::Send { to: NodeId(message.to), bytes, bulk });
    }

    fn tell_committed(&mut self, entries: Vec<eraftpb::Entry>, myself: &ActorRef<Msg>) {
        if entries.is_empty() {
            return;
        }
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            self.snapshots.grown(&entry);
            let decoded = decode(&entry);
            match decoded {
                Ok(decoded) => committed.push(Committed {
                    index: Index(entry.index),
                    term: Term(entry.term),
                    entry: decoded,
                }),
                Err(error) => return self.fail(error, myself),
            }
        }
        (self.sink)(Event::Committed(committed));
    }

    pub(super) fn tell_installed(&mut self, snapshot: eraftpb::Snapshot, myself: &ActorRef<Msg>) {
        let index = Index(snapshot.get_metadata().index);
        match Snapshot::decode(snapshot.data.as_slice()) {
            Ok(Snapshot { format, state }) if format <= SNAPSHOT_FORMAT => {
                (self.sink)(Event::Installed { index, state });
            }
            Ok(Snapshot { format, .. }) => {
                self.fail(RaftError::Format { index, format, newest: SNAPSHOT_FORMAT }, myself);
            }
            Err(source) => {
                self.fail(RaftError::Decode { what: "the snapshot", index, source }, myself);
            }
        }
    }

    fn tell_lead(&mut self) -> bool {
        let lead = self.node.lead();
        if lead == self.lead {
            return false;
        }
        self.lead = lead;
        self.conf_due = true;
        let (leader, term) = (self.leader(), Term(lead.term));
        (self.sink)(Event::Leader { leader, term, is_leader: lead.is_leader });
        self.ask_again();
        true
    }

    /// The current gate, and what waited for the leader's first commit.
    fn tell_confirmed(&mut self) -> bool {
        let Some(index) = self.node.confirmed().filter(|_| !self.confirmed) else { return false };
        self.confirmed = true;
        (self.sink)(Event::Confirmed(Index(index)));
        self.ask_again();
        true
    }

    /// Asks once more for the reads that wait, and for the current gate.
    pub(super) fn ask_again(&mut self) {
        self.reads.again(&mut self.node);
        if !self.confirmed && !self.lead.is_leader {
            self.reads.ask_gate(&mut self.node);
        }
    }

    fn arm(&mut self, myself: &ActorRef<Msg>) {
        if !self.node.is_alone() && !self.ticking {
            self.ticking = true;
            myself.send_after(limits::RAFT_TICK, || Msg::Tick);
        }
        if let Some(after) = self.reads.watch() {
            myself.send_after(after, || Msg::ReadsDue);
        }
    }
}

/// A command's envelope; a change of the members carries it beside. What a leader begins its term
/// with, and a change that was refused, has none.
fn decode(entry: &eraftpb::Entry) -> Result<Option<Entry>, RaftError> {
    let bytes = match entry.get_entry_type() {
        EntryType::EntryNormal => &entry.data,
        _ => &entry.context,
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let index = Index(entry.index);
    let what = "an entry";
    let decoded = Entry::decode(bytes.as_slice());
    decoded.map(Some).map_err(|source| RaftError::Decode { what, index, source })
}
