//! Several raft actors with real files over a network in memory: changes of the members, leaders
//! that go, what is brought to whom was away.

use crate::poll::poll_async;
use crate::raft::{ListNode, Machine, Network};
use mill::actors::raft::Msg;
use mill::consensus::raft::node::Member::{Learner, Removed, Voter};
use mill::id::NodeId;
use mill::limits;
use tempfile::TempDir;

struct Nodes {
    network: Network,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<ListNode>>,
    pad: usize,
}

impl Nodes {
    /// So many nodes; the first has begun the log, the others are learners.
    async fn learners(count: u64, pad: usize) -> Self {
        let (network, dirs) = (Network::default(), Vec::new());
        let mut all = Self { network, dirs, nodes: Vec::new(), pad };
        for _ in 0..count {
            all.add().await;
        }
        all.node(1).ready().await;
        for id in 2..=count {
            all.node(1).change(&[Learner(NodeId(id))], 1_000 + id);
            all.node(1).until("it learns", |m| learns(m, id)).await;
        }
        all
    }

    /// So many voters.
    async fn voters(count: u64) -> Self {
        let all = Self::learners(count, 64).await;
        let everyone =
            |m: &Machine| m.conf.as_ref().is_some_and(|c| c.caught_up.len() as u64 == count);
        all.node(1).until("all have caught up", everyone).await;
        let members: Vec<_> = (2..=count).map(|id| Voter(NodeId(id))).collect();
        all.node(1).change(&members, 2_000);
        let is_joint = |m: &Machine| m.conf.as_ref().is_some_and(|c| !c.outgoing.is_empty());
        all.node(1).until("a joint configuration", is_joint).await;
        all.node(1).change(&[], 0);
        all.node(1).until("it is left", |m| votes(m) == count as usize).await;
        all
    }

    async fn add(&mut self) {
        self.dirs.push(tempfile::tempdir().unwrap());
        self.nodes.push(None);
        self.start(self.nodes.len() as u64).await;
    }

    async fn start(&mut self, id: u64) {
        let at = id as usize - 1;
        let network = self.network.clone();
        let node = ListNode::join(id, self.dirs[at].path(), self.pad, network).await.unwrap();
        self.nodes[at] = Some(node);
    }

    async fn stop(&mut self, id: u64) {
        self.nodes[id as usize - 1].take().unwrap().stop().await;
    }

    fn node(&self, id: u64) -> &ListNode {
        self.nodes[id as usize - 1].as_ref().expect("a running node")
    }

    /// Waits until one of them leads.
    async fn leader(&self, among: &[u64]) -> u64 {
        let waits = among.iter().map(|id| Box::pin(self.node(*id).until("a leader", |m| m.leads)));
        let (_, at, _) = futures_util::future::select_all(waits).await;
        among[at]
    }

    /// Waits until these have applied so many commands; all of them the same.
    async fn agree(&self, among: &[u64], count: usize) -> Vec<u64> {
        let mut lists = Vec::new();
        for id in among {
            lists.push(self.node(*id).until("all commands", |m| m.list.len() >= count).await.list);
        }
        assert!(lists.iter().all(|list| list[..count] == lists[0][..count]), "{lists:?}");
        lists.swap_remove(0)
    }

    async fn end(mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.stop().await;
        }
    }
}

fn learns(machine: &Machine, id: u64) -> bool {
    machine.conf.as_ref().is_some_and(|conf| conf.learners.contains(&NodeId(id)))
}

/// How many vote, outside of a joint configuration.
fn votes(machine: &Machine) -> usize {
    machine.conf.as_ref().filter(|c| c.outgoing.is_empty()).map_or(0, |conf| conf.voters.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_goes_another_leads_and_who_comes_back_gets_what_it_missed() {
    let mut all = Nodes::voters(3).await;
    for n in 0..20 {
        all.node(1).propose(n + 1, n).await.unwrap();
    }
    // Two learners' entries, the joint change, and those.
    all.agree(&[1, 2, 3], 23).await;
    all.node(2).until("known to be current", |m| m.confirmed.is_some()).await;
    all.stop(1).await;
    let leader = all.leader(&[2, 3]).await;
    for n in 20..40 {
        all.node(leader).propose(n + 1, n).await.unwrap();
    }
    all.start(1).await;
    let list = all.agree(&[1, 2, 3], 43).await;
    assert_eq!(list[..3], [1_002, 1_003, 2_000]);
    assert_eq!(list[3..], (0..40).collect::<Vec<_>>());
    all.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_behind_the_log_is_brought_a_snapshot() {
    let pad = 64 << 10;
    let mut all = Nodes::learners(1, pad).await;
    let enough = limits::SNAPSHOT_BYTES / pad as u64 + 20;
    for n in 0..enough {
        all.node(1).propose(n + 1, n).await.unwrap();
    }
    all.node(1).until("a snapshot", |m| m.snapshots > 0).await;
    all.add().await;
    all.node(1).change(&[Learner(NodeId(2))], 9_999);
    let count = enough as usize + 1;
    let list = all.agree(&[1, 2], count).await;
    assert_eq!(list[count - 1], 9_999);
    let seen = all.node(2).until("all", |m| m.list.len() == count).await;
    assert!(seen.installed > 0, "it came in a snapshot");
    let near = |m: &Machine| m.conf.as_ref().is_some_and(|c| c.caught_up.contains(&NodeId(2)));
    all.node(1).until("it has caught up", near).await;
    all.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_steps_down_and_commits_nothing() {
    let all = Nodes::voters(3).await;
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 1)] {
        all.network.cut(from, to, true);
    }
    let lost = all.node(1).append(50, 666).await.unwrap();
    let leader = all.leader(&[2, 3]).await;
    let index = all.node(leader).propose(51, 51).await.unwrap();
    all.node(1).until("it leads no more", |m| !m.leads).await;
    assert!(index >= lost.index.0);
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 1)] {
        all.network.cut(from, to, false);
    }
    let list = all.agree(&[1, 2, 3], 4).await;
    assert_eq!(list, [1_002, 1_003, 2_000, 51]);
    all.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_and_is_taken_out() {
    let all = Nodes::voters(3).await;
    all.agree(&[1, 2, 3], 3).await;
    // One that has not applied every change of the members yet does not take it.
    poll_async(async || {
        all.node(1).raft.cast(Msg::TransferLeader(NodeId(3))).unwrap();
        all.node(3).machine.borrow().leads
    })
    .expect_async("a new leader")
    .await;
    all.node(3).until("it leads", |m| m.leads && m.conf.is_some()).await;
    all.node(3).change(&[Removed(NodeId(1))], 7);
    all.node(3).until("two are left", |m| votes(m) == 2).await;
    all.node(3).propose(1, 8).await.unwrap();
    assert_eq!(all.agree(&[2, 3], 5).await[3..], [7, 8]);
    all.end().await;
}
