//! `docs/workflows/allocation-leak.md`: after much that went well and much that didn't, each node
//! has what the state says, and nothing else.

use crate::poll::poll;
use crate::support::{Fault, Followed, Inventory, TestCluster, TestDaemon, files};
use mill::limits;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PORTS: [(&str, u16); 2] = [("hello", 8080), ("other", 8081)];

#[test]
fn allocation_leak() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let file = Files::of(&cluster);
    deployments(&cluster, &file);
    restarts_and_tasks(&cluster, &file);
    killed_daemons(&mut cluster, &file);
    lost_nodes(&mut cluster, &file);
    many_revisions(&cluster);

    // Something of each kind is left, and only that.
    let _ = cluster.node(1).up(&file.hello("v2", 4)).ok();
    equal(&cluster, 4 + 2);
    records_are_bounded(&cluster);
    for n in 1..=3 {
        logs_are_of_the_state(&cluster, n);
    }
    let _ = cluster.node(2).mill(["down", "--all", "--yes"]).ok();
    equal(&cluster, 0);
}

/// The files that are deployed.
struct Files {
    hello: String,
    busybox: String,
    crash: String,
}

impl Files {
    fn of(cluster: &TestCluster) -> Self {
        let image = |name: &str| cluster.image(name);
        Self { hello: image("hello"), busybox: image("busybox:v1"), crash: image("crash:v1") }
    }

    fn hello(&self, version: &str, replicas: u32) -> String {
        let file = files::hello(&format!("{}:{version}", self.hello), replicas);
        file.replace("health", "publish 8080\n    update max-parallel=3\n    health")
    }

    /// As above, with an image or a health check that fails.
    fn broken(&self, image: &str) -> String {
        let file = self.hello("v1", 3).replace(&format!("{}:v1", self.hello), image);
        file.replace("max-parallel=3", "max-parallel=3 healthy-deadline=\"2s\"")
    }

    fn other(&self, version: &str) -> String {
        let more = format!(
            "port 8080; publish 8081; replicas 2; volume \"scratch\" path=\"/scratch\" \
             ephemeral=#true; env {{ V \"{version}\" }}; health \"/\" interval=\"1s\""
        );
        let quick = "echo $V > /tmp/v; exit 0";
        let tasks = [
            files::task("quick", &self.busybox, quick, "env { V \"1\" }"),
            files::task("long", &self.busybox, "exec sleep 1000", "stop grace=\"1s\""),
        ];
        files::service("other", &format!("{}:v1", self.hello), &more) + &tasks.concat()
    }
}

/// On every node what the state says, with so many containers in all.
#[track_caller]
fn equal(cluster: &TestCluster, containers: usize) {
    let settled = || {
        let all = cluster.node(1).api().get("/v1/allocations");
        let all = all.as_array().unwrap();
        let passing = ["pending", "pulling", "starting", "backoff", "stopping"];
        let is_passing = |one: &&Value| passing.contains(&one["status"].as_str().unwrap());
        let running = all.iter().filter(|one| one["status"] == "running").count();
        let passing: Vec<&Value> = all.iter().filter(is_passing).collect();
        if passing.is_empty() && running == containers { Ok(()) } else { Err(all.clone()) }
    };
    poll(settled).secs(60).expect("all at rest");
    for n in 1..=3 {
        let node = cluster.node(n);
        let same = || {
            let wanted = Inventory::wanted(node, &format!("n{n}"), &PORTS.into());
            let differs = Inventory::of(node).differences(&wanted);
            if differs.is_empty() { Ok(()) } else { Err(differs) }
        };
        poll(same).secs(40).expect(&format!("on n{n} what the state says"));
    }
}

/// Good and failed ones, more replicas and fewer, an app that goes and comes.
fn deployments(cluster: &TestCluster, file: &Files) {
    let _ = cluster.node(1).up(&file.hello("v1", 3)).ok();
    let _ = cluster.node(2).up(&file.other("a")).ok();
    let _ = cluster.node(3).up(&file.hello("v2", 5)).ok();
    for (n, image) in [&file.crash, &file.busybox].into_iter().enumerate() {
        let _ = cluster.node(n + 1).up(&file.broken(image)).code(1);
    }
    let no_program = file.other("b").replace("port 8080;", "port 8080; command \"/no/such\";");
    let _ = cluster.node(1).up(&no_program).code(1);
    let _ = cluster.node(3).mill(["scale", "hello", "1"]).ok();
    let _ = cluster.node(3).mill(["scale", "hello", "6"]).ok();
    let _ = cluster.node(2).mill(["down", "other"]).ok();
    let _ = cluster.node(2).up(&file.other("c")).ok();
    let _ = cluster.node(1).mill(["rollback", "--app", "hello"]).ok();
    let _ = cluster.node(1).mill(["scale", "hello", "3"]).ok();
    equal(cluster, 3 + 2);
}

/// By a person, by the program's end; runs that end, are killed, or wait; processes inside.
fn restarts_and_tasks(cluster: &TestCluster, file: &Files) {
    let node = cluster.node(2);
    let _ = node.mill(["restart", "hello"]).ok();
    let all = node.allocations("other");
    let running = |one: &&Value| one["status"] == "running";
    let id = all.iter().find(running).unwrap()["id"].as_str().unwrap().to_owned();
    let _ = node.mill(["restart", &id]).ok();
    let again = || node.api().get(&format!("/v1/allocations/{id}"))["health"] == "healthy";
    poll(again).secs(30).expect("its next attempt");
    let _ = node.mill(["exec", &id, "--", "sh", "-c", "exit 3"]).code(3);
    let left =
        Followed::start(node.command(["exec", &id, "--", "sh", "-c", "echo up; sleep 1000"]));
    left.until("up");
    let post = |body: Value| node.api().request("POST", "/v1/tasks").json(&body).send();
    let runs: Vec<Value> = (0..12)
        .map(|n| {
            post(json!({"task": if n % 3 == 0 { "long" } else { "quick" }})).status(202).json()
        })
        .collect();
    let image = json!({"image": file.crash, "memory": 32_000_000});
    let _ = post(image).status(202);
    for run in runs.iter().filter(|run| run["name"] == "long") {
        let path = format!("/v1/tasks/{}", run["id"].as_str().unwrap());
        let killed = node.api().request("DELETE", &path).send();
        assert!(killed.status < 300, "{killed:?}");
    }
    drop(left);
    poll(|| node.api().get("/v1/tasks?all=false") == json!([])).secs(60).expect("all runs over");
    equal(cluster, 3 + 2);
}

/// In the middle of a deployment; containerd too.
fn killed_daemons(cluster: &mut TestCluster, file: &Files) {
    for (n, version) in [(1, "v2"), (2, "v1"), (3, "v2")] {
        let asked = n % 3 + 1;
        let path = cluster.node(asked).file("next.mill", &file.hello(version, 3));
        let up = ["up", "--detach", path.to_str().unwrap()];
        let _ = cluster.node(asked).mill(up).ok();
        cluster.strike(n, Fault::Kill);
        if n == 2 {
            kill_containerd(cluster.node(n));
        }
        cluster.undo(n, Fault::Kill);
        let over = || {
            let api = cluster.node(asked).api();
            let answer = api
                .request("GET", "/v1/deployments?limit=1")
                .try_send()
                .ok()
                .filter(|answer| answer.status == 200);
            answer.is_some_and(|answer| answer.json()[0]["status"] != "running")
        };
        poll(over).secs(60).expect("the deployment's end");
    }
    equal(cluster, 3 + 2);
}

fn kill_containerd(node: &TestDaemon) {
    let left = node.leftovers();
    let is_it = |line: &&String| line.contains("containerd --config");
    let line = left.iter().find(is_it).expect("containerd");
    let id = line.split(' ').nth(1).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::SIGKILL).unwrap();
}

/// What they had is made anew elsewhere; back again, they have what the state gives them now.
fn lost_nodes(cluster: &mut TestCluster, file: &Files) {
    let lost = cluster.follower();
    cluster.strike(lost, Fault::Partition);
    let name = format!("n{lost}");
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let asked = cluster.leader();
    let _ = cluster.node(asked).up(&file.hello("v1", 3)).ok();
    cluster.undo(lost, Fault::Partition);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(30).expect("it is back");
    equal(cluster, 3 + 2);
}

/// Faster than any of them is carried out: each takes the place of the one before.
fn many_revisions(cluster: &TestCluster) {
    let node = cluster.node(3);
    for n in 0..limits::REVISIONS_PER_APP + 5 {
        let api = node.api();
        let scale = api.request("POST", "/v1/services/hello/scale");
        let _ = scale.json(&json!({"replicas": n % 6 + 1})).send().status(202);
    }
}

/// What has ended is known for a while, and bounded.
fn records_are_bounded(cluster: &TestCluster) {
    let node = cluster.node(2);
    let ended = ["stopped", "failed", "lost"];
    for (name, _) in PORTS {
        let all = node.allocations(name);
        let ended = all.iter().filter(|one| ended.contains(&one["status"].as_str().unwrap()));
        let count = ended.count();
        assert!((1..=limits::ENDED_PER_SERVICE).contains(&count), "{name}: {count} of {all:#?}");
    }
    let revisions = node.api().get("/v1/deployments?limit=1000&app=hello");
    // And the last stable one, which may be older than all of these.
    let kept = revisions.as_array().unwrap().len();
    assert!((limits::REVISIONS_PER_APP..=limits::REVISIONS_PER_APP + 1).contains(&kept), "{kept}");
    assert!(node.api().get("/v1/events").as_array().unwrap().len() <= limits::EVENTS_KEPT);
    let runs = node.api().get("/v1/tasks");
    assert_eq!(runs.as_array().map(Vec::len), Some(13), "{runs}");
}

/// Logs outlive their allocations; each is of one that was there, and none that lives lacks one.
fn logs_are_of_the_state(cluster: &TestCluster, n: usize) {
    let node = cluster.node(n);
    let there: BTreeSet<String> = std::fs::read_dir(node.data().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let all = node.api().get("/v1/allocations");
    let known: BTreeMap<&str, &Value> =
        all.as_array().unwrap().iter().map(|one| (one["id"].as_str().unwrap(), one)).collect();
    let here = format!("n{n}");
    for (id, one) in known.iter().filter(|(_, one)| one["status"] == "running") {
        assert_eq!(there.contains(*id), one["node"] == *here, "{id} on {here}: {there:?}");
    }
    let names = ["hello-", "other-", "quick-", "long-", "crash-"];
    assert!(there.iter().all(|id| names.iter().any(|name| id.starts_with(name))), "{there:?}");
}
