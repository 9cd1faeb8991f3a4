//! The raft actor: makes proposals durable and hands them out, committed and in order.
//!
//! Owns the node's log and its writer thread. Never looks inside a command, never applies one, and
//! is never restarted in place: after a failed write the process ends and replays.

pub mod lock;
pub mod wal;

use crate::id::{Index, NodeId, Term};
use crate::raft::Entry;
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::path::PathBuf;

/// What raft asks of or is told by root and the peers.
pub enum Msg {
    /// Append this entry to the log. Answered when it has been appended, not when it is durable or
    /// committed: that is told by [`Event::Committed`] with the same index and term.
    Propose {
        /// The entry; its envelope is made by root.
        entry: Entry,
        /// Where it was appended, or why it was not. An entry that is later overwritten by another
        /// leader shows as another term at that index.
        reply: RpcReplyPort<Result<Appended, ProposeError>>,
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
    /// A raft message from a peer arrived.
    Step(Bytes),
    /// A peer couldn't be reached with the last message to it.
    Unreachable(NodeId),
    /// A snapshot sent to a peer has arrived, or has failed.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// Whether it arrived.
        ok: bool,
    },
    /// Write out what is left and stop.
    Stop,
}

/// Encodes a state that was cheap to hand over; called once, off the actors' threads.
pub type Encode = Box<dyn FnOnce() -> Result<Vec<u8>, EncodeError> + Send>;

/// Where raft's events go.
pub type Sink = Box<dyn Fn(Event) + Send + Sync>;

/// What raft tells root, in order.
#[derive(Debug)]
pub enum Event {
    /// The state was replaced by a snapshot: at start by the node's own, later by the leader's.
    Installed {
        /// The index that the state stands for.
        index: Index,
        /// What [`Msg::Snapshot`]'s `encode` made.
        state: Vec<u8>,
    },
    /// Entries were committed, with no gap since the last ones. Root acknowledges with
    /// [`Msg::Applied`].
    Committed(Vec<Committed>),
    /// The leader changed, or this node's part.
    Leader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// The current term.
        term: Term,
        /// Whether it is this node.
        is_leader: bool,
    },
    /// The current gate: a leader confirmed in this boot that everything up to this index is
    /// committed. Told once.
    Confirmed(Index),
    /// The log has grown enough: hand over the state with [`Msg::Snapshot`].
    SnapshotWanted,
    /// Send a raft message to a peer.
    Send {
        /// The peer.
        to: NodeId,
        /// The message, for [`Msg::Step`] there.
        bytes: Bytes,
        /// Whether it carries a snapshot: goes over the bulk connection and is followed by
        /// [`Msg::SnapshotSent`].
        bulk: bool,
    },
    /// The log can't be trusted any further: end the process.
    Fatal(RaftError),
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Its place in the log.
    pub index: Index,
    /// The term in which it was appended.
    pub term: Term,
    /// None for what a new leader appends to begin its term.
    pub entry: Option<Entry>,
}

/// Where a proposal was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the log.
    pub index: Index,
    /// The term in which it was appended.
    pub term: Term,
}

/// Why a proposal was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none.
    #[error("this node isn't the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// Too much is waiting to be applied: try again later.
    #[error(
        "{waiting} bytes of changes wait to be applied, more than are allowed; try again later"
    )]
    Overloaded {
        /// Bytes waiting.
        waiting: u64,
    },
    /// The entry is larger than any may be.
    #[error("a change of {size} bytes is larger than the {max} allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
}

/// Why a read couldn't be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader answered in time.
    #[error("no leader confirmed the read in time")]
    Unconfirmed,
}

/// A state that couldn't be encoded.
#[derive(Debug, thiserror::Error)]
#[error("encoding the state for a snapshot: {0}")]
pub struct EncodeError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What ends the process.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The writer thread is gone.
    #[error("the log's writer thread ended unexpectedly; the process must be started again")]
    WriterGone,
}

/// What raft is started with.
pub struct Args {
    /// This node.
    pub node: NodeId,
    /// Where the log lies; made if it doesn't exist.
    pub dir: PathBuf,
    /// Whether a missing log is begun with this node as the only voter. Otherwise it waits for a
    /// leader to bring one.
    pub bootstrap: bool,
    /// Where the events go.
    pub sink: Sink,
}

/// The actor.
pub struct Raft;

/// What the actor keeps.
pub struct State {
    _args: Args,
}

impl Actor for Raft {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { _args: args })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        _msg: Msg,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
