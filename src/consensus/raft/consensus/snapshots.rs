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
use std::collections::VecDeque;

/// How the node's own snapshot stands.
pub(super) struct Snapshots {
    /// The durable one's index.
    index: u64,
    /// Handed-out entries and bytes since the last one.
    entries: u64,
    bytes: u64,
    /// Handed-out entries that are still in the log, the oldest first: index and bytes.
    sizes: VecDeque<(u64, u64)>,
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
        let (underway, refused, reading, sizes) = (false, false, false, VecDeque::new());
        Self { index, entries: 0, bytes: 0, sizes, underway, refused, reading }
    }

    /// An entry was handed out.
    pub(super) fn grown(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes += entry.data.len() as u64;
        self.sizes.push_back((entry.index, entry.data.len() as u64));
    }

    /// Up to where the log may go once there is a snapshot at `index`: the newest entries before it
    /// stay, so many at most and in so many bytes.
    fn spare(&mut self, index: u64, (entries, bytes): (u64, u64)) -> u64 {
        let mut to = index.saturating_sub(entries);
        let mut sum = 0;
        for (at, size) in self.sizes.iter().rev().filter(|(at, _)| *at <= index) {
            sum += size;
            if sum > bytes {
                to = to.max(*at);
                break;
            }
        }
        while self.sizes.front().is_some_and(|(at, _)| *at <= to) {
            self.sizes.pop_front();
        }
        to
    }

    /// A leader's came.
    pub(super) fn installed(&mut self, index: u64) {
        (self.index, self.entries, self.bytes) = (index, 0, 0);
        self.sizes.clear();
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
        let kept = match self.node.is_alone() {
            true => (0, 0),
            false => (self.tuning.entries_kept, self.tuning.bytes_kept),
        };
        let to = self.snapshots.spare(index, kept);
        self.node.compact(index, to)
    }

    /// The snapshot for a peer is in memory, if there is one: the next try finds it.
    pub fn snapshot_read(&mut self, snapshot: Option<eraftpb::Snapshot>) {
        self.snapshots.reading = false;
        self.node.set_sendable(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(sizes: &[usize]) -> Snapshots {
        let mut snapshots = Snapshots::new(0);
        for (index, size) in (1..).zip(sizes) {
            snapshots.grown(&Entry { index, data: vec![0; *size], ..Entry::default() });
        }
        snapshots
    }

    #[yare::parameterized(
        by_number = { &[1; 10], 9, (3, 100), 6 },
        by_bytes = { &[50; 10], 9, (5, 100), 7 },
        none_fits = { &[500; 10], 9, (5, 100), 9 },
        alone = { &[1; 10], 9, (0, 0), 9 },
        one_is_large = { &[1, 1, 1, 900, 1, 1, 1, 1, 1, 1], 10, (8, 100), 4 },
        few = { &[1; 3], 3, (8, 100), 0 },
    )]
    fn entries_are_kept_by_number_and_bytes(
        sizes: &[usize],
        index: u64,
        kept: (u64, u64),
        to: u64,
    ) {
        let mut snapshots = grown(sizes);
        assert_eq!(snapshots.spare(index, kept), to);
        assert_eq!(snapshots.sizes.len(), sizes.len() - to as usize);
    }
}
