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

#[test]
fn who_does_not_fit_is_told_why_and_may_join_once_it_does() {
    let mut cluster = TestCluster::unclaimed(3);
    let _ = cluster.init();
    // A cluster of its own.
    let _ = cluster.node_mut(2).init(&["--node", "n2", "--advertise", &address(2)]);
    let token = |n: usize| {
        let made = cluster.node(n).mill(["token", "create", "--role", "join", "--json"]).json();
        made["token"].as_str().unwrap().to_owned()
    };
    let (ours, theirs, place) = (token(1), token(2), address(1));
    let third = cluster.node(3);
    let join = |token: &str| {
        let own = ["--node", "n3", "--advertise", &address(3)];
        third.mill(["join", &place, "--token", token].into_iter().chain(own))
    };
    let _ = join(&theirs).code(1).says("has another CA");
    for (seconds, text) in [(86_500, "1d ahead of"), (-86_500, "clocks is wrong")] {
        third.dials().set_clock(seconds);
        let _ = join(&ours).code(1).says(text).says("clock");
    }
    third.dials().set_clock(0);
    let _ = join(&ours).ok();
    assert_eq!(cluster.node(1).api().get("/v1/nodes").as_array().map(Vec::len), Some(2));
}
