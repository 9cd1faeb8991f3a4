//! Proposals of a node: numbered, handed to the leader, and again until they are applied.
//!
//! Owns what waits for its outcome, and what an entry of the log carries beside its command. An
//! entry is answered when it is applied on this node; the state's sessions see to it that one that
//! was sent twice has one effect. Never sends anything, encodes a command or reads a clock.

#[cfg(test)]
#[path = "propose/tests/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "propose/tests/odd.rs"]
mod odd;
#[cfg(test)]
mod tests;

use crate::consensus::raft::{Entry, event};
use crate::fsm::{self, Command, Outcome, Rejection, SessionStep, State};
use crate::id::{BootId, Index, NodeId};
use crate::limits;
use crate::units::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A change that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The entry's index.
    pub index: Index,
    /// What it answered.
    pub outcome: Outcome,
}

/// Why a change was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No leader answers; nothing was done.
    #[error("no leader: changes are refused")]
    NoLeader,
    /// A leader may have taken it and didn't say so.
    #[error("the change was not confirmed in time; it may still be carried out")]
    Unconfirmed,
    /// Too much is on its way.
    #[error("too many changes are on their way: try again")]
    Overloaded,
    /// The command is too large for the log.
    #[error("the change is too large for the log")]
    TooLarge,
    /// The leader's disk is nearly full.
    #[error("the leader's disk is nearly full: changes are refused; containers run on")]
    DiskFull,
    /// The node is about to end.
    #[error("the node is stopping")]
    Stopping,
}

/// Why an entry is not in the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Who was asked doesn't lead.
    NotLeader,
    /// Too much is on its way.
    Overloaded,
    /// It is larger than any may be.
    TooLarge,
    /// It holds nothing that every node could apply.
    Unreadable,
    /// The leader's disk is nearly full, and it can wait.
    DiskFull,
}

impl From<event::ProposeError> for Refusal {
    fn from(error: event::ProposeError) -> Self {
        match error {
            event::ProposeError::NotLeader { .. } => Self::NotLeader,
            event::ProposeError::Overloaded { .. } => Self::Overloaded,
            event::ProposeError::TooLarge { .. } => Self::TooLarge,
            event::ProposeError::DiskFull => Self::DiskFull,
        }
    }
}

struct Waiting<R> {
    since: Millis,
    who: R,
    entry: Entry,
    /// How often it was handed to a leader.
    sent: u32,
    /// How often one said that it didn't take it.
    refused: u32,
}

/// What waits for its outcome, by number. `R` is who waits.
pub struct Proposals<R> {
    last: u64,
    waiting: BTreeMap<u64, Waiting<R>>,
    bytes: usize,
    /// Not taken by whom they were handed to.
    refused: BTreeSet<u64>,
}

impl<R> Default for Proposals<R> {
    fn default() -> Self {
        Self { last: 0, waiting: BTreeMap::new(), bytes: 0, refused: BTreeSet::new() }
    }
}

impl<R> Proposals<R> {
    /// Takes an entry in and numbers it; or gives back who asked, if too much waits.
    ///
    /// # Errors
    /// Who asked.
    pub fn add(&mut self, who: R, entry: Entry, now: Millis) -> Result<u64, R> {
        let bytes = self.bytes + entry.command.len();
        if self.waiting.len() >= limits::PROPOSALS_MAX || bytes as u64 > limits::UNAPPLIED_MAX {
            return Err(who);
        }
        self.last += 1;
        let seq = self.last;
        let low_water = self.waiting.keys().next().map_or(seq, |first| *first) - 1;
        self.bytes = bytes;
        let entry = Entry { seq, low_water, ..entry };
        self.waiting.insert(seq, Waiting { since: now, who, entry, sent: 0, refused: 0 });
        Ok(seq)
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The numbers of all that wait: a new leader, or one that can be reached again, is handed
    /// them.
    #[must_use]
    pub fn all(&self) -> Vec<u64> {
        self.waiting.keys().copied().collect()
    }

    /// The entries that go to the leader now.
    #[must_use]
    pub fn hand_over(&mut self, which: &[u64]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(which.len());
        for seq in which {
            if let Some(waiting) = self.waiting.get_mut(seq) {
                waiting.sent += 1;
                entries.push(waiting.entry.clone());
            }
        }
        entries
    }

    /// One that was applied, or is given up: who waits for it, and since when.
    pub fn remove(&mut self, seq: u64) -> Option<(R, Millis)> {
        let waiting = self.waiting.remove(&seq)?;
        self.bytes -= waiting.entry.command.len();
        self.refused.remove(&seq);
        Some((waiting.who, waiting.since))
    }

    /// One was not taken. It may have been before: then it may still come. Answers who is to be
    /// told that it is given up.
    pub fn refused(&mut self, seq: u64, refusal: Refusal) -> Option<(R, ProposeError)> {
        let waiting = self.waiting.get_mut(&seq)?;
        waiting.refused += 1;
        let error = match refusal {
            Refusal::TooLarge => ProposeError::TooLarge,
            Refusal::Unreadable => unreadable().into(),
            Refusal::DiskFull => ProposeError::DiskFull,
            Refusal::Overloaded if waiting.sent == 1 => ProposeError::Overloaded,
            Refusal::Overloaded | Refusal::NotLeader => {
                self.refused.insert(seq);
                return None;
            }
        };
        self.remove(seq).map(|(who, _)| (who, error))
    }

    /// Those that no leader took in time. A node that leads gives nothing up.
    #[must_use]
    pub fn late(&mut self, now: Millis) -> Vec<(R, ProposeError)> {
        let wait = limits::LEADER_WAIT.into();
        let late = self.waiting.iter().filter(|(_, waiting)| now.since(waiting.since) > wait);
        let late: Vec<u64> = late.map(|(seq, _)| *seq).collect();
        let mut answers = Vec::with_capacity(late.len());
        for seq in late {
            let may_be_taken = self.waiting.get(&seq).is_some_and(|w| w.refused < w.sent);
            let error =
                if may_be_taken { ProposeError::Unconfirmed } else { ProposeError::NoLeader };
            answers.extend(self.remove(seq).map(|(who, _)| (who, error)));
        }
        answers
    }

    /// Those that were refused: they go to the leader again.
    #[must_use]
    pub fn take_refused(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.refused).into_iter().collect()
    }

    /// Whether a look at them is due in a while: some were refused, or may come to be late.
    #[must_use]
    pub fn need_a_look(&self, leads: bool) -> bool {
        !self.refused.is_empty() || !leads && !self.waiting.is_empty()
    }

    /// Those that a snapshot covers: their entries are never handed out on this node.
    #[must_use]
    pub fn covered(&self, state: &State, node: NodeId, boot: BootId) -> Vec<(u64, Answer)> {
        let Some(session) = state.sessions.get(&node).filter(|s| s.boot == boot) else {
            return Vec::new();
        };
        let outcome = |seq: &u64| {
            let outcome = session.outcomes.get(seq)?.clone();
            let done = outcome.map(|outcome| Done { index: state.index, outcome });
            Some((*seq, done.map_err(ProposeError::from)))
        };
        self.waiting.keys().filter_map(outcome).collect()
    }
}

/// What a proposal is answered.
pub type Answer = Result<Done, ProposeError>;

/// A committed entry; without a body where a leader began its term.
#[derive(Clone, Debug)]
pub struct CommittedEntry {
    /// Its place in the log.
    pub index: Index,
    /// What to apply.
    pub entry: Option<fsm::Entry>,
}

impl CommittedEntry {
    /// Decodes what was committed; `level` is the highest feature level that this build knows. What
    /// is no command at a level that is known is a rejection: no entry may end every node for good.
    ///
    /// # Errors
    /// Why this build can't apply it.
    pub fn decode(committed: event::Committed, level: u32) -> Result<Self, String> {
        let index = committed.index;
        let Some(entry) = committed.entry else { return Ok(Self { index, entry: None }) };
        if entry.feature_level > level {
            return Err(too_old(&format!("entry {index} of the log"), entry.feature_level, level));
        }
        let command = command_of(&entry).unwrap_or_else(|error| {
            let (node, error) = (entry.node, &error as &dyn std::error::Error);
            tracing::error!(%index, node, error, "an entry of the log is stepped over");
            Command::Unreadable
        });
        let session = SessionStep {
            node: NodeId(entry.node),
            boot: BootId(entry.boot),
            seq: entry.seq,
            low_water: entry.low_water,
        };
        let idempotency_key = Some(entry.idempotency_key).filter(|key| !key.is_empty());
        let time = Timestamp(entry.time_ms);
        Ok(Self { index, entry: Some(fsm::Entry { time, session, idempotency_key, command }) })
    }
}

/// Why an entry holds no command that could be applied.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is no command of this version.
    #[error("it is no command of this version")]
    Unknown(#[from] serde_json::Error),
    /// Nodes of the level that it says could not apply it.
    #[error("its command needs feature level {needs}, and it says {says}")]
    Level {
        /// What the command needs.
        needs: u32,
        /// What the entry says.
        says: u32,
    },
    /// Its key is longer than any may be.
    #[error("its key has {bytes} bytes")]
    Key {
        /// How long it is.
        bytes: usize,
    },
}

/// The command of an entry.
///
/// # Errors
/// It has none that every node of the entry's level could apply.
pub fn command_of(entry: &Entry) -> Result<Command, CommandError> {
    let command: Command = serde_json::from_slice(&entry.command)?;
    match (command.needs(), entry.feature_level) {
        (needs, says) if needs > says => Err(CommandError::Level { needs, says }),
        _ => Ok(command),
    }
}

/// Whether the leader may append what another member proposes. One of a level that this build
/// doesn't know is refused by its level.
///
/// # Errors
/// Some node could not apply it.
pub fn check(entry: &Entry, level: u32) -> Result<(), CommandError> {
    if entry.feature_level > level {
        return Ok(());
    }
    let bytes = entry.idempotency_key.len();
    if bytes > limits::IDEMPOTENCY_KEY_MAX {
        return Err(CommandError::Key { bytes });
    }
    command_of(entry).map(drop)
}

fn unreadable() -> Rejection {
    Rejection::Illegal { what: "the leader can't read the change".to_owned() }
}

/// What is said where the log needs a newer program.
#[must_use]
pub fn too_old(what: &str, needed: u32, level: u32) -> String {
    format!(
        "{what} needs feature level {needed}, this build has {level}: install the version of mill \
         that the other nodes have (mill nodes --json)"
    )
}
