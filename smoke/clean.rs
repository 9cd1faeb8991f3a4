//! `mill clean` and `mill doctor`: what a node has on its machine, and what the machine lacks.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::inventory::ctr;
use crate::support::{Outcome, TestDaemon, files};

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

#[test]
fn no_container_and_no_snapshot_of_one_is_left_after_down() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 3)).ok();
    let count = || {
        let snapshots = ctr(&node, &["snapshots", "list"]);
        let active = snapshots.iter().filter(|line| line.ends_with("Active")).count();
        let tasks = ctr(&node, &["tasks", "list", "--quiet"]).len();
        [ctr(&node, &["containers", "list", "--quiet"]).len(), tasks, active]
    };
    assert_eq!(count(), [3, 3, 3]);
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    poll(|| if count() == [0, 0, 0] { Ok(()) } else { Err(count()) })
        .secs(20)
        .expect("no container, task or active snapshot");
    assert!(!ctr(&node, &["images", "list", "--quiet"]).is_empty(), "images stay");
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
