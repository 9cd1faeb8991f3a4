//! When a snapshot is taken, of what, and what goes with it.
//!
//! Never encodes a state itself, and never compacts before a snapshot is durable.

use super::writer::Job;
use super::{Encode, EncodeError, Event, Msg, State, wal};
use crate::limits;
use crate::raft::log::Wanted;
use crate::raft::{SNAPSHOT_FORMAT, Snapshot};
use prost::Message as _;
use ractor::ActorRef;
use raft::eraftpb::{self, Entry, SnapshotMetadata};

/// How the node's own snapshot stands.
pub(super) struct Snapshots {
    /// The durable one's index.
    index: u64,
    /// Handed-out entries and bytes since the last one.
    entries: u64,
    bytes: u64,
    /// One was asked for and isn't durable yet.
    underway: bool,
    /// The file is being read for a peer.
    reading: bool,
}

impl Snapshots {
    /// The one found at start.
    pub(super) fn new(index: u64) -> Self {
        Self { index, entries: 0, bytes: 0, underway: false, reading: false }
    }

    /// An entry was handed out.
    pub(super) fn grown(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes += entry.data.len() as u64;
    }

    /// A leader's came.
    pub(super) fn installed(&mut self, index: u64) {
        (self.index, self.entries, self.bytes) = (index, 0, 0);
    }

    fn due(&self) -> bool {
        let grown =
            self.entries >= limits::SNAPSHOT_ENTRIES || self.bytes >= limits::SNAPSHOT_BYTES;
        grown && !self.underway
    }

    /// It couldn't be encoded: the log grows on, and it is tried again later.
    pub(super) fn failed(&mut self, error: &EncodeError, applied: u64) {
        tracing::error!(%error, applied, "no snapshot was taken; the log goes on growing");
        self.underway = false;
        (self.entries, self.bytes) = (0, 0);
    }
}

impl State {
    /// Asks root for the state when the log has grown enough, or a peer needs it.
    pub(super) fn want_snapshot(&mut self, myself: &ActorRef<Msg>) {
        let wanted = self.node.log().take_wanted();
        let none = self.snapshots.index == 0;
        if wanted == Wanted::Snapshot && !none && !self.snapshots.reading {
            self.snapshots.reading = true;
            self.read_snapshot(myself);
        }
        let newer = wanted == Wanted::Newer || wanted == Wanted::Snapshot && none;
        if newer && !self.snapshots.underway || self.snapshots.due() {
            self.snapshots.underway = true;
            (self.sink)(Event::SnapshotWanted);
        }
    }

    /// Encodes a state on a thread of its own and lets the writer make it durable.
    pub(super) fn save_snapshot(&mut self, index: u64, encode: Encode, myself: &ActorRef<Msg>) {
        let term = self.node.log().term_at(index);
        let known = term.zip(self.node.conf_at(index));
        let Some((term, conf)) = known.filter(|_| index > self.snapshots.index) else {
            self.snapshots.underway = false;
            return;
        };
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        self.snapshots.underway = true;
        let meta = SnapshotMetadata { conf_state: Some(conf), index, term };
        let Some(jobs) = self.writer.as_ref().map(super::Writer::sender) else { return };
        let myself = myself.clone();
        tokio::task::spawn_blocking(move || match encode() {
            Ok(state) => {
                let data = Snapshot { format: SNAPSHOT_FORMAT, state }.encode_to_vec();
                // A writer that is gone has told so itself.
                let _ = jobs.send(Job::Snapshot { meta, data });
            }
            Err(error) => {
                let _ = myself.cast(Msg::SnapshotFailed(error));
            }
        });
    }

    /// A snapshot is durable: the log before it can go, but for what peers may need.
    pub(super) fn snapshot_saved(&mut self, index: u64) {
        self.snapshots.underway = false;
        self.snapshots.index = self.snapshots.index.max(index);
        // A peer that needs one is sent this.
        self.node.set_sendable(None);
        let kept = if self.node.is_alone() { 0 } else { limits::ENTRIES_KEPT };
        let compacted = self.node.compact(index, index.saturating_sub(kept));
        self.ask(Job::Compact(compacted));
    }

    fn read_snapshot(&self, myself: &ActorRef<Msg>) {
        let (dir, myself) = (self.dir.clone(), myself.clone());
        tokio::task::spawn_blocking(move || {
            let read = wal::load_snapshot(&dir).unwrap_or_else(|error| {
                tracing::error!(%error, "reading the snapshot for a peer");
                None
            });
            // The actor may have stopped.
            let _ = myself.cast(Msg::SnapshotRead(read.map(|(snapshot, _)| Box::new(snapshot))));
        });
    }

    /// The snapshot for a peer is in memory: the next try finds it.
    pub(super) fn snapshot_read(&mut self, snapshot: Option<Box<eraftpb::Snapshot>>) {
        self.snapshots.reading = false;
        self.node.set_sendable(snapshot.map(|s| *s));
    }
}
