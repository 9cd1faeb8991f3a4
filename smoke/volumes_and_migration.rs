//! `docs/workflows/volumes-and-migration.md`: a volume goes to another node with its service, and
//! into a file and back.

use crate::poll::poll;
use crate::support::{TestCluster, TestDaemon};

const FILE: &str = r#"app "store"
service "db" {
    image "IMAGE"
    command "/bin/sh" "-c" "echo $MILL_NODE >>/data/starts; trap 'exit 0' TERM; \
             while true; do sleep 0.1; done"
    user "1000:1000"
    volume "db-data" path="/data" size="1G"
    health exec="test -s /data/starts" interval="200ms"
}
"#;

fn inside(node: &TestDaemon, script: &str) -> String {
    node.mill(["exec", "db", "--", "/bin/sh", "-c", script]).ok()
}

fn healthy(node: &TestDaemon) -> bool {
    node.allocations("db").iter().any(|one| one["health"] == "healthy")
}

fn copies(node: &TestDaemon) -> Vec<String> {
    let list = std::fs::read_dir(node.data().join("volumes"));
    let names = list.into_iter().flatten().map(|one| one.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn volumes_and_migration() {
    let cluster = TestCluster::start(2);
    let node = cluster.node(1);
    let _ = node.up(&FILE.replace("IMAGE", &cluster.image("busybox:v1"))).ok();
    let list = || node.mill(["volume", "list", "--json"]).json();
    let first = list()[0]["node"].as_str().unwrap().to_owned();
    let (from, to) = if first == "n1" { (1, 2) } else { (2, 1) };
    let (source, target) = (cluster.node(from), cluster.node(to));
    let second = format!("n{to}");
    let dress = "cd /data && head -c 300000 /dev/zero >big && ln big same && ln -s big link && \
                 chmod 640 big && mkdir -p sub/deep && echo x >sub/deep/file";
    inside(node, dress);

    let refused = node.mill(["volume", "move", "db-data", &first]).code(1).stderr;
    assert!(refused.contains("already"), "{refused}");
    let file = node.file("db.tar", "");
    let file = file.to_str().unwrap();
    let refused = node.mill(["volume", "backup", "db-data", file]).code(1).stderr;
    assert!(refused.contains("used by db-0-") && refused.contains("--online"), "{refused}");
    // From the node that doesn't have it.
    let _ = target.mill(["volume", "backup", "db-data", file, "--online"]).ok();

    let moved = node.mill(["volume", "move", "db-data", &second, "--json"]).json();
    assert_eq!((&moved["node"], &moved["moving_to"]), (&second.clone().into(), &().into()));
    poll(|| healthy(node)).secs(40).expect("it starts where its data is");
    let looks = "cat /data/starts; stat -c '%a %u %h %s' /data/big; readlink /data/link; \
                 cat /data/sub/deep/file";
    let seen = inside(node, looks);
    assert_eq!(seen, format!("{first}\n{second}\n640 1000 2 300000\nbig\nx\n"));
    poll(|| copies(source).is_empty()).secs(20).expect("one copy only");
    assert_eq!(copies(target).len(), 1, "{:?}", copies(target));

    // Back to what it was before the move.
    let refused = node.mill(["volume", "restore", "db-data", file, "--yes"]).code(1).stderr;
    assert!(refused.contains("used by db-0-"), "{refused}");
    let _ = node.mill(["down", "db"]).ok();
    let cut = node.file("cut.tar", "");
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let cut = cut.to_str().unwrap();
    let refused = source.mill(["volume", "restore", "db-data", cut, "--yes"]).code(1).stderr;
    assert!(refused.contains("as it was"), "{refused}");
    let _ = source.mill(["volume", "restore", "db-data", file, "--yes"]).ok();
    let _ = node.up(&FILE.replace("IMAGE", &cluster.image("busybox:v1"))).ok();
    assert_eq!(inside(node, "cat /data/starts"), format!("{first}\n{second}\n"));
    assert_eq!(inside(node, "stat -c '%a %u %h' /data/big"), "640 1000 2\n");
    let _ = node.mill(["down", "db"]).ok();
    let _ = node.mill(["volume", "delete", "db-data", "--yes"]).ok();
    poll(|| copies(target).is_empty()).secs(20).expect("it is gone");
}

/// How many copies of the volume there are on a node that are whole or on their way.
fn on_its_way(node: &TestDaemon) -> bool {
    copies(node).iter().any(|name| name.ends_with(".coming"))
}

#[test]
fn a_move_that_is_interrupted_leaves_one_copy() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&FILE.replace("IMAGE", &cluster.image("busybox:v1"))).ok();
    let home = |node: &TestDaemon| {
        let list = node.mill(["volume", "list", "--json"]).json();
        let name = list[0]["node"].as_str().unwrap_or_default().to_owned();
        name.trim_start_matches('n').parse::<usize>().unwrap()
    };
    let first = home(cluster.node(1));
    let others: Vec<usize> = (1..=3).filter(|n| *n != first).collect();
    let (second, witness) = (others[0], others[1]);
    let fill = "head -c 150000000 /dev/urandom >/data/big; sha256sum /data/big >/data/sum; sync";
    inside(cluster.node(witness), fill);
    let intact = "sha256sum -c /data/sum && wc -l </data/starts";

    // The node that it is brought to is killed while it copies, then the one that it comes from.
    for (starts, killed, to) in [(2, second, second), (3, second, first)] {
        let from = home(cluster.node(witness));
        let ask = ["volume", "move", "db-data", &format!("n{to}"), "--detach"];
        let _ = cluster.node(witness).mill(ask).ok();
        poll(|| on_its_way(cluster.node(to))).secs(60).expect("a copy on its way");
        cluster.node_mut(killed).kill();
        cluster.node_mut(killed).restart();
        poll(|| home(cluster.node(witness)) == to).secs(120).expect("it is there");
        poll(|| healthy(cluster.node(witness))).secs(60).expect("it starts where its data is");
        let seen = inside(cluster.node(witness), intact);
        assert_eq!(seen, format!("/data/big: OK\n{starts}\n"));
        poll(|| copies(cluster.node(from)).is_empty()).secs(60).expect("one copy only");
        assert_eq!(copies(cluster.node(to)).len(), 1, "{:?}", copies(cluster.node(to)));
    }
}
