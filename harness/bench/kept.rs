//! What is kept: secrets in memory and on their way to containers, a volume's data on its way into
//! a file, back, and to another node, beside `tar`, and a cluster that begins again from a backup.
//!
//! Owns a cluster of two nodes, which goes with the run. Never measures a provider's volumes.

use super::node::proportional;
use crate::poll::poll;
use crate::report::{Row, median, ms};
use crate::support::netns::{Namespace, address};
use crate::support::{TestCluster, TestDaemon, files};
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- Two nodes in network namespaces of this machine. *Secret*: a value is set at one node and read at
  the other, over their sockets, until the new one is answered; the median of 50.
- *Start*: `mill up` of one replica without a health check until it returns, the image unpacked
  already; 20 secrets of 64 bytes in its environment and none in turn, the median of 10 each.
- *1,000 secrets*: what they add to the daemon's memory (proportional set size), the larger of the
  two nodes, ten seconds after the last was set.
- *Volume*: 1 GB of random bytes in 64 files, `mill volume backup`, `restore` and `move` of one that
  nothing uses, each beside `tar` over the same files, which syncs the disk at its end. A move goes
  through mutual TLS and checksums, `tar`'s through a bare TCP connection of the same link. Medians
  of three, both in turn.
- *Begun again*: both nodes are killed and their data directories removed; from `mill restore` with
  a passphrase on one until three services of two replicas are healthy, their image fetched anew
  from a registry on loopback.
";

const VALUES: usize = 50;
const STARTS: usize = 10;
const SECRETS: usize = 20;
const MANY: usize = 1_000;
const TURNS: usize = 3;
const FILES: usize = 64;
const EACH: usize = 16 << 20;
const PORT: u16 = 7_777;

/// Secrets, then volumes, then the loss of all of it.
pub fn figures() -> Vec<Row> {
    let mut cluster = TestCluster::start(2);
    let mut rows = vec![value(&cluster), many(&cluster), starts(&cluster)];
    rows.extend(volume(&cluster));
    rows.push(restored(&mut cluster));
    rows
}

fn set(node: &TestDaemon, name: &str, value: &str) {
    let api = node.api();
    let request = api.request("PUT", &format!("/v1/secrets/{name}"));
    let _ = request.json(&json!({ "value": value })).send().status(200);
}

fn value(cluster: &TestCluster) -> Row {
    let mut times: Vec<Duration> = (0..VALUES)
        .map(|n| {
            let (value, begun) = (format!("value-{n}"), Instant::now());
            set(cluster.node(1), "bench.value", &value);
            let is_there =
                || cluster.node(2).api().get("/v1/secrets/bench.value")["value"] == value.as_str();
            poll(is_there).secs(10).expect("the value on the other node");
            begun.elapsed()
        })
        .collect();
    Row {
        figure: "a secret set, until another node answers with it",
        mill: ms(median(&mut times)),
        peer: String::new(),
        aim: "",
        met: None,
    }
}

fn many(cluster: &TestCluster) -> Row {
    let quiet = || {
        std::thread::park_timeout(Duration::from_secs(10));
        [1, 2].map(|n| proportional(cluster.node(n).pid().as_raw()))
    };
    let before = quiet();
    for n in 0..MANY {
        set(cluster.node(1), &format!("many.s{n}"), &format!("{n:01024}"));
    }
    let after = quiet();
    let more = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before));
    let most = more.max().unwrap_or(0);
    Row {
        figure: "1,000 secrets of 1 KB in a node's memory",
        mill: format!("{:.1} MB", most as f64 / 1e6),
        peer: String::new(),
        aim: "at most 5 MB",
        met: Some(most <= 5_000_000),
    }
}

fn starts(cluster: &TestCluster) -> Row {
    let node = cluster.node(1);
    let mut environment = String::new();
    for n in 0..SECRETS {
        set(node, &format!("bench.s{n}"), &"x".repeat(64));
        environment.push_str(&format!("S{n} \"${{secret(bench.s{n})}}\"; "));
    }
    let script =
        "command \"/bin/sh\" \"-c\" \"while true; do sleep 0.1; done\"\nstop grace=\"0s\"\n";
    let image = cluster.image("busybox:v1");
    let texts = [String::new(), format!("env {{ {environment} }}\n")]
        .map(|env| files::service("web", &image, &format!("{script}{env}")));
    let mut times = [Vec::new(), Vec::new()];
    // The first start fetches the image.
    for round in 0..=STARTS {
        for (text, times) in texts.iter().zip(&mut times) {
            let begun = Instant::now();
            let _ = node.up(text).ok();
            times.extend((round > 0).then(|| begun.elapsed()));
            let _ = node.mill(["down", "web"]).ok();
        }
    }
    let [without, with] = times.map(|mut times| median(&mut times));
    Row {
        figure: "one warm replica with 20 secrets",
        mill: ms(with),
        peer: format!("without any {}", ms(without)),
        aim: "at most 5 ms more",
        met: Some(with <= without + Duration::from_millis(5)),
    }
}

fn restored(cluster: &mut TestCluster) -> Row {
    let node = cluster.node(1);
    let image = cluster.image("busybox:v1");
    let more = "replicas 2\ncommand \"/bin/sh\" \"-c\" \"while true; do \
                sleep 0.1; done\"\nhealth exec=\"true\" interval=\"200ms\"\n";
    let names = ["one", "two", "three"];
    for name in names {
        let _ = node.up(&files::service(name, &image, more)).ok();
    }
    let file = node.file("backup.age", "");
    let with = |node: &TestDaemon, args: &[&str]| {
        let mut command = node.command(args);
        let output = command.env("MILL_BACKUP_PASSPHRASE", "opensesame").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let path = file.to_str().unwrap();
    with(node, &["backup", path]);
    for n in 1..=2 {
        cluster.node_mut(n).kill();
        cluster.node_mut(n).wipe();
    }
    let node = cluster.node(1);
    let begun = Instant::now();
    with(node, &["restore", path, "--yes", "--node", "n1", "--advertise", &address(1)]);
    let healthy = |name| {
        let all = node.allocations(name);
        all.iter().filter(|one| one["health"] == "healthy").count() == 2
    };
    poll(|| names.into_iter().all(healthy)).secs(120).expect("all to be healthy again");
    let time = begun.elapsed();
    Row {
        figure: "a cluster begun again from a backup, to all healthy",
        mill: ms(time),
        peer: String::new(),
        aim: "at most 10 s",
        met: Some(time <= Duration::from_secs(10)),
    }
}

fn timed(what: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    what();
    begun.elapsed()
}

fn tar(arguments: &[&str]) -> Command {
    let mut command = Command::new("tar");
    command.args(arguments);
    command
}

fn sync(folder: &Path) {
    assert!(Command::new("sync").arg("-f").arg(folder).status().unwrap().success());
}

/// Where its only copy is on a node.
fn copy_of(node: &TestDaemon) -> Option<std::path::PathBuf> {
    let mut list = std::fs::read_dir(node.data().join("volumes")).ok()?.flatten();
    let found = list.find(|one| one.file_name().to_string_lossy().starts_with("db-data"));
    found.map(|one| one.path())
}

fn volume(cluster: &TestCluster) -> [Row; 3] {
    let node = cluster.node(1);
    let more = "command \"/bin/sh\" \"-c\" \"while true; do sleep 0.1; done\"\nstop grace=\"0s\"\n\
                volume \"db-data\" path=\"/data\" size=\"2G\"\n";
    let _ = node.up(&files::service("db", &cluster.image("busybox:v1"), more)).ok();
    let _ = node.mill(["down", "db"]).ok();
    let homes = [1, 2].into_iter().find(|n| copy_of(cluster.node(*n)).is_some());
    let mut home = homes.expect("the volume's folder");
    let folder = copy_of(cluster.node(home)).unwrap();
    for n in 0..FILES {
        let mut random = io::Read::take(File::open("/dev/urandom").unwrap(), EACH as u64);
        let mut file = File::create(folder.join(format!("file{n}"))).unwrap();
        io::copy(&mut random, &mut file).unwrap();
    }
    let beside = tempfile::tempdir_in(node.data()).unwrap();
    let [mill_tar, tar_tar] = ["mill.tar", "tar.tar"].map(|name| beside.path().join(name));
    let [mill_tar, tar_tar] = [&mill_tar, &tar_tar].map(|path| path.to_str().unwrap());
    let unpacked = beside.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let to = unpacked.to_str().unwrap();
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..TURNS {
        let from = copy_of(cluster.node(home)).unwrap();
        let from = from.to_str().unwrap();
        let next = 3 - home;
        let round = [
            timed(|| drop(node.mill(["volume", "backup", "db-data", mill_tar]).ok())),
            timed(|| {
                assert!(tar(&["-C", from, "-cf", tar_tar, "."]).status().unwrap().success());
                sync(beside.path());
            }),
            timed(|| drop(node.mill(["volume", "restore", "db-data", mill_tar, "--yes"]).ok())),
            timed(|| {
                assert!(tar(&["-C", to, "-xf", tar_tar]).status().unwrap().success());
                sync(&unpacked);
            }),
            timed(|| {
                let to = format!("n{next}");
                let _ = node.mill(["volume", "move", "db-data", &to]).ok();
            }),
            timed(|| {
                carried(cluster, (next, home), copy_of(cluster.node(next)).unwrap().as_path(), to)
            }),
        ];
        times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        home = next;
        poll(|| copy_of(cluster.node(3 - next)).is_none()).secs(60).expect("one copy");
    }
    let [backup, packed, restore, unpacked, moved, carried] =
        times.map(|mut times| median(&mut times));
    [
        row("a volume of 1 GB into a file", (backup, packed), "at least 0.8 × `tar`"),
        row("and back", (restore, unpacked), "at least 0.8 × `tar`"),
        row("to another node", (moved, carried), "at least 0.8 × `tar` over the same link"),
    ]
}

fn row(figure: &'static str, (mill, tar): (Duration, Duration), aim: &'static str) -> Row {
    let speed = |time: Duration| (FILES * EACH) as f64 / 1e6 / time.as_secs_f64();
    let share = speed(mill) / speed(tar);
    Row {
        figure,
        mill: format!("{:.0} MB/s", speed(mill)),
        peer: format!("`tar` {:.0} MB/s: {share:.2} ×", speed(tar)),
        aim,
        met: Some(share >= 0.8),
    }
}

fn within<T: Send + 'static>(
    namespace: &Namespace,
    f: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = File::open(namespace.path()).unwrap();
    std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        f()
    })
}

/// The same files from node to node by `tar` and a connection.
fn carried(cluster: &TestCluster, (from, to): (usize, usize), source: &Path, target: &str) {
    let place = (address(to), PORT);
    let listener = within(cluster.node(to).namespace(), {
        let place = place.clone();
        move || TcpListener::bind(place).unwrap()
    });
    let listener = listener.join().unwrap();
    let mut unpack = tar(&["-C", target, "-xf", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut into = unpack.stdin.take().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        io::copy(&mut stream, &mut into).unwrap();
    });
    let source = source.to_str().unwrap();
    let mut pack = tar(&["-C", source, "-cf", "-", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = pack.stdout.take().unwrap();
    let sender = within(cluster.node(from).namespace(), move || {
        io::copy(&mut out, &mut TcpStream::connect(place).unwrap()).unwrap();
    });
    sender.join().unwrap();
    receiver.join().unwrap();
    assert!(pack.wait().unwrap().success() && unpack.wait().unwrap().success());
    sync(Path::new(target));
}
