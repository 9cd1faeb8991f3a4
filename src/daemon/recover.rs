//! `--recover-single`: the only survivor of a lost quorum becomes a cluster of one.
//!
//! Owns when that may be, and the order in which it is done: the new log beside the old one, then
//! the identity, which decides, then the new log in the old one's place. So it is done whole or
//! not at all. Never touches what runs.

mod past;

use super::{DaemonError, Identity, LOG};
use crate::actors::peer::credentials::Credentials;
use crate::actors::peer::keys::NodeKeys;
use crate::actors::peer::{self, ExpulsionCheck};
use crate::actors::raft::wal::WalError;
use crate::config::DaemonConfig;
use crate::fsm::State;
use crate::fsm::model::Node;
use crate::id::{Incarnation, Index, NodeId};
use past::Past;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a node doesn't become a cluster of one.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It is no member of anything.
    #[error(
        "this node belongs to no cluster: there is nothing to recover. Start it without \
         --recover-single, then: mill init, or mill join"
    )]
    Unclaimed,
    /// It goes on alone anyway.
    #[error(
        "{node} is the only voter of {cluster} already: there is nothing to recover. Start it \
         without --recover-single"
    )]
    Alone {
        /// This node.
        node: String,
        cluster: String,
    },
    /// It has nothing to go on with.
    #[error(
        "this node has no state of its cluster that knows it as a member: nothing could be kept. \
         Wipe it: mill clean"
    )]
    Stateless,
    /// The cluster isn't lost.
    #[error(
        "{} with this node that is {there} of {voters} voters, and the cluster goes on by itself. \
         Start this node without --recover-single",
        said(.answer)
    )]
    Quorum {
        /// Who answers.
        answer: Vec<String>,
        /// Voters that are there, with this node if it votes.
        there: usize,
        /// All of them.
        voters: usize,
    },
    /// The cluster goes on without this node.
    #[error(
        "{node} answers that the cluster goes on without this node. To use this host again: mill \
         clean, then mill join"
    )]
    Expelled {
        /// Who says so.
        node: String,
    },
    /// Nobody said that it is to be done.
    #[error("{plan}")]
    Unasked {
        /// What it would do.
        plan: String,
    },
    /// The log can't be read, or the new one not written.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The log holds what can't be understood.
    #[error("{0}")]
    Unreadable(String),
    /// The state can't be written.
    #[error("encoding the state")]
    Encode(#[source] serde_json::Error),
    /// The file system.
    #[error("{what} {path}", path = path.display())]
    Io {
        what: &'static str,
        /// On what.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn said(names: &[String]) -> String {
    let verb = if names.len() == 1 { "answers" } else { "answer" };
    format!("{} {verb};", names.join(", "))
}

/// Makes the node whose data directory is locked a cluster of one, if it is the only survivor and
/// somebody said that it is to be done.
///
/// # Errors
/// Why not. Then everything is as it was.
pub(super) async fn recover(config: &DaemonConfig) -> Result<(), DaemonError> {
    let data = &config.data_dir;
    let who = Identity::read(data)?.ok_or(RecoverError::Unclaimed)?;
    finish(data, Some(&who))?;
    let log = data.join(LOG);
    if !log.exists() {
        return Err(RecoverError::Stateless.into());
    }
    let reading = tokio::task::spawn_blocking(move || past::read(&log)).await;
    let past = reading.map_err(|error| DaemonError::Fatal(error.to_string()))??;
    let me = who.node;
    let name = past.state.nodes.get(&me).map(|node| node.name.clone());
    let (name, cluster) = (name.ok_or(RecoverError::Stateless)?, who.cluster.name.clone());
    if past.voters.iter().eq([&me]) && past.outgoing.is_empty() {
        return Err(RecoverError::Alone { node: name, cluster }.into());
    }
    let answers = ask(config, &who, &past.state).await?;
    judge(&past, me, &answers)?;
    let plan = plan(&past.state, me, &answers);
    if !config.yes {
        return Err(RecoverError::Unasked { plan }.into());
    }
    let index = past.last;
    let data = data.clone();
    let done = tokio::task::spawn_blocking(move || carry_out(&data, who, past)).await;
    done.map_err(|error| DaemonError::Fatal(error.to_string()))??;
    tracing::warn!(node = %name, %cluster, last = %Index(index), "{plan}");
    Ok(())
}

/// What the other members say when they are asked whether this node is one of them.
async fn ask(
    config: &DaemonConfig,
    who: &Identity,
    state: &State,
) -> Result<BTreeMap<NodeId, ExpulsionCheck>, DaemonError> {
    let keys = NodeKeys::read(&config.data_dir).map_err(super::EquipError::from)?;
    let credentials = Credentials::new(&keys, &config.data_dir, config.certificate_life);
    let credentials = Arc::new(credentials.map_err(super::EquipError::from)?);
    let others = others(state, who.node).filter_map(|node| Some((node.id, peer::place(node)?)));
    Ok(peer::ask_members(&credentials, who.cluster.incarnation, others.collect()).await)
}

fn others(state: &State, me: NodeId) -> impl Iterator<Item = &Arc<Node>> {
    state.nodes.values().filter(move |node| node.id != me)
}

/// Whether this node is the only one that could go on.
fn judge(
    past: &Past,
    me: NodeId,
    answers: &BTreeMap<NodeId, ExpulsionCheck>,
) -> Result<(), RecoverError> {
    let name = |id: &NodeId| past.state.nodes.get(id).map_or(id.to_string(), |n| n.name.clone());
    if let Some((id, _)) = answers.iter().find(|(_, says)| **says != ExpulsionCheck::Member) {
        return Err(RecoverError::Expelled { node: name(id) });
    }
    let there = |voters: &BTreeSet<NodeId>| {
        voters.iter().filter(|id| **id == me || answers.contains_key(id)).count()
    };
    let goes_on = |voters: &BTreeSet<NodeId>| there(voters) > voters.len() / 2;
    if goes_on(&past.voters) && (past.outgoing.is_empty() || goes_on(&past.outgoing)) {
        return Err(RecoverError::Quorum {
            answer: answers.keys().map(name).collect(),
            there: there(&past.voters),
            voters: past.voters.len(),
        });
    }
    Ok(())
}

/// What becomes of the cluster, in a person's words.
fn plan(state: &State, me: NodeId, answers: &BTreeMap<NodeId, ExpulsionCheck>) -> String {
    let name = |id: NodeId| state.nodes.get(&id).map_or(id.to_string(), |node| node.name.clone());
    let cluster = state.cluster.as_ref().map(|cluster| cluster.name.as_str()).unwrap_or_default();
    let lost: Vec<String> =
        others(state, me).map(|node| format!("{} ({})", node.name, node.address)).collect();
    let mut text = format!(
        "--recover-single makes {} the only node of {cluster}, with the state that it has; there \
         is no way back.\n  given up: {}; what ran there counts as lost and gets a place here\n  \
         before the daemon of one of them is started again, wipe it (mill clean); then it may \
         join again, also under its name",
        name(me),
        lost.join(", "),
    );
    if !answers.is_empty() {
        let up: Vec<String> = answers.keys().map(|id| name(*id)).collect();
        text += &format!("\n  {} stop it first, and wipe it", said(&up));
    }
    text
}

/// Where the log of a life of the cluster is put together.
fn draft(data: &Path, incarnation: Incarnation) -> PathBuf {
    data.join(format!("{LOG}.{incarnation}"))
}

fn carry_out(data: &Path, who: Identity, past: Past) -> Result<(), DaemonError> {
    let incarnation = Incarnation(rand::random());
    prepare(data, &who, past, incarnation)?;
    let mut who = who;
    who.cluster.incarnation = incarnation;
    if let Some(init) = &mut who.init {
        init.incarnation = incarnation;
    }
    who.members.clear();
    who.write(data)?;
    Ok(finish(data, Some(&who))?)
}

/// Writes the new log, which counts for nothing yet.
fn prepare(
    data: &Path,
    who: &Identity,
    past: Past,
    incarnation: Incarnation,
) -> Result<(), RecoverError> {
    let mut state = past.state.alone(who.node, incarnation).ok_or(RecoverError::Stateless)?;
    state.index = Index(past.last + 1);
    lay(data, who.node, incarnation, (&state, past.term + 1))
}

/// Lays a new log ready, for the identity with that life of the cluster.
pub(super) fn lay(
    data: &Path,
    node: NodeId,
    incarnation: Incarnation,
    (state, term): (&State, u64),
) -> Result<(), RecoverError> {
    past::begin(&draft(data, incarnation), node, state, term)?;
    synced(data)
}

/// Puts a new log in the old one's place once the identity is of its life, and drops one whose
/// identity was never written: what a crash left.
pub(super) fn finish(data: &Path, who: Option<&Identity>) -> Result<(), RecoverError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| RecoverError::Io { what, path, source }
    };
    let wanted = who.map(|who| draft(data, who.cluster.incarnation));
    let prefix = format!("{LOG}.");
    let listed = fs::read_dir(data).map_err(failed("listing", data))?;
    for entry in listed {
        let entry = entry.map_err(failed("listing", data))?;
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        if wanted.as_ref() != Some(&path) {
            fs::remove_dir_all(&path).map_err(failed("removing", &path))?;
            continue;
        }
        let log = data.join(LOG);
        if log.exists() {
            fs::remove_dir_all(&log).map_err(failed("removing", &log))?;
        }
        fs::rename(&path, &log).map_err(failed("renaming", &path))?;
        synced(data)?;
    }
    Ok(())
}

fn synced(data: &Path) -> Result<(), RecoverError> {
    let synced = File::open(data).and_then(|dir| dir.sync_all());
    synced.map_err(|source| RecoverError::Io { what: "syncing", path: data.to_owned(), source })
}

#[cfg(test)]
mod tests;
