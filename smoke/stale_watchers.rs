//! `docs/workflows/stale-watchers.md`: who watches on a node that was cut off, or down, for so long
//! that it is caught up by a snapshot.

use crate::poll::poll;
use crate::support::{Api, Event, Followed, Heard, TestCluster, TestDaemon, files};
use mill::limits;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Entries that are kept for those who are slightly behind, and some more.
const ENTRIES: u64 = limits::ENTRIES_KEPT + 100;
/// Large ones, of some 19 KB each: a snapshot is taken after so much.
const LARGE: u64 = limits::SNAPSHOT_BYTES / 18_000;
/// More events than are kept: two of each.
const TOKENS: u64 = limits::EVENTS_KEPT as u64 / 2 + 50;
const WRITERS: usize = 64;

#[test]
fn stale_watchers() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let leader = cluster.leader();
    let stale = cluster.follower();
    let third = (1..=3).find(|n| *n != leader && *n != stale).unwrap();
    deploy(&cluster, [leader, stale]);
    cut_off(&cluster, leader, stale);
    down(&mut cluster, third, stale);
}

/// Counting replicas everywhere, and on the node that will be behind two that stay there and one
/// that goes.
fn deploy(cluster: &TestCluster, [leader, stale]: [usize; 2]) {
    let node = cluster.node(leader);
    let _ = node.mill(["label", &format!("n{leader}"), "at=leader"]).ok();
    let _ = node.mill(["label", &format!("n{stale}"), "at=stale"]).ok();
    let image = cluster.image("busybox:v1");
    let count = "i=0; while :; do i=$((i+1)); echo line $i; usleep 200000; done";
    let script = |text: &str, more: &str| {
        format!("stop grace=\"1s\"; command \"sh\" \"-c\" #\"{text}\"#; {more}")
    };
    let here = "constraint \"at\" \"stale\"";
    for (name, more) in [
        ("count", script(count, "replicas 3")),
        ("stays", script("exec sleep 9101", &format!("replicas 2; {here}"))),
        ("goes", script("exec sleep 9102", here)),
    ] {
        let _ = node.up(&files::service(name, &image, &more)).ok();
    }
}

/// Writes so much to the log that it is compacted beyond what a node has that was not there.
fn grow(node: &TestDaemon, n: usize) {
    // Refused when they are applied: entries as any others, of which nothing is to be told.
    let path = format!("/v1/nodes/n{n}/undrain");
    all_at_once(node, ENTRIES, |api| _ = api.request("POST", &path).send().status(409));
    let labels = |value: Value| {
        let labels = (0..60).map(|i| (format!("{i:0>60}"), value.clone()));
        json!({ "labels": labels.collect::<serde_json::Map<_, _>>() })
    };
    let (full, none) = (labels("x".repeat(250).into()), labels(Value::Null));
    let path = format!("/v1/nodes/n{n}");
    let label = |api: &Api, body: &Value| {
        let _ = api.request("PATCH", &path).json(body).send().status(200);
    };
    all_at_once(node, LARGE, |api| label(api, &full));
    label(&node.api(), &none);
}

/// Two events each.
fn tokens(node: &TestDaemon) {
    all_at_once(node, TOKENS, |api| {
        let made = api.request("POST", "/v1/tokens").json(&json!({"role": "read"})).send();
        let id = made.status(201).json()["id"].as_str().unwrap().to_owned();
        let gone = api.request("DELETE", &format!("/v1/tokens/{id}")).send();
        assert!(gone.status < 300, "{gone:?}");
    });
}

/// Does something so many times, by many clients.
fn all_at_once(node: &TestDaemon, times: u64, one: impl Fn(&Api) + Sync) {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let api = node.api();
                while next.fetch_add(1, Ordering::SeqCst) < times {
                    one(&api);
                }
            });
        }
    });
    println!("{times} times in {:?}", begun.elapsed());
}

fn ids(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.id.parse().unwrap()).collect()
}

/// Up to where the snapshot goes that the node took over last.
fn taken_over(node: &TestDaemon) -> u64 {
    let log = node.log();
    let last = log.lines().rfind(|line| line.contains("a snapshot is taken over"));
    let index = last.and_then(|line| line.split("index=").nth(1)?.split(' ').next());
    index.map_or(0, |index| index.parse().unwrap())
}

/// Up to where the node's state goes.
fn index(node: &TestDaemon) -> u64 {
    let answer = node.api().request("GET", "/v1/nodes").send().status(200);
    answer.header("mill-index").unwrap().parse().unwrap()
}

/// The newest event's id.
fn newest(node: &TestDaemon) -> u64 {
    node.api().get("/v1/events?limit=1")[0]["id"].as_u64().unwrap()
}

/// Cut off in the middle of a deployment, which goes on without the node.
fn cut_off(cluster: &TestCluster, leader: usize, stale: usize) {
    let (node, behind) = (cluster.node(leader), cluster.node(stale));
    let path = node.file("gated.mill", &gated(cluster));
    let _ = node.mill(["up", "--detach", path.to_str().unwrap()]).ok();
    let revision = node.mill(["history", "--json"]).json()[0]["revision"].clone();
    let steps = format!("/v1/deployments/{revision}/events");
    let gate = || node.api().get("/v1/tasks?name=gate")[0].clone();
    poll(|| gate()["status"] == "running").secs(30).expect("the gate");
    let run = gate()["id"].as_str().unwrap().to_owned();

    poll(|| newest(behind) == newest(node)).secs(20).expect("the same events");
    let events = Heard::start(behind.api().request("GET", "/v1/events?follow=true").events());
    let followed = Heard::start(behind.api().request("GET", &steps).events());
    let lines = Followed::start(behind.command(["logs", "-f", "count", "-n", "1", "--json"]));
    lines.until("line ");
    let begun = || followed.events().iter().any(|event| event.data["phase"] == "started");
    poll(begun).secs(20).expect("the deployment's begin");

    cluster.hub().cut(stale);
    let before = index(behind);
    // Its program may be over before this one is.
    let _ = node.mill(["exec", &run, "--", "touch", "/tmp/end"]);
    let _ = node.mill(["up", "--attach", &revision.to_string()]).ok();
    grow(node, leader);
    cluster.hub().heal(stale);

    poll(|| taken_over(behind) > before).secs(40).expect("a snapshot to be taken over");
    same_views(cluster, leader, stale);
    // The streams went on over it: whole, each event once.
    poll(|| followed.ended()).secs(40).expect("the deployment's end");
    let whole: Vec<Event> = node.api().request("GET", &steps).events().collect();
    assert_eq!(told(&followed.events()), told(&whole));
    let middle = whole[whole.len() / 2].id.clone();
    let resumed = behind.api();
    let resumed = resumed.request("GET", &steps).header("Last-Event-ID", &middle).events();
    let resumed: Vec<Event> = resumed.collect();
    assert_eq!(told(&resumed), told(&whole[whole.len() / 2 + 1..]));
    let last = newest(node);
    poll(|| ids(&events.events()).last() >= Some(&last)).secs(40).expect("the newest event");
    let all = ids(&events.events());
    assert!(all.iter().copied().eq(all[0]..all[0] + all.len() as u64), "{all:?}");
    each_line_once(behind, &lines);
}

/// A deployment that waits for a task, which waits for a file.
fn gated(cluster: &TestCluster) -> String {
    let image = cluster.image("busybox:v1");
    let here = "constraint \"at\" \"leader\"";
    let more =
        format!("before-deploy \"gate\"; {here}; stop grace=\"1s\"; command \"sleep\" \"9103\"");
    let wait = "while ! [ -e /tmp/end ]; do sleep 0.1; done";
    format!("{}{}", files::service("gated", &image, &more), files::task("gate", &image, wait, here))
}

/// What a deployment's events tell, but for figures of pulls, which only the puller's node has.
fn told(events: &[Event]) -> Vec<(String, String, Value)> {
    let steps = events.iter().filter(|event| event.data["phase"] != "pulling");
    let part = |event: &Event| {
        let field = |name: &str| event.data[name].clone();
        let data = json!([field("phase"), field("service"), field("allocation"), field("success")]);
        (event.id.clone(), event.name.clone(), data)
    };
    steps.map(part).collect()
}

/// No line of a replica is missing and none comes twice, from the first that was told of it.
fn each_line_once(node: &TestDaemon, lines: &Followed) {
    let seen = || {
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in lines.lines() {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            if line["stream"] == "stdout" {
                let number = line["line"].as_str().unwrap()[5..].parse().unwrap();
                seen.entry(line["allocation"].as_str().unwrap().to_owned())
                    .or_default()
                    .push(number);
            }
        }
        seen
    };
    // All that goes on is told of again, and what came meanwhile is told of.
    let count = |id: &str| seen().get(id).map_or(0, Vec::len);
    let mut before = BTreeMap::new();
    let grown = || {
        let all = node.api().get("/v1/allocations");
        let of_count = |one: &&Value| one["name"] == "count" && one["status"] == "running";
        let now = all.as_array().unwrap().iter().filter(of_count);
        let now: Vec<String> = now.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        let grew = |id: &String| {
            let lines = count(id);
            lines > *before.entry(id.clone()).or_insert(lines)
        };
        let grown: Vec<bool> = now.iter().map(grew).collect();
        if grown == [true; 3] { Ok(()) } else { Err((now, grown)) }
    };
    poll(grown).secs(40).expect("further lines of three replicas");
    for (id, numbers) in seen() {
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{id}: {numbers:?}");
    }
}

/// Both show the same, but for what is measured.
#[track_caller]
fn same_views(cluster: &TestCluster, one: usize, other: usize) {
    let view = |n: usize, path: &str| {
        let answer = cluster.node(n).api().request("GET", path).send();
        assert_eq!(answer.status, 200, "{answer:?}");
        let fresh = answer.header("mill-stale").is_none();
        let mut all = answer.json();
        for one in all.as_array_mut().unwrap().iter_mut().filter_map(Value::as_object_mut) {
            one.retain(|field, _| !["cpu", "memory", "mesh", "traffic"].contains(&field.as_str()));
            if let Some(Value::Array(inner)) = one.get_mut("allocations") {
                for one in inner.iter_mut().filter_map(Value::as_object_mut) {
                    one.retain(|field, _| !["cpu", "memory", "traffic"].contains(&field.as_str()));
                }
            }
        }
        (fresh, all)
    };
    for path in ["/v1/nodes", "/v1/services", "/v1/allocations", "/v1/deployments", "/v1/tasks"] {
        let same = || {
            let (there, here) = (view(one, path), view(other, path));
            if there.0 && there == here { Ok(()) } else { Err((there, here)) }
        };
        poll(same).secs(60).expect(path);
    }
}

/// The daemon is down, its containers run on, and what it should run changes.
fn down(cluster: &mut TestCluster, other: usize, stale: usize) {
    let behind = cluster.node(stale);
    let settled = || running(behind, "stays").len() == 2 && running(behind, "goes").len() == 1;
    poll(settled).secs(40).expect("what belongs there");
    let kept = running(behind, "stays");
    let events = Followed::start(behind.command(["events", "-f", "-n", "1", "--json"]));
    let table = Followed::start(behind.command(["ps", "--watch", "stays"]));
    events.until("\"id\"");
    table.until("stays-0-");
    let programs = |cluster: &TestCluster, text: &str| {
        let left = cluster.node(stale).leftovers();
        left.iter().filter(|l| l.starts_with("process ") && l.contains(text)).count()
    };
    let before = index(behind);
    cluster.node_mut(stale).kill();
    assert_eq!((programs(cluster, "sleep 9101"), programs(cluster, "sleep 9102")), (2, 1));

    let node = cluster.node(other);
    let scale = node.api();
    let scale = scale.request("POST", "/v1/services/stays/scale").json(&json!({"replicas": 1}));
    let _ = scale.send().status(202);
    let _ = node.api().request("DELETE", "/v1/services/goes").send().status(202);
    tokens(node);
    grow(node, other);
    cluster.node_mut(stale).restart();

    let node = cluster.node(other);
    let behind = cluster.node(stale);
    poll(|| taken_over(behind) > before).secs(40).expect("a snapshot to be taken over");
    let left = || {
        let left = (programs(cluster, "sleep 9101"), programs(cluster, "sleep 9102"));
        if left == (1, 0) { Ok(()) } else { Err(left) }
    };
    poll(left).secs(60).expect("only what the snapshot says");
    same_views(cluster, other, stale);
    // The one that stays is the same container, not another of its name.
    let now = running(behind, "stays");
    assert!(now.len() == 1 && kept.is_superset(&now), "{kept:?} {now:?}");
    let _ = node.mill(["label", &format!("n{other}"), "turn=over"]).ok();
    events.until("turn=over");
    missed_is_told(&events);
    let gone = kept.difference(&now).next().unwrap().0.clone();
    let shown = || {
        let lines = table.lines();
        let from = lines.iter().rposition(|line| line.starts_with("ID ")).unwrap();
        let last = lines[from..].join("\n");
        if last.contains(&now.first().unwrap().0) && !last.contains(&gone) {
            Ok(())
        } else {
            Err(lines)
        }
    };
    poll(shown).secs(40).expect("the table as it is now");
}

/// Running replicas of a service, each with when it started.
fn running(node: &TestDaemon, service: &str) -> BTreeSet<(String, String)> {
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    let all = node.allocations(service).into_iter().filter(|one| one["status"] == "running");
    all.map(|one| (text(&one, "id"), text(&one, "started_at"))).collect()
}

/// Ids count up by one, but where it is told how many are missing.
fn missed_is_told(events: &Followed) {
    let lines = events.lines();
    let all: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut gaps = 0;
    for two in all.windows(2) {
        let [before, after] = [0, 1].map(|n| two[n]["id"].as_u64().unwrap());
        if after == before + 1 {
            continue;
        }
        gaps += 1;
        let missed = after - before;
        let message = format!("{missed} events are missing: the newest 1000 are kept");
        assert_eq!(two[1]["kind"], "events-missed", "{two:?}");
        assert_eq!(two[1]["message"], *message, "{two:?}");
    }
    assert_eq!(gaps, 1, "{:?}", all.iter().map(|one| &one["id"]).collect::<Vec<_>>());
}
