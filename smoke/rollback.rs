//! `docs/workflows/rollback.md`: a version that fails is taken back while clients go on, and one
//! that works is taken back by a person.

use crate::support::{TestCluster, Traffic, files};
use serde_json::Value;

const PORT: u16 = 8080;

#[test]
fn rollback() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let file = |version: &str, more: &str| files::patient(&image, PORT, 3, version, more);
    let node = cluster.node(2);
    let _ = node.up(&file("v1", "")).ok();
    let before = ids(&cluster);

    let traffic = Traffic::everywhere(&cluster, "patient", PORT);
    traffic.during("a version that fails");
    let out = node.up(&file("v2", "; BROKEN \"yes\"")).code(1).stdout;
    assert!(out.contains("GET /healthz → 500"), "{out}");
    assert!(out.contains("✗ r2 failed") && out.contains("r1 runs again, 3/3 healthy"), "{out}");
    // Not one of those that worked was touched.
    assert_eq!(ids(&cluster), before);
    assert_eq!(version(&cluster), "v1");
    println!("{out}");

    traffic.during("a version that works");
    let _ = node.up(&file("v3", "")).ok();
    assert_eq!(version(&cluster), "v3");
    traffic.during("mill rollback");
    let out = cluster.node(3).mill(["rollback"]).ok();
    assert!(out.contains("✓ r4 done") && out.contains("3/3 healthy"), "{out}");
    assert_eq!(version(&cluster), "v1");
    println!("{out}");

    traffic.during("a rollback in the middle of a deployment");
    let path = node.file("v5.mill", &file("v5", ""));
    let _ = node.mill(["up", "--detach", path.to_str().unwrap()]).ok();
    let _ = node.mill(["rollback"]).ok();
    assert_eq!(version(&cluster), "v1");
    let history = cluster.node(1).mill(["history", "--json"]).json();
    let statuses: Vec<&Value> =
        history.as_array().unwrap().iter().rev().map(|one| &one["status"]).collect();
    let wanted = ["succeeded", "failed", "succeeded", "succeeded", "aborted", "succeeded"];
    assert_eq!(statuses, wanted, "{history}");
    println!("{}", cluster.node(1).mill(["history"]).ok());
    traffic.end();
}

fn stays(one: &Value) -> bool {
    one["status"] == "running" && one["health"] == "healthy" && one["draining"] == false
}

fn ids(cluster: &TestCluster) -> Vec<Value> {
    let all = cluster.node(1).allocations("patient");
    all.into_iter().filter(stays).map(|one| one["id"].clone()).collect()
}

/// What all replicas say that they are.
#[track_caller]
fn version(cluster: &TestCluster) -> String {
    let all = cluster.node(1).allocations("patient");
    let all: Vec<&Value> = all.iter().filter(|one| stays(one)).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    let ask = |one: &&Value| {
        let url = format!("http://{}/", one["address"].as_str().unwrap());
        let mut curl = cluster.node(1).namespace().command("curl");
        let answer = curl.args(["--silent", "--max-time", "5", &url]).output().unwrap();
        String::from_utf8(answer.stdout).unwrap()
    };
    let mut said: Vec<String> = all.iter().map(ask).collect();
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}
