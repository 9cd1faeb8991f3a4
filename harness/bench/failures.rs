//! How long a cluster takes to go on: a new leader, lost replicas elsewhere, one more node; and
//! what it takes when nothing happens.
//!
//! Never measures writes that nothing disturbs: `members.rs` does.

use super::node::{processor_time, resident};
use super::report::{Row, median, ms};
use crate::poll::poll;
use crate::support::{TestCluster, files};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How it was measured.
pub const QUIET_NOTES: &str = "
- Three nodes with a containerd each, no container. The daemons' own processes over a minute:
  resident set size, which counts the pages of the program that were used once, and processor time
  of the busiest.
";

/// How it was measured.
pub const NOTES: &str = "
- *Leader killed*: SIGKILL, then a client asks another node again and again until a write is
  accepted. The killed one is started again, and all are ready, before the next.
- *Node cut off*: its link is down; until its only replica is healthy on another node.
- *Join*: from starting the command until it returns; each node has its own containerd running.
";

/// Leaders that are killed.
const KILLS: usize = 50;
/// How long a cluster may be without a leader that was killed.
const LEADERLESS: Duration = Duration::from_millis(350);
/// Nodes that are lost.
const LOSSES: usize = 5;
/// Nodes that join a first one.
const JOINS: usize = 4;
const QUIET: Duration = Duration::from_secs(60);

/// When something is lost or new.
pub fn figures() -> Vec<Row> {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let mut rows = vec![leaders(&mut cluster), losses(&cluster)];
    drop(cluster);
    rows.push(joins());
    rows
}

/// A write through a node's API; whether it was accepted.
fn write(cluster: &TestCluster, at: usize, value: &str) -> bool {
    let body = json!({"labels": {"written": value}});
    let api = cluster.node(at).api();
    let answer = api.request("PATCH", &format!("/v1/nodes/n{at}")).json(&body).try_send();
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether a node knows the newest state, and shows all of so many as ready.
fn all_ready(cluster: &TestCluster, at: usize, nodes: usize) -> bool {
    let Ok(answer) = cluster.node(at).api().request("GET", "/v1/nodes").try_send() else {
        return false;
    };
    if answer.status != 200 || answer.header("mill-stale").is_some() {
        return false;
    }
    let all = answer.json();
    let is_ready = |node: &&Value| node["status"] == "ready";
    all.as_array().map_or(0, |all| all.iter().filter(is_ready).count()) == nodes
}

fn leaders(cluster: &mut TestCluster) -> Row {
    let mut times = Vec::new();
    for round in 0..KILLS {
        let leader = cluster.leader();
        let asked = leader % 3 + 1;
        let start = Instant::now();
        cluster.node_mut(leader).kill();
        let mut tries = 0;
        let accepted = || {
            tries += 1;
            write(cluster, asked, &format!("{round}-{tries}"))
        };
        poll(accepted).secs(30).expect("a write to be accepted");
        let took = start.elapsed();
        eprintln!("leader {leader} killed: {took:?}");
        times.push(took);
        cluster.node_mut(leader).restart();
        poll(|| (1..=3).all(|n| all_ready(cluster, n, 3))).secs(30).expect("all ready");
    }
    let late = times.iter().filter(|took| **took > LEADERLESS).count();
    let worst = times.iter().max().copied().unwrap_or_default();
    let middle = median(&mut times);
    Row {
        figure: "leader killed, to the next write accepted",
        mill: format!("median {}, worst {}, {late} of {KILLS} above 350 ms", ms(middle), ms(worst)),
        peer: String::new(),
        aim: "at most 350 ms, each of 50",
        met: Some(late == 0),
    }
}

fn losses(cluster: &TestCluster) -> Row {
    let file = files::hello(&cluster.image("hello:v1"), 3);
    let _ = cluster.node(1).up(&file).ok(); // every node has the image
    let _ = cluster.node(1).up(&file.replace("replicas 3", "replicas 1")).ok();
    let healthy = |at: usize| {
        let all = cluster.node(at).allocations("hello").into_iter();
        let well = all.filter(|one| one["health"] == "healthy" && one["status"] == "running");
        let nodes = well.map(|one| one["node"].as_str().unwrap_or_default().to_owned());
        nodes.collect::<Vec<_>>()
    };
    let mut times = Vec::new();
    for _ in 0..LOSSES {
        let [name] =
            poll(|| <[String; 1]>::try_from(healthy(1)).ok()).secs(30).expect("one replica");
        let lost: usize = name.trim_start_matches('n').parse().unwrap();
        let start = Instant::now();
        cluster.hub().cut(lost);
        let asked = lost % 3 + 1;
        poll(|| healthy(asked).iter().any(|node| *node != name)).secs(60).expect("it elsewhere");
        let took = start.elapsed();
        eprintln!("{name} lost: {took:?}");
        times.push(took);
        cluster.hub().heal(lost);
        poll(|| (1..=3).all(|n| all_ready(cluster, n, 3))).secs(30).expect("all ready");
        poll(|| (1..=3).all(|n| healthy(n).len() == 1)).secs(30).expect("one replica");
    }
    let worst = times.iter().max().copied().unwrap_or_default();
    Row {
        figure: "node cut off, its service healthy elsewhere",
        mill: format!("median {}, worst of {LOSSES} {}", ms(median(&mut times)), ms(worst)),
        peer: String::new(),
        aim: "at most 7 s",
        met: Some(worst <= Duration::from_secs(7)),
    }
}

fn joins() -> Row {
    let mut cluster = TestCluster::unclaimed(JOINS + 1);
    let told = cluster.init();
    let mut times = Vec::new();
    for n in 2..=JOINS + 1 {
        let start = Instant::now();
        let _ = cluster.join(n, &told).ok();
        times.push(start.elapsed());
        eprintln!("joined: {:?}", start.elapsed());
        poll(|| all_ready(&cluster, n, n)).secs(30).expect("all ready");
    }
    let worst = times.iter().max().copied().unwrap_or_default();
    Row {
        figure: "`mill join` until the node is ready",
        mill: format!("median {}, worst of {JOINS} {}", ms(median(&mut times)), ms(worst)),
        peer: String::new(),
        aim: "at most 2 s",
        met: Some(worst <= Duration::from_secs(2)),
    }
}

/// When nothing happens.
pub fn quiet() -> Vec<Row> {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let ids: Vec<i32> = (1..=3).map(|n| cluster.node(n).pid().as_raw()).collect();
    let all = || ids.iter().map(|id| processor_time(*id)).collect::<Vec<_>>();
    // The work of forming is over when the first quiet seconds are.
    std::thread::park_timeout(Duration::from_secs(5));
    let before = all();
    std::thread::park_timeout(QUIET);
    let used = all().into_iter().zip(before).map(|(after, before)| after - before);
    let most = used.max().unwrap_or_default().as_secs_f64() / QUIET.as_secs_f64() * 100.0;
    let memory = ids.iter().map(|id| resident(*id)).max().unwrap_or(0);
    vec![
        Row {
            figure: "memory of a node of three, idle",
            mill: format!("{:.1} MB, the largest", memory as f64 / 1e6),
            peer: String::new(),
            aim: "at most 35 MB",
            met: Some(memory <= 35_000_000),
        },
        Row {
            figure: "processor time of a node of three, idle",
            mill: format!("{most:.2} % of a core, the largest"),
            peer: String::new(),
            aim: "at most 0.5 %",
            met: Some(most <= 0.5),
        },
    ]
}
