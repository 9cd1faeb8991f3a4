//! `docs/workflows/rejoin.md`: a machine that was wiped joins again under its name, and one that
//! was removed is told so when it comes back.

use crate::poll::poll;
use crate::support::{TestCluster, files};
use serde_json::Value;

/// Replicas that run and are healthy, on a node or anywhere.
fn healthy(cluster: &TestCluster, on: Option<&str>) -> usize {
    let all = cluster.node(1).allocations("hello");
    let is_it = |one: &&Value| on.is_none_or(|node| one["node"] == node);
    let works = |one: &&Value| one["status"] == "running" && one["health"] == "healthy";
    all.iter().filter(works).filter(is_it).count()
}

fn await_nodes(cluster: &TestCluster, status: &str, names: &[&str]) {
    poll(|| cluster.names_with("status", status) == names).secs(30).expect(status);
}

#[test]
fn rejoin() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();

    // Wiped, with its containers, while the others have not given it up yet: its name is taken.
    cluster.node_mut(3).kill();
    cluster.node_mut(3).wipe();
    let joined = poll(|| joined(&cluster, 3, 1)).secs(30).expect("n3 again");
    assert_eq!((joined["node"].as_str(), joined["id"].as_u64()), (Some("n3"), Some(4)));
    await_nodes(&cluster, "ready", &["n1", "n2", "n3"]);
    cluster.await_voters(3);
    poll(|| healthy(&cluster, None) == 3).secs(30).expect("three replicas");
    let _ = cluster.node(3).up(&files::hello(&cluster.image("hello:v2"), 3)).ok();
    assert!(healthy(&cluster, Some("n3")) > 0, "it takes work as any other");
    asked_by_name(&cluster, "n3");

    // Removed while it was away, it is told so by whomever it asks.
    cluster.node_mut(2).kill();
    await_nodes(&cluster, "down", &["n2"]);
    let remove = || cluster.node(1).mill(["remove", "n2", "--yes"]).code == Some(0);
    poll(remove).secs(30).expect("n2 to be removed");
    await_nodes(&cluster, "ready", &["n1", "n3"]);
    cluster.node_mut(2).launch();
    let told = || cluster.node(2).mill(["status"]).stdout;
    poll(|| told().contains("this node was removed from the cluster")).secs(30).expect("the news");
    assert!(told().contains("mill clean") && told().contains("mill join"), "{}", told());
    let shims =
        || cluster.node(2).leftovers().into_iter().filter(|l| l.contains("containerd-shim"));
    poll(|| shims().count() == 0).secs(30).expect("what ran there to be stopped");
    let nodes = cluster.node(1).api().get("/v1/nodes");
    assert_eq!(nodes.as_array().map(Vec::len), Some(2), "{nodes}");

    // It can't take its place back, only a new one.
    assert_eq!(cluster.node_mut(2).stop(), Some(0));
    cluster.node_mut(2).wipe();
    assert_eq!(cluster.join_at(2, 3)["id"], 5);
    await_nodes(&cluster, "ready", &["n1", "n3", "n2"]);
    cluster.await_voters(3);
    poll(|| healthy(&cluster, None) == 3).secs(30).expect("three replicas again");
    asked_by_name(&cluster, "n1");
}

/// Asks every replica by the service's name, from inside one of a node: through the mesh with the
/// keys of now.
fn asked_by_name(cluster: &TestCluster, from: &str) {
    let all = cluster.node(1).allocations("hello");
    let works = |one: &&Value| one["status"] == "running" && one["health"] == "healthy";
    let own = all.iter().filter(works).find(|one| one["node"] == from).expect("a replica there");
    let places = all.iter().filter(works).map(|one| one["address"].as_str().unwrap());
    let each: String = places.map(|place| format!(" wget -qO- http://{place} &&")).collect();
    let script = format!("{each} wget -qO- http://hello:8080");
    let said =
        cluster.node(1).mill(["exec", own["id"].as_str().unwrap(), "--", "sh", "-c", &script]);
    assert_eq!(said.ok().matches("hello").count(), all.iter().filter(works).count() + 1);
}

/// What a node is told that asks to join under a name that is free once its old self is down.
fn joined(cluster: &TestCluster, n: usize, at: usize) -> Option<Value> {
    let made = cluster.node(at).mill(["token", "create", "--role", "join", "--json"]).json();
    let token = made["token"].as_str().unwrap();
    let (there, here) = (format!("172.31.0.{at}"), format!("172.31.0.{n}"));
    let name = format!("n{n}");
    let join = ["join", &there, "--token", token, "--node", &name, "--advertise", &here, "--json"];
    let outcome = cluster.node(n).mill(join);
    if outcome.code == Some(0) {
        return Some(outcome.json());
    }
    let _ = outcome.code(1).says("n3");
    None
}
