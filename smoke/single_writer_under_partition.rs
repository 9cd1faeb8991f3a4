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

/// Holds the same volume, and only sleeps.
const REST: &str = r#"app "rest"
service "rest" {
    image "IMAGE"
    command "/bin/sh" "-c" "while true; do sleep 0.1; done"
    volume "db-data" path="/data" size="500M"
    stop grace="0s"
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

/// A label that is wrong brings the data nowhere; what was changed by hand at the provider is told,
/// and what runs runs on.
#[test]
fn what_the_provider_says_otherwise_is_told() {
    let mut cluster = TestCluster::start_provided(1, Trouble::default());
    let node = cluster.node(1);
    let _ = node.mill(["label", "n1", "droplet=7"]).ok();
    let path = node.file("store.mill", &file(&cluster, "500M"));
    let _ = node.mill(["up", "--detach", path.to_str().unwrap()]).ok();
    let warnings =
        |cluster: &TestCluster| cluster.node(1).api().get("/v1/status")["warnings"].to_string();
    let told = |cluster: &TestCluster, what: &str| warnings(cluster).contains(what);
    let wrong = "droplet 7 has 203.0.113.7, 172.31.0.7 by the provider, and not n1's address";
    poll(|| told(&cluster, wrong)).secs(60).expect("the wrong label");
    assert_eq!(attached(&cluster), None);
    let _ = cluster.node(1).mill(["label", "n1", "droplet=1"]).ok();
    poll(|| home(cluster.node(1))).secs(120).expect("it runs");
    assert_eq!(attached(&cluster), Some(1));

    let stranger = "attached to droplet 99 at the provider, which is no node of this cluster";
    for (at, what) in [(None, "attached to nothing at the provider"), (Some(99), stranger)] {
        cluster.provider().meddle("db-data", at);
        // A leader compares at once what it takes over.
        cluster.strike(1, Fault::Kill);
        cluster.undo(1, Fault::Kill);
        poll(|| told(&cluster, what)).secs(60).expect(what);
        poll(|| home(cluster.node(1))).secs(60).expect("it runs on");
        assert_eq!(cluster.provider().attached_to("db-data"), at, "nothing is changed for it");
    }
    cluster.provider().meddle("db-data", Some(1));
    cluster.strike(1, Fault::Kill);
    cluster.undo(1, Fault::Kill);
    poll(|| !told(&cluster, "at the provider")).secs(60).expect("no difference");
    let seen = compare(&[], cluster.node(1), "all the time");
    assert_eq!(cluster.provider().torn(), 0);
    nothing_writes(&cluster, &seen);
}

/// With something in the place of its service that only sleeps, all of it goes into a file.
fn nothing_writes(cluster: &TestCluster, seen: &[String]) {
    let node = cluster.node(1);
    let _ = node.mill(["down", "db"]).ok();
    let path = node.file("data.tar", "");
    let backup = ["volume", "backup", "db-data", path.to_str().unwrap()];
    let _ = node.mill(backup).code(1).says("--online");
    let rest = REST.replace("IMAGE", &cluster.image("busybox:v1"));
    let _ = node.up(&rest).ok();
    let _ = node.mill(backup.into_iter().chain(["--online"])).ok();
    let folder = tempfile::tempdir().unwrap();
    let tar = ["-xf", path.to_str().unwrap(), "-C", folder.path().to_str().unwrap()];
    assert!(std::process::Command::new("tar").args(tar).status().unwrap().success());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().zip(seen).all(|(line, seen)| line == seen), "{log}");
    assert!(log.lines().count() >= seen.len());
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
