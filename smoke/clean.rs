//! `mill clean` and `mill doctor`: what a node has on its machine, and what the machine lacks.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Outcome, TestDaemon, files};
use std::process::Command;

/// Runs a command that needs the node's settings rather than its daemon.
fn offline(node: &TestDaemon, args: &[&str]) -> Outcome {
    let mut command = node.command(args);
    command.env("MILL_DATA_DIR", node.data()).env("MILL_CONTAINERD", "private");
    let output = command.output().unwrap();
    Outcome::new(format!("{command:?}"), output)
}

#[test]
fn a_stopped_node_is_wiped_and_a_running_one_is_not() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 2)).ok();
    let refused = offline(&node, &["clean", "--yes"]).code(1);
    assert!(refused.stderr.contains(&format!("pid {}", node.pid())), "{}", refused.stderr);
    assert_eq!(node.allocations("hello").len(), 2);
    node.stop();
    let left = node.leftovers();
    assert!(left.iter().any(|line| line.starts_with("process ")), "containers run on: {left:?}");
    let _ = offline(&node, &["clean", "--yes"]).ok();
    let left = node.leftovers();
    assert!(left.iter().all(|line| !line.contains("/data")), "{left:?}");
    assert!(!node.data().exists());
    let kinds = ["process ", "mount ", "link ", "table ", "cgroup "];
    let ours = |line: &&String| kinds.iter().any(|kind| line.starts_with(kind));
    assert_eq!(left.iter().filter(ours).count(), 0, "{left:?}");
    node.launch();
    assert!(
        poll(|| node.api().request("GET", "/v1/health").try_send())
            .secs(30)
            .expect("a node")
            .status
            < 500
    );
}

#[test]
fn without_leave_nothing_is_wiped() {
    let mut node = TestDaemon::start();
    node.stop();
    let _ = offline(&node, &["clean"]).code(2);
    assert!(node.data().exists());
}

/// The active snapshots in the private containerd: the writable layers of containers.
fn active_snapshots(node: &TestDaemon) -> Vec<String> {
    let left = node.leftovers();
    let run = left.iter().find_map(|line| line.split_once("folder /run/mill/")).unwrap().1;
    let instance = run.trim_start_matches("runc-").to_owned();
    let socket = format!("/run/mill/{instance}/containerd/containerd.sock");
    let output = Command::new("ctr")
        .args(["--address", &socket, "--namespace", &format!("mill-{instance}")])
        .args(["snapshots", "list"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.trim_end().ends_with("Active")).map(str::to_owned).collect()
}

#[test]
fn no_snapshot_of_a_container_is_left_after_down() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 3)).ok();
    assert_eq!(active_snapshots(&node).len(), 3);
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    poll(|| active_snapshots(&node).is_empty()).secs(20).expect("no snapshot of a container");
}

#[test]
fn the_doctor_examines_this_machine() {
    let node = TestDaemon::start();
    let outcome = offline(&node, &["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let checks = checks.as_array().unwrap();
    let find = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    for name in ["root", "runc", "nft", "overlayfs", "container network", "cgroups"] {
        assert_eq!(find(name)["status"], "ok", "{}", find(name));
    }
    let failed = checks.iter().any(|check| check["status"] == "fail");
    assert_eq!(outcome.code, Some(i32::from(failed)), "{}", outcome.stderr);
}
