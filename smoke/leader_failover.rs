//! `docs/workflows/leader-failover.md`: the leader dies in the middle of a deployment.

use crate::poll::poll;
use crate::support::{TestCluster, files};
use serde_json::Value;

#[test]
fn leader_failover() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();

    let leader = cluster.leader();
    let follower = cluster.follower();
    let file = files::hello(&cluster.image("hello:v2"), 3);
    let path = cluster.node(follower).file("v2.mill", &file);
    let up = ["up", "--detach", path.to_str().unwrap()];
    let _ = cluster.node(follower).mill(up).ok();
    cluster.node_mut(leader).kill();

    // The one that watches is on a node that lives: it is told how the deployment ends.
    let out = cluster.node(follower).mill(["up", "--attach", "r2"]).ok();
    assert!(out.contains("✓ r2 done"), "{out}");
    assert_ne!(cluster.leader(), leader);

    // Its containers ran on meanwhile; back again, it is a follower that knows all of it.
    cluster.node_mut(leader).restart();
    let digest = |n: usize| cluster.node(n).api().get("/v1/services/hello")["digest"].clone();
    poll(|| digest(leader) == digest(follower)).secs(20).expect("the same everywhere");
    let healthy = |one: &Value| one["health"] == "healthy" && one["status"] == "running";
    let all = || cluster.node(leader).allocations("hello");
    let replicas = || all().iter().filter(|one| healthy(one)).count() == 3;
    poll(replicas).secs(30).expect("three healthy replicas");
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(30).expect("all ready");
}
