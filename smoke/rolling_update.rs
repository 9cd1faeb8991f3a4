//! `docs/workflows/rolling-update.md`: replicas on three nodes are replaced by another version
//! while clients go on, and no request is dropped.

use crate::support::{TestCluster, Traffic, files};
use std::collections::BTreeSet;

const PORT: u16 = 8080;

#[test]
fn rolling_update() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let file = |version: &str| {
        files::patient(&image, PORT, 3, version, "").replace("max-parallel=2", "max-parallel=1")
    };
    let _ = cluster.node(1).up(&file("v1")).ok();
    let on: BTreeSet<String> = healthy(&cluster).into_iter().map(|(_, node)| node).collect();
    assert_eq!(on.len(), 3, "a replica on each node: {on:?}");

    let traffic = Traffic::everywhere(&cluster, "patient", PORT);
    // Each node takes the command once, whoever leads.
    for n in 1..=3 {
        let before = healthy(&cluster);
        let version = format!("v{}", n + 1);
        traffic.during(&version);
        let out = cluster.node(n).up(&file(&version)).ok();
        assert_eq!(out.matches("replaces patient-").count(), 3, "{out}");
        assert!(out.contains("3/3 healthy"), "{out}");
        let after = healthy(&cluster);
        assert_eq!(after.len(), 3, "{after:?}");
        assert!(after.iter().all(|(id, _)| before.iter().all(|(old, _)| old != id)), "{after:?}");
        println!("{out}");
    }
    traffic.end();
}

/// The healthy replicas that stay, each with its node.
fn healthy(cluster: &TestCluster) -> Vec<(String, String)> {
    let text = |one: &serde_json::Value, field: &str| one[field].as_str().unwrap().to_owned();
    let all = cluster.node(1).allocations("patient");
    let stays = all.iter().filter(|one| {
        one["status"] == "running" && one["health"] == "healthy" && one["draining"] == false
    });
    stays.map(|one| (text(one, "id"), text(one, "node"))).collect()
}
