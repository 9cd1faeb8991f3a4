//! How fast three nodes commit together, and how long no write is taken after a leader is gone.
//!
//! Never a container: root, raft, the connections and the scheduler are real, in one process.

use super::report::{Row, median, ms};
use crate::cluster::TestCluster;
use mill::fsm::Command;
use mill::fsm::model::Role;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
const SINGLE: usize = 1_000;
const MANY: usize = 20_000;
const LOSSES: usize = 10;

/// The figures of a cluster of three.
pub fn figures() -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure())
}

fn token(id: &str) -> Command {
    let (id, hash) = (id.into(), "0".repeat(256));
    Command::CreateToken { id, role: Role::Read, hash, expires_at: None }
}

async fn measure() -> Vec<Row> {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let follower = if leader == 1 { 2 } else { 1 };
    let mut rows = Vec::new();
    for (at, who) in [(leader, "the leader"), (follower, "a follower")] {
        cluster = throughput(cluster, at, who, &mut rows).await;
    }
    rows.push(losses(cluster).await);
    rows
}

async fn throughput(cluster: TestCluster, at: u64, who: &str, rows: &mut Vec<Row>) -> TestCluster {
    let start = Instant::now();
    let mut times = Vec::with_capacity(SINGLE);
    for n in 0..SINGLE {
        let one = Instant::now();
        cluster.node(at).propose(&token(&format!("{at}-{n}"))).await.unwrap();
        times.push(one.elapsed());
    }
    let single = SINGLE as f64 / start.elapsed().as_secs_f64();
    let cluster = Arc::new(cluster);
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let cluster = Arc::clone(&cluster);
        clients.spawn(async move {
            for n in 0..MANY / CLIENTS {
                let id = format!("{at}-{client}-{n}");
                cluster.node(at).propose(&token(&id)).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    let many = (MANY / CLIENTS * CLIENTS) as f64 / start.elapsed().as_secs_f64();
    let p50 = median(&mut times);
    rows.push(Row {
        figure: "three nodes, commits a second, one client",
        mill: format!("{single:.0}/s, median {} ({who})", ms(p50)),
        peer: "etcd 1036/s over HTTP".to_owned(),
        aim: "at least etcd's",
        met: Some(single >= 1_036.0),
    });
    rows.push(Row {
        figure: "three nodes, commits a second, 64 clients",
        mill: format!("{many:.0}/s ({who})"),
        peer: "etcd 7757/s over HTTP".to_owned(),
        aim: "at least etcd's",
        met: Some(many >= 7_757.0),
    });
    Arc::into_inner(cluster).expect("no other user")
}

async fn losses(mut cluster: TestCluster) -> Row {
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..LOSSES {
        let leader = cluster.leader(&[1, 2, 3]).await;
        let asked = if leader == 1 { 2 } else { 1 };
        let start = Instant::now();
        cluster.ways.isolate(leader, true);
        cluster.node(asked).propose(&token(&format!("lost-{n}"))).await.unwrap();
        times.push(start.elapsed());
        cluster.kill(leader).await;
        cluster.start(leader).await;
        cluster.node(leader).ready().await;
        cluster.agree().await;
    }
    cluster.end().await;
    let worst = times.iter().max().copied().unwrap_or_default();
    Row {
        figure: "leader gone to the next write",
        mill: format!("median {}, worst of {LOSSES} {}", ms(median(&mut times)), ms(worst)),
        peer: "-".to_owned(),
        aim: "at most 1.0 s",
        met: Some(worst <= Duration::from_secs(1)),
    }
}
