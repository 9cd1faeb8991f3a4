//! When a snapshot is taken, of what, and what goes with it.
//!
//! Never encodes a state itself, and never compacts before a snapshot is durable.

use super::{Consensus, Todo};
use crate::consensus::raft::event::Event;
use crate::consensus::raft::log::Wanted;
use crate::consensus::raft::{SNAPSHOT_FORMAT, Snapshot, Tuning};
use crate::id::Index;
use prost::Message as _;
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
    /// There was none to be had at the applied index: nobody is asked before that may be otherwise.
    refused: bool,
    /// The file is being read for a peer.
    reading: bool,
}

impl Snapshots {
    /// The one found at start.
    pub(super) fn new(index: u64) -> Self {
        Self { index, entries: 0, bytes: 0, underway: false, refused: false, reading: false }
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

    /// Time passed, or entries were applied.
    pub(super) fn look_again(&mut self) {
        self.refused = false;
    }

    fn due(&self, tuning: &Tuning) -> bool {
        self.entries >= tuning.snapshot_entries || self.bytes >= tuning.snapshot_bytes
    }
}

/// What is kept of an encoded state, and sent to peers.
#[must_use]
pub fn packed(state: Vec<u8>) -> Vec<u8> {
    Snapshot { format: SNAPSHOT_FORMAT, state }.encode_to_vec()
}

impl<R> Consensus<R> {
    /// Asks root for the state when the log has grown enough, or a peer needs it.
    pub(super) fn want_snapshot(&mut self) {
        let wanted = self.node.log().take_wanted();
        let none = self.snapshots.index == 0;
        if wanted == Wanted::Snapshot && !none && !self.snapshots.reading {
            self.snapshots.reading = true;
            self.todo.push(Todo::ReadSnapshot);
        }
        let newer = wanted == Wanted::Newer || wanted == Wanted::Snapshot && none;
        let may_ask = !self.snapshots.underway && !self.snapshots.refused;
        if may_ask && (newer || self.snapshots.due(&self.tuning)) {
            self.snapshots.underway = true;
            self.tell(Event::SnapshotWanted);
        }
    }

    /// Root hands over the state at this applied index: what is to be kept with it once it is
    /// encoded and [`packed`], if one is to be kept.
    pub fn snapshot(&mut self, index: Index) -> Option<SnapshotMetadata> {
        let Index(index) = index;
        let term = self.node.log().term_at(index);
        let known = term.zip(self.node.conf_at(index)).filter(|_| index > self.snapshots.index);
        self.snapshots.underway = known.is_some();
        self.snapshots.refused = known.is_none();
        let (term, conf) = known?;
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        Some(SnapshotMetadata { conf_state: Some(conf), index, term })
    }

    /// The state couldn't be encoded: the log grows on, and it is tried again later. Answers how
    /// far it was applied.
    pub fn snapshot_failed(&mut self) -> Index {
        self.snapshots.underway = false;
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        Index(self.node.applied_index())
    }

    /// A snapshot is durable: the log before it can go, but for what peers may need. Answers up to
    /// where it went.
    pub fn snapshot_saved(&mut self, index: u64) -> u64 {
        self.snapshots.underway = false;
        self.snapshots.index = self.snapshots.index.max(index);
        // A peer that needs one is sent this.
        self.node.set_sendable(None);
        let kept = if self.node.is_alone() { 0 } else { self.tuning.entries_kept };
        self.node.compact(index, index.saturating_sub(kept))
    }

    /// The snapshot for a peer is in memory, if there is one: the next try finds it.
    pub fn snapshot_read(&mut self, snapshot: Option<eraftpb::Snapshot>) {
        self.snapshots.reading = false;
        self.node.set_sendable(snapshot);
    }
}
