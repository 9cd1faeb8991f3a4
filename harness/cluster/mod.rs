//! `TestCluster`: several nodes in one process with real raft on disk, real connections between
//! them, real root and scheduler; only the containers are made up.
//!
//! Owns what the daemon does for them, and the faults: a node that stops, a way that is cut.

mod containers;
mod keys;
mod links;
mod node;

pub use links::Links;
pub use node::TestNode;

use crate::poll::poll_async;
use keys::Founder;
use mill::actors::root::View;
use mill::cluster::trust::Fingerprint;
use mill::fsm::Command;
use mill::fsm::model::{NodeStatus, RaftRole, Role};
use mill::id::{Incarnation, NodeId};
use std::collections::BTreeMap;

/// A cluster. Its nodes are numbered from 1.
pub struct TestCluster {
    /// The links between the nodes.
    pub links: Links,
    nodes: BTreeMap<u64, TestNode>,
    token: String,
    ca: Fingerprint,
}

impl TestCluster {
    /// So many nodes, all ready, with as many voters as there should be; node 1 leads.
    pub async fn new(size: u64) -> Self {
        let links = Links::default();
        let founder = Founder::new();
        let ca = founder.fingerprint;
        let first = TestNode::found(founder, links.clone()).await;
        first.ready().await;
        let minted = mill::cluster::token::mint(7, [7; 32], Some(ca));
        let (id, hash) = (minted.id, minted.hash);
        let token = Command::CreateToken { id, role: Role::Join, hash, expires_at: None };
        first.propose(&token).await.expect("a token");
        let nodes = [(1, first)].into();
        let mut cluster = Self { links, nodes, token: minted.text, ca };
        for _ in 1..size {
            cluster.join().await;
        }
        cluster.settled().await;
        cluster
    }

    /// One more node joins by node 1's door. Answers its id, when it is ready.
    pub async fn join(&mut self) -> u64 {
        let name = format!("n{}", self.nodes.len() + 1);
        let door = self.node(1).port();
        let node = TestNode::join(&name, door, &self.token, self.ca, self.links.clone()).await;
        node.ready().await;
        let id = node.id.0;
        self.nodes.insert(id, node);
        id
    }

    /// What a machine is told that wants to join and can't be reached where it says it is.
    pub async fn refused(&self, name: &str, own: u16, answers: bool) -> String {
        let door = self.node(1).port();
        let asked = keys::Joiner::ask(name, door, own, (&self.token, answers), self.ca).await;
        asked.err().expect("a refusal").to_string()
    }

    /// Waits until all are ready and as many vote as should.
    pub async fn settled(&self) {
        let size = self.nodes.len();
        let want = mill::cluster::members::voters_among(size);
        let is_settled = |view: &View| {
            let nodes = &view.state.nodes;
            let voters = nodes.values().filter(|node| node.part == RaftRole::Voter).count();
            let ready = nodes.values().all(|node| node.status == NodeStatus::Ready);
            nodes.len() == size && voters == want && ready
        };
        for node in self.nodes.values() {
            node.until("all are ready and vote", is_settled).await;
        }
        // The joint configuration is left, and everybody knows it: only then can any be missed.
        let first = self.node(1);
        let left = || async {
            let vitals = first.vitals().await;
            vitals.conf.is_some_and(|c| c.outgoing.is_empty() && c.voters.len() == want)
        };
        poll_async(left).secs(20).expect_async("the joint configuration to be left").await;
        let revoke = Command::RevokeToken { id: "none".into() };
        first.propose(&revoke).await.expect_err("nothing to revoke");
        self.agree().await;
    }

    /// Waits until all that run have the same state.
    pub async fn agree(&self) {
        let same = || async {
            let running = self.nodes.values().filter(|node| node.is_running());
            let mut hashes: Vec<_> = running.map(|node| node.view().state.hash()).collect();
            hashes.dedup();
            hashes.len() == 1
        };
        poll_async(same).secs(20).expect_async("all have one state").await;
    }

    /// A running node.
    pub fn node(&self, id: u64) -> &TestNode {
        &self.nodes[&id]
    }

    /// The ids of all of them.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Waits until these agree on a leader among them.
    pub async fn leader(&self, among: &[u64]) -> u64 {
        let leads = |view: &View| view.leader.is_some_and(|leader| among.contains(&leader.0));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let first = self.node(among[0]).until("a leader", leads).await.leader;
            if among.iter().all(|id| self.node(*id).view().leader == first) {
                return first.map_or(0, |id: NodeId| id.0);
            }
            assert!(std::time::Instant::now() < deadline, "no leader that all know");
            tokio::task::yield_now().await;
        }
    }

    /// Ends a node as the power would: nothing of it reaches another one any more.
    pub async fn kill(&mut self, id: u64) {
        self.links.isolate(id, true);
        self.nodes.get_mut(&id).expect("a node").stop().await;
        self.links.isolate(id, false);
    }

    /// Starts a node that was ended, with what it has on its disk.
    pub async fn start(&mut self, id: u64) {
        self.nodes.get_mut(&id).expect("a node").start().await;
    }

    /// A node is ended and goes on with a copy of its log from before: changes were made since.
    pub async fn set_back(&mut self, id: u64, changes: &[Command]) -> &mut TestNode {
        let copy = tempfile::tempdir().expect("a directory");
        self.kill(id).await;
        self.node(id).copy_log(copy.path(), false);
        self.start(id).await;
        self.node(id).ready().await;
        for change in changes {
            self.node(id).propose(change).await.expect("a change");
        }
        self.agree().await;
        self.kill(id).await;
        self.node(id).copy_log(copy.path(), true);
        self.start(id).await;
        self.nodes.get_mut(&id).expect("a node")
    }

    /// These are ended and come back on other ports; each is told where the others are, if so.
    pub async fn relocate(&mut self, ids: &[u64], told: bool) {
        let mut places = BTreeMap::new();
        for id in ids {
            self.kill(*id).await;
            let node = self.nodes.get_mut(id).expect("a node");
            places.insert(NodeId(*id), node.move_away(BTreeMap::new()).await);
        }
        for id in ids {
            let node = self.nodes.get_mut(id).expect("a node");
            if told {
                node.hint(places.clone());
            }
            node.start().await;
        }
    }

    /// All are ended, and started again once their certificates have expired.
    pub async fn outlive_certificates(&mut self) {
        for node in self.nodes.values_mut() {
            node.certify_for_a_second();
            node.stop().await;
        }
        for node in self.nodes.values() {
            let expired = async || !node.is_certified();
            poll_async(expired).secs(20).expect_async("its end").await;
        }
        for node in self.nodes.values_mut() {
            node.start().await;
        }
    }

    /// A node is ended, and started as a version that knows this feature level.
    pub async fn install(&mut self, id: u64, level: u32) -> &mut TestNode {
        self.kill(id).await;
        let node = self.nodes.get_mut(&id).expect("a node");
        node.install(level);
        node.start().await;
        node
    }

    /// A node is ended, and started as one of that life of the cluster. The life before.
    pub async fn reincarnate(&mut self, id: u64, incarnation: Incarnation) -> Incarnation {
        self.kill(id).await;
        let node = self.nodes.get_mut(&id).expect("a node");
        let before = node.reincarnate(incarnation);
        node.start().await;
        before
    }

    /// Ends all.
    pub async fn end(mut self) {
        for node in self.nodes.values_mut() {
            node.stop().await;
        }
    }
}
