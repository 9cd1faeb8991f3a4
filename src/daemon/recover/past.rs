//! A log that nobody leads any more: what it holds, and the one that begins anew behind it.
//!
//! Owns that all of it counts, also what this node never learned to be committed: the lost nodes
//! may have acknowledged it. Never changes the log that is there.

use super::RecoverError;
use crate::actors::raft::wal::{self, Store as _};
use crate::actors::root::{RaftEvent, replayed};
use crate::consensus::raft::consensus::{committed, installed, packed};
use crate::consensus::raft::event::Event;
use crate::consensus::raft::log::ReadEntries as _;
use crate::consensus::raft::node::Write;
use crate::fsm::{FEATURE_LEVEL, State};
use crate::id::{FIRST_NODE, NodeId};
use crate::limits;
use raft::eraftpb::{ConfState, HardState, Snapshot};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What a log holds.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// The state at its end.
    pub(super) state: State,
    /// Who votes.
    pub(super) voters: BTreeSet<NodeId>,
    /// Who votes too, in the middle of a joint change.
    pub(super) outgoing: BTreeSet<NodeId>,
    /// The newest term that the node knows.
    pub(super) term: u64,
    /// The last entry's index.
    pub(super) last: u64,
}

fn unreadable(error: impl std::fmt::Display) -> RecoverError {
    RecoverError::Unreadable(error.to_string())
}

fn decoded(event: Event) -> Result<RaftEvent, RecoverError> {
    match RaftEvent::decode(event, FEATURE_LEVEL) {
        Some(RaftEvent::Fatal(reason)) => Err(RecoverError::Unreadable(reason)),
        Some(event) => Ok(event),
        None => Err(unreadable("the log holds an entry that is none of root's")),
    }
}

/// Reads a log to its end.
pub(super) fn read(dir: &Path) -> Result<Past, RecoverError> {
    let first = ConfState { voters: vec![FIRST_NODE.0], ..ConfState::default() };
    let opened = wal::open(dir, &first)?;
    let mut state = State::default();
    if let Some(snapshot) = &opened.snapshot
        && let RaftEvent::Installed(held) = decoded(installed(snapshot).map_err(unreadable)?)?
    {
        state = *held;
    }
    let found = &opened.found;
    let mut next = found.snapshot.0 + 1;
    while next <= found.last {
        let entries = opened.reader.read(next, found.last + 1, limits::READY_MAX);
        let entries = entries.map_err(unreadable)?;
        next += entries.len() as u64;
        let event = Event::Committed(entries.iter().map(committed).collect());
        if let RaftEvent::Committed(entries) = decoded(event)? {
            state = replayed(&state, &entries);
        }
    }
    let ids = |list: &[u64]| list.iter().copied().map(NodeId).collect();
    Ok(Past {
        state,
        voters: ids(&found.conf.voters),
        outgoing: ids(&found.conf.voters_outgoing),
        term: found.hard.term,
        last: found.last,
    })
}

/// Writes the log that begins with this state, of a cluster in which one node votes.
pub(super) fn begin(dir: &Path, me: NodeId, state: &State, term: u64) -> Result<(), RecoverError> {
    if dir.exists() {
        let failed = |source| RecoverError::Io { what: "removing", path: dir.to_owned(), source };
        fs::remove_dir_all(dir).map_err(failed)?;
    }
    let conf = ConfState { voters: vec![me.0], ..ConfState::default() };
    let mut opened = wal::open(dir, &conf)?;
    let mut snapshot = Snapshot {
        data: packed(state.encode().map_err(RecoverError::Encode)?),
        ..Snapshot::default()
    };
    let meta = snapshot.mut_metadata();
    (meta.index, meta.term) = (state.index.0, term);
    meta.conf_state = Some(conf);
    let hard = HardState { term, commit: state.index.0, ..HardState::default() };
    let write = Write { number: 1, snapshot: Some(snapshot), hard, ..Write::default() };
    Ok(opened.wal.write(&write)?)
}
