//! Images of `mill image load` on several nodes: loaded on one, run on all, without a registry.

use crate::poll::poll;
use crate::registry::archive_as;
use crate::support::{TestCluster, files};
use serde_json::Value;
use std::collections::BTreeSet;

/// No registry has it: nobody answers for that name here.
const WEB: &str = "127.0.0.1:9/web:v1";
const SOLO: &str = "127.0.0.1:9/solo:v1";

/// Loads an image of the tests under another name on a node; its digest.
fn load(cluster: &TestCluster, n: usize, image: &str, name: &str) -> String {
    let file = cluster.node(n).file("image.tar", "");
    std::fs::remove_file(&file).unwrap();
    archive_as(image, name, &file);
    let loaded = cluster.node(n).mill(["image", "load", "--json", file.to_str().unwrap()]).json();
    assert_eq!(loaded[0]["reference"], name);
    loaded[0]["digest"].as_str().unwrap().to_owned()
}

/// The nodes that have an image, as a node tells it.
fn nodes_with(cluster: &TestCluster, n: usize, name: &str, digest: &str) -> Vec<String> {
    let all = cluster.node(n).mill(["image", "list", "--json"]).json();
    let is_it = |one: &&Value| one["reference"] == name && one["digest"] == digest;
    let found = all.as_array().unwrap().iter().find(is_it).cloned().unwrap_or_default();
    let nodes = found["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn nodes_of(cluster: &TestCluster, n: usize, service: &str) -> BTreeSet<String> {
    let healthy = |one: &Value| one["health"] == "healthy";
    let all = cluster.node(n).allocations(service).into_iter().filter(healthy);
    all.map(|one| one["node"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_loaded_on_one_node_is_there_for_all() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let v1 = load(&cluster, 1, "hello:v1", WEB);
    // The load has returned: any node knows what it leads to, and each that runs it fetches it.
    let file = files::hello(WEB, 3);
    let _ = cluster.node(3).up(&file).ok();
    assert_eq!(nodes_of(&cluster, 2, "hello").len(), 3);
    assert_eq!(cluster.node(2).api().get("/v1/services/hello")["digest"], v1);
    poll(|| nodes_with(&cluster, 2, WEB, &v1).len() == 3).secs(30).expect("all have it");

    // Another one under the same name is a change of what runs.
    let v2 = load(&cluster, 2, "hello:v2", WEB);
    let path = cluster.node(3).file("test.mill", &file);
    let plan = cluster.node(3).mill(["plan", path.to_str().unwrap()]).code(10);
    assert!(plan.stdout.contains(&v2["sha256:".len()..][..4]), "{}", plan.stdout);
    let _ = cluster.node(1).up(&file).ok();
    assert_eq!(cluster.node(3).api().get("/v1/services/hello")["digest"], v2);
    let _ = cluster.node(1).mill(["plan", path.to_str().unwrap()]).code(0);
    let _ = cluster.node(1).mill(["image", "remove", WEB]).code(1).says("mill down hello");

    // The node that loaded it goes: the others have copies, made without anybody's asking.
    let solo = load(&cluster, 2, "busybox:v1", SOLO);
    poll(|| nodes_with(&cluster, 1, SOLO, &solo).len() == 3).secs(30).expect("copies");
    cluster.node_mut(2).kill();
    poll(|| cluster.names_with("status", "down") == ["n2"]).secs(30).expect("n2 to be down");
    let text = files::service("solo", SOLO, "replicas 2; command \"sleep\" \"1000\"");
    let _ = cluster.node(3).up(&text).ok();
    assert!(!nodes_of(&cluster, 1, "solo").contains("n2"));

    // Removed while it is down, it is gone there too once it is back.
    let _ = cluster.node(1).mill(["down", "solo"]).ok();
    let _ = cluster.node(1).mill(["image", "remove", SOLO]).ok();
    let _ = cluster.node(1).up(&text).code(1).says("127.0.0.1:9 doesn't answer");
    cluster.node_mut(2).restart();
    let listed = || cluster.node(2).mill(["image", "list"]).ok();
    poll(|| !listed().contains(SOLO)).secs(30).expect("the image to go everywhere");
    assert!(listed().contains(WEB));
}
