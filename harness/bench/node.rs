//! The figures of a whole node: starting, replicas, and what it takes when nothing happens.
//!
//! Never measures a peer's work itself: `peers.rs` does.

use super::peers::Peers;
use super::report::{Row, median, ms};
use crate::poll::poll;
use crate::registry::Registry;
use crate::support::TestDaemon;
use crate::support::node::MILL;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How it was measured.
pub const IDLE_NOTES: &str = "
- 20 containers run, nothing is asked; the daemon's own process (proportional set size), and its
  processor time over a minute. The logger is the largest of the 20 logger processes.
";

/// How it was measured.
pub const START_NOTES: &str = "
- *One warm replica*: the image is unpacked already, the service has no port and no health check;
  from sending the file to the API until the allocation is `running`. `ctr run -d` is containerd
  1.6's own client with the same image, without network or logs. Medians.
- *20 replicas*: from the request until all 20 run. Docker Swarm is Debian's docker.io with a
  containerd and a bridge network of its own, in a network namespace without a way out, so that no
  task waits for a registry; `docker service create --detach`, its state read from Docker's API.
- *Ready*: from starting the process until `/v1/health` answers on its socket. A restart finds its
  containerd running; a first start makes the data directory.
";

const RUNS: usize = 11;
const REPLICAS: usize = 20;
/// A ceiling would also hold back the start of the program. Only many need one, to fit.
const MANY: Option<&str> = Some("0.1");
const QUIET: Duration = Duration::from_secs(60);

/// Without `cpu` there is no ceiling, but a quarter of a core is reserved.
fn file(image: &str, replicas: usize, cpu: Option<&str>) -> String {
    let cpu = cpu.map_or_else(String::new, |cpu| format!("    cpu {cpu}\n"));
    format!(
        "service \"bench\" {{\n    image \"{image}\"\n    replicas {replicas}\n{cpu}    \
         memory \"16M\"\n}}\n"
    )
}

/// From the request until so many run.
pub(super) fn deploy(
    node: &TestDaemon,
    image: &str,
    replicas: usize,
    cpu: Option<&str>,
) -> Duration {
    let api = node.api();
    let start = Instant::now();
    let request = api.request("POST", "/v1/deploy").header("Accept", "application/json");
    let answer = request.body("text/plain", file(image, replicas, cpu)).send();
    assert_eq!(answer.status, 202, "{answer:?}");
    poll(|| {
        let all = node.allocations("bench");
        all.iter().filter(|one| one["status"] == "running").count() == replicas
    })
    .secs(120)
    .expect("all replicas to run");
    start.elapsed()
}

/// Takes all of it away.
pub(super) fn down(node: &TestDaemon) {
    // Running is before healthy: the deployment may still go on.
    poll(|| node.api().get("/v1/deployments")[0]["status"] != "running")
        .secs(120)
        .expect("the end of the deployment");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    poll(|| node.allocations("bench").iter().all(|one| one["status"] == "stopped"))
        .secs(60)
        .expect("the containers to go");
}

/// Replicas and readiness.
pub fn start_figures() -> Vec<Row> {
    let registry = Registry::start();
    let image = registry.image("hello:v1");
    let mut node = TestDaemon::start();
    let _ = deploy(&node, &image, 1, None); // pulls the image
    down(&node);
    let peers = Peers::start();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(deploy(&node, &image, 1, None));
        down(&node);
        theirs.push(peers.ctr_run());
    }
    let (one, ctr) = (median(&mut ours), median(&mut theirs));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(deploy(&node, &image, REPLICAS, MANY));
        down(&node);
        theirs.push(peers.swarm(REPLICAS));
    }
    drop(peers);
    let (twenty, swarm) = (median(&mut ours), median(&mut theirs));
    let ready = ready(&mut node);
    vec![
        Row {
            figure: "one warm replica, request to running",
            mill: ms(one),
            peer: format!("`ctr run -d` {}", ms(ctr)),
            aim: "at most 2 ×",
            met: Some(one <= 2 * ctr),
        },
        Row {
            figure: "20 replicas, request to running",
            mill: ms(twenty),
            peer: format!("`docker service create` {}", ms(swarm)),
            aim: "at most half",
            met: Some(2 * twenty <= swarm),
        },
        Row {
            figure: "ready after a restart",
            mill: ms(ready),
            peer: String::new(),
            aim: "at most 150 ms",
            met: Some(ready <= Duration::from_millis(150)),
        },
    ]
}

/// From starting the process until it answers.
fn ready(node: &mut TestDaemon) -> Duration {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let _ = node.stop();
        let start = Instant::now();
        node.launch();
        let api = node.api();
        while !api.request("GET", "/v1/health").try_send().is_ok_and(|answer| answer.status == 200)
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        times.push(start.elapsed());
    }
    median(&mut times)
}

/// Memory, processor time and size.
pub fn idle_figures() -> Vec<Row> {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = deploy(&node, &registry.image("hello:v1"), REPLICAS, MANY);
    let id = node.pid().as_raw();
    // The work of starting is over when the first quiet seconds are.
    std::thread::park_timeout(Duration::from_secs(5));
    let before = processor_time(id);
    std::thread::park_timeout(QUIET);
    let used = processor_time(id) - before;
    let share = used.as_secs_f64() / QUIET.as_secs_f64() * 100.0;
    let memory = proportional(id);
    let loggers: Vec<u64> = loggers(&node.data()).into_iter().map(proportional).collect();
    let logger = loggers.iter().max().copied().unwrap_or(0);
    let size = fs::metadata(MILL).unwrap().len();
    vec![
        Row {
            figure: "daemon's memory, idle with 20 containers",
            mill: format!("{:.1} MB", memory as f64 / 1e6),
            peer: String::new(),
            aim: "at most 30 MB",
            met: Some(memory <= 30_000_000),
        },
        Row {
            figure: "daemon's processor time, idle with 20 containers",
            mill: format!("{share:.2} % of a core"),
            peer: String::new(),
            aim: "at most 0.3 %",
            met: Some(share <= 0.3),
        },
        Row {
            figure: "a logger's memory",
            mill: format!("{:.2} MB, largest of {}", logger as f64 / 1e6, loggers.len()),
            peer: String::new(),
            aim: "at most 2 MB",
            met: Some(loggers.len() == REPLICAS && logger <= 2_000_000),
        },
        Row {
            figure: "release binary",
            mill: format!("{:.1} MB", size as f64 / 1e6),
            peer: String::new(),
            aim: "at most 25 MB",
            met: Some(size <= 25_000_000),
        },
    ]
}

/// User and system time of a process.
pub(super) fn processor_time(id: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // After the name in parentheses: state is field 3, utime 14, stime 15, in hundredths.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A process's memory in bytes, with its share of nothing: what it has alone on its machine.
pub(super) fn resident(id: i32) -> u64 {
    rolled_up(id, "Rss:")
}

/// A process's proportional set size in bytes.
pub(super) fn proportional(id: i32) -> u64 {
    rolled_up(id, "Pss:")
}

fn rolled_up(id: i32, field: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    kilobytes * 1024
}

/// The processes that run the kept binary of a data directory: its loggers.
pub(super) fn loggers(data: &Path) -> Vec<i32> {
    let kept = data.join("bin");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|id| {
            fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.starts_with(&kept))
        })
        .collect()
}
