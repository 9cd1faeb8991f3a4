//! `docs/workflows/task-lifecycle.md`: tasks from their start to what is left of them, asked of any
//! node, while the leader dies with a run on its machine.

use crate::poll::poll;
use crate::support::{Followed, TestCluster, TestDaemon, files};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNTIL_TOLD: &str = "echo begun; while ! [ -e /tmp/end ]; do sleep 0.1; done; exit 3";

#[test]
fn task_lifecycle() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let leader = cluster.leader();
    let rest: Vec<usize> = (1..=3).filter(|n| *n != leader).collect();
    let (asked, other) = (rest[0], rest[1]);
    deploy(&cluster, leader, other);
    let node = cluster.node(asked);

    // Two runs on two machines, and one of these, which leads, is lost.
    let doomed = spawn(node, "doomed");
    let steady = spawn(node, "steady");
    let mut waiting = Followed::start(node.command(["spawn", "doomed", "--wait"]));
    waiting.until("begun");
    let seen: BTreeSet<String> = scheduled(node).into_iter().collect();
    cluster.node_mut(leader).kill();

    // What follows goes on without it.
    let node = cluster.node(asked);
    waited_for(&cluster, asked, other);
    killed_and_out_of_time(&cluster, asked, other);
    around_a_deployment(&cluster, asked, other);
    let run = over(node, &doomed, 40);
    assert_eq!((&run["status"], &run["exit"]["reason"]), (&json!("lost"), &json!("lost")), "{run}");
    assert_eq!(waiting.end().code(), Some(125), "{:?}", waiting.lines());
    waiting.until("was lost");
    // Its program may be over before this one is.
    let _ = node.mill(["exec", &steady, "--", "touch", "/tmp/end"]);
    let run = over(node, &steady, 20);
    assert_eq!((&run["exit"]["code"], &run["exit"]["reason"]), (&json!(3), &json!("error")));
    of_an_image(&cluster, asked);
    on_time(node, &seen);

    the_lost_machine_comes_back(&mut cluster, leader, &doomed);
}

/// Tasks and a service; `doomed` runs on the node that leads, the others elsewhere.
fn deploy(cluster: &TestCluster, leader: usize, other: usize) {
    let node = cluster.node(other);
    for n in 1..=3 {
        let kind = if n == leader { "at=leader" } else { "at=rest" };
        let _ = node.mill(["label", &format!("n{n}"), kind]).ok();
    }
    let _ = node.mill(["label", &format!("n{other}"), "far=yes"]).ok();
    let _ = node.up(&file(cluster, "true")).ok();
}

fn file(cluster: &TestCluster, migrate: &str) -> String {
    let image = cluster.image("busybox:v1");
    let task = |name: &str, script: &str, more: &str| {
        let more = format!("stop grace=\"1s\"; {more}");
        files::task(name, &image, script, &more)
    };
    let greet = "echo hello $WHO; echo aside >&2; echo $MILL_TASK on $MILL_NODE; exit 7";
    let rest = "constraint \"at\" \"rest\"";
    let hooks = "constraint \"at\" \"rest\"; before-deploy \"migrate\"; after-deploy \"verify\"";
    [
        files::service("hello", &cluster.image("hello:v1"), hooks),
        task("greet", greet, "constraint \"far\" \"yes\"; env { WHO \"file\" }"),
        task("endless", "exec sleep 1000", &format!("timeout \"1s\"; {rest}")),
        task("patient", "exec sleep 1000", rest),
        task("doomed", UNTIL_TOLD, "constraint \"at\" \"leader\""),
        task("steady", UNTIL_TOLD, "constraint \"far\" \"yes\""),
        task("tick", "true", &format!("schedule \"* * * * *\"; {rest}")),
        task("migrate", migrate, rest),
        task("verify", "echo verified", rest),
    ]
    .concat()
}

fn run(node: &TestDaemon, id: &str) -> Value {
    node.api().get(&format!("/v1/tasks/{id}"))
}

/// Spawns a task and waits until it runs; its run's id.
fn spawn(node: &TestDaemon, task: &str) -> String {
    let id = node.mill(["spawn", task]).ok().trim().to_owned();
    let running =
        || Some(run(node, &id)).filter(|run| run["status"] == "running").ok_or(id.clone());
    poll(running).secs(30).expect("the task to run");
    id
}

/// Waits for the end of a run.
#[track_caller]
fn over(node: &TestDaemon, id: &str, seconds: u64) -> Value {
    let ended = || {
        let run = run(node, id);
        if run["ended_at"].is_string() { Ok(run) } else { Err(run) }
    };
    poll(ended).secs(seconds).expect("the run's end")
}

/// Asked of a node where it doesn't run: its lines where it wrote them, its code, its lines later.
fn waited_for(cluster: &TestCluster, asked: usize, other: usize) {
    let node = cluster.node(asked);
    let greeted = node.mill(["spawn", "greet", "--wait", "--env", "WHO=you"]).code(7);
    assert_eq!(greeted.stdout, format!("hello you\ngreet on n{other}\n"));
    assert_eq!(greeted.stderr, "aside\n");
    let id = node.api().get("/v1/tasks?name=greet")[0]["id"].as_str().unwrap().to_owned();
    let ended = run(node, &id);
    assert_eq!((&ended["status"], &ended["exit"]["code"]), (&json!("failed"), &json!(7)));
    for n in [asked, other] {
        for name in [id.as_str(), "greet"] {
            let lines = cluster.node(n).mill(["logs", name]).ok();
            assert!(lines.contains("hello you") && lines.contains("aside"), "n{n}: {lines}");
        }
        assert!(cluster.node(n).mill(["ps", "-a"]).ok().contains(&id));
    }
}

/// Without a file, on any node that is there.
fn of_an_image(cluster: &TestCluster, asked: usize) {
    let node = cluster.node(asked);
    let image = cluster.image("busybox:v1");
    let cases: [(&[&str], i32); 4] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 9"], 9),
        (&["/no/such"], 127),
        (&["/etc/passwd"], 126),
    ];
    for (command, code) in cases {
        let spawn = ["spawn", "--image", &image, "--memory", "32M", "--wait", "--"];
        let _ = node.mill(spawn.iter().chain(command)).code(code);
    }
    let missing = image.replace("v1", "v9");
    let _ = node.mill(["spawn", "--image", &missing, "--wait"]).code(125);
}

fn killed_and_out_of_time(cluster: &TestCluster, asked: usize, other: usize) {
    let node = cluster.node(asked);
    let _ = node.mill(["spawn", "endless", "--wait"]).code(124);
    let id = spawn(node, "patient");
    let _ = cluster.node(other).mill(["kill", &id]).ok();
    let killed = over(node, &id, 20);
    let seen = (&killed["status"], &killed["exit"]["reason"]);
    assert_eq!(seen, (&json!("stopped"), &json!("killed")), "{killed}");
    let _ = node.mill(["kill", &id]).code(1);
}

/// A task that must succeed first, and one that runs after it; the first fails once.
fn around_a_deployment(cluster: &TestCluster, asked: usize, other: usize) {
    let hello = |version: &str| format!("hello:{version}");
    let next = |script: &str| file(cluster, script).replace(&hello("v1"), &hello("v2"));
    let before = cluster.node(asked).allocations("hello");
    let failed = cluster.node(other).up(&next("echo no table; exit 4")).code(1).stdout;
    assert!(failed.contains("exited 4") && failed.contains("no table"), "{failed}");
    let after = cluster.node(asked).allocations("hello");
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]), "the old one runs on");
    let done = cluster.node(other).up(&next("echo migrated")).ok();
    let order = ["migrate-", "hello-0-", "verify-"].map(|name| done.find(&format!("\n{name}")));
    assert!(order.is_sorted() && order[0].is_some(), "{done}");
}

/// When runs of the schedule were due.
fn scheduled(node: &TestDaemon) -> Vec<String> {
    let all = node.api().get("/v1/tasks?name=tick");
    let due = all.as_array().unwrap().iter().map(|run| run["due"].as_str().unwrap().to_owned());
    due.collect()
}

/// The schedule goes on with the new leader: each minute once.
fn on_time(node: &TestDaemon, seen: &BTreeSet<String>) {
    let later = || {
        let all = scheduled(node);
        if all.iter().any(|due| !seen.contains(due)) { Ok(all) } else { Err(all) }
    };
    let all = poll(later).secs(90).expect("a run of the schedule");
    let once: BTreeSet<&String> = all.iter().collect();
    assert_eq!(once.len(), all.len(), "a minute came twice: {all:?}");
    assert!(all.iter().all(|due| due.contains(":00")), "{all:?}");
}

/// Its containers ran on; what was given up there is ended, and not told anew.
fn the_lost_machine_comes_back(cluster: &mut TestCluster, leader: usize, doomed: &str) {
    let still = |cluster: &TestCluster| {
        let left = cluster.node(leader).leftovers();
        left.iter().any(|line| line.starts_with("process ") && line.contains("/tmp/end"))
    };
    assert!(still(cluster), "a container outlives its daemon");
    let before = run(cluster.node(leader % 3 + 1), doomed);
    cluster.node_mut(leader).restart();
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(40).expect("all ready");
    poll(|| !still(cluster)).secs(40).expect("the lost run's container to be ended");
    let node = cluster.node(leader);
    let known = || {
        let answer = node.api().request("GET", &format!("/v1/tasks/{doomed}")).try_send();
        answer.is_ok_and(|answer| answer.status == 200 && answer.json() == before)
    };
    poll(known).secs(20).expect("the same run, lost as before");
    // The daemon was away; what the program wrote before and since is there.
    assert!(node.mill(["logs", doomed]).ok().contains("begun"));
}
