//! Deployments that meet: superseded, rolled back, taken down in the middle, and a daemon that is
//! killed while one runs.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Api, TestDaemon, files};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

/// Never healthy: nothing listens where the probe looks.
fn deaf(image: &str) -> String {
    let text =
        files::hello(image, 1).replace("8080", "8081").replace("interval", "grace=\"0s\" interval");
    text.replace("8081\n", "8081\n    env { PORT \"8080\" }\n")
}

/// `mill ARGS` in the background, with what it prints in a file.
fn begin(node: &TestDaemon, args: &[&str]) -> (Child, std::path::PathBuf) {
    let out = node.file("out.txt", "");
    let mut command = node.command(args);
    command.stdout(File::create(&out).unwrap()).stderr(Stdio::null());
    (command.spawn().unwrap(), out)
}

fn says(out: &Path, text: &str) -> bool {
    fs::read_to_string(out).unwrap().contains(text)
}

/// Revisions and what became of them, the oldest first.
fn statuses(node: &TestDaemon) -> Vec<(u64, String)> {
    let history = node.mill(["history", "--json"]).json();
    let one = |d: &Value| (d["revision"].as_u64().unwrap(), d["status"].as_str().unwrap().into());
    history.as_array().unwrap().iter().rev().map(one).collect()
}

fn answer(node: &TestDaemon) -> String {
    let all = node.allocations("hello");
    let one = all.iter().find(|one| one["health"] == "healthy").expect("a healthy replica");
    let address = one["address"].as_str().unwrap();
    Api::tcp(address, None).request("GET", "/").send().status(200).body.trim().to_owned()
}

#[test]
fn a_change_takes_the_place_of_the_one_before_and_is_rolled_back() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let (v1, v2) = (registry.image("hello:v1"), registry.image("hello:v2"));
    let _ = node.up(&files::hello(&v1, 1)).ok();
    let file = node.file("deaf.mill", &deaf(&v2));
    let (mut first, out) = begin(&node, &["up", file.to_str().unwrap()]);
    poll(|| says(&out, "r2")).secs(20).expect("the second revision");
    let _ = node.up(&files::hello(&v2, 1)).ok();
    assert_eq!(first.wait().unwrap().code(), Some(1));
    assert!(says(&out, "✗ r2 superseded by r3"), "{}", fs::read_to_string(&out).unwrap());
    assert_eq!(answer(&node), "hello v2");
    // What has ended tells its story again, and ends as it ended.
    let story = node.mill(["up", "--attach", "r2"]).code(1).stdout;
    assert!(story.contains("✗ r2 superseded by r3"), "{story}");
    let story = node.mill(["up", "--attach", "3"]).ok();
    assert!(story.contains("✓ r3 done"), "{story}");
    let back = node.mill(["rollback"]).ok();
    assert!(back.contains("image v2 → v1") && back.contains("✓ r4 done"), "{back}");
    assert_eq!(answer(&node), "hello v1");
    let same = node.mill(["rollback", "r1"]).ok();
    assert!(same.contains("Nothing to do: r4 runs"), "{same}");
    let _ = node.mill(["rollback", "r99"]).code(1).says("no revision r99");
    // In the middle of another one, back means to what runs.
    let _ = node.mill(["up", "-d", file.to_str().unwrap()]).ok();
    let _ = node.mill(["rollback", "--app", "hello"]).ok();
    assert_eq!(answer(&node), "hello v1");
    let _ = node.mill(["up", "-d", file.to_str().unwrap()]).ok();
    let _ = node.mill(["down", "-f", file.to_str().unwrap()]).ok();
    let want = ["succeeded", "superseded", "succeeded", "succeeded", "aborted", "succeeded"];
    let want = want.iter().chain(&["superseded", "succeeded"]).map(|status| (*status).to_owned());
    let want: Vec<(u64, String)> = (1..).zip(want).collect();
    assert_eq!(statuses(&node), want);
    assert!(node.allocations("hello").iter().all(|one| one["status"] == "stopped"));
}

#[test]
fn an_update_goes_on_over_a_killed_daemon_and_its_stream_without_gap_or_double() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let (v1, v2) = (registry.image("hello:v1"), registry.image("hello:v2"));
    let _ = node.up(&files::hello(&v1, 3)).ok();
    let file = node.file("next.mill", &files::hello(&v2, 3));
    let (mut child, out) = begin(&node, &["up", "--json", file.to_str().unwrap()]);
    poll(|| says(&out, "\"healthy\"")).secs(30).expect("the first new replica");
    node.kill();
    assert!(!says(&out, "\"done\""), "it was over before the daemon was killed");
    node.restart();
    let ended = poll(|| child.try_wait().unwrap()).secs(60).expect("the end of mill up");
    let seen = fs::read_to_string(&out).unwrap();
    assert_eq!(ended.code(), Some(0), "{seen}");
    let events = node.api().request("GET", "/v1/deployments/2/events").events();
    let all: Vec<(String, u64)> = events.map(|event| digest(&event.name, &event.data)).collect();
    let seen = seen.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // Figures of a pull are of the moment; the steps are the same for everybody.
    let seen: Vec<(String, u64)> =
        seen.map(|event| digest(event["event"].as_str().unwrap(), &event)).collect();
    let is_step = |one: &&(String, u64)| !one.0.contains("pulling");
    let steps = |all: &[(String, u64)]| all.iter().filter(is_step).cloned().collect::<Vec<_>>();
    assert_eq!(steps(&seen), steps(&all));
    assert_eq!(node.allocations("hello").iter().filter(|a| a["health"] == "healthy").count(), 3);
    assert_eq!(answer(&node), "hello v2");
}

/// What tells one event from another: its name, phase and allocation, and when it was.
fn digest(name: &str, data: &Value) -> (String, u64) {
    let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
    let millis = data["elapsed"].as_f64().unwrap_or_default() * 1000.0;
    (format!("{name} {} {}", text("phase"), text("allocation")), millis as u64)
}

#[test]
fn a_failed_update_tells_which_replica_and_why_everywhere() {
    let registry = Registry::start();
    let mut registry = registry;
    let node = TestDaemon::start();
    let good = files::hello(&registry.image("hello:v1"), 1);
    let _ = node.up(&good).ok();
    let before = node.allocations("hello")[0]["id"].clone();
    let failed = node.up(&files::hello(&registry.image("crash:v1"), 1)).code(1);
    let last = "  | crash: nothing to live for";
    assert!(failed.stdout.contains(last), "{}", failed.stdout);
    assert!(failed.stdout.contains("r1 runs again, 1/1 healthy"), "{}", failed.stdout);
    let history = node.mill(["history"]).ok();
    assert!(history.contains("failed") && history.contains("hello-0-"), "{history}");
    let shown = node.mill(["show", "r2"]).ok();
    assert!(shown.contains("exited 3 3×") && shown.contains(last), "{shown}");
    let again = node.mill(["up", "--attach", "r2"]).code(1).stdout;
    assert!(again.contains(last), "{again}");
    let _ = node.mill(["rollback", "r2"]).code(1).says("r2 never worked: hello-0-");
    // A registry that is down is named at once; what runs is not touched, and needs it for nothing.
    registry.stop();
    let _ =
        node.up(&files::hello(&registry.image("hello:v2"), 1)).code(1).says(&registry.address());
    let _ = node.up(&good.replace("replicas 1", "replicas 2")).ok();
    assert_eq!(statuses(&node).len(), 3);
    assert!(node.allocations("hello").iter().any(|one| one["id"] == before));
}
