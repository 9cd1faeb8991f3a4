//! `docs/workflows/single-writer-under-partition.md`: a volume of a provider goes with its service
//! from node to node, whatever breaks, and never has two writers.

use crate::poll::poll;
use crate::provider::Trouble;
use crate::support::fault::Fault;
use crate::support::{TestCluster, TestDaemon};

/// Each line has the next number and who wrote it, and is on the disk before it is told.
const FILE: &str = r#"app "store"
service "db" {
    image "IMAGE"
    command "/bin/sh" "-c" "trap 'exit 0' TERM; \
             n=$(tail -n 1 /data/log 2>/dev/null | cut -d' ' -f1); n=${n:-0}; \
             while true; do n=$((n+1)); echo $n $MILL_NODE >>/data/log || exit 1; \
             sync /data/log || exit 1; echo $n $MILL_NODE >/data/told; sleep 0.05; done"
    volume "db-data" path="/data" size="SIZE"
    health exec="test -s /data/told" interval="200ms"
    stop grace="2s"
}
"#;

const TROUBLE: Trouble = Trouble { seed: 11, fails: 5, limits: 3, loses: 10, errs: 10, slow: 800 };

fn file(cluster: &TestCluster, size: &str) -> String {
    FILE.replace("IMAGE", &cluster.image("busybox:v1")).replace("SIZE", size)
}

/// The number of the node where it is healthy, as node `at` sees it.
fn home(at: &TestDaemon) -> Option<usize> {
    let all = at.allocations("db");
    let healthy = all.iter().find(|one| one["health"] == "healthy")?;
    healthy["node"].as_str()?.trim_start_matches('n').parse().ok()
}

fn lines(at: &TestDaemon) -> Vec<String> {
    let read = at.mill(["exec", "db", "--", "cat", "/data/log"]).ok();
    // The last one may be half written.
    let whole = read.rfind('\n').map_or("", |end| &read[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// What was written before is still there, and nobody else wrote meanwhile.
fn compare(before: &[String], at: &TestDaemon, what: &str) -> Vec<String> {
    let now = lines(at);
    assert!(now.len() > before.len(), "{what}: {} lines, {} before", now.len(), before.len());
    assert_eq!(now[..before.len()], *before, "{what}: what was written before");
    for (line, number) in now.iter().zip(1..) {
        let (first, _) = line.split_once(' ').unwrap_or_default();
        assert_eq!(first, format!("{number}"), "{what}: two have written");
    }
    now
}

/// Waits until it is healthy elsewhere; the number of that node.
fn moved(at: &TestDaemon, from: usize, what: &str) -> usize {
    poll(|| home(at).filter(|node| *node != from)).secs(120).expect(what)
}

fn attached(cluster: &TestCluster) -> Option<usize> {
    cluster.provider().attached_to("db-data").and_then(|droplet| usize::try_from(droplet).ok())
}

fn mounts(node: &TestDaemon) -> usize {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = node.data().join("attached");
    all.lines().filter(|line| line.contains(folder.to_str().unwrap())).count()
}

fn other(than: &[usize]) -> usize {
    (1..=3).find(|n| !than.contains(n)).expect("a third node")
}

#[test]
fn single_writer_under_partition() {
    let mut cluster = TestCluster::start_provided(3, TROUBLE);
    cluster.await_voters(3);
    let _ = cluster.node(1).up(&file(&cluster, "500M")).ok();
    let first = moved(cluster.node(1), 0, "it runs");
    assert_eq!(attached(&cluster), Some(first));
    let list = cluster.node(1).mill(["volume", "list", "--json"]).json();
    assert_eq!(
        (&list[0]["provider"], &list[0]["status"]),
        (&"digitalocean".into(), &"in-use".into())
    );
    let seen = compare(&[], cluster.node(1), "the first node");

    // Drained: it goes with its service, and is let go first.
    let _ = cluster.node(1).mill(["drain", &format!("n{first}")]).ok();
    let second = moved(cluster.node(1), first, "drained");
    assert_eq!((attached(&cluster), cluster.provider().torn()), (Some(second), 0));
    let seen = compare(&seen, cluster.node(1), "drained");
    let _ = cluster.node(1).mill(["undrain", &format!("n{first}")]).ok();

    // Cut off: the node stops what writes, and only then another one has the volume.
    cluster.strike(second, Fault::Partition);
    let witness = other(&[second]);
    let third = moved(cluster.node(witness), second, "cut off");
    assert_eq!((attached(&cluster), cluster.provider().torn()), (Some(third), 0));
    assert_eq!(mounts(cluster.node(second)), 0, "it has let go by itself");
    let seen = compare(&seen, cluster.node(witness), "cut off");
    cluster.undo(second, Fault::Partition);
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(60).expect("it is back");

    // The daemon is gone and its container writes on: the provider takes the disk from under it.
    cluster.strike(third, Fault::Kill);
    let witness = other(&[third]);
    let fourth = moved(cluster.node(witness), third, "killed");
    assert_eq!((attached(&cluster), cluster.provider().torn()), (Some(fourth), 1));
    let seen = compare(&seen, cluster.node(witness), "killed");
    cluster.undo(third, Fault::Kill);
    poll(|| mounts(cluster.node(third)) == 0).secs(60).expect("it ends what it had");
    let seen = compare(&seen, cluster.node(witness), "back again");

    // Killed in the middle of an attachment.
    poll(|| cluster.names_with("status", "ready").len() == 3).secs(60).expect("it is back");
    let target = other(&[fourth]);
    let actions = cluster.provider().asked("POST actions");
    let move_to = ["volume", "move", "db-data", &format!("n{target}"), "--detach"];
    let _ = cluster.node(fourth).mill(move_to).ok();
    poll(|| cluster.provider().asked("POST actions") > actions).secs(60).expect("it is on its way");
    cluster.strike(target, Fault::Kill);
    cluster.undo(target, Fault::Kill);
    poll(|| home(cluster.node(fourth)) == Some(target)).secs(120).expect("it is there");
    let seen = compare(&seen, cluster.node(fourth), "killed while it was attached");

    grows_and_goes(&cluster, &seen);
}

/// It grows, and goes for good only when nothing names it.
fn grows_and_goes(cluster: &TestCluster, seen: &[String]) {
    let _ = cluster.node(1).up(&file(cluster, "1500M")).ok();
    let size = |node: &TestDaemon| {
        let told = node.mill(["exec", "db", "--", "df", "-k", "/data"]).stdout;
        // A long name of the device has a line of its own.
        let size = told.lines().last().unwrap_or_default().split_whitespace().rev().nth(4);
        size.and_then(|size| size.parse::<u64>().ok()).unwrap_or(0)
    };
    poll(|| home(cluster.node(1))).secs(120).expect("it runs");
    // Where the kernel doesn't let it grow while it is mounted, it grows with the next mount.
    let fifth = other(&[home(cluster.node(1)).unwrap()]);
    let _ = cluster.node(1).mill(["volume", "move", "db-data", &format!("n{fifth}")]).ok();
    poll(|| size(cluster.node(1)) > 1_200_000).secs(60).expect("it is larger");
    let _ = compare(seen, cluster.node(1), "larger");
    let used = cluster.node(1).mill(["volume", "delete", "db-data", "--yes"]).code(1).stderr;
    assert!(used.contains("db-data is used by db"), "{used}");
    let _ = cluster.node(1).mill(["down", "db"]).ok();
    let _ = cluster.node(1).mill(["volume", "delete", "db-data", "--yes"]).ok();
    poll(|| cluster.provider().count() == 0).secs(120).expect("the provider has deleted it");
    assert!((1..=3).all(|n| mounts(cluster.node(n)) == 0));
}
