//! What raft needs from outside, and what ends it.
//!
//! Never what is told to root: those events are consensus's own.

use super::wal::WalError;
use crate::consensus::raft::Failure;
use crate::consensus::raft::consensus::Unreadable;
use crate::consensus::raft::event::Event;
use crate::consensus::raft::node::NodeError;

/// Encodes a state that was cheap to hand over; called once, off the actors' threads.
pub type Encode = Box<dyn FnOnce() -> Result<Vec<u8>, EncodeError> + Send>;

/// Where raft's events go.
pub type Sink = std::sync::Arc<dyn Fn(Event) + Send + Sync>;

/// A state that couldn't be encoded.
#[derive(Debug, thiserror::Error)]
#[error("encoding the state for a snapshot: {0}")]
pub struct EncodeError(#[source] pub Failure);

/// What ends the process.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The log couldn't be opened, read or written.
    #[error(transparent)]
    Log(#[from] WalError),
    /// Consensus couldn't be started.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The writer thread couldn't be started.
    #[error("starting the log's writer thread: {0}")]
    Spawn(#[source] std::io::Error),
    /// The writer thread is gone.
    #[error("the log's writer thread ended unexpectedly; start mill again")]
    WriterGone,
    /// The disk doesn't answer.
    #[error(
        "a write to the log has not ended in {}s; check the disk, then start mill again: nothing \
         that was acknowledged is lost", crate::limits::WRITE_STUCK.as_secs()
    )]
    Stuck,
    /// The log holds what can't be understood.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}
