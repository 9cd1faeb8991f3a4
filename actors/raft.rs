//! The raft actor: makes proposals durable and hands them out, committed and in order.
//!
//! Owns the node's log and its writer thread. Never looks inside a command, never applies one, and
//! is never restarted in place: after a failed write the process ends and replays.

mod event;
pub mod lock;
mod pump;
mod reads;
mod snapshots;
pub mod wal;
pub mod writer;

pub use event::{
    Appended, Committed, Encode, EncodeError, Event, ProposeError, RaftError, ReadError, Sink,
};

use crate::id::{BootId, FIRST_NODE, Index, NodeId};
use crate::limits;
use crate::raft::Entry;
use crate::raft::log::LogView;
use crate::raft::node::{Conf, Lead, Member, Node};
use bytes::Bytes;
use prost011::Message as _;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use raft::eraftpb::{ConfState, Message, Snapshot};
use reads::Reads;
use snapshots::Snapshots;
use std::collections::VecDeque;
use std::path::PathBuf;
use writer::{Done, Job, Writer};

/// What raft asks of or is told by root and the peers.
pub enum Msg {
    /// Append this entry to the log. Answered when it has been appended, not when it is durable or
    /// committed: that is told by [`Event::Committed`] with the same index and term.
    Propose {
        /// The entry; its envelope is made by root.
        entry: Entry,
        /// Where it was appended, or why it was not. An entry that is later overwritten by another
        /// leader shows as another term at that index. Without it only a refusal is told, by
        /// [`Event::Refused`].
        reply: Option<RpcReplyPort<Result<Appended, ProposeError>>>,
    },
    /// Root has applied everything up to this index.
    Applied(Index),
    /// Take a snapshot: root's answer to [`Event::SnapshotWanted`].
    Snapshot {
        /// The applied index that the state stands for.
        index: Index,
        /// Encodes the state; runs on a thread of its own.
        encode: Encode,
    },
    /// Confirm that this node is current: answers an index that was committed when asked.
    ReadIndex {
        /// The index to wait for before reading, or why it couldn't be confirmed in time.
        reply: RpcReplyPort<Result<Index, ReadError>>,
    },
    /// Change who takes part, if this node leads. The entry says what becomes of the table of nodes
    /// and is committed with the change; one that is refused shows as an empty entry.
    Change {
        /// Each node's new part; several at once make a joint configuration, which is to be left.
        members: Vec<Member>,
        /// What is applied with it.
        entry: Entry,
    },
    /// Leave the joint configuration, if this node leads.
    Leave,
    /// Hand the lead over, if this node has it.
    TransferLeader(NodeId),
    /// Raft messages from a peer arrived, in this order.
    Step(Vec<Bytes>),
    /// A peer couldn't be reached with the last message to it.
    Unreachable(NodeId),
    /// A snapshot sent to a peer has arrived, or has failed.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// Whether it arrived.
        ok: bool,
    },
    /// The writer thread did something.
    Wrote(Done),
    /// A state was not encoded: no snapshot this time.
    SnapshotFailed(EncodeError),
    /// The node's snapshot was read, for a peer that is far behind.
    SnapshotRead(Option<Box<Snapshot>>),
    /// What came in before is to be carried out, all at once.
    Pump,
    /// Time passed, while this node isn't alone.
    Tick,
    /// Reads may have waited too long.
    ReadsDue,
    /// Write out what is left and stop.
    Stop,
}

/// What raft is started with.
pub struct Args {
    /// This node.
    pub node: NodeId,
    /// Where the log lies; made if it doesn't exist: by a cluster's first node with itself as the
    /// only voter, by any other one to wait for a leader that fills it.
    pub dir: PathBuf,
    /// Where the events go.
    pub sink: Sink,
}

/// The actor.
pub struct Raft;

/// What the actor keeps.
pub struct State {
    dir: PathBuf,
    node: Node,
    writer: Option<Writer>,
    sink: Sink,
    /// The node's own snapshot until it is told at start.
    begin: Option<Snapshot>,
    lead: Lead,
    /// What was last told of the configuration, while this node leads.
    conf: Option<Conf>,
    conf_due: bool,
    /// A [`Msg::Pump`] is on its way.
    pumping: bool,
    confirmed: bool,
    ticking: bool,
    /// Index and size of what was proposed here and isn't applied yet.
    unapplied: VecDeque<(u64, u64)>,
    unapplied_bytes: u64,
    reads: Reads,
    snapshots: Snapshots,
    failed: bool,
}

impl Actor for Raft {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        // Every log begins with the cluster's first node as the only voter: also one that waits for
        // a leader to bring it, or the changes in it would not fit.
        let conf = ConfState { voters: vec![FIRST_NODE.0], ..ConfState::default() };
        let dir = args.dir.clone();
        let opened = tokio::task::spawn_blocking(move || wal::open(&dir, &conf)).await?;
        let opened = opened.map_err(RaftError::Log)?;
        let view = LogView::new(&opened.found, Box::new(opened.reader));
        let node = Node::new(args.node, &opened.found, view).map_err(RaftError::Node)?;
        let report = move |done| {
            // Root has stopped the actor: nobody waits for this any more.
            let _ = myself.cast(Msg::Wrote(done));
        };
        let writer = Writer::spawn(opened.wal, report).map_err(RaftError::Spawn)?;
        Ok(State {
            dir: args.dir,
            node,
            writer: Some(writer),
            sink: args.sink,
            begin: opened.snapshot,
            lead: Lead::default(),
            conf: None,
            conf_due: true,
            pumping: false,
            confirmed: false,
            ticking: false,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
            reads: Reads::new(args.node, rand::random()),
            snapshots: Snapshots::new(opened.found.snapshot.0),
            failed: false,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(snapshot) = state.begin.take() {
            state.tell_installed(snapshot, &myself);
        }
        state.pump(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if state.failed {
            // Replies are dropped: the process is about to end.
            return Ok(());
        }
        if matches!(msg, Msg::Pump) {
            state.pumping = false;
            state.pump(&myself);
        } else if state.take(msg, &myself) && !state.pumping {
            // What waits in the mailbox already goes with it.
            state.pumping = true;
            myself.cast(Msg::Pump)?;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.finish().await;
        Ok(())
    }
}

impl State {
    /// Takes a message in; answers whether there may be something to do now.
    fn take(&mut self, msg: Msg, myself: &ActorRef<Msg>) -> bool {
        match msg {
            Msg::Propose { entry, reply } => {
                let (node, boot, seq) = (NodeId(entry.node), BootId(entry.boot), entry.seq);
                match (reply, self.propose(entry)) {
                    // Whoever asked may be gone; the entry is in the log all the same.
                    (Some(reply), done) => drop(reply.send(done)),
                    (None, Err(error)) => (self.sink)(Event::Refused { node, boot, seq, error }),
                    (None, Ok(_)) => {}
                }
                // What comes while the disk is busy goes with the next write.
                return !self.node.is_writing();
            }
            Msg::Change { members, entry } => {
                let context = prost::Message::encode_to_vec(&entry);
                self.change(&members, context);
            }
            Msg::Leave => self.change(&[], Vec::new()),
            Msg::TransferLeader(node) => self.node.transfer(node),
            Msg::Applied(index) => self.applied(index.0),
            Msg::Snapshot { index, encode } => self.save_snapshot(index.0, encode, myself),
            Msg::ReadIndex { reply } => self.reads.ask(reply, &mut self.node),
            Msg::Step(messages) => messages.into_iter().for_each(|bytes| self.step(bytes)),
            Msg::Unreachable(node) => self.node.unreachable(node),
            Msg::SnapshotSent { to, ok } => {
                self.node.snapshot_sent(to, ok);
                self.node.set_sendable(None);
            }
            Msg::Wrote(done) => self.wrote(done, myself),
            Msg::SnapshotFailed(error) => self.snapshots.failed(&error, self.node.applied_index()),
            Msg::SnapshotRead(snapshot) => self.snapshot_read(snapshot),
            Msg::Tick => {
                self.ticking = false;
                self.conf_due = true;
                self.node.tick();
                self.ask_again();
            }
            Msg::ReadsDue => self.reads.give_up(),
            Msg::Pump => {}
            Msg::Stop => {
                myself.stop(None);
                return false;
            }
        }
        true
    }

    fn propose(&mut self, entry: Entry) -> Result<Appended, ProposeError> {
        let data = prost::Message::encode_to_vec(&entry);
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
        Ok(Appended { index: Index(index), term: crate::id::Term(term) })
    }

    /// One that isn't taken is planned again: nothing waits for it.
    fn change(&mut self, members: &[Member], context: Vec<u8>) {
        if self.node.change(members, context).is_none() {
            tracing::debug!(?members, "a change of the members is not taken now");
        }
    }

    fn step(&mut self, bytes: Bytes) {
        match Message::decode(bytes) {
            Ok(message) => self.node.step(message),
            Err(error) => tracing::warn!(%error, "a peer's raft message can't be decoded"),
        }
    }

    fn applied(&mut self, index: u64) {
        self.node.applied(index);
        while self.unapplied.front().is_some_and(|(i, _)| *i <= index) {
            if let Some((_, size)) = self.unapplied.pop_front() {
                self.unapplied_bytes -= size;
            }
        }
    }

    fn wrote(&mut self, done: Done, myself: &ActorRef<Msg>) {
        match done {
            Done::Written(number) => self.conf_due |= self.node.persisted(number),
            Done::Snapshot(index) => self.snapshot_saved(index),
            Done::Failed(error) => self.fail(RaftError::Log(error), myself),
            Done::Ended => self.fail(RaftError::WriterGone, myself),
        }
    }

    fn fail(&mut self, error: RaftError, myself: &ActorRef<Msg>) {
        self.failed = true;
        // Root may hear of the end before it hears of the error: both say why.
        let reason = error.to_string();
        (self.sink)(Event::Fatal(error));
        myself.stop(Some(reason));
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.node.lead().leader).filter(|id| *id != 0).map(NodeId)
    }

    fn ask(&self, job: Job) {
        if let Some(writer) = &self.writer {
            writer.ask(job);
        }
    }

    /// Lets the writer finish, with the newest commit index, so that the next start replays it at
    /// once.
    async fn finish(&mut self) {
        let last = if self.failed { None } else { self.node.last_write() };
        if let Some(write) = last {
            self.ask(Job::Write(write));
        }
        if let Some(writer) = self.writer.take() {
            // It can only fail when the thread panicked, which has been told already.
            let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
        }
    }
}
