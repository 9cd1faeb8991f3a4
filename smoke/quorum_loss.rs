//! `docs/workflows/quorum-loss.md`: two machines of three are gone for good, and the third goes on
//! alone with what the cluster had, while clients of it go on.

use crate::poll::poll;
use crate::support::node::MILL;
use crate::support::{Outcome, TestCluster, Traffic, files};
use serde_json::Value;
use std::process::Command;

const PORT: u16 = 8080;

/// What `mill daemon` with these flags says, on the machine of node 1, when it ends by itself.
fn refused(cluster: &TestCluster, more: &[&str]) -> Outcome {
    let mut daemon = cluster.node(1).daemon_command();
    Outcome::new(format!("daemon {more:?}"), daemon.args(more).output().unwrap())
}

/// The replicas on node 1 that run, as the node shows them.
fn here(cluster: &TestCluster) -> Vec<Value> {
    let mut all = cluster.node(1).allocations("patient");
    all.retain(|one| one["node"] == "n1" && one["status"] == "running");
    all
}

#[test]
fn quorum_loss() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let _ = cluster.node(1).up(&files::patient(&image, PORT, 3, "v1", "")).ok();
    let before = here(&cluster);
    assert_eq!(before.len(), 1, "a replica on each node: {before:?}");
    let traffic = Traffic::outside(&cluster, 1, PORT);

    traffic.during("the loss");
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    let status = || cluster.node(1).mill(["status"]).ok();
    poll(|| status().contains("No leader: 1 of 3 voters answers (n2, n3 silent "))
        .secs(30)
        .expect("the loss to be told");
    let api = cluster.node(1).api();
    let read = api.request("GET", "/v1/services").send().status(200);
    assert_eq!(read.header("mill-stale"), Some("true"), "{read:?}");
    let body = serde_json::json!({"labels": {"zone": "a"}});
    let change = api.request("PATCH", "/v1/nodes/n1").json(&body).send();
    change.error(503, "no_leader");
    assert!(change.header("retry-after").is_some(), "{change:?}");
    let message = change.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("Containers run on; changes refused"), "{message}");

    traffic.during("what is refused");
    guards(&mut cluster);

    traffic.during("the recovery");
    cluster.node_mut(1).launch_with(&["--recover-single", "--yes"]);
    poll(|| cluster.names_with("leader", true) == ["n1"]).secs(30).expect("a cluster of one");
    let nodes = api.get("/v1/nodes");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!((&nodes[0]["voter"], &nodes[0]["status"]), (&true.into(), &"ready".into()));
    let healthy = || {
        let all = here(&cluster);
        all.iter().filter(|one| one["health"] == "healthy").count() == 3
    };
    poll(healthy).secs(40).expect("what was lost gets a place here");
    let kept = here(&cluster).into_iter().find(|one| one["id"] == before[0]["id"]);
    let kept = kept.expect("the replica that ran here all the time");
    assert_eq!(kept["started_at"], before[0]["started_at"], "its container was kept");
    let curl = format!("Authorization: Bearer {}", cluster.node(1).token());
    let mut with_token = cluster.node(1).namespace().command("curl");
    with_token.args(["--silent", "--fail", "-H", &curl, "http://127.0.0.1:4400/v1/tokens"]);
    assert!(with_token.status().unwrap().success(), "the administrator's token");
    traffic.during("an update");
    let _ = cluster.node(1).up(&files::patient(&image, PORT, 2, "v2", "")).ok();
    let status = cluster.node(1).mill(["status"]).ok();
    assert!(status.starts_with("test  1/1 nodes  leader n1"), "{status}");
    traffic.end();

    returns(&mut cluster);
}

/// What stands before the way out.
fn guards(cluster: &mut TestCluster) {
    let recover = ["--recover-single", "--yes"];
    let _ = refused(cluster, &recover).code(1).says("another mill daemon");
    assert_eq!(cluster.node_mut(1).stop(), Some(0));
    let told = refused(cluster, &recover[..1]).code(2).says("n2 (172.31.0.2), n3 (172.31.0.3)");
    assert!(told.stderr.contains("mill clean") && told.stderr.contains("--yes"), "{told:?}");
    // One more that lives is a quorum, whoever says so.
    cluster.node_mut(2).launch();
    let answers = || refused(cluster, &recover[..1]).stderr.contains("that is 2 of 3 voters");
    poll(answers).secs(30).expect("n2 to answer");
    let _ = refused(cluster, &recover).code(1).says("n2 answers");
    cluster.node_mut(2).kill();
    let folder = tempfile::tempdir().unwrap();
    let mut bare = Command::new(MILL);
    bare.arg("daemon").args(recover).arg("--data-dir").arg(folder.path().join("data"));
    let output = bare.arg("--socket").arg(folder.path().join("s")).output().unwrap();
    let _ = Outcome::new("unclaimed".to_owned(), output).code(1).says("nothing to recover");
}

/// An old member that is started again is refused and told; wiped, it joins again.
fn returns(cluster: &mut TestCluster) {
    cluster.node_mut(2).launch();
    let told = || cluster.node(2).mill(["status"]).stdout;
    poll(|| told().contains("recovered or restored without this node"))
        .secs(30)
        .expect("n2 to be told");
    assert!(told().contains("mill clean"), "{}", told());
    let change = ["label", "n1", "zone=old"];
    let _ = cluster.node(2).mill(change).code(1).says("without this node");
    let nodes = cluster.node(1).api().get("/v1/nodes");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert!(nodes[0]["labels"]["zone"].is_null(), "{nodes}");

    assert_eq!(cluster.node_mut(2).stop(), Some(0));
    cluster.node_mut(2).wipe();
    let joined = cluster.join_at(2, 1);
    assert!(joined["id"].as_u64().unwrap() > 3, "{joined}");
    poll(|| cluster.names_with("status", "ready") == ["n1", "n2"]).secs(30).expect("two nodes");
    // And once there is a leader of its own, there is nothing left to recover.
    assert_eq!(cluster.node_mut(1).stop(), Some(0));
    let _ = refused(cluster, &["--recover-single", "--yes"]).code(1).says("the only voter");
}
