//! The nodes as a person sees them: labelled, drained, taken back, removed.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{TestDaemon, files};

#[test]
fn the_only_node_is_labelled_drained_and_taken_back() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let name = node.api().get("/v1/nodes")[0]["name"].as_str().unwrap().to_owned();
    let name = name.as_str();
    let told = node.mill(["label", name, "zone=eu-1", "none-"]).ok();
    assert_eq!(told, format!("{name}  zone=eu-1\n"));
    let _ = node.mill(["label", name, "zone"]).code(2).says("zone- takes it away");
    let wide = node.mill(["nodes", "--wide"]).ok();
    assert!(wide.contains("LABELS") && wide.contains("zone=eu-1"), "{wide}");
    assert!(wide.contains("leader") && wide.contains("ready"), "{wide}");
    // With nothing on it a drain is over at once, and survives the daemon.
    let told = node.mill(["drain", name]).ok();
    assert!(told.starts_with(&format!("✓ {name} drained in ")), "{told}");
    let _ = node.mill(["remove", name, "--yes"]).code(1).says("join another node first");
    assert_eq!(node.stop(), Some(0));
    node.restart();
    assert_eq!(node.api().get("/v1/nodes")[0]["status"], "draining");
    let _ = node.mill(["undrain", name]).ok();
    let _ = node.mill(["undrain", name]).code(1).says("is not draining");
    // A replica has nowhere to go and runs on; a task's run is ended at the deadline.
    let image = registry.image("busybox:v1");
    let task = format!(
        "task \"patient\" {{\n image \"{image}\"\n command \"sleep\" \"1000\"\n \
         stop grace=\"1s\"\n}}\n"
    );
    let constrained = files::hello(&registry.image("hello:v1"), 1)
        .replace("port 8080", "port 8080\n    constraint \"zone\" \"eu-1\"");
    let _ = node.up(&format!("{constrained}{task}")).ok();
    let run = node.mill(["spawn", "patient"]).ok().trim().to_owned();
    let path = format!("/v1/nodes/{name}/drain");
    let body = serde_json::json!({"timeout": 1});
    let _ = node.api().request("POST", &path).json(&body).send().status(200);
    let over = || node.api().get(&format!("/v1/tasks/{run}"))["ended_at"].is_string();
    poll(over).secs(20).expect("the run to be ended at the deadline");
    let left = node.api().get(&format!("/v1/nodes/{name}"));
    let left = left["drain"]["left"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["state"]), (1, &"stuck".into()), "{left:?}");
    let status = node.mill(["status"]).ok();
    assert!(status.contains("draining: no other node takes hello-0"), "{status}");
    assert_eq!(node.api().get("/v1/services/hello")["replicas"]["healthy"], 1);
    let told = node.mill(["events"]).ok();
    for what in ["labelled", "draining", "up"] {
        assert!(told.contains(what), "no {what:?} in {told}");
    }
    let _ = node.mill(["undrain", name]).ok();
    assert_eq!(node.api().get("/v1/nodes")[0]["status"], "ready");
}
