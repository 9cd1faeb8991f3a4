//! `docs/workflows/zero-downtime.md`: versions come and go, a node is drained, and no client of the
//! proxy notices, whichever node it asks.

use crate::support::netns::address;
use crate::support::{TestCluster, Traffic, files};

const PORT: u16 = 8080;

#[test]
fn zero_downtime() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("patient:v1");
    let file = |version: &str, more: &str| {
        let text = files::patient(&image, PORT, 3, version, more);
        let text = text.replace("max-parallel=2", "max-parallel=1");
        text.replace("    publish", "    route \"patient\"\n    publish")
    };
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
