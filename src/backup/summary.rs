//! What a backup has in it, for people and programs.
//!
//! Owns what is named and what is counted. Never shows a value.

use super::Backup;
use crate::fsm::volumes::Volume;
use crate::id::NodeId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What no backup has.
pub const LEFT_OUT: [&str; 3] =
    ["images (registries have them)", "the data of volumes (mill volume backup)", "logs"];

/// What a backup has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The cluster's name.
    pub cluster: String,
    /// The index that it was taken at.
    pub index: u64,
    /// When.
    pub taken_at: String,
    /// The version of mill that took it.
    pub version: String,
    /// The names of the nodes that there were.
    pub nodes: Vec<String>,
    /// By app: its revision.
    pub apps: BTreeMap<String, u64>,
    pub services: Vec<String>,
    /// The tasks, also those with a schedule.
    pub tasks: Vec<String>,
    /// How many revisions can be gone back to.
    pub revisions: usize,
    /// The names of the secrets.
    pub secrets: Vec<String>,
    /// The registries that the cluster is logged in to.
    pub logins: Vec<String>,
    /// How many tokens.
    pub tokens: usize,
    /// By volume: the node that has its data, or the provider.
    pub volumes: BTreeMap<String, String>,
    /// What is not in it.
    pub left_out: Vec<String>,
}

impl Summary {
    /// Of a backup.
    #[must_use]
    pub fn of(backup: &Backup) -> Self {
        let state = &backup.state;
        let name =
            |node: &NodeId| state.nodes.get(node).map_or_else(|| "-".into(), |n| n.name.clone());
        let place = |volume: &Volume| match &state.provider {
            Some(provider) if volume.provided.is_some() => provider.kind.name().to_owned(),
            _ => name(&volume.node),
        };
        let services = state.apps.values().flat_map(|app| app.services.keys());
        let tasks = state.apps.values().flat_map(|app| app.tasks.keys());
        Self {
            cluster: state.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
            index: state.index.0,
            taken_at: backup.taken_at.to_string(),
            version: backup.version.clone(),
            nodes: state.nodes.values().map(|node| node.name.clone()).collect(),
            apps: state.apps.values().map(|a| (a.name.to_string(), a.revision.0)).collect(),
            services: services.map(ToString::to_string).collect(),
            tasks: tasks.map(ToString::to_string).collect(),
            revisions: state.deployments.len(),
            secrets: state.secrets.keys().map(ToString::to_string).collect(),
            logins: state.logins.keys().cloned().collect(),
            tokens: state.tokens.len(),
            volumes: state.volumes.iter().map(|(n, v)| (n.to_string(), place(v))).collect(),
            left_out: LEFT_OUT.map(str::to_owned).to_vec(),
        }
    }

    /// A line for each kind of thing.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { cluster, index, taken_at, version, .. } = self;
        let mut out = format!("{cluster} at index {index}, {taken_at}, by mill {version}");
        let mut line = |what: &str, all: String| {
            let all = if all.is_empty() { "-".to_owned() } else { all };
            // Writing to a string can't fail.
            let _ = write!(out, "\n  {what:<10} {all}");
        };
        let pairs = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
        line("nodes", self.nodes.join(", "));
        line("apps", pairs(&mut self.apps.iter().map(|(app, rev)| format!("{app} r{rev}"))));
        line("services", self.services.join(", "));
        line("tasks", self.tasks.join(", "));
        line("revisions", self.revisions.to_string());
        line("secrets", self.secrets.join(", "));
        line("logins", self.logins.join(", "));
        line("tokens", self.tokens.to_string());
        line("volumes", pairs(&mut self.volumes.iter().map(|(n, at)| format!("{n} (on {at})"))));
        line("not in it", self.left_out.join(", "));
        out
    }
}
