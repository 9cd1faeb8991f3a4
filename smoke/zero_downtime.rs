//! `docs/workflows/zero-downtime.md`: versions come and go, a node is drained, and no client of the
//! proxy notices, whichever node it asks.

use crate::support::netns::address;
use crate::support::traffic::Counts;
use crate::support::{TestCluster, Traffic, files};
use std::collections::BTreeMap;

const PORT: u16 = 8080;

fn patient(image: &str, version: &str, more: &str) -> String {
    let text = files::patient(image, PORT, 3, version, more);
    let text = text.replace("max-parallel=2", "max-parallel=1");
    text.replace("    publish", "    route \"patient\"\n    publish")
}

#[test]
fn zero_downtime() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let file = |version: &str, more: &str| patient(&image, version, more);
    let _ = cluster.node(1).up(&file("v1", "")).ok();

    let place = |n: usize| format!("{}:80", address(n)).parse().unwrap();
    let mut clients: Vec<Traffic> = (1..=3).map(|n| Traffic::on(&cluster, n, place(n))).collect();
    // A node that runs no replica passes on as well as one that does.
    clients.push(Traffic::on(&cluster, 1, place(2)));
    let during = |what: &str| clients.iter().for_each(|client| client.during(what));
    for version in ["v2", "v3", "v4"] {
        during(version);
        let out = cluster.node(2).up(&file(version, "")).ok();
        assert!(out.contains("3/3 healthy"), "{out}");
    }
    during("a version that is never healthy");
    let out = cluster.node(3).up(&file("v5", "; BROKEN \"yes\"")).code(1).stdout;
    assert!(out.contains("runs again"), "{out}");
    during("a drain");
    let _ = cluster.node(1).mill(["drain", "n3", "--timeout", "60s"]).ok();
    let _ = cluster.node(1).mill(["undrain", "n3"]).ok();
    during("a scaling");
    let _ = cluster.node(1).mill(["scale", "patient", "1"]).ok();
    println!("{}", cluster.node(1).mill(["route", "list"]).ok());
    for client in clients {
        client.end();
    }
    // Each node has written down what it took, and shows what the others have.
    let access = cluster.node(1).mill(["logs", "--access", "patient", "--since", "10m"]).ok();
    for n in 1..=3 {
        assert!(
            access.contains(&format!(" n{n} | 172.31.0.")),
            "no line of n{n} in {access:.2000}"
        );
    }
}

/// Clients of each node's proxy, by the node that they ask.
struct Clients {
    at: BTreeMap<usize, Vec<Traffic>>,
    /// What those were answered that have left.
    left: Counts,
}

impl Clients {
    /// On the node itself, and on its neighbour.
    fn begin(&mut self, cluster: &TestCluster, n: usize) {
        let place = format!("{}:80", address(n)).parse().unwrap();
        let all = [n, n % cluster.len() + 1].map(|on| Traffic::on(cluster, on, place));
        self.at.insert(n, all.into());
    }

    /// Those of a node leave it.
    fn leave(&mut self, n: usize) {
        for client in self.at.remove(&n).unwrap_or_default() {
            self.left = self.left.and(client.end());
        }
    }

    fn during(&self, what: &str) {
        println!("{what}: {} answered", self.answered());
        self.at.values().flatten().for_each(|client| client.during(what));
    }

    fn answered(&self) -> u64 {
        let now: u64 = self.at.values().flatten().map(Traffic::answered).sum();
        self.left.all() + now
    }
}

/// So many requests as `MILL_TEST_REQUESTS` says, through all that is done to a cluster in months.
/// Whoever asks the node whose daemon is killed goes elsewhere before, as behind a load balancer.
#[test]
fn zero_downtime_for_long() {
    let wanted = std::env::var("MILL_TEST_REQUESTS").ok().and_then(|count| count.parse().ok());
    let Some(wanted): Option<u64> = wanted else {
        return println!("MILL_TEST_REQUESTS says how many");
    };
    let mut cluster = TestCluster::start_kept(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let _ = cluster.node(1).up(&patient(&image, "v0", "")).ok();
    let mut clients = Clients { at: BTreeMap::new(), left: Counts::default() };
    (1..=3).for_each(|n| clients.begin(&cluster, n));

    let update = |cluster: &TestCluster, clients: &Clients, n: u32| {
        clients.during(&format!("update {n}"));
        let on = usize::try_from(n).unwrap() % 3 + 1;
        let out = cluster.node(on).up(&patient(&image, &format!("v{n}"), "")).ok();
        assert!(out.contains("3/3 healthy"), "{out}");
    };
    for n in 1..=10 {
        update(&cluster, &clients, n);
        if n % 3 == 0 {
            clients.during("a version that is never healthy");
            let broken = patient(&image, &format!("b{n}"), "; BROKEN \"yes\"");
            let out = cluster.node(2).up(&broken).code(1).stdout;
            assert!(out.contains("runs again"), "{out}");
        }
    }
    clients.during("a drain");
    let _ = cluster.node(1).mill(["drain", "n3", "--timeout", "60s"]).ok();
    let _ = cluster.node(1).mill(["undrain", "n3"]).ok();

    let leader = cluster.leader();
    clients.during("the leader's death");
    clients.leave(leader);
    cluster.node_mut(leader).kill();
    assert_ne!(cluster.leader(), leader);
    cluster.node_mut(leader).restart();
    clients.begin(&cluster, leader);
    for n in 1..=3 {
        clients.during(&format!("the restart of n{n}"));
        assert_eq!(cluster.node_mut(n).stop(), Some(0));
        cluster.node_mut(n).restart();
        cluster.leader();
    }
    let mut n = 10;
    while clients.answered() < wanted {
        n += 1;
        update(&cluster, &clients, n);
    }
    (1..=3).for_each(|n| clients.leave(n));
    println!("{n} updates, 3 failed, {} requests answered: {:?}", clients.left.all(), clients.left);
    assert!(clients.left.all() >= wanted);
}
