//! State to what a person is shown: the API's documents.
//!
//! Owns which part of the state answers which question. Never reads a clock or asks a node: usage
//! figures and the time are inputs.

mod access;
mod allocation;
mod backup;
mod canary;
mod certificate;
mod deployment;
mod difference;
mod events;
mod happened;
mod node;
mod plan;
mod route;
mod secret;
mod service;
mod task;
mod volume;
mod warnings;
mod words;

#[cfg(test)]
mod tests;

pub use access::access;
pub use allocation::{allocation, allocations, ending};
pub use backup::backups;
pub use certificate::{certificate, certificates};
pub use deployment::{app, deployment, deployment_with_file, deployments};
pub use difference::difference;
pub use events::{Event, EventId, Followed, events_after, fill_in, pulling};
pub use happened::{event, missed};
pub use node::{left, node, nodes};
pub use plan::{plan, refusal};
pub use route::routes;
pub use secret::{secret, secrets};
pub use service::{replicas, service, service_named, services};
pub use task::{run, runs, tasks};
pub use volume::{volume, volumes};
pub use warnings::{no_leader, trouble};

use crate::api::wire::{AppStatusView, LoginView, StatusView, TokenView};
use crate::consensus::raft::event::LogDisk;
use crate::fsm::State;
use crate::fsm::login::RegistryLogin;
use crate::fsm::model::Token;
use crate::id::{AllocId, NodeId, VolumeName};
use crate::node::ingress::figures::Requests;
use crate::node::mesh;
use crate::units::{Bytes, MilliCpu, Millis, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Why a node is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expelled {
    Removed,
    /// The cluster has begun another life without it.
    Recovered,
}

impl fmt::Display for Expelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, then) = match self {
            Self::Removed => ("this node was removed from the cluster", "are stopped"),
            Self::Recovered => {
                ("the cluster was recovered or restored without this node", "run on")
            }
        };
        write!(
            f,
            "{what}: nothing that changes there reaches it, its containers {then}. To use the host \
             again: stop the daemon, mill clean, then mill join"
        )
    }
}

/// What is known beside the state when it is shown.
#[derive(Clone, Debug, Default)]
pub struct LiveUsage {
    /// The time.
    pub now: Timestamp,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// Another member says that this node is none any more.
    pub expelled: Option<Expelled>,
    /// The other nodes that this one can't reach, and for how long.
    pub silent: BTreeMap<NodeId, Millis>,
    /// How the disks of the nodes' logs are.
    pub log_disks: BTreeMap<NodeId, LogDisk>,
    /// Use of the allocations whose nodes answered.
    pub allocations: BTreeMap<AllocId, (MilliCpu, Bytes)>,
    /// Use of the nodes that answered.
    pub nodes: BTreeMap<NodeId, (MilliCpu, Bytes)>,
    /// What is wrong with the machines of the nodes that answered, with its remedy.
    pub trouble: BTreeMap<NodeId, Vec<String>>,
    /// What allocations have written to their nodes' disks.
    pub written: BTreeMap<AllocId, Bytes>,
    /// The disks of the nodes that answered.
    pub disks: BTreeMap<NodeId, Vec<Disk>>,
    /// By route: requests a second, and those of the last minute, of the nodes that answered.
    pub traffic: BTreeMap<String, (f64, Requests)>,
    /// By replica: the same of what the nodes that answered sent there.
    pub replicas: BTreeMap<AllocId, (f64, Requests)>,
    /// The node that shows it.
    pub node: NodeId,
    /// How the nodes that answered hear the others in the mesh.
    pub mesh: BTreeMap<NodeId, BTreeMap<NodeId, mesh::Figures>>,
    /// Bytes of the volumes whose nodes answered.
    pub volumes: BTreeMap<VolumeName, Bytes>,
}

/// A disk of a node that holds its data or images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A folder on it.
    pub place: String,
    /// What may still be written.
    pub free: Bytes,
    /// What it holds in all.
    pub total: Bytes,
}

/// The whole cluster at a glance.
#[must_use]
pub fn status(state: &State, seen: &LiveUsage) -> StatusView {
    let leader = seen.leader.and_then(|id| state.nodes.get(&id));
    let newest = |app: &crate::fsm::model::App| state.deployments.get(&app.revision);
    StatusView {
        cluster: state.cluster.as_ref().map(|c| c.name.clone()).unwrap_or_default(),
        leader: leader.map(|node| node.name.clone()),
        warnings: warnings::warnings(state, seen),
        nodes: nodes(state, seen),
        apps: state
            .apps
            .values()
            .map(|app| AppStatusView {
                name: app.name.to_string(),
                deployment: newest(app).map(|d| deployment(state, d)),
            })
            .collect(),
        services: services(state, seen),
        tasks: tasks(state),
    }
}

/// A token, without its secret part.
#[must_use]
pub fn token(token: &Token) -> TokenView {
    TokenView {
        id: token.id.to_string(),
        role: token.role.into(),
        created_at: token.created_at.to_string(),
        expires_at: token.expires_at.map(|at| at.to_string()),
        uses: token.uses,
    }
}

/// A login to a registry, without its password.
#[must_use]
pub fn login(registry: &str, login: &RegistryLogin) -> LoginView {
    let (registry, user) = (registry.to_owned(), login.user.clone());
    LoginView { registry, user, since: login.since.to_string() }
}

/// The name of a node, or its number once it is gone.
#[must_use]
pub fn node_name(state: &State, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.clone())
}
