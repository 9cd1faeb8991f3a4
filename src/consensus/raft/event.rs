//! What consensus tells root, and the answers it gives.
//!
//! Never what is told to peers: those are raft messages, opaque bytes here.

use super::node::Conf;
use super::{Entry, Failure};
use crate::id::{BootId, Index, NodeId, Term};
use crate::units::Millis;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What raft tells root, in order.
#[derive(Debug)]
pub enum Event {
    /// The state was replaced by a snapshot: at start by the node's own, later by the leader's.
    Installed {
        /// The index that the state stands for.
        index: Index,
        /// What the encoding made that was handed over for a snapshot.
        state: Vec<u8>,
    },
    /// Entries were committed, with no gap since the last ones. Root acknowledges with
    /// the last index applied.
    Committed(Vec<Committed>),
    /// A proposal was not appended.
    Refused {
        /// Who proposed it.
        node: NodeId,
        /// In which of that node's processes.
        boot: BootId,
        /// Its number in its proposer's sequence.
        seq: u64,
        error: ProposeError,
    },
    /// The leader changed, or this node's part.
    Leader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// The current term.
        term: Term,
        /// Whether it is this node.
        is_leader: bool,
    },
    /// This node leads, and the configuration has changed, or who has caught up.
    Conf(Conf),
    /// The current gate: a leader confirmed in this boot that everything up to this index is
    /// committed. Told once.
    Confirmed(Index),
    /// The log has grown enough: hand over the state.
    SnapshotWanted,
    /// The disk is slow, or hangs, or isn't any more.
    Disk(LogDisk),
    /// The disk has not answered for so long that the process is to end. Told from the thread that
    /// watches: whoever else should tell it may wait for the disk.
    Stuck(String),
    /// Send a raft message to a peer.
    Send {
        /// The peer.
        to: NodeId,
        /// The message.
        bytes: Bytes,
        /// Whether it carries a snapshot: goes over the bulk connection and is followed by
        /// what became of it.
        bulk: bool,
    },
    /// The log can't be trusted any further: end the process.
    Fatal(Failure),
}

/// How the disk of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDisk {
    /// What a write usually takes, where that is slow.
    pub slow: Option<Millis>,
    /// A write is on its way that takes far too long.
    pub hangs: bool,
}

impl LogDisk {
    /// It differs from what was told before by more than a third.
    #[must_use]
    pub fn is_news(self, told: Self) -> bool {
        let differs = match (self.slow, told.slow) {
            (Some(now), Some(then)) => now.0.abs_diff(then.0) > then.0 / 3,
            (now, then) => now != then,
        };
        self.hangs != told.hangs || differs
    }
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
    /// The log's disk is nearly full, and the change can wait.
    #[error("the log's disk is nearly full")]
    DiskFull,
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
