//! Who belongs to the cluster, and what people ask of a node: joining, labels, draining, removal.
//!
//! Owns the node table's changes that don't come from silence (`nodes`). Never decides who votes:
//! that is the planner of members.

#[cfg(test)]
mod tests;

use super::command::{Join, Members};
use super::model::{Condition, Drain, Node, NodeStatus, RaftRole};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AllocId, BootId, NodeId};
use crate::limits;
use crate::network::Subnet;
use crate::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

impl State {
    /// A node becomes a member, with an id that was never given before and a free /21. One that is
    /// down and has its name is buried: what ran there is lost already.
    pub(super) fn join(&mut self, join: Join, touched: &mut Touched) -> Result<Outcome, Rejection> {
        if !join.keyring_id.is_empty() {
            self.check_key(&join.keyring_id)?;
        }
        let named = self.nodes.values().find(|node| node.name == join.name).cloned();
        if let Some(old) = named {
            if old.status != NodeStatus::Down {
                return Err(Rejection::NodeNameTaken { name: join.name, status: old.status });
            }
            // The answer was lost on its way, and it asks again.
            if old.boot == BootId(0) && old.public_key == join.public_key {
                let (id, subnet) = (old.id, old.subnet);
                let joined_at = old.joined_at;
                let part = old.part;
                self.put_node(Node { part, joined_at, ..new_node(id, subnet, join, self.time) });
                touched.nodes = true;
                return Ok(Outcome::Node { id, subnet });
            }
            // Two machines that join at once under one name: the first one has it.
            let held = self.due(old.joined_at, limits::NAME_HELD.into());
            if self.is_next() && old.boot == BootId(0) && self.time < held {
                return Err(Rejection::NodeNameHeld { name: join.name });
            }
            self.bury(old.id, touched);
        }
        if let Some(token) = &join.token {
            self.use_token(token, touched)?;
        }
        let id = NodeId(self.last_node.0 + 1);
        let subnet = self.free_subnet(id)?;
        self.last_node = id;
        self.put_node(new_node(id, subnet, join, self.time));
        touched.nodes = true;
        Ok(Outcome::Node { id, subnet })
    }

    /// A part of the cluster's subnet that no member has. They are given in turn, so that who
    /// still knows an address of a node that is gone does not reach a stranger.
    pub(super) fn free_subnet(&self, id: NodeId) -> Result<Ipv4Addr, Rejection> {
        let cluster = self.cluster.as_ref().ok_or_else(|| Rejection::NotFound {
            what: "cluster".to_owned(),
            name: String::new(),
        })?;
        let whole = Subnet::of(cluster.subnet, cluster.prefix);
        let count = 1u64 << Subnet::NODE_PREFIX.saturating_sub(cluster.prefix).min(20);
        let first = id.0.saturating_sub(1) % count;
        let free: Vec<Ipv4Addr> = (0..count)
            .filter_map(|step| whole.slice(u32::try_from((first + step) % count).ok()?))
            .map(Subnet::address)
            .filter(|subnet| self.nodes.values().all(|node| node.subnet != *subnet))
            .collect();
        // The services' own part is the last one to be given away.
        let kept = self.virtual_range().map(Subnet::address);
        let other = free.iter().find(|subnet| Some(**subnet) != kept);
        let found = other.or(free.first()).copied();
        found.ok_or_else(|| Rejection::NoSubnet { subnet: whole.to_string() })
    }

    /// The configuration of raft has changed.
    pub(super) fn set_members(
        &mut self,
        members: &Members,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let nodes: Vec<Arc<Node>> = self.nodes.values().cloned().collect();
        for old in nodes.into_iter().filter(|node| node.part != members.part_of(node.id)) {
            let part = members.part_of(old.id);
            self.put_node(Node { part, ..(*old).clone() });
            touched.nodes = true;
        }
        Ok(Outcome::Done)
    }

    /// Sets labels, and takes away those without a value.
    pub(super) fn label(
        &mut self,
        id: NodeId,
        labels: BTreeMap<String, Option<String>>,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let mut node = Node::clone(self.node(id)?);
        for (label, value) in labels {
            match value {
                Some(value) => node.labels.insert(label, value),
                None => node.labels.remove(&label),
            };
        }
        if node.labels.len() > limits::NODE_LABELS_MAX {
            return Err(Rejection::TooMany { what: format!("labels on node {}", node.name) });
        }
        self.put_node(node);
        touched.nodes = true;
        Ok(Outcome::Done)
    }

    /// A node is to give its work away; said again, it has another deadline.
    pub(super) fn drain(
        &mut self,
        id: NodeId,
        deadline: Option<Timestamp>,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let mut node = Node::clone(self.node(id)?);
        let since = node.drain.map_or(self.time, |drain| drain.since);
        node.drain = Some(Drain { since, deadline });
        if node.status == NodeStatus::Ready {
            node.status = NodeStatus::Draining;
        }
        self.put_node(node);
        self.outdate_on(id, touched);
        touched.nodes = true;
        Ok(Outcome::Done)
    }

    /// A node takes work again.
    pub(super) fn undrain(
        &mut self,
        id: NodeId,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let mut node = Node::clone(self.node(id)?);
        if node.drain.take().is_none() {
            return Err(Rejection::NotDraining { name: node.name });
        }
        if node.status == NodeStatus::Draining {
            node.status = NodeStatus::Ready;
        }
        self.put_node(node);
        self.outdate_on(id, touched);
        touched.nodes = true;
        Ok(Outcome::Done)
    }

    /// A node is no member any more, and its id never is again: the others don't talk to it from
    /// now on. So it must drain or be down, nothing may be left on it, and the others must be able
    /// to go on without its vote.
    pub(super) fn remove_node(
        &mut self,
        id: NodeId,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let node = Node::clone(self.node(id)?);
        let live: Vec<AllocId> =
            self.allocations_on(id).filter(|a| a.is_live()).map(|a| a.id.clone()).collect();
        if !live.is_empty() {
            let more = live.len().saturating_sub(limits::NAMED_ALLOCATIONS);
            let allocations = live.into_iter().take(limits::NAMED_ALLOCATIONS).collect();
            return Err(Rejection::NodeBusy { name: node.name, allocations, more });
        }
        if !self.nodes.values().any(|other| other.id != id && other.is_up()) {
            return Err(Rejection::LastNode { name: node.name });
        }
        if node.is_ready() {
            return Err(Rejection::NodeReady { name: node.name });
        }
        let voters = self.nodes.values().filter(|n| n.part == RaftRole::Voter && n.id != id);
        let (there, gone): (Vec<_>, Vec<_>) = voters.partition(|other| other.is_up());
        let (there, others) = (there.len(), there.len() + gone.len());
        if node.part == RaftRole::Voter && there <= others.div_ceil(2) {
            return Err(Rejection::VoteNeeded { name: node.name, there, others });
        }
        self.bury(id, touched);
        Ok(Outcome::Done)
    }

    /// Takes a node out of the table for ever; nothing is live on it any more.
    pub(super) fn bury(&mut self, id: NodeId, touched: &mut Touched) {
        self.nodes.remove(&id);
        self.reports.remove(&id);
        self.removed.insert(id);
        self.forget_copies(id, touched);
        self.forget_moves(id);
        self.forget_backups(id);
        self.keyring_due = self.ca.is_some();
        self.begin_mesh();
        // It knew the others' keys and addresses: they make new ones.
        self.mesh_rotation += u64::from(self.meshed);
        touched.nodes = true;
    }

    /// What was planned for the apps of a node while it was otherwise is stale.
    pub(super) fn outdate_on(&mut self, id: NodeId, touched: &mut Touched) {
        let live = self.allocations_on(id).filter(|a| a.is_live());
        let apps: std::collections::BTreeSet<_> = live.map(|a| a.app.clone()).collect();
        for app in apps {
            self.outdate(&app, touched);
        }
    }

    fn put_node(&mut self, node: Node) {
        self.nodes.insert(node.id, Arc::new(node));
    }
}

/// A member that has not been heard yet.
fn new_node(id: NodeId, subnet: Ipv4Addr, join: Join, now: Timestamp) -> Node {
    Node {
        id,
        name: join.name,
        address: join.address,
        peer_port: join.peer_port,
        subnet,
        labels: join.labels,
        cpu: MilliCpu(0),
        memory: Bytes(0),
        status: NodeStatus::Down,
        down_since: Some(now),
        drain: None,
        part: RaftRole::Out,
        version: join.version,
        feature_level: join.feature_level,
        public_key: join.public_key,
        keyring: join.keyring,
        mesh: None,
        boot: BootId(0),
        joined_at: now,
        condition: Condition::default(),
    }
}
