//! Disks that are slow or full, under the leader and under a follower.
//!
//! Owns what a cluster makes of them: nothing that was acknowledged is lost, nor is anybody taken
//! for lost who only waits for a disk. Never restarts a daemon that goes on by itself.

use crate::poll::poll;
use crate::support::{Fault, TestCluster, files};
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn slow_disks_and_full_ones() {
    let mut cluster = TestCluster::start_on_disks(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();
    slow(&mut cluster);
    hanging(&cluster);
    full_leader(&mut cluster);
    full_follower(&mut cluster);
}

/// A daemon whose log is not written for a minute ends with the reason, and the next start goes on.
#[test]
fn disks_that_do_not_answer_end_the_daemon() {
    let mut cluster = TestCluster::start(2);
    let stuck = cluster.follower();
    let begun = Instant::now();
    cluster.node(stuck).dials().slow_syncs(Duration::from_secs(600));
    let _ = cluster.node(cluster.leader()).mill(["label", "n1", "stuck=yes"]).ok();
    poll(|| !cluster.node(stuck).is_running()).secs(150).expect("the end of the daemon");
    println!("ended after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= mill::limits::WRITE_STUCK, "a disk may be slow");
    let log = cluster.node(stuck).log();
    let reason = "a write to the log has not ended in 60s; check the disk, then start mill again";
    assert!(log.contains("the disk hangs") && log.contains(reason), "{log}");
    assert_eq!(cluster.node_mut(stuck).wait(), Some(1));
    // As systemd does (`Restart=always`).
    cluster.node(stuck).dials().slow_syncs(Duration::ZERO);
    cluster.node_mut(stuck).restart();
    poll(|| cluster.names_with("status", "ready").len() == 2).secs(60).expect("both ready");
    let n1 = cluster.node(stuck).api().get("/v1/nodes/n1");
    assert_eq!(n1["labels"]["stuck"], "yes", "{n1}");
}

fn term(cluster: &TestCluster, at: usize) -> String {
    let text = cluster.node(at).api().request("GET", "/v1/metrics").send().status(200).body;
    let line = text.lines().find(|line| line.starts_with("mill_raft_term")).expect("the term");
    line.to_owned()
}

/// Heartbeats don't wait for a disk: no election, no lost node, and changes are taken.
fn slow(cluster: &mut TestCluster) {
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let before = term(cluster, leader);
    for slow in [vec![leader], vec![leader, follower]] {
        let since = Instant::now();
        slow.iter().for_each(|n| cluster.strike(*n, Fault::SlowDisk));
        let mut changes = 0;
        let enough = || {
            changes += 1;
            let label = format!("change={changes}");
            let _ = cluster.node(follower).mill(["label", "n1", &label]).ok();
            assert_eq!(cluster.names_with("status", "ready").len(), 3);
            since.elapsed() >= Duration::from_secs(7)
        };
        poll(enough).secs(60).expect("some changes");
        println!("{changes} changes in {:?} with {slow:?} slow", since.elapsed());
    }
    assert_eq!(term(cluster, leader), before, "somebody called for an election");
    assert_eq!(cluster.leader(), leader);
    cluster.undo_all();
}

/// A leader whose disk hangs gives the lead up, and has its part again once the disk answers.
fn hanging(cluster: &TestCluster) {
    let (leader, near) = (cluster.leader(), cluster.follower());
    let frozen = cluster.node(leader).disk().freeze();
    let begun = Instant::now();
    let mut changes = 0;
    let another = || {
        // What the old leader takes is of no use to anybody: it is handed over.
        changes += 1;
        let label = format!("hang={changes}");
        let taken = cluster.node(near).mill(["label", "n1", &label]).code == Some(0);
        let leads = cluster.node(near).api().get("/v1/status")["leader"].clone();
        taken && leads != Value::Null && leads != format!("n{leader}")
    };
    poll(another).secs(40).expect("another leader that takes changes");
    println!("another leader after {:?}", begun.elapsed());
    drop(frozen);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    let _ = cluster.node(leader).mill(["label", "n1", "hang=over"]).ok();
}

/// Deploys a file that makes a large entry; the revision, if that was acknowledged.
fn deploy_large(cluster: &TestCluster, at: usize, n: usize) -> Option<u64> {
    let text = files::hello(&cluster.image("hello:v1"), 3);
    let text = text.replace("port 8080", &format!("port 8080\n    env {{ N \"{n}\" }}"));
    let text = format!("{text}// {}\n", "x".repeat(900_000));
    let file = cluster.node(at).file("large.mill", &text);
    let up = cluster.node(at).mill(["up", "--detach", "--json", file.to_str().unwrap()]);
    (up.code == Some(0)).then(|| up.json()["revision"].as_u64().expect("a revision"))
}

/// A leader whose disk is full refuses what can wait, with the reason, and goes on with the rest.
fn full_leader(cluster: &mut TestCluster) {
    let (leader, near) = (cluster.leader(), cluster.follower());
    cluster.strike(leader, Fault::FullDisk);
    let refused = || {
        let label = cluster.node(near).mill(["label", "n1", "full=yes"]);
        (label.code == Some(1)).then_some(label)
    };
    let refused = poll(refused).secs(20).expect("a refusal");
    let _ = refused.says("disk is nearly full").says("mill status");
    // A node that is slow to answer is shown as it was some seconds ago.
    let warned = |line: &str| line.contains("% free") && line.contains("changes are refused");
    let warns = || cluster.node(near).mill(["status"]).ok().lines().any(warned);
    poll(warns).secs(30).expect("a warning of the full disk");
    // What nodes report is taken: a replica that ends is started again, and everybody hears of it.
    let elsewhere = |one: &serde_json::Value| one["node"] != format!("n{leader}").as_str();
    let victim = cluster.node(near).allocations("hello").into_iter().find(elsewhere).unwrap();
    let id = victim["id"].as_str().unwrap().to_owned();
    let refused = cluster.node(near).mill(["restart", &id]).code(1);
    let _ = refused.says("disk is nearly full");
    end_program_of(&id);
    let restarts = || {
        let all = cluster.node(near).allocations("hello");
        all.iter().any(|one| one["id"] == id.as_str() && one["restarts"] == 1)
    };
    poll(restarts).secs(60).expect("the report of a restart");
    assert_eq!(cluster.leader(), leader);
    cluster.undo(leader, Fault::FullDisk);
    let taken = || cluster.node(near).mill(["label", "n1", "full=no"]).code == Some(0);
    poll(taken).secs(20).expect("changes once there is room");
}

/// A follower whose log can't grow ends; the others go on, and so does it once there is room.
fn full_follower(cluster: &mut TestCluster) {
    let (leader, full) = (cluster.leader(), cluster.follower());
    cluster.strike(full, Fault::FullDisk);
    let mut kept = Vec::new();
    for n in 0..20 {
        if !cluster.node(full).is_running() {
            break;
        }
        kept.extend(deploy_large(cluster, leader, n));
    }
    assert!(kept.len() > 4, "the log had a segment in reserve: {kept:?}");
    poll(|| !cluster.node(full).is_running()).secs(30).expect("the log to find no room");
    let log = cluster.node(full).log();
    assert!(log.contains("free some space and start mill again"), "{log}");
    kept.push(deploy_large(cluster, leader, 100).expect("a change without the full node"));
    cluster.undo(full, Fault::FullDisk);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    let has_all = || {
        let all = cluster.node(full).api().get("/v1/deployments");
        let all: Vec<u64> =
            all.as_array().unwrap().iter().filter_map(|one| one["revision"].as_u64()).collect();
        kept.iter().all(|revision| all.contains(revision))
    };
    poll(has_all).secs(30).expect("all that was acknowledged");
    let last = kept.last().unwrap();
    let _ = cluster.node(full).mill(["up", "--attach", &last.to_string()]).ok();
    println!("{} acknowledged around the full disk: {kept:?}", kept.len());
}

/// Ends the program of an allocation, from outside of its container.
fn end_program_of(id: &str) {
    let name = format!("MILL_ALLOC={id}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_its = |number: &i32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == name.as_bytes())
    };
    let number = numbers.find(is_its).expect("the program");
    let pid = nix::unistd::Pid::from_raw(number);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
