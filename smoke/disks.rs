//! Disks that are slow or full, under the leader and under a follower.
//!
//! Owns what a cluster makes of them: nothing that was acknowledged is lost, nor is anybody taken
//! for lost who only waits for a disk. Never restarts a daemon that goes on by itself.

use crate::poll::poll;
use crate::support::{Fault, TestCluster, files};
use std::time::{Duration, Instant};

#[test]
fn slow_disks_and_full_ones() {
    let mut cluster = TestCluster::start_on_disks(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&files::hello(&cluster.image("hello:v1"), 3)).ok();
    slow(&mut cluster);
    full(&mut cluster);
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

/// Deploys a file that makes a large entry; the revision, if that was acknowledged.
fn deploy_large(cluster: &TestCluster, at: usize, n: usize) -> Option<u64> {
    let text = files::hello(&cluster.image("hello:v1"), 3);
    let text = text.replace("port 8080", &format!("port 8080\n    env {{ N \"{n}\" }}"));
    let text = format!("{text}// {}\n", "x".repeat(900_000));
    let file = cluster.node(at).file("large.mill", &text);
    let up = cluster.node(at).mill(["up", "--detach", "--json", file.to_str().unwrap()]);
    (up.code == Some(0)).then(|| up.json()["revision"].as_u64().expect("a revision"))
}

/// A leader whose log can't grow ends; the others go on, and so does it once there is room.
fn full(cluster: &mut TestCluster) {
    let leader = cluster.leader();
    let near = cluster.follower();
    cluster.strike(leader, Fault::FullDisk);
    let mut kept = Vec::new();
    for n in 0..20 {
        if !cluster.node(leader).is_running() {
            break;
        }
        kept.extend(deploy_large(cluster, near, n));
    }
    poll(|| !cluster.node(leader).is_running()).secs(30).expect("the log to find no room");
    let log = cluster.node(leader).log();
    assert!(log.contains("free some space and start mill again"), "{log}");
    poll(|| cluster.names_with("leader", true).len() == 1).secs(30).expect("another leader");
    kept.push(deploy_large(cluster, near, 100).expect("a change without the full node"));
    cluster.undo(leader, Fault::FullDisk);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    let has_all = || {
        let all = cluster.node(leader).api().get("/v1/deployments");
        let all: Vec<u64> =
            all.as_array().unwrap().iter().filter_map(|one| one["revision"].as_u64()).collect();
        kept.iter().all(|revision| all.contains(revision))
    };
    poll(has_all).secs(30).expect("all that was acknowledged");
    let last = kept.last().unwrap();
    let _ = cluster.node(leader).mill(["up", "--attach", &last.to_string()]).ok();
    println!("{} acknowledged around the full disk: {kept:?}", kept.len());
}
