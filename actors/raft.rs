//! The raft actor: makes proposals durable and hands them out, committed and in order.
//!
//! Owns the node's log and its writer thread. Never looks inside a command, never applies one, and
//! is never restarted in place: after a failed write the process ends and replays.

mod event;
pub mod lock;
mod pump;
mod room;
pub mod wal;
pub mod writer;

pub use crate::consensus::raft::event::{Appended, Committed, Event, ProposeError, ReadError};
pub use event::{Encode, EncodeError, RaftError, Sink};

use crate::actors::mailbox::Stamp;
use crate::actors::root::{ChildMessage, View};
use crate::consensus::raft::consensus::{Consensus, Identity, packed};
use crate::consensus::raft::log::LogView;
use crate::consensus::raft::node::Member;
use crate::consensus::raft::ticks::Ticks;
use crate::consensus::raft::{Entry, Tuning};
use crate::id::{BootId, FIRST_NODE, Index, NodeId};
use crate::units::Millis;
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use raft::eraftpb::{ConfState, Snapshot};
use room::Room;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use writer::{Done, Job, Writer};

/// Who waits for a read.
type Reader = RpcReplyPort<Result<Index, ReadError>>;

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
        reply: Reader,
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
    Step {
        /// Whose certificate the connection has shown.
        from: NodeId,
        messages: Vec<Bytes>,
    },
    /// A peer couldn't be reached with the last message to it.
    Unreachable(NodeId),
    /// The connection over which a peer sends has ended.
    Unheard(NodeId),
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
    /// The time that raft's clock waited for has come.
    Tick {
        /// Which alarm it is.
        generation: u64,
    },
    /// Reads may have waited too long.
    ReadsDue,
    /// How long does a message wait here?
    Stamped(Stamp),
    /// Write out what is left and stop.
    Stop,
}

impl ChildMessage for Msg {
    /// Views come of what raft tells; it is shown none.
    fn view(_view: View) -> Option<Self> {
        None
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamped(stamp)
    }
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
    consensus: Consensus<Reader>,
    writer: Option<Writer>,
    /// The number of the last write, and of the last one that is durable.
    asked: u64,
    written: u64,
    sink: Sink,
    begun: Instant,
    /// A [`Msg::Pump`] is on its way.
    pumping: bool,
    ticks: Ticks,
    room: Room,
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
        let me = Identity { node: args.node, draw: rand::random() };
        let consensus = Consensus::new(me, &opened.found, view, opened.snapshot, Tuning::default());
        let mut consensus = consensus.map_err(RaftError::Node)?;
        consensus.begin_pace(opened.sync.into());
        let sink = Arc::clone(&args.sink);
        let report = move |done| {
            if matches!(done, Done::Stuck) {
                // The actor's own thread may be the one that waits for the disk.
                sink(Event::Stuck(RaftError::Stuck.to_string()));
            }
            // Root has stopped the actor: nobody waits for this any more.
            let _ = myself.cast(Msg::Wrote(done));
        };
        let writer = Writer::spawn(opened.wal, report).map_err(RaftError::Spawn)?;
        Ok(State {
            room: Room::of(&args.dir),
            dir: args.dir,
            consensus,
            writer: Some(writer),
            asked: 0,
            written: 0,
            sink: args.sink,
            begun: Instant::now(),
            pumping: false,
            ticks: Ticks::default(),
            failed: false,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
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
        let consensus = &mut self.consensus;
        match msg {
            Msg::Propose { entry, reply } => {
                let (node, boot, seq) = (NodeId(entry.node), BootId(entry.boot), entry.seq);
                let proposed = match self.room.has(&entry) {
                    true => consensus.propose(&entry),
                    false => Err(ProposeError::DiskFull),
                };
                match (reply, proposed) {
                    // Whoever asked may be gone; the entry is in the log all the same.
                    (Some(reply), done) => drop(reply.send(done)),
                    (None, Err(error)) => (self.sink)(Event::Refused { node, boot, seq, error }),
                    (None, Ok(_)) => {}
                }
                // What comes while the disk is busy goes with the next write.
                return !consensus.is_writing();
            }
            Msg::Change { members, entry } => consensus.change(&members, Some(&entry)),
            Msg::Leave => consensus.change(&[], None),
            Msg::TransferLeader(node) => consensus.transfer(node),
            Msg::Applied(index) => consensus.applied(index),
            Msg::Snapshot { index, encode } => self.save_snapshot(index, encode, myself),
            Msg::ReadIndex { reply } => {
                if let Some(reply) = consensus.read(reply, self.begun.elapsed().into()) {
                    refuse(reply);
                }
            }
            Msg::Step { from, messages } => {
                self.pass();
                messages.into_iter().for_each(|bytes| self.consensus.step(from, bytes));
            }
            Msg::Unreachable(node) => consensus.unreachable(node),
            Msg::Unheard(node) => consensus.unheard(node),
            Msg::SnapshotSent { to, ok } => consensus.snapshot_sent(to, ok),
            Msg::Wrote(done) => self.wrote(done, myself),
            Msg::SnapshotFailed(error) => {
                let applied = consensus.snapshot_failed();
                tracing::error!(%error, %applied, "no snapshot was taken; the log goes on growing");
            }
            Msg::SnapshotRead(snapshot) => consensus.snapshot_read(snapshot.map(|s| *s)),
            Msg::Tick { generation } => {
                self.ticks.rang(generation);
                self.pass();
            }
            Msg::ReadsDue => {
                let now: Millis = self.begun.elapsed().into();
                consensus.give_up_reads(now).into_iter().for_each(refuse);
            }
            Msg::Stamped(stamp) => {
                stamp.arrived();
                return false;
            }
            Msg::Pump => {}
            Msg::Stop => {
                myself.stop(None);
                return false;
            }
        }
        true
    }

    /// Counts the ticks that have passed.
    fn pass(&mut self) {
        let now = self.begun.elapsed().into();
        if !self.consensus.ticks() {
            return self.ticks.begin(now);
        }
        for _ in 0..self.ticks.pass(now, self.consensus.due()) {
            self.consensus.tick();
        }
    }

    /// Encodes a state on a thread of its own and lets the writer make it durable.
    fn save_snapshot(&mut self, index: Index, encode: Encode, myself: &ActorRef<Msg>) {
        let Some(meta) = self.consensus.snapshot(index) else { return };
        let Some(jobs) = self.writer.as_ref().map(Writer::sender) else { return };
        let myself = myself.clone();
        tokio::task::spawn_blocking(move || match encode() {
            Ok(state) => {
                // A writer that is gone has told so itself.
                let _ = jobs.send(Job::Snapshot { meta, data: packed(state) });
            }
            Err(error) => {
                let _ = myself.cast(Msg::SnapshotFailed(error));
            }
        });
    }

    fn wrote(&mut self, done: Done, myself: &ActorRef<Msg>) {
        match done {
            Done::Written(number, took) => {
                self.written = number;
                self.consensus.written(number);
                self.consensus.paced(took.into());
            }
            Done::Late => self.consensus.disk_late(),
            Done::Stuck => self.fail(RaftError::Stuck, myself),
            Done::Snapshot(index) => {
                let compacted = self.consensus.snapshot_saved(index);
                self.ask(Job::Compact(compacted));
            }
            Done::NoSnapshot(error) => {
                let applied = self.consensus.snapshot_failed();
                tracing::error!(%error, %applied, "no snapshot was kept; the log goes on growing");
            }
            Done::Failed(error) => self.fail(error.into(), myself),
            Done::Ended => self.fail(RaftError::WriterGone, myself),
        }
    }

    fn fail(&mut self, error: RaftError, myself: &ActorRef<Msg>) {
        self.failed = true;
        // Root may hear of the end before it hears of the error: both say why.
        let reason = error.to_string();
        (self.sink)(Event::Fatal(error.into()));
        myself.stop(Some(reason));
    }

    fn ask(&self, job: Job) {
        if let Some(writer) = &self.writer {
            writer.ask(job);
        }
    }

    /// Lets the writer finish, with the newest commit index, so that the next start replays it at
    /// once.
    async fn finish(&mut self) {
        let last = if self.failed { None } else { self.consensus.last_write() };
        if let Some(write) = last {
            self.ask(Job::Write(write));
        }
        // After a failure the thread has ended, or waits for a disk that doesn't answer.
        if let Some(writer) = self.writer.take().filter(|_| !self.failed) {
            // It can only fail when the thread panicked, which has been told already.
            let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
        }
    }
}

fn refuse(reader: Reader) {
    // Whoever asked may be gone.
    let _ = reader.send(Err(ReadError::Unconfirmed));
}
