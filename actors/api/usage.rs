//! What the nodes and their containers use: each node's figures, asked of it.
//!
//! Owns a connection to each other node that is kept, since these questions come often, and the
//! last figures. Never makes a caller wait for a node that is slow.

use super::ports::Neighbours;
use super::reach::{Ask, ReachError, Sender};
use crate::actors::root::NodeUsage;
use crate::api::views::Disk;
use crate::consensus::raft::event::LogDisk;
use crate::id::{AllocId, NodeId, VolumeName};
use crate::limits;
use crate::node::ingress::figures::Requests;
use crate::node::mesh;
use crate::units::{Bytes, MilliCpu};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a node uses: thousandths of cores, and bytes.
type Amount = (u64, u64);

/// A node's figures, as members tell each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// By allocation.
    allocations: BTreeMap<String, Amount>,
    /// Of the whole machine.
    node: Amount,
    /// What a person should know of it.
    #[serde(default)]
    trouble: Vec<String>,
    /// By allocation: what it has written.
    #[serde(default)]
    written: BTreeMap<String, u64>,
    /// Disks: where, what is free, and all.
    #[serde(default)]
    disks: Vec<(String, u64, u64)>,
    /// How the disk of its log is.
    #[serde(default)]
    pub(super) log_disk: LogDisk,
    /// By route: requests a second, and those of the last minute.
    #[serde(default)]
    pub(super) traffic: BTreeMap<String, (f64, Requests)>,
    /// By replica: the same of what it sent there.
    #[serde(default)]
    pub(super) replicas: BTreeMap<String, (f64, Requests)>,
    /// How it hears the others in the mesh.
    #[serde(default)]
    pub(super) mesh: BTreeMap<NodeId, mesh::Figures>,
    /// By persistent volume: bytes on the disk.
    #[serde(default)]
    volumes: BTreeMap<String, u64>,
}

impl From<NodeUsage> for Figures {
    fn from(usage: NodeUsage) -> Self {
        let amount = |(cpu, memory): (MilliCpu, Bytes)| (cpu.0, memory.0);
        let each = usage.allocations.into_iter();
        let allocations = each.map(|(id, used)| (id.to_string(), amount(used))).collect();
        let volumes = usage.volumes.into_iter();
        let volumes = volumes.map(|(name, bytes)| (name.to_string(), bytes.0)).collect();
        let written = usage.written.into_iter().map(|(id, bytes)| (id.to_string(), bytes.0));
        let disks = usage.disks.into_iter().map(|(place, free, all)| (place, free.0, all.0));
        Self {
            allocations,
            node: amount(usage.node),
            trouble: usage.trouble,
            written: written.collect(),
            disks: disks.collect(),
            log_disk: LogDisk::default(),
            traffic: BTreeMap::new(),
            replicas: BTreeMap::new(),
            mesh: BTreeMap::new(),
            volumes,
        }
    }
}

impl Figures {
    /// Of the whole machine.
    pub fn node(&self) -> (MilliCpu, Bytes) {
        (MilliCpu(self.node.0), Bytes(self.node.1))
    }

    /// What a person should know of the machine.
    pub fn trouble(&self) -> &[String] {
        &self.trouble
    }

    /// By allocation, what it has written.
    pub fn written(&self) -> impl Iterator<Item = (AllocId, Bytes)> {
        self.written.iter().map(|(id, bytes)| (AllocId::from(id.as_str()), Bytes(*bytes)))
    }

    /// The disks of data and images.
    pub fn disks(&self) -> Vec<Disk> {
        let disk = |(place, free, total): &(String, u64, u64)| Disk {
            place: place.clone(),
            free: Bytes(*free),
            total: Bytes(*total),
        };
        self.disks.iter().map(disk).collect()
    }

    /// By route.
    pub fn traffic(&self) -> &BTreeMap<String, (f64, Requests)> {
        &self.traffic
    }

    /// By replica, what it sent there.
    pub fn replicas(&self) -> impl Iterator<Item = (AllocId, &(f64, Requests))> {
        self.replicas.iter().map(|(id, of)| (AllocId::from(id.as_str()), of))
    }

    /// How it hears the others in the mesh.
    pub fn mesh(&self) -> &BTreeMap<NodeId, mesh::Figures> {
        &self.mesh
    }

    /// By persistent volume.
    pub fn volumes(&self) -> impl Iterator<Item = (VolumeName, Bytes)> {
        self.volumes.iter().map(|(name, bytes)| (VolumeName::from(name.as_str()), Bytes(*bytes)))
    }

    /// By allocation.
    pub fn allocations(&self) -> impl Iterator<Item = (AllocId, (MilliCpu, Bytes))> {
        let of = |(id, (cpu, memory)): (&String, &Amount)| {
            (AllocId::from(id.as_str()), (MilliCpu(*cpu), Bytes(*memory)))
        };
        self.allocations.iter().map(of)
    }
}

/// The last figures of a node, and when they came.
#[derive(Default)]
pub(super) struct Last(Mutex<Option<(Instant, Figures)>>);

impl Last {
    pub(super) fn within(&self, most: Duration) -> Option<Figures> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < most).map(|(_, figures)| figures.clone())
    }

    pub(super) fn keep(&self, figures: Figures) -> Figures {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), figures.clone()));
        figures
    }
}

/// What is kept of one other node.
#[derive(Default)]
pub(super) struct Line {
    /// Only one question at a time; who waits finds the answer of the one before.
    sender: tokio::sync::Mutex<Option<Sender>>,
    pub(super) last: Last,
}

impl Line {
    pub(super) async fn ask(
        &self,
        ask: Ask,
        neighbours: &dyn Neighbours,
    ) -> Result<Figures, ReachError> {
        let mut kept = self.sender.lock().await;
        if let Some(figures) = self.last.within(limits::USAGE_FRESH) {
            return Ok(figures);
        }
        // Left out where the question fails or is given up: the next one opens another.
        let mut sender = match kept.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => ask.connect(neighbours).await?,
        };
        let broken = ask.breaking();
        let answer = ask.over(&mut sender, None, limits::REACH_ANSWER).await?;
        let body = Limited::new(answer.into_body(), limits::USAGE_ANSWER_MAX).collect().await;
        let bytes = body.map_err(|error| broken(&*error))?.to_bytes();
        let figures: Figures = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        *kept = Some(sender);
        Ok(self.last.keep(figures))
    }
}

/// The connections to other nodes that are kept for such questions, and this node's last figures.
#[derive(Default)]
pub struct Connections {
    lines: Mutex<BTreeMap<NodeId, Arc<Line>>>,
    pub(super) own: Last,
}

impl Connections {
    /// One to each of these nodes, and to no other.
    pub(super) fn to(&self, nodes: &[NodeId]) -> Vec<Arc<Line>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|id, _| nodes.contains(id));
        nodes.iter().map(|id| Arc::clone(lines.entry(*id).or_default())).collect()
    }
}
