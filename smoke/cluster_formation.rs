//! `docs/workflows/cluster-formation.md`: three machines become a cluster, and it runs a service.

use crate::support::netns::address;
use crate::support::{TestCluster, files};

#[test]
fn cluster_formation() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    for n in 1..=3 {
        let nodes = cluster.node(n).mill(["nodes", "--json"]).json();
        let places: Vec<_> =
            nodes.as_array().unwrap().iter().map(|n| n["address"].clone()).collect();
        assert_eq!(places, [1, 2, 3].map(address), "{nodes}");
    }

    // Any node takes a file; the replicas are spread, and each answers its own node.
    let file = files::hello(&cluster.image("hello:v1"), 3);
    let out = cluster.node(2).up(&file).ok();
    assert!(out.contains("3/3 healthy"), "{out}");
    let all = cluster.node(3).allocations("hello");
    let mut on: Vec<&str> = all.iter().map(|one| one["node"].as_str().unwrap()).collect();
    on.sort_unstable();
    assert_eq!(on, ["n1", "n2", "n3"], "{all:?}");

    // Containers are reached from every machine.
    for n in 1..=3 {
        for one in &all {
            let url = format!("http://{}/", one["address"].as_str().unwrap());
            let mut curl = cluster.node(n).namespace().command("curl");
            let answer = curl.args(["--silent", "--max-time", "5", &url]).output().unwrap();
            assert!(answer.status.success(), "n{n} to {url}: {answer:?}");
        }
    }
}
