//! Persistent volumes: data that outlives versions, `down` and the daemon, on the node that has it.

use crate::poll::poll;
use crate::support::{TestCluster, TestDaemon};

const FILE: &str = r#"app "store"
service "db" {
    image "IMAGE"
    command "/bin/sh" "-c" "echo VERSION >>/data/starts; trap 'exit 0' TERM; \
             while true; do sleep 0.1; done"
    user "1000:1000"
    volume "db-data" path="/data" size="1G"
    health exec="test -s /data/starts" interval="200ms"
}
"#;

fn file(image: &str, version: &str) -> String {
    FILE.replace("IMAGE", image).replace("VERSION", version)
}

fn starts(node: &TestDaemon) -> String {
    node.mill(["exec", "db", "--", "cat", "/data/starts"]).ok()
}

fn home(node: &TestDaemon) -> String {
    let all = node.allocations("db");
    let runs = all.iter().find(|one| one["status"] == "running").unwrap();
    runs["node"].as_str().unwrap().to_owned()
}

#[test]
fn a_volume_stays_with_its_data() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let image = cluster.image("busybox:v1");
    let _ = cluster.node(1).up(&file(&image, "v1")).ok();
    let first = home(cluster.node(1));
    assert_eq!(starts(cluster.node(1)), "v1\n");
    let _ = cluster.node(2).up(&file(&image, "v2")).ok();
    assert_eq!((starts(cluster.node(1)).as_str(), &home(cluster.node(1))), ("v1\nv2\n", &first));
    let list = cluster.node(3).mill(["volume", "list", "--json"]).json();
    assert_eq!((&list[0]["name"], &list[0]["status"]), (&"db-data".into(), &"in-use".into()));
    assert_eq!(list[0]["node"], first.as_str(), "{list}");
    let list = || cluster.node(3).mill(["volume", "list", "--json"]).json();
    poll(|| list()[0]["used"].as_u64().is_some()).secs(20).expect("its size on the disk");
    refused(cluster.node(1), &image);
    survives_down(cluster.node(1), &image, &first);

    // Its node is lost: the service waits, and is never started with an empty one.
    let lost: usize = first.trim_start_matches('n').parse().unwrap();
    let other = if lost == 1 { 2 } else { 1 };
    cluster.node_mut(lost).kill();
    let node = cluster.node(other);
    let text = format!("db-data is on {first}");
    let waits = || node.mill(["why", "db"]).stdout.contains(&text);
    poll(waits).secs(60).expect("why says where the volume is");
    let running = |one: &serde_json::Value| one["status"] == "running";
    poll(|| !node.allocations("db").iter().any(running)).secs(60).expect("nothing runs");
    assert!(waits());
    cluster.node_mut(lost).restart();
    let node = cluster.node(other);
    let healthy = || node.allocations("db").iter().any(|one| one["health"] == "healthy");
    poll(healthy).secs(60).expect("it goes on where its data is");
    assert!(starts(node).starts_with("v1\nv2\nv3\n"));

    let _ = node.mill(["down", "db"]).ok();
    let _ = node.mill(["volume", "delete", "db-data", "--yes"]).ok();
    let left = || node.mill(["volume", "list", "--json"]).json();
    poll(|| left().as_array().unwrap().is_empty()).secs(30).expect("it is gone");
    assert!(!cluster.node(lost).data().join("volumes/db-data").exists());
}

fn refused(node: &TestDaemon, image: &str) {
    let used = node.mill(["volume", "delete", "db-data", "--yes"]).code(1).stderr;
    assert!(used.contains("db-data is used by db"), "{used}");
    let smaller = file(image, "v2").replace("1G", "1M");
    let smaller = node.up(&smaller).code(2).stderr;
    assert!(smaller.contains("it only grows"), "{smaller}");
}

/// Its node is where the service goes on.
fn survives_down(node: &TestDaemon, image: &str, first: &str) {
    let _ = node.mill(["down", "db"]).ok();
    let unused = || node.mill(["volume", "list", "--json"]).json()[0]["status"] == "unused";
    poll(unused).secs(20).expect("nothing uses it");
    let _ = node.up(&file(image, "v3")).ok();
    assert_eq!((starts(node).as_str(), home(node).as_str()), ("v1\nv2\nv3\n", first));
}
