//! Whatever works on one node works for a replica on any other: logs, exec, cp, figures.

use crate::exec::Terminal;
use crate::poll::poll;
use crate::port_forward::Forward;
use crate::support::{Fault, Outcome, TestCluster, files};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// The id of the replica of `web` on a node.
fn replica(cluster: &TestCluster, n: usize) -> String {
    let all = cluster.node(1).allocations("web");
    let on = |one: &&Value| one["node"] == format!("n{n}") && one["status"] == "running";
    all.iter().find(on).expect("a replica")["id"].as_str().unwrap().to_owned()
}

/// A command that is followed: its lines as they come.
fn follow(cluster: &TestCluster, n: usize, args: &[&str]) -> (Child, Receiver<String>) {
    let mut command = cluster.node(n).command(args);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

/// Waits for a line that fits; gives those before it too.
#[track_caller]
fn until(lines: &Receiver<String>, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    let there = || {
        while let Ok(line) = lines.try_recv() {
            let found = fits(&line);
            seen.push(line);
            if found {
                return true;
            }
        }
        false
    };
    poll(there).secs(40).expect("the line");
    seen
}

/// The numbers that a replica counted, in the lines of `--json`.
fn counted(lines: &[String], id: &str) -> Vec<u64> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = lines.filter(|line| line["allocation"] == id && line["stream"] == "stdout");
    own.map(|line| line["line"].as_str().unwrap()[5..].parse().unwrap()).collect()
}

fn mill(cluster: &TestCluster, n: usize, args: &[&str]) -> Outcome {
    cluster.node(n).mill(args)
}

#[test]
fn a_replica_on_any_node_is_reached_from_any_other() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let script = "i=0; while :; do i=$((i+1)); echo line $i; usleep 100000; done";
    let more = format!("replicas 3; stop grace=\"1s\"; command \"/bin/sh\" \"-c\" #\"{script}\"#");
    let _ = cluster.node(1).up(&files::service("web", &cluster.image("busybox:v1"), &more)).ok();
    let third = replica(&cluster, 3);
    figures(&cluster);
    history(&cluster);
    programs(&cluster, &third);
    terminals(&cluster, &third);
    ports(&cluster, &third);
    copies(&cluster, &third);
    streams_outlive_the_leader(&mut cluster);
    a_node_that_is_cut_off_is_told(&mut cluster);
    a_node_that_stands_still_is_told(&mut cluster);
}

fn figures(cluster: &TestCluster) {
    for n in 1..=3 {
        let all_used = || {
            let used = cluster.node(n).allocations("web");
            let nodes = cluster.node(n).api().get("/v1/nodes");
            let has = |one: &Value| one["memory"]["used"].as_u64().is_some_and(|used| used > 0);
            used.iter().all(has) && nodes.as_array().unwrap().iter().all(has)
        };
        poll(all_used).secs(30).expect("figures of all nodes");
    }
    let status = mill(cluster, 2, &["status", "--json"]).json();
    assert!(status["services"][0]["allocations"][0]["cpu"]["used"].is_number(), "{status}");
    // A node's metrics are its own.
    let metrics = cluster.node(2).api().request("GET", "/v1/metrics").send().body;
    let memory = metrics.lines().filter(|line| line.starts_with("mill_alloc_memory_bytes{"));
    assert_eq!(memory.count(), 1, "{metrics}");
    vitals(cluster);
}

/// What each node says of the cluster, and of itself.
fn vitals(cluster: &TestCluster) {
    let (mut leaders, mut terms) = (0.0, Vec::new());
    for n in 1..=3 {
        let text = cluster.node(n).api().request("GET", "/v1/metrics").send().body;
        let value = |name: &str| {
            let is_it =
                |line: &&str| line.split(' ').next().unwrap().trim_end_matches("{}") == name;
            let line = text.lines().find(is_it);
            let line = line.unwrap_or_else(|| panic!("no {name} on n{n}: {text}"));
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
        };
        for node in ["n1", "n2", "n3"] {
            assert_eq!(value(&format!("mill_node_up{{node=\"{node}\"}}")), 1.0);
            assert!(value(&format!("mill_node_cpu_available{{node=\"{node}\"}}")) > 0.0);
            let memory = format!("mill_node_memory_available_bytes{{node=\"{node}\"}}");
            assert!(value(&memory) > 1e6);
        }
        for actor in ["root", "raft", "peer", "container", "scheduler", "api"] {
            let waits = format!("mill_actor_mailbox_seconds_count{{actor=\"{actor}\"}}");
            assert!(value(&waits) >= 1.0, "{actor}");
            if !["root", "raft"].contains(&actor) {
                let restarts = format!("mill_actor_restarts_total{{actor=\"{actor}\"}}");
                assert_eq!(value(&restarts), 0.0);
            }
        }
        assert!(value("mill_raft_commit_seconds_count") >= 1.0);
        leaders += value("mill_raft_is_leader");
        terms.push(value("mill_raft_term"));
    }
    assert_eq!(leaders, 1.0);
    assert!(terms[0] >= 1.0 && terms.iter().all(|term| *term == terms[0]), "{terms:?}");
}

fn history(cluster: &TestCluster) {
    let out = mill(cluster, 2, &["logs", "web", "--json", "-n", "60"]).ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 60);
    let times: Vec<&str> = lines.iter().map(|line| line["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    for node in ["n1", "n2", "n3"] {
        assert!(lines.iter().any(|line| line["node"] == node), "{node}: {lines:?}");
    }
    let third = replica(cluster, 3);
    let own = mill(cluster, 1, &["logs", &third, "--since", "1s"]).ok();
    assert!(own.lines().count() > 3 && own.lines().all(|line| line.contains(&third)), "{own}");
    let _ = mill(cluster, 1, &["logs", "nobody"]).code(1).says("nobody");
}

fn programs(cluster: &TestCluster, id: &str) {
    let script = "echo $MILL_NODE; echo oops >&2; exit 7";
    let done = mill(cluster, 1, &["exec", id, "--", "sh", "-c", script]).code(7);
    assert_eq!((&*done.stdout, &*done.stderr), ("n3\n", "oops\n"));
    let _ = mill(cluster, 1, &["exec", id, "--", "no-such"]).code(127).says("isn't in the image");
    let _ = mill(cluster, 1, &["exec", id]).code(2).says("Which program?");
    let tty = ["exec", "-t", id, "--", "sh", "-c", "test -t 1 && echo yes"];
    assert_eq!(mill(cluster, 1, &tty).ok().trim(), "yes");
    // Input goes there whole and comes back whole, as fast as it is taken.
    let mut command = cluster.node(1).command(["exec", "-i", id, "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut input, copy) = (child.stdin.take().unwrap(), sent.clone());
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == sent, "{}", output.stdout.len());
    // Whoever leaves ends what was begun there.
    let sleep = ["exec", id, "--", "sleep", "4242"];
    let mut gone = cluster.node(1).command(sleep).spawn().unwrap();
    let runs = || {
        let left = cluster.node(3).leftovers();
        left.iter().any(|line| line.contains("sleep 4242") && !line.contains("mill exec"))
    };
    poll(runs).secs(20).expect("the program to run");
    gone.kill().unwrap();
    gone.wait().unwrap();
    poll(|| !runs()).secs(20).expect("the program to end with its client");
}

/// A port of a container on the third node, by the first.
fn ports(cluster: &TestCluster, id: &str) {
    let listen = ["exec", id, "--", "nc", "-ll", "-p", "4000", "-e", "cat"];
    let mut listens = cluster.node(1).command(listen).spawn().unwrap();
    let open = Forward::start(cluster.node(1).command(["port-forward", "--json", id, "0:4000"]));
    poll(|| open.echo(b"far away") == b"far away").secs(20).expect("the port to answer");
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    assert!(open.echo(&sent) == sent, "all of it comes back");
    listens.kill().unwrap();
    listens.wait().unwrap();
    assert_eq!(open.interrupt().0, Some(130));
}

fn terminals(cluster: &TestCluster, id: &str) {
    let mut terminal = Terminal::start(cluster.node(1), &["-it", id, "--", "sh"]);
    terminal.enter("echo at:$MILL_NODE:$(stty size)\r");
    terminal.shows("at:n3:30 90");
    terminal.resize(11, 44);
    terminal.enter("until [ \"$(stty size)\" = \"11 44\" ]; do :; done; echo resi''zed\r");
    terminal.shows("resized");
    terminal.enter("exit 9\r");
    assert_eq!(terminal.code(), Some(9));
}

fn copies(cluster: &TestCluster, id: &str) {
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    let local = cluster.node(1).file("there", "");
    fs::write(&local, &bytes).unwrap();
    let back = local.with_file_name("back");
    let there = format!("{id}:/tmp/there");
    let _ = mill(cluster, 1, &["cp", local.to_str().unwrap(), &there]).ok();
    let _ = mill(cluster, 1, &["cp", &there, back.to_str().unwrap()]).ok();
    assert!(fs::read(&back).unwrap() == bytes);
    let missing = format!("{id}:/no/such");
    let _ = mill(cluster, 1, &["cp", &missing, "."]).code(1).says("no file /no/such");
    let _ = mill(cluster, 1, &["cp", local.to_str().unwrap(), &missing]).code(2).says("/no");
}

/// The leader's process dies while another node follows the third's lines.
fn streams_outlive_the_leader(cluster: &mut TestCluster) {
    let leader = cluster.leader();
    let [asked, other] = match leader {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    };
    let id = replica(cluster, other);
    let (mut child, lines) = follow(cluster, asked, &["logs", &id, "-f", "-n", "1", "--json"]);
    let first = until(&lines, |line| line.contains("\"line "));
    cluster.node_mut(leader).kill();
    let told = until(&lines, {
        let last = counted(&first, &id)[0] + 150;
        move |line| line.contains(&format!("\"line {last}\""))
    });
    let all: Vec<u64> = counted(&[first, told].concat(), &id);
    assert!(all.windows(2).all(|two| two[1] == two[0] + 1), "{all:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    cluster.node_mut(leader).restart();
    let ready = || cluster.names_with("status", "ready").len() == 3;
    poll(ready).secs(30).expect("all nodes ready");
}

/// More replicas, so that every node has one again: those of a node that was away may have moved.
fn spread(cluster: &TestCluster, replicas: &str) {
    let ready = || cluster.names_with("status", "ready").len() == 3;
    poll(ready).secs(30).expect("all nodes ready");
    let _ = cluster.node(1).mill(["scale", "web", replicas]).ok();
    let on = |n: usize| {
        let all = cluster.node(1).allocations("web");
        all.iter().any(|one| one["node"] == format!("n{n}") && one["health"] == "healthy")
    };
    poll(|| (1..=3).all(on)).secs(30).expect("a replica on each node");
}

/// In the middle of a stream, of a program, and asked anew.
fn a_node_that_is_cut_off_is_told(cluster: &mut TestCluster) {
    spread(cluster, "6");
    let leader = cluster.leader();
    let [asked, cut] = match leader {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    };
    let id = replica(cluster, cut);
    let (mut logs, lines) = follow(cluster, asked, &["logs", "web", "-f", "-n", "1", "--json"]);
    let mut seen = until(&lines, |line| line.contains(&id));
    let mut exec = cluster.node(asked).command(["exec", &id, "--", "sleep", "4243"]);
    let exec = exec.stderr(Stdio::piped()).spawn().unwrap();
    let runs = || cluster.node(cut).leftovers().iter().any(|line| line.contains("sleep 4243"));
    poll(runs).secs(20).expect("the program to run");
    cluster.hub().cut(cut);
    let name = format!("n{cut}");
    let told = [format!("{name} can't be reached"), format!("{name} has been silent for ")];
    seen.extend(until(&lines, |line| told.iter().any(|words| line.contains(words))));
    let ended = exec.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(125) && said.contains("broke off"), "{said}");
    let down = || cluster.names_with("status", "down") == [name.clone()];
    poll(down).secs(30).expect("the node to be taken for down");
    let words = format!("{name} has been silent for ");
    let out = mill(cluster, asked, &["exec", &id, "--", "true"]);
    let _ = out.code(125).says(&words);
    let missing = mill(cluster, asked, &["logs", &id]).code(0).stderr;
    assert!(missing.contains(&words) && missing.contains("missing"), "{missing}");
    let local = cluster.node(asked).file("small", "small");
    let there = format!("{id}:/tmp/small");
    let _ = mill(cluster, asked, &["cp", local.to_str().unwrap(), &there]).code(1).says(&words);
    let mine = replica(cluster, asked);
    let _ = mill(cluster, asked, &["exec", &mine, "--", "true"]).ok();
    // Healed, its lines go on where they broke off: none is missing, none comes twice.
    cluster.hub().heal(cut);
    seen.extend(until(&lines, |line| line.contains("answers again")));
    seen.extend(until(&lines, |line| line.contains(&id)));
    logs.kill().unwrap();
    logs.wait().unwrap();
    let all = counted(&seen, &id);
    assert!(all.windows(2).all(|two| two[1] == two[0] + 1), "{all:?}");
}

/// Its process stands still, and its system answers for it: what is under way ends once the node
/// counts as down.
fn a_node_that_stands_still_is_told(cluster: &mut TestCluster) {
    spread(cluster, "9");
    let asked = cluster.leader();
    let still = if asked == 3 { 2 } else { 3 };
    let (name, id) = (format!("n{still}"), replica(cluster, still));
    let (mut logs, lines) = follow(cluster, asked, &["logs", "web", "-f", "-n", "1", "--json"]);
    let mut seen = until(&lines, |line| line.contains(&id));
    let mut exec = cluster.node(asked).command(["exec", &id, "--", "sleep", "4244"]);
    let exec = exec.stderr(Stdio::piped()).spawn().unwrap();
    let runs = || cluster.node(still).leftovers().iter().any(|line| line.contains("sleep 4244"));
    poll(runs).secs(20).expect("the program to run");
    cluster.strike(still, Fault::Pause);
    let words = format!("{name} has been silent for ");
    seen.extend(until(&lines, |line| line.contains(&words)));
    let ended = exec.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(125) && said.contains(&words), "{said}");
    cluster.undo(still, Fault::Pause);
    seen.extend(until(&lines, |line| line.contains("answers again")));
    logs.kill().unwrap();
    logs.wait().unwrap();
    let all = counted(&seen, &id);
    assert!(all.windows(2).all(|two| two[1] == two[0] + 1), "{all:?}");
}
