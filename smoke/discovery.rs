//! `docs/workflows/discovery.md`: containers of three nodes find each other by name, and nobody is
//! led to what is gone.

use crate::poll::poll;
use crate::support::{TestCluster, TestDaemon, files};
use serde_json::Value;
use std::collections::BTreeSet;

/// Runs a shell in an allocation.
fn shell(node: &TestDaemon, id: &str, script: &str) -> String {
    node.mill(["exec", id, "--", "sh", "-c", script]).ok()
}

/// The addresses that a container is told for a name.
fn addresses(node: &TestDaemon, id: &str, name: &str) -> BTreeSet<String> {
    // The first address is the server's.
    let script = format!("nslookup {name} 2>/dev/null; true");
    let lines = shell(node, id, &script);
    let answer = lines.split_once("Name:").map_or("", |(_, answer)| answer);
    let words = answer.split_whitespace().filter(|word| word.starts_with("10."));
    words.map(str::to_owned).collect()
}

/// The addresses of a service's healthy replicas, as the API shows them.
fn healthy(node: &TestDaemon, service: &str) -> BTreeSet<String> {
    let all = node.allocations(service).into_iter();
    let healthy = all.filter(|one| one["health"] == "healthy" && one["status"] == "running");
    let address = |one: serde_json::Value| one["address"].as_str().unwrap_or_default().to_owned();
    healthy.map(|one| address(one).split(':').next().unwrap_or_default().to_owned()).collect()
}

/// Asks on connections of their own until it is over, and says what was lost.
fn asks(host: &str) -> String {
    format!(
        "n=0; until [ -f /tmp/over ] || [ $n -gt 1500 ]; do n=$((n+1)); sleep 0.2; \
         why=$(wget -qO- http://{host}:8080 2>&1 >/dev/null) || echo lost: $why; done"
    )
}

#[test]
fn discovery() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let leader = cluster.leader();
    let node = cluster.node(leader);
    let _ = node.up(&files::hello(&cluster.image("hello:v1"), 3)).ok();
    let client = files::service(
        "client",
        &cluster.image("busybox:v1"),
        "replicas 3\n    command \"sleep\" \"1000000\"\n    stop grace=\"1s\"\n    \
         env { API \"http://${service.hello.address}\" }",
    );
    let _ = node.up(&client).ok();
    let mut clients = node.allocations("client");
    let nodes: BTreeSet<_> = clients.iter().map(|one| one["node"].to_string()).collect();
    assert_eq!(nodes.len(), 3, "{clients:?}");
    // The last one's machine is drained later on: not the one that leads.
    let leads = format!("n{leader}");
    clients.sort_by_key(|one| one["node"] != leads.as_str());
    let ids: Vec<String> =
        clients.iter().map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect();

    // From each node: the name, its short form, the variable, and another node's container.
    let expected = healthy(node, "hello");
    assert_eq!(expected.len(), 3);
    for id in &ids {
        poll(|| addresses(node, id, "hello.mill") == expected).secs(10).expect("all three");
        let said = shell(node, id, "wget -qO- $API && wget -qO- http://hello:8080 && echo $API");
        assert!(said.contains("http://hello.mill:8080"), "{said}");
    }
    let none = node.mill(["exec", &ids[0], "--", "nslookup", "helo.mill"]);
    assert!(none.stdout.contains("NXDOMAIN") || none.stderr.contains("NXDOMAIN"), "{none:?}");
    let unknown = client.replace("service.hello", "service.helo");
    let refused = node.up(&unknown).code(2);
    assert!(refused.stderr.contains("no service \"helo\""), "{refused:?}");
    assert!(refused.stderr.contains("did you mean \"hello\"?"), "{refused:?}");

    // A replica that is taken away is in no answer before it stops: each request is answered. Who
    // resolved the stable address once goes on as well, through ten updates and a drain.
    let held = addresses(node, &ids[1], "hello.virtual.mill");
    let held = held.first().expect("a stable address").as_str();
    let drained = clients[2]["node"].as_str().unwrap();
    let lost = std::thread::scope(|scope| {
        let asking = [(&ids[0], "hello"), (&ids[0], held), (&ids[1], held)].map(|(id, host)| {
            let script = asks(host);
            scope.spawn(move || shell(node, id, &script))
        });
        let _ = node.mill(["scale", "hello", "2"]).ok();
        for _ in 0..10 {
            let _ = node.mill(["restart", "hello"]).ok();
        }
        let _ = node.mill(["drain", drained]).ok();
        let _ = node.mill(["undrain", drained]).ok();
        ids[..2].iter().for_each(|id| drop(shell(node, id, "touch /tmp/over")));
        asking.map(|asking| asking.join().unwrap())
    });
    assert_eq!(lost, ["", "", ""]);
    let expected = healthy(node, "hello");
    poll(|| addresses(node, &ids[1], "hello.mill") == expected).secs(10).expect("those of now");
    the_lost_are_in_no_answer(&cluster, node, &clients[..2]);
}

/// A lost node's addresses go once it is found to be lost.
fn the_lost_are_in_no_answer(cluster: &TestCluster, node: &TestDaemon, clients: &[Value]) {
    let lost = cluster.follower();
    cluster.hub().cut(lost);
    let name = format!("n{lost}");
    poll(|| cluster.names_with("status", "down") == [name.clone()]).secs(30).expect("it is down");
    let here = clients.iter().find(|one| one["node"] != name.as_str()).unwrap();
    let id = here["id"].as_str().unwrap_or_default();
    let gone = |address: &String| {
        node.allocations("hello").iter().any(|one| {
            one["node"] == name.as_str()
                && one["address"].as_str().is_some_and(|at| at.starts_with(address.as_str()))
        })
    };
    poll(|| {
        let now = addresses(node, id, "hello.mill");
        !now.is_empty() && !now.iter().any(gone)
    })
    .secs(10)
    .expect("no address of the lost node");
    cluster.hub().heal(lost);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(30).expect("it is back");
}
