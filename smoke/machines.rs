//! The machines that cluster tests stand on: they reach each other, and each fault does what its
//! name says and can be undone.

use crate::poll::poll;
use crate::support::netns::address;
use crate::support::{Fault, TestCluster};
use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn machines_reach_each_other_until_they_are_cut_off() {
    let cluster = TestCluster::unclaimed(2);
    let hears = |n: usize, other: &str| {
        let mut ping = cluster.node(n).namespace().command("curl");
        let url = format!("http://{other}/v2/");
        ping.args(["--silent", "--max-time", "1", "--output", "/dev/null", &url]);
        ping.status().unwrap().success()
    };
    let registry = cluster.image("x").split('/').next().unwrap().to_owned();
    assert!(hears(1, &registry) && hears(2, &registry));
    for number in [1, 2] {
        assert_eq!(cluster.node(number).api().request("GET", "/v1/health").send().status, 200);
    }
    cluster.hub().cut(2);
    assert!(hears(1, &registry) && !hears(2, &registry));
    cluster.hub().heal(2);
    cluster.hub().mute(1);
    assert!(!hears(1, &registry) && hears(2, &registry));
    cluster.hub().heal(1);
    cluster.hub().deafen(1);
    assert!(!hears(1, &registry) && hears(2, &registry));
    cluster.hub().heal(1);
    assert!(hears(1, &registry), "{}", address(1));
}

/// Whether the leader shows the other node so.
fn other_is(cluster: &TestCluster, status: &str) -> bool {
    cluster.names_with("status", status).contains(&"n2".to_owned())
}

#[test]
fn who_is_cut_off_is_down_until_that_is_undone() {
    let mut cluster = TestCluster::start(2);
    for fault in [Fault::Partition, Fault::Mute, Fault::Deaf, Fault::Cut] {
        cluster.strike(2, fault);
        poll(|| other_is(&cluster, "down")).secs(20).expect(&format!("{fault} to be seen"));
        cluster.undo(2, fault);
        poll(|| other_is(&cluster, "ready")).secs(20).expect(&format!("{fault} to be over"));
    }
}

#[test]
fn a_daemon_is_killed_stopped_paused_and_goes_on() {
    let mut cluster = TestCluster::unclaimed(1);
    for fault in [Fault::Kill, Fault::Stop, Fault::Pause] {
        cluster.strike(1, fault);
        assert!(!cluster.node(1).answers(), "{fault}");
        cluster.undo_all();
        assert_eq!(cluster.node(1).api().request("GET", "/v1/health").send().status, 200);
    }
}

/// Seconds since the epoch as a program sees them that has the node's dials.
fn clock(cluster: &TestCluster) -> i64 {
    let mut date = Command::new("date");
    date.arg("+%s").envs(cluster.node(1).dials().environment());
    String::from_utf8(date.output().unwrap().stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn clocks_jump_and_disks_are_slow_or_full_for_one_node_alone() {
    let mut cluster = TestCluster::on_disks(1);
    let now = clock(&cluster);
    for (fault, jump) in [(Fault::ClockAhead, 3_600), (Fault::ClockBack, -3_600)] {
        cluster.strike(1, fault);
        assert!((clock(&cluster) - now - jump).abs() < 60, "{fault}");
        cluster.undo(1, fault);
        assert!((clock(&cluster) - now).abs() < 60, "{fault}");
    }
    let file = cluster.node(1).data().join("file");
    std::fs::write(&file, "there is room").unwrap();
    cluster.strike(1, Fault::FullDisk);
    let full = std::fs::write(cluster.node(1).data().join("other"), "there is none").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    cluster.undo(1, Fault::FullDisk);
    cluster.strike(1, Fault::SlowDisk);
    let begun = Instant::now();
    let mut sync = Command::new("sync");
    let synced = sync.arg(&file).envs(cluster.node(1).dials().environment()).status().unwrap();
    assert!(synced.success() && begun.elapsed() > Duration::from_millis(600));
}
