//! Replicated time of a cluster: idle time, a change of the leader, a time without one.

use crate::cluster::TestCluster;
use crate::poll::poll_async;
use mill::actors::root::View;
use mill::fsm::Command;
use mill::fsm::model::Role;
use std::time::{Duration, Instant};

fn token(id: &str) -> Command {
    let (id, hash) = (id.into(), String::new());
    Command::CreateToken { id, role: Role::Read, hash, expires_at: None }
}

/// How far replicated time is from this host's clock, which all nodes have, after a change.
async fn astray(cluster: &TestCluster, through: u64, id: &str) -> Duration {
    let index = cluster.node(through).propose(&token(id)).await.unwrap().index;
    let view = cluster.node(through).until("the change", |view| view.index >= index).await;
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    wall.abs_diff(Duration::from_millis(view.state.time.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_idle_time_nor_that_without_a_leader_is_lost() {
    let mut cluster = TestCluster::new(3).await;
    let level = |view: &View| view.state.is_next();
    cluster.node(1).until("the level of this build", level).await;
    let old = cluster.leader(&[1, 2, 3]).await;
    cluster.node(old).propose(&token("before")).await.unwrap();
    let begun = Instant::now();
    poll_async(|| async { begun.elapsed() > Duration::from_secs(3) }).expect_async("idle").await;
    cluster.kill(old).await;
    let rest: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    cluster.leader(&rest).await;
    let off = astray(&cluster, rest[0], "idle").await;
    assert!(off < Duration::from_secs(1), "{off:?} after a change of the leader");

    cluster.links.isolate(rest[0], true);
    let begun = Instant::now();
    let alone = || async {
        let leads = |id: &u64| cluster.node(*id).view().leader.is_some();
        begun.elapsed() > Duration::from_secs(6) && !rest.iter().any(leads)
    };
    poll_async(alone).secs(20).expect_async("a time without a leader").await;
    cluster.links.isolate(rest[0], false);
    cluster.leader(&rest).await;
    let off = astray(&cluster, rest[0], "alone").await;
    assert!(off < Duration::from_secs(1), "{off:?} after a time without a leader");
    let view = cluster.node(rest[0]).view();
    let last = view.state.standstills.last().expect("a standstill");
    assert!(last.to.since(last.from).0 > 3_000, "{last:?}");
    cluster.start(old).await;
    cluster.node(old).until("a view", |_| true).await;
    cluster.agree().await;
    cluster.end().await;
}
