//! Daemons that stand still for ten seconds, and clocks that jump by an hour.
//!
//! Owns what must not come of either. Never restarts a daemon.

use crate::poll::poll;
use crate::support::{Fault, TestCluster, files};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a daemon stands still.
const STILL: Duration = Duration::from_secs(10);

#[test]
fn daemons_that_stand_still_and_clocks_that_jump() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();
    a_clock_jumps(&mut cluster);
    a_follower_stands_still(&mut cluster);
    the_leader_stands_still(&mut cluster);
}

/// Until so much time has gone by since then.
fn hold(since: Instant, time: Duration) {
    poll(|| since.elapsed() >= time).secs(120).expect("time to pass");
}

fn healthy(cluster: &TestCluster, at: usize) -> Vec<Value> {
    let mut all = cluster.node(at).allocations("hello");
    all.retain(|one| one["status"] == "running" && one["health"] == "healthy");
    all
}

fn await_all(cluster: &TestCluster, at: usize) {
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    let live = || {
        let all = cluster.node(at).allocations("hello");
        let is_over =
            |one: &&Value| ["stopped", "failed", "lost"].map(Value::from).contains(&one["status"]);
        all.len() - all.iter().filter(is_over).count()
    };
    let settled = || healthy(cluster, at).len() == 3 && live() == 3;
    poll(settled).secs(40).expect("three replicas, no more");
}

/// Events of a kind so far.
fn events(cluster: &TestCluster, at: usize, kind: &str) -> usize {
    let all = cluster.node(at).api().get("/v1/events");
    all.as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
}

fn term(cluster: &TestCluster, at: usize) -> String {
    let text = cluster.node(at).api().request("GET", "/v1/metrics").send().status(200).body;
    let line = text.lines().find(|line| line.starts_with("mill_raft_term")).expect("the term");
    line.to_owned()
}

/// Minutes of the hour, so many from now.
fn minute(later: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now / 60 + later) % 60
}

fn a_clock_jumps(cluster: &mut TestCluster) {
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let third = 6 - leader - follower;
    // Neither is due while this test runs; both would be within the hour.
    let image = cluster.image("busybox:v1");
    let tasks = format!(
        "app \"tasks\"\n\ntask \"later\" {{\n    image \"{image}\"\n    command \"true\"\n    \
         schedule \"{} * * * *\"\n}}\n\ntask \"long\" {{\n    image \"{image}\"\n    \
         command \"sleep\" \"1000\"\n    timeout \"30m\"\n    stop grace=\"1s\"\n}}\n",
        minute(30)
    );
    let _ = cluster.node(third).up(&tasks).ok();
    let run = cluster.node(third).mill(["spawn", "long"]).ok().trim().to_owned();
    let api = cluster.node(third).api();
    let task = || api.get(&format!("/v1/tasks/{run}"));
    poll(|| task()["status"] == "running").secs(30).expect("the run");
    let before = (term(cluster, third), events(cluster, third, "node-down"));
    for (ahead, back) in [(leader, follower), (follower, leader)] {
        let since = Instant::now();
        cluster.strike(ahead, Fault::ClockAhead);
        cluster.strike(back, Fault::ClockBack);
        // Longer than the window after which a silent node is lost.
        hold(since, Duration::from_secs(7));
        let label = format!("jump={ahead}");
        let _ = cluster.node(back).mill(["label", "n1", &label]).ok();
        // A new connection between nodes verifies certificates anew.
        for one in healthy(cluster, third) {
            let id = one["id"].as_str().unwrap();
            for at in [ahead, back, third] {
                let _ = cluster.node(at).mill(["exec", id, "--", "/bin/busybox", "true"]).ok();
            }
        }
        cluster.undo_all();
    }
    assert_eq!((term(cluster, third), events(cluster, third, "node-down")), before);
    assert_eq!(cluster.names_with("status", "ready").len(), 3);
    assert_eq!(task()["status"], "running", "its timeout is half an hour");
    let runs = api.get("/v1/tasks");
    assert!(!runs.to_string().contains("\"later-"), "a schedule came early: {runs}");
    let _ = cluster.node(third).mill(["kill", &run]).ok();
}

fn a_follower_stands_still(cluster: &mut TestCluster) {
    let (leader, still) = (cluster.leader(), cluster.follower());
    let name = format!("n{still}");
    let there = healthy(cluster, leader).into_iter().find(|one| one["node"] == name);
    let place = there.expect("a replica there")["address"].as_str().unwrap().to_owned();
    let since = Instant::now();
    cluster.strike(still, Fault::Pause);
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let elsewhere = || {
        let all = healthy(cluster, leader);
        all.iter().filter(|one| one["node"] != name).count() == 3
    };
    poll(elsewhere).secs(30).expect("three elsewhere");
    let mut curl = cluster.node(still).namespace().command("curl");
    let url = format!("http://{place}/");
    curl.args(["--silent", "--fail", "--max-time", "5", "--output", "/dev/null", &url]);
    assert!(curl.status().unwrap().success(), "its container ran on");
    hold(since, STILL);
    let ups = events(cluster, leader, "node-up");
    cluster.undo(still, Fault::Pause);
    await_all(cluster, leader);
    assert_eq!(events(cluster, leader, "node-up"), ups + 1, "it registered anew");
}

fn the_leader_stands_still(cluster: &mut TestCluster) {
    let (old, near) = (cluster.leader(), cluster.follower());
    let file = cluster.node(near).file("v2.mill", &files::hello(&cluster.image("hello:v2"), 3));
    let up = cluster.node(near).mill(["up", "--detach", "--json", file.to_str().unwrap()]).json();
    let since = Instant::now();
    cluster.strike(old, Fault::Pause);
    let revision = up["revision"].to_string();
    let out = cluster.node(near).mill(["up", "--attach", &revision]).ok();
    assert!(out.contains("done"), "{out}");
    let new = cluster.leader();
    assert_ne!(new, old);
    hold(since, STILL);
    cluster.undo(old, Fault::Pause);
    // It may think for a moment that it leads still; then it says that it doesn't know.
    let (since, api, name) = (Instant::now(), cluster.node(old).api(), format!("n{old}"));
    let one_leader = || {
        let answer = api.request("GET", "/v1/nodes").send().status(200);
        let stale = answer.header("mill-stale").is_some();
        let all = answer.json();
        let leads =
            all.as_array().unwrap().iter().any(|n| n["name"] == name && n["leader"] == true);
        assert!(stale || !leads, "two lead: {all}");
        since.elapsed() >= Duration::from_secs(2)
    };
    poll(one_leader).secs(30).expect("two seconds");
    let _ = cluster.node(old).mill(["label", "n1", "still=over"]).ok();
    await_all(cluster, old);
    let image = cluster.node(old).api().get("/v1/services/hello")["image"].clone();
    assert!(image.as_str().unwrap().ends_with("hello:v2"), "{image}");
}
