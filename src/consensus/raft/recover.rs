//! What a log and the snapshot beside it say together when a node starts.
//!
//! Owns which of both counts where they differ: a crash may have come between their writes. Never
//! reads a file.

use super::log::Recovered;
use raft::eraftpb::{ConfState, HardState, SnapshotMetadata};

/// What the records of a log say, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// The first entry's index; without entries that of the next one. 0: nothing was ever said.
    pub first: u64,
    /// How many entries there are, without a gap.
    pub count: u64,
    /// The first index of each term's entries, ascending.
    pub terms: Vec<(u64, u64)>,
    /// Term, vote, commit index.
    pub hard: HardState,
    /// The newest configuration, and the index of the entry that made it.
    pub conf: (u64, ConfState),
}

impl Replayed {
    fn last(&self) -> u64 {
        self.first + self.count - 1
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if self.count == 0 || index < self.first || index > self.last() {
            return None;
        }
        self.terms.iter().rev().find(|(first, _)| *first <= index).map(|(_, term)| *term)
    }

    fn begin_at(&mut self, first: u64) {
        (self.first, self.count) = (first, 0);
        self.terms.clear();
    }

    /// Puts together what the snapshot and the log say; what is left of the log is in `first` and
    /// `count`. A new log has its first configuration at index 0.
    ///
    /// # Errors
    /// What is missing.
    pub fn settle(
        &mut self,
        snapshot: Option<(&SnapshotMetadata, &HardState)>,
    ) -> Result<Recovered, &'static str> {
        let mut found = Recovered::default();
        if let Some((meta, hard)) = snapshot {
            found.snapshot = (meta.index, meta.term);
            found.snapshot_conf = meta.get_conf_state().clone();
            if self.conf.0 < meta.index {
                self.conf = (meta.index, found.snapshot_conf.clone());
            }
            if hard.term > self.hard.term {
                self.hard = hard.clone();
            }
            if self.term_at(meta.index).is_none_or(|term| term != meta.term)
                && self.first != meta.index + 1
            {
                // A leader's snapshot whose write to the log was cut off: it replaces the log.
                if self.count > 0 && self.first > meta.index + 1 {
                    return Err("entries between it and the snapshot are missing");
                }
                self.begin_at(meta.index + 1);
            }
        } else if self.count > 0 && self.first != 1 {
            return Err("the snapshot before it is missing");
        } else if self.conf.0 == 0 {
            found.snapshot_conf = self.conf.1.clone();
        }
        self.first = self.first.max(1);
        found.compacted = match self.term_at(self.first) {
            // The term before the first entry isn't kept: the first one itself stands for it.
            Some(term) if self.first <= found.snapshot.0 => {
                let stands = (self.first, term);
                self.first += 1;
                self.count -= 1;
                stands
            }
            _ => found.snapshot,
        };
        found.last = self.last();
        found.hard = self.hard.clone();
        found.hard.commit = found.hard.commit.max(found.snapshot.0);
        if found.hard.commit > found.last {
            return Err("entries that were committed are missing");
        }
        found.terms = self.terms.clone();
        (found.conf_index, found.conf) = self.conf.clone();
        Ok(found)
    }
}
