//! `docs/workflows/partition.md`: a machine is cut off, both ways or one way, whether it leads or
//! not. Clients of either side go on.

use crate::poll::poll;
use crate::support::{Fault, TestCluster, Traffic, files};
use serde_json::Value;

const PORT: u16 = 8080;

#[test]
fn partition() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let file = files::patient(&cluster.image("patient:v1"), PORT, 3, "v1", "");
    let _ = cluster.node(1).up(&file).ok();
    assert_eq!(running(&cluster, 1, "patient").len(), 3);
    the_leader_is_cut_off(&mut cluster);
    one_that_hears_nobody_keeps_what_is_not_replaced(&mut cluster);
    the_leader_is_not_heard(&mut cluster);
}

/// The replicas of a service that run, as a node shows them.
fn running(cluster: &TestCluster, at: usize, service: &str) -> Vec<Value> {
    let mut all = cluster.node(at).allocations(service);
    all.retain(|one| one["status"] == "running");
    all
}

/// Whether nothing is to come of it any more.
fn is_over(one: &Value) -> bool {
    ["stopped", "failed", "lost"].map(Value::from).contains(&one["status"])
}

fn healthy_elsewhere(cluster: &TestCluster, at: usize, lost: &str) -> usize {
    let all = running(cluster, at, "patient");
    all.iter().filter(|one| one["health"] == "healthy" && one["node"] != lost).count()
}

fn await_all(cluster: &TestCluster, at: usize) {
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    let settled = || {
        let all = running(cluster, at, "patient");
        all.len() == 3 && all.iter().all(|one| one["health"] == "healthy")
    };
    poll(settled).secs(40).expect("three replicas, no more");
}

/// Some node that is another one.
fn beside(n: usize) -> usize {
    if n == 1 { 2 } else { 1 }
}

/// Whether a program on that machine gets an answer there.
fn answers(cluster: &TestCluster, n: usize, place: &str) -> bool {
    let mut curl = cluster.node(n).namespace().command("curl");
    let url = format!("http://{place}/healthz");
    curl.args(["--silent", "--fail", "--max-time", "2", "--output", "/dev/null", &url]);
    curl.status().unwrap().success()
}

/// Asks the service by its name, from inside a replica, as that node's names have it.
fn asked_by_name(cluster: &TestCluster, at: usize, id: &str) {
    let script = "n=0; while [ $n -lt 20 ]; do wget -qO- http://patient:8080/healthz \
                  >/dev/null || echo lost; n=$((n+1)); done";
    let told = cluster.node(at).mill(["exec", id, "--", "sh", "-c", script]).ok();
    assert_eq!(told, "", "from {id}");
}

fn the_leader_is_cut_off(cluster: &mut TestCluster) {
    let lost = cluster.leader();
    let (near, name) = (beside(lost), format!("n{lost}"));
    let own = running(cluster, near, "patient").into_iter().find(|one| one["node"] == name);
    let own = own.expect("a replica there");
    let place = own["address"].as_str().unwrap().to_owned();
    let outside = Traffic::outside(cluster, near, PORT);
    let inside = Traffic::on(cluster, lost, place.parse().unwrap());
    cluster.strike(lost, Fault::Partition);

    // The minority takes nothing and says why; what runs there runs on.
    let status = || cluster.node(lost).mill(["status"]).ok();
    poll(|| status().contains("No leader: 1 of 3 voters answers (")).secs(30).expect("no leader");
    let api = cluster.node(lost).api();
    let read = api.request("GET", "/v1/services").send().status(200);
    assert_eq!(read.header("mill-stale"), Some("true"), "{read:?}");
    let label = serde_json::json!({"labels": {"side": "minority"}});
    let change = api.request("PATCH", &format!("/v1/nodes/{name}")).json(&label).send();
    change.error(503, "no_leader");
    assert!(change.header("retry-after").is_some(), "{change:?}");

    // The majority goes on, and makes anew what it doesn't hear of.
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let _ = cluster.node(near).mill(["label", &format!("n{near}"), "side=majority"]).ok();
    poll(|| healthy_elsewhere(cluster, near, &name) == 3).secs(40).expect("three elsewhere");
    inside.end();
    // By name nobody on either side is led to the other.
    let here = format!("n{near}");
    let there = running(cluster, near, "patient").into_iter().find(|one| one["node"] == here);
    asked_by_name(cluster, near, there.unwrap()["id"].as_str().unwrap());
    asked_by_name(cluster, lost, own["id"].as_str().unwrap());

    outside.during("the healing");
    cluster.undo(lost, Fault::Partition);
    await_all(cluster, near);
    // Each replica runs once, on the machines too.
    poll(|| !answers(cluster, lost, &place)).secs(30).expect("the replaced one to be stopped");
    let nodes = cluster.node(lost).api().get("/v1/nodes");
    let side = |n: usize| {
        let all = nodes.as_array().unwrap().iter();
        all.filter(|node| node["name"] == format!("n{n}"))
            .map(|n| n["labels"]["side"].clone())
            .next()
    };
    assert_eq!((side(near), side(lost)), (Some("majority".into()), Some(Value::Null)), "{nodes}");
    outside.end();
}

/// A node that is heard but hears nobody; the others have no image for what it runs.
fn one_that_hears_nobody_keeps_what_is_not_replaced(cluster: &mut TestCluster) {
    let file = files::hello(&cluster.image("hello:v1"), 1);
    let _ = cluster.node(1).up(&file).ok();
    let only = running(cluster, 1, "hello").remove(0);
    let home: usize = only["node"].as_str().unwrap()[1..].parse().unwrap();
    let (near, name) = (beside(home), format!("n{home}"));
    cluster.registry_mut().stop();
    cluster.strike(home, Fault::Deaf);
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let another = || cluster.node(near).allocations("hello").len() > 1;
    poll(another).secs(30).expect("a replacement, which has no image");
    cluster.undo(home, Fault::Deaf);
    await_all(cluster, near);
    let kept = || {
        let all = cluster.node(near).allocations("hello");
        let live: Vec<_> = all.iter().filter(|one| !is_over(one)).collect();
        live.len() == 1 && live[0]["id"] == only["id"] && live[0]["health"] == "healthy"
    };
    poll(kept).secs(30).expect("the original alone");
    assert_eq!(running(cluster, near, "hello")[0]["started_at"], only["started_at"]);
    cluster.registry_mut().restart();
}

/// A leader that hears the others and isn't heard leads no more.
fn the_leader_is_not_heard(cluster: &mut TestCluster) {
    let lost = cluster.leader();
    let near = beside(lost);
    cluster.strike(lost, Fault::Mute);
    let _ = cluster.node(near).mill(["label", &format!("n{near}"), "side=heard"]).ok();
    assert_ne!(cluster.leader(), lost);
    cluster.undo(lost, Fault::Mute);
    await_all(cluster, near);
    let _ = cluster.node(lost).mill(["label", &format!("n{near}"), "side-"]).ok();
}
