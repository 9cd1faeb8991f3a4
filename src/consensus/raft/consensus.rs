//! One node's consensus: what came in goes to raft-rs, and out comes what is to be done.
//!
//! Owns what is told to root and when, reads, the bounds on what isn't applied yet, and when a
//! snapshot is due. Never does any of it: a shell carries out each [`Todo`], in order, the actor or
//! the simulation. Never reads a clock or draws a number.

mod decode;
mod disk;
mod reads;
mod snapshots;

use super::event::{Appended, Event, LogDisk, ProposeError};
use super::log::{LogView, Recovered};
use super::node::{Conf, Lead, Member, Node, NodeError, Round, Write};
use super::pace::Pace;
use super::{Entry, Tuning};
use crate::bugs::{Bug, is_on};
use crate::id::{Index, NodeId, Term};
use crate::limits;
use crate::units::Millis;
use bytes::Bytes;
pub use decode::{SnapshotError, Unreadable, check_snapshot, committed, installed};
use prost::Message as _;
use raft::eraftpb::{self, Message, MessageType};
use reads::Reads;
use snapshots::Snapshots;
pub use snapshots::packed;
use std::collections::VecDeque;

/// What the shell is to do.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there are few at a time, and each is carried out at once"
)]
pub enum Todo<R> {
    /// Tell root, or send to a peer.
    Tell(Event),
    /// Make this durable, after all writes before it; then call [`Consensus::written`].
    Write(Write),
    /// Read the node's snapshot for a peer; then call [`Consensus::snapshot_read`].
    ReadSnapshot,
    /// The read that was asked for with this is confirmed at the index.
    Answer(R, Index),
    /// The log holds what can't be understood: nothing more is done.
    Fail(Unreadable),
}

/// What a node is, besides what its log says.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub node: NodeId,
    /// Drawn for this process: makes its reads and its patience before elections its own.
    pub draw: u64,
}

/// A node's consensus. `R` is who waits for a read.
pub struct Consensus<R> {
    node: Node,
    tuning: Tuning,
    lead: Lead,
    /// What was last told of the configuration, while this node leads.
    conf: Option<Conf>,
    conf_due: bool,
    confirmed: bool,
    /// Index and size of what was proposed here and isn't applied yet.
    unapplied: VecDeque<(u64, u64)>,
    unapplied_bytes: u64,
    reads: Reads<R>,
    snapshots: Snapshots,
    pace: Pace,
    /// What was last told of the disk.
    disk: LogDisk,
    todo: Vec<Todo<R>>,
    failed: bool,
}

impl<R> Consensus<R> {
    /// Of what the log store found; `snapshot` is the newest one there.
    ///
    /// # Errors
    /// If raft-rs can't begin with it.
    pub fn new(
        me: Identity,
        found: &Recovered,
        view: LogView,
        snapshot: Option<eraftpb::Snapshot>,
        tuning: Tuning,
    ) -> Result<Self, NodeError> {
        let mut new = Self {
            node: Node::new(me.node, found, view, me.draw)?,
            tuning,
            lead: Lead::default(),
            conf: None,
            conf_due: true,
            confirmed: false,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
            reads: Reads::new(me),
            snapshots: Snapshots::new(found.snapshot.0),
            pace: Pace::new(Millis(0)),
            disk: LogDisk::default(),
            todo: Vec::new(),
            failed: false,
        };
        if let Some(snapshot) = snapshot {
            new.tell_installed(&snapshot);
        }
        Ok(new)
    }

    /// Appends an entry, if this node leads. One that another leader overwrites later shows as
    /// another term at its index.
    ///
    /// # Errors
    /// Why it was not appended.
    pub fn propose(&mut self, entry: &Entry) -> Result<Appended, ProposeError> {
        let data = entry.encode_to_vec();
        let size = data.len() as u64;
        if size > limits::ENTRY_MAX {
            return Err(ProposeError::TooLarge { size, max: limits::ENTRY_MAX });
        }
        if self.unapplied_bytes + size > limits::UNAPPLIED_MAX {
            return Err(ProposeError::Overloaded { waiting: self.unapplied_bytes });
        }
        let Some((index, term)) = self.node.propose(data) else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        self.unapplied.push_back((index, size));
        self.unapplied_bytes += size;
        Ok(Appended { index: Index(index), term: Term(term) })
    }

    /// Changes who takes part, if this node leads; the entry is committed with the change. No
    /// members and no entry leave a joint configuration. One that isn't taken is planned again:
    /// nothing waits for it.
    pub fn change(&mut self, members: &[Member], entry: Option<&Entry>) {
        let context = entry.map(Entry::encode_to_vec).unwrap_or_default();
        if self.node.change(members, context).is_none() {
            tracing::debug!(?members, "a change of the members is not taken now");
        }
    }

    /// Hands the lead over, if this node has it.
    pub fn transfer(&mut self, to: NodeId) {
        self.node.transfer(to);
    }

    /// A peer's message arrived; its certificate says who that is.
    pub fn step(&mut self, from: NodeId, bytes: Bytes) {
        match prost011::Message::decode(bytes) {
            Ok(message) if self.node.may_say(from, &message) => {
                if let Err(older) = self.node.step(message) {
                    self.fail(Unreadable::Older(older));
                }
            }
            Ok(message) => {
                let kind = message.get_msg_type();
                tracing::warn!(%from, ?kind, "a peer's raft message is none that it may send");
            }
            Err(error) => tracing::warn!(%from, %error, "a peer's raft message can't be decoded"),
        }
    }

    /// A peer couldn't be reached with the last message to it.
    pub fn unreachable(&mut self, node: NodeId) {
        self.node.unreachable(node);
    }

    /// The connection over which a peer sends has ended.
    pub fn unheard(&mut self, node: NodeId) {
        self.node.unheard(node);
    }

    /// A snapshot for a peer has arrived, or has failed.
    pub fn snapshot_sent(&mut self, to: NodeId, ok: bool) {
        self.node.snapshot_sent(to, ok);
        self.node.set_sendable(None);
    }

    /// Root has applied everything up to this index.
    pub fn applied(&mut self, index: Index) {
        self.node.applied(index.0);
        self.snapshots.look_again();
        while self.unapplied.front().is_some_and(|(i, _)| *i <= index.0) {
            if let Some((_, size)) = self.unapplied.pop_front() {
                self.unapplied_bytes -= size;
            }
        }
    }

    /// All writes up to this one's number are durable.
    pub fn written(&mut self, number: u64) {
        self.conf_due |= self.node.persisted(number);
    }

    /// A tick of the clock; there are none while this node is alone.
    pub fn tick(&mut self) {
        self.conf_due = true;
        self.snapshots.look_again();
        self.node.tick();
        self.ask_again();
    }

    /// After how many ticks there is something to do, if nothing else happens before.
    #[must_use]
    pub fn due(&self) -> u64 {
        // A question may have been lost: it is asked again at every tick.
        let asks = self.reads.wait() || !self.confirmed;
        if asks { 1 } else { self.node.due() as u64 }
    }

    /// Whether a tick is due sometime.
    #[must_use]
    pub fn ticks(&self) -> bool {
        !self.node.is_alone()
    }

    /// Whether this node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.lead.is_leader
    }

    /// Whether a write is on its way to the disk: what comes now goes with the next one.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.node.is_writing()
    }

    /// Asks that this node's view be confirmed as the newest. Answers who asked if too many wait.
    pub fn read(&mut self, who: R, now: Millis) -> Option<R> {
        self.reads.ask(who, now, &mut self.node)
    }

    /// When to look for reads to give up, if nobody looks yet.
    pub fn watch_reads(&mut self, now: Millis) -> Option<Millis> {
        self.reads.watch(now)
    }

    /// Those that nobody confirmed in time.
    pub fn give_up_reads(&mut self, now: Millis) -> Vec<R> {
        self.reads.give_up(now)
    }

    /// What a last write before stopping holds, if the commit index on the disk lags.
    #[must_use]
    pub fn last_write(&mut self) -> Option<Write> {
        self.node.last_write()
    }

    /// What is to be done before something else happens.
    #[must_use]
    pub fn pump(&mut self) -> Vec<Todo<R>> {
        self.node.lead_if_alone();
        while !self.failed {
            while !self.failed
                && let Some(round) = self.node.round()
            {
                self.carry_out(round);
            }
            // Either asks what waits once more, so that there may be another round.
            if !self.tell_lead() && !self.tell_confirmed() {
                break;
            }
        }
        if !self.failed {
            self.want_snapshot();
            self.tell_conf();
        }
        std::mem::take(&mut self.todo)
    }

    fn tell(&mut self, event: Event) {
        self.todo.push(Todo::Tell(event));
    }

    fn fail(&mut self, error: Unreadable) {
        self.failed = true;
        self.todo.push(Todo::Fail(error));
    }

    /// What a leader's root needs to plan the members: once a tick, and after a change.
    fn tell_conf(&mut self) {
        if !std::mem::take(&mut self.conf_due) {
            return;
        }
        let mut conf = self.node.conf();
        if let (Some(conf), Some(known)) = (&mut conf, &self.conf)
            && self.node.asks_anew()
        {
            conf.keep(known);
        }
        if conf != self.conf {
            self.conf.clone_from(&conf);
            if let Some(conf) = conf {
                self.tell(Event::Conf(conf));
            }
        }
    }

    fn carry_out(&mut self, round: Round) {
        for message in &round.send {
            self.send(message);
        }
        let snapshot = round.write.as_ref().and_then(|write| write.snapshot.clone());
        self.todo.extend(round.write.map(Todo::Write));
        for read in &round.reads {
            let Some((who, index)) = self.reads.confirmed(read) else { continue };
            match who {
                Some(who) => self.todo.push(Todo::Answer(who, index)),
                None if !self.confirmed => self.confirm(index),
                None => {}
            }
        }
        if let Some(snapshot) = snapshot {
            self.snapshots.installed(snapshot.get_metadata().index);
            self.tell_installed(&snapshot);
        }
        self.tell_committed(round.committed);
    }

    fn send(&mut self, message: &Message) {
        let bytes = Bytes::from(prost011::Message::encode_to_vec(message));
        let bulk = message.get_msg_type() == MessageType::MsgSnapshot;
        self.tell(Event::Send { to: NodeId(message.to), bytes, bulk });
    }

    fn tell_committed(&mut self, entries: Vec<eraftpb::Entry>) {
        if entries.is_empty() {
            return;
        }
        entries.iter().for_each(|entry| self.snapshots.grown(entry));
        self.tell(Event::Committed(entries.iter().map(committed).collect()));
    }

    fn tell_installed(&mut self, snapshot: &eraftpb::Snapshot) {
        match installed(snapshot) {
            Ok(event) => self.tell(event),
            Err(error) => self.fail(error),
        }
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.node.lead().leader).filter(|id| *id != 0).map(NodeId)
    }

    fn tell_lead(&mut self) -> bool {
        let lead = self.node.lead();
        if lead == self.lead {
            return false;
        }
        self.lead = lead;
        self.conf_due = true;
        let (leader, term) = (self.leader(), Term(lead.term));
        self.tell(Event::Leader { leader, term, is_leader: lead.is_leader });
        self.ask_again();
        true
    }

    /// The current gate, and what waited for the leader's first commit.
    fn tell_confirmed(&mut self) -> bool {
        let known = is_on(Bug::SkipGate).then(|| self.node.applied_index());
        let known = known.or_else(|| self.node.confirmed());
        let Some(index) = known.filter(|_| !self.confirmed) else { return false };
        self.confirm(Index(index));
        self.ask_again();
        true
    }

    fn confirm(&mut self, index: Index) {
        self.confirmed = true;
        self.tell(Event::Confirmed(index));
    }

    /// Asks once more for the reads that wait, and for the current gate.
    fn ask_again(&mut self) {
        self.reads.again(&mut self.node);
        if !self.confirmed && !self.lead.is_leader {
            self.reads.ask_gate(&mut self.node);
        }
    }
}
