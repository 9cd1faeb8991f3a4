//! `docs/workflows/drain-and-remove.md`: the leader is drained while clients go on, another node
//! for a while only, and the first is removed for good.

use crate::poll::poll;
use crate::support::netns::address;
use crate::support::{Followed, TestCluster, TestDaemon, Traffic, files};
use serde_json::Value;
use std::collections::BTreeMap;

const PORT: u16 = 8080;

#[test]
fn drain_and_remove() {
    let mut cluster = TestCluster::start(4);
    cluster.await_voters(3);
    let first = cluster.leader();
    let others: Vec<usize> = (1..=4).filter(|n| *n != first).collect();
    let (asked, second) = (others[0], others[1]);
    deploy(&cluster, [first, second]);

    let traffic = Traffic::everywhere(&cluster, "patient", PORT);
    traffic.during("the drain of the leader");
    the_leader_is_drained(&cluster, first, asked);
    traffic.during("the drain of another node");
    another_is_drained_and_taken_back(&cluster, second, asked);
    traffic.end();

    removed_for_good(&mut cluster, first, asked);
}

/// Eight replicas, and a task for each of two nodes.
fn deploy(cluster: &TestCluster, nodes: [usize; 2]) {
    let node = cluster.node(nodes[0]);
    for (n, task) in nodes.iter().zip(["steady", "endless"]) {
        let _ = node.mill(["label", &name(*n), &format!("for={task}")]).ok();
    }
    let image = cluster.image("busybox:v1");
    let until_told = "while ! [ -e /tmp/end ]; do sleep 0.1; done; exit 3";
    let more = |task| format!("constraint \"for\" \"{task}\"; stop grace=\"1s\"");
    let patient = files::patient(&cluster.image("patient:v1"), PORT, 8, "v1", "")
        .replace("max-parallel=2", "max-parallel=1")
        .replace("deadline=\"3s\"", "deadline=\"60s\"");
    let file = [
        patient,
        files::task("steady", &image, until_told, &more("steady")),
        files::task("endless", &image, "exec sleep 1000", &more("endless")),
    ];
    let _ = node.up(&file.concat()).ok();
}

fn name(n: usize) -> String {
    format!("n{n}")
}

/// Spawns a task and waits until it runs; its run's id.
fn spawn(node: &TestDaemon, task: &str) -> String {
    let id = node.mill(["spawn", task]).ok().trim().to_owned();
    let path = format!("/v1/tasks/{id}");
    poll(|| node.api().get(&path)["status"] == "running").secs(30).expect("the task to run");
    id
}

/// What is live on a node, as another sees it.
fn live_on(node: &TestDaemon, n: usize) -> Vec<String> {
    let all = node.mill(["ps", "--node", &name(n), "--json"]).json();
    let all = all.as_array().unwrap().iter();
    all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn the_leader_is_drained(cluster: &TestCluster, first: usize, asked: usize) {
    let node = cluster.node(asked);
    let first_name = name(first);
    let _ = node.mill(["remove", &first_name, "--yes"]).code(1).says("mill drain");
    let run = spawn(node, "steady");
    let moved = live_on(node, first);
    assert_eq!(moved.len(), 3, "two replicas and a run: {moved:?}");
    let before = node.api().get("/v1/events?limit=1")[0]["id"].as_u64().unwrap();

    let mut drain = Followed::start(node.command(["drain", &first_name]));
    poll(|| cluster.leader() != first).secs(40).expect("another leader");
    let voters = || cluster.names_with("voter", true);
    poll(|| voters().len() == 3 && !voters().contains(&first_name)).secs(40).expect("its vote");
    poll(|| {
        let left = live_on(node, first);
        if left == [run.clone()] { Ok(()) } else { Err(left) }
    })
    .secs(60)
    .expect("the replicas to have moved");
    // The run is not over: the drain waits for it, and nobody is removed.
    assert!(drain.goes_on(), "{:?}", drain.lines());
    let refused = node.mill(["remove", &first_name, "--yes"]).code(1);
    refused.says(&format!("node {first_name} still holds {run}"));
    moved_in_order(node, before, &moved);
    // Its program may be over before this one is.
    let _ = node.mill(["exec", &run, "--", "touch", "/tmp/end"]);
    assert!(drain.end().success(), "{:?}", drain.lines());
    drain.until(&format!("✓ {first_name} drained in "));
    println!("{}", drain.lines().join("\n"));
    assert_eq!(node.api().get(&format!("/v1/tasks/{run}"))["exit"]["code"], 3);
    let service = node.api().get("/v1/services/patient");
    assert_eq!(service["replicas"]["healthy"], 8, "{service}");
}

/// Each replacement was healthy before its original was stopped, and only one was on its way at a
/// time.
fn moved_in_order(node: &TestDaemon, before: u64, moved: &[String]) {
    let request = node.api();
    let request = request.request("GET", "/v1/events");
    let all = request.header("Last-Event-ID", &before.to_string()).send().status(200).json();
    let patient = |event: &&Value| event["service"] == "patient";
    let told: Vec<(&str, &str)> = all
        .as_array()
        .unwrap()
        .iter()
        .filter(patient)
        .filter_map(|event| Some((event["kind"].as_str()?, event["allocation"].as_str()?)))
        .collect();
    let slot = |id: &str| id.rsplit_once('-').unwrap().0.to_owned();
    let mut healthy = BTreeMap::new();
    let mut under_way = 0;
    let mut stopped = 0;
    for (kind, id) in &told {
        match *kind {
            "allocation-placed" => under_way += 1,
            "allocation-healthy" => {
                under_way -= 1;
                healthy.insert(slot(id), *id);
            }
            "allocation-stopped" => {
                assert!(moved.iter().any(|one| one == id), "{id} was not to move: {told:?}");
                assert!(healthy.contains_key(&slot(id)), "{id} had no heir: {told:?}");
                stopped += 1;
            }
            _ => {}
        }
        assert!((0..=1).contains(&under_way), "more than max-parallel: {told:?}");
    }
    assert_eq!(stopped, 2, "{told:?}");
}

fn another_is_drained_and_taken_back(cluster: &TestCluster, second: usize, asked: usize) {
    let node = cluster.node(asked);
    let second = name(second);
    let run = spawn(node, "endless");
    let out = node.mill(["drain", &second, "--timeout", "3s"]).ok();
    assert!(out.contains("at most until") && out.contains("drained in"), "{out}");
    println!("{out}");
    let run = node.api().get(&format!("/v1/tasks/{run}"));
    assert_eq!((&run["status"], &run["node"]), (&"stopped".into(), &second.clone().into()));
    assert_eq!(cluster.names_with("status", "draining").len(), 2);
    let _ = node.mill(["undrain", &second]).ok();
    // It takes work again, and is the one with the most room.
    let _ = node.mill(["scale", "patient", "9"]).ok();
    let ninth = node.allocations("patient");
    let ninth = ninth.iter().find(|one| one["id"].as_str().unwrap().starts_with("patient-8-"));
    assert_eq!(ninth.unwrap()["node"], *second);
}

fn removed_for_good(cluster: &mut TestCluster, first: usize, asked: usize) {
    let node = cluster.node(asked);
    let gone = name(first);
    let id = node.api().get(&format!("/v1/nodes/{gone}"))["id"].as_u64().unwrap();
    let _ = node.mill(["remove", &gone, "--yes"]).ok();
    node.api().request("GET", &format!("/v1/nodes/{gone}")).send().error(404, "not_found");
    let _ = node.mill(["drain", &gone]).code(1).says("mill nodes lists them");
    let rest = |field: &str, value: &str| {
        let all = node.api().get("/v1/nodes");
        let all = all.as_array().unwrap().iter();
        all.filter(|one| one[field].to_string().contains(value)).count()
    };
    assert_eq!((rest("status", "ready"), rest("voter", "true")), (3, 3));
    println!("{}", node.mill(["nodes", "--wide"]).ok());
    let logs = node.mill(["logs", "patient"]);
    let missing = format!("node {id} was removed from the cluster: its lines are missing here");
    assert!(logs.stderr.contains(&missing) && !logs.stdout.contains(&missing), "{logs:?}");
    let told = |cluster: &TestCluster| {
        let status = cluster.node(first).mill(["status"]);
        status.stdout.contains("this node was removed from the cluster")
    };
    poll(|| told(cluster)).secs(40).expect("the removed one to know it");
    let _ = cluster.node(first).mill(["leave"]).code(1).says("mill clean");
    // It doesn't come back by itself, and its id isn't used again.
    let token = node.mill(["token", "create", "--role", "join", "--json"]).json();
    cluster.node_mut(first).kill();
    // Nobody confirms to it what it knows, so that it isn't ready ever again.
    cluster.node_mut(first).launch();
    poll(|| told(cluster)).secs(40).expect("the removed one to know it after its restart");
    cluster.add();
    let (place, token) = (address(asked), token["token"].as_str().unwrap().to_owned());
    let own = ["--node", "n5", "--advertise", &address(5)];
    let join = ["join", &place, "--token", &token, "--json"].into_iter().chain(own);
    let joined = cluster.node(5).mill(join).json();
    assert_eq!((joined["id"].as_u64(), id <= 4), (Some(5), true), "{joined}");
    let names: Vec<Value> = {
        let all = cluster.node(5).api().get("/v1/nodes");
        all.as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    assert!(names.len() == 4 && !names.contains(&gone.into()), "{names:?}");
    assert_eq!(cluster.names_with("voter", true).len(), 3);
}
