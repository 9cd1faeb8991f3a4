//! What the log and its snapshots hold, as root is told of it.
//!
//! Never looks inside a command.

use super::super::event::{Committed, Event};
use super::super::node::Older;
use super::super::{Entry, SNAPSHOT_FORMAT, Snapshot};
use crate::fsm::State;
use crate::id::{Index, Term};
use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{self, EntryType, Message, MessageType};

/// What in the log can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A snapshot can't be decoded.
    #[error("the snapshot at index {index} can't be decoded: {source}")]
    Decode {
        /// Where in the log.
        index: Index,
        #[source]
        source: prost::DecodeError,
    },
    /// The snapshot was written by a newer version.
    #[error(
        "the snapshot at index {index} has format {format}, this mill reads up to {newest}; \
         install a newer one"
    )]
    Format {
        index: Index,
        format: u32,
        /// The newest that is read.
        newest: u32,
    },
    /// It lacks what this node has confirmed to have.
    #[error(
        "the log ends at entry {}, but this node has confirmed entry {} to the cluster: it is an \
         older copy. What is missing can't be made up for; remove the node on another one (mill \
         remove), then wipe it (mill clean) and let it join anew", .0.last, .0.confirmed
    )]
    Older(Older),
}

/// What root is told of a snapshot.
///
/// # Errors
/// It can't be understood.
pub fn installed(snapshot: &eraftpb::Snapshot) -> Result<Event, Unreadable> {
    let index = Index(snapshot.get_metadata().index);
    match Snapshot::decode(snapshot.data.as_slice()) {
        Ok(Snapshot { format, state }) if format <= SNAPSHOT_FORMAT => {
            Ok(Event::Installed { index, state })
        }
        Ok(Snapshot { format, .. }) => {
            Err(Unreadable::Format { index, format, newest: SNAPSHOT_FORMAT })
        }
        Err(source) => Err(Unreadable::Decode { index, source }),
    }
}

/// What root is told of an entry.
#[must_use]
pub fn committed(entry: &eraftpb::Entry) -> Committed {
    Committed { index: Index(entry.index), term: Term(entry.term), entry: decode(entry) }
}

/// A command's envelope; a change of the members carries it beside. What a leader begins its term
/// with, and a change that was refused, has none. Neither has what is no envelope: the entry counts
/// as empty on every node, since none could go on otherwise.
fn decode(entry: &eraftpb::Entry) -> Option<Entry> {
    let bytes = match entry.get_entry_type() {
        EntryType::EntryNormal => &entry.data,
        _ => &entry.context,
    };
    if bytes.is_empty() {
        return None;
    }
    let index = Index(entry.index);
    let decoded = Entry::decode(bytes.as_slice());
    let step_over = |error| tracing::error!(%index, %error, "an entry of the log is stepped over");
    decoded.map_err(step_over).ok()
}

/// Whether a raft message that brings a snapshot brings one that can be taken over. One of a
/// newer feature level than this build knows is left to those that say what to install.
///
/// # Errors
/// It can't be.
pub fn check_snapshot(message: Bytes, level: u32) -> Result<(), SnapshotError> {
    let message: Message = prost011::Message::decode(message)?;
    if message.get_msg_type() != MessageType::MsgSnapshot {
        return Ok(());
    }
    let packed = Snapshot::decode(message.get_snapshot().data.as_slice())?;
    if packed.format > SNAPSHOT_FORMAT {
        return Err(SnapshotError::Format(packed.format));
    }
    let Err(error) = State::decode(&packed.state) else { return Ok(()) };
    match State::level_of(&packed.state) {
        Some(newer) if newer > level => Ok(()),
        _ => Err(error.into()),
    }
}

/// Why a snapshot can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// What brings it is no raft message.
    #[error("it is no raft message")]
    Message(#[from] prost011::DecodeError),
    /// Its envelope can't be read.
    #[error("it is no snapshot")]
    Envelope(#[from] prost::DecodeError),
    /// A newer version has written it.
    #[error("it has format {0}, this mill reads up to {SNAPSHOT_FORMAT}")]
    Format(u32),
    /// It holds no state.
    #[error("it holds no state")]
    State(#[from] serde_json::Error),
}
