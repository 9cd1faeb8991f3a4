//! `docs/workflows/node-failure.md`: a machine is lost, its replicas are made anew elsewhere, and
//! it comes back.

use crate::poll::poll;
use crate::support::{TestCluster, files};
use serde_json::Value;

fn healthy_elsewhere(all: &[Value], lost: &str) -> usize {
    let healthy = |one: &&Value| one["health"] == "healthy" && one["node"] != lost;
    all.iter().filter(healthy).count()
}

#[test]
fn node_failure() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let leader = cluster.leader();
    let _ = cluster.node(leader).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();

    let lost = cluster.follower();
    let name = format!("n{lost}");
    cluster.hub().cut(lost);
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let all = || cluster.node(leader).allocations("hello");
    poll(|| healthy_elsewhere(&all(), &name) == 3).secs(30).expect("three replicas elsewhere");
    let status = cluster.node(leader).mill(["status"]).ok();
    assert!(status.contains("2/3 nodes"), "{status}");

    // Back again, it stops what has been replaced, and takes new work.
    cluster.hub().heal(lost);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(30).expect("it is back");
    let live = |one: &&Value| one["status"] == "running";
    poll(|| all().iter().filter(live).count() == 3).secs(30).expect("no more than three");
    let here = || cluster.node(lost).mill(["nodes", "--json"]).json();
    assert_eq!(here().as_array().map(Vec::len), Some(3));
}
