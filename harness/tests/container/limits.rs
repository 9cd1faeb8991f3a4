//! Ceilings on processor time and memory, and how containers end, in real ones.

use super::container;
use super::support::Node;
use crate::poll::{poll, poll_async};
use mill::actors::platform::usage::Meter;
use mill::fsm::model::{AllocationStatus, ExitReason, Phase};
use mill::id::{AllocId, ContainerId};
use mill::spec::model::ServiceSpec;
use mill::units::{Bytes, MilliCpu, Millis};
use std::time::{Duration, Instant};

async fn shell(node: &Node, script: &str) -> ServiceSpec {
    let mut service = node.service("busybox:v1").await;
    service.run.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    service.stop.grace = Millis(200);
    service
}

/// The processor time that a container has used.
fn used(node: &Node, meter: &mut Meter, id: &ContainerId) -> Duration {
    meter.containers(&node.platform.places.cgroup(), [id])[id].cpu_total
}

/// In how many of its periods a container had used up what it may have.
fn throttled(node: &Node, id: &ContainerId) -> u32 {
    let parent = node.platform.places.cgroup();
    let roots = ["cpu", "cpu,cpuacct", "."].map(|name| format!("/sys/fs/cgroup/{name}"));
    let files = roots.map(|root| format!("{root}{parent}/{id}/cpu.stat"));
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
    line.trim().parse().unwrap()
}

/// What others do on the machine takes nothing away from this: the ceiling is held against the
/// clock, and what it lets through against the periods in which nothing but the ceiling held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_gets_the_processor_time_that_it_may_have() {
    /// Over which the kernel measures, and what 0.05 of a core is of it.
    const PERIOD: Duration = Duration::from_millis(100);
    const SHARE: Duration = Duration::from_millis(5);
    let node = Node::start().await;
    let mut service = shell(&node, "while :; do :; done").await;
    service.run.cpu = Some(MilliCpu(50));
    let id = node.run("busy", service);
    node.phase(&id, Phase::Running).await;
    let container = container(&id, 1);
    let mut meter = Meter::open().unwrap();
    // In this order, so that what passes between two looks speaks against no one.
    let begun = Instant::now();
    let used_before = used(&node, &mut meter, &container);
    let held_before = throttled(&node, &container);
    let held = || Some(throttled(&node, &container) - held_before).filter(|held| *held >= 40);
    let held = poll(held).secs(120).expect("40 periods in which it used up its share");
    let used = used(&node, &mut meter, &container) - used_before;
    let periods = begun.elapsed().as_secs_f64() / PERIOD.as_secs_f64() + 1.0;
    let told = format!("{used:?} in {periods:.1} periods, held back in {held} of them");
    assert!(used <= SHARE.mul_f64(1.1 * periods), "more than its share: {told}");
    assert!(used >= SHARE.mul_f64(0.9 * f64::from(held)), "less than its share: {told}");
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_killed_for_want_of_memory_is_told_and_ends_nothing() {
    let node = Node::start().await;
    // The child is chosen: it has nearly all of the memory.
    let script = "while :; do tail /dev/zero; echo the child ended $?; sleep 1000; done";
    let mut service = shell(&node, script).await;
    service.run.memory = Bytes(32_000_000);
    let id = node.run("web", service);
    let counted = |seen: &AllocationStatus| seen.ooms > 0;
    let seen = node.until(&id, "the kill to be told", counted).await;
    assert_eq!((seen.phase, seen.exit), (Phase::Running, None));
    let usage = node.usage().await;
    assert!(usage.allocations[&id].1.0 < 32_000_000, "{usage:?}");
    assert_eq!(node.seen(&id).attempt.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_takes_as_long_as_the_program_needs_and_no_longer_than_its_grace() {
    let node = Node::start().await;
    let polite = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done";
    let mut service = shell(&node, polite).await;
    service.stop.grace = Millis::secs(60);
    let polite = node.run("polite", service);
    let mut service = shell(&node, "trap 'exit 5' USR1; while :; do sleep 0.1; done").await;
    service.stop.signal = Some("SIGUSR1".into());
    service.stop.grace = Millis::secs(60);
    let own = node.run("own", service);
    // Children that nobody waits for, and a program that hears nothing.
    let zombies = "trap '' TERM INT HUP; for i in $(seq 50); do (sleep 0 &) ; done; \
                   while :; do sleep 1000; done";
    let mut service = shell(&node, zombies).await;
    service.stop.grace = Millis(1000);
    let stubborn = node.run("stubborn", service);
    let ids = [polite, own, stubborn];
    for id in &ids {
        node.phase(id, Phase::Running).await;
    }
    let begun = Instant::now();
    ids.iter().for_each(|id| node.stop(id));
    let code = async |id: &AllocId| {
        let exit = node.phase(id, Phase::Stopped).await.exit.unwrap();
        assert_eq!(exit.reason, ExitReason::Killed);
        exit.code
    };
    assert_eq!((code(&ids[0]).await, code(&ids[1]).await), (Some(0), Some(5)));
    assert_eq!(code(&ids[2]).await, Some(137));
    let took = begun.elapsed();
    assert!((1..15).contains(&took.as_secs()), "{took:?}");
    poll(|| node.nothing_left()).expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_backoff_and_while_starting_leaves_nothing() {
    let node = Node::start().await;
    let crash = node.service("crash:v1").await;
    let backoff = node.run("backoff", crash);
    node.phase(&backoff, Phase::Backoff).await;
    node.stop(&backoff);
    node.phase(&backoff, Phase::Stopped).await;
    let service = shell(&node, "exec sleep 100000").await;
    let spec = node.deploy("starting", service);
    let ids = node.place("starting", &spec, 6);
    for (n, id) in ids.iter().enumerate() {
        // Each at another point of its start.
        let at = |seen: &AllocationStatus| match n % 3 {
            0 => true,
            1 => seen.phase >= Phase::Pulling,
            _ => seen.phase >= Phase::Starting,
        };
        node.until(id, "the point", at).await;
        node.stop(id);
    }
    for id in &ids {
        node.phase(id, Phase::Stopped).await;
    }
    assert!(node.containers().await.is_empty());
    poll(|| node.nothing_left()).expect("nothing is left");
}

/// What a node has on the machine, apart from what a running one needs.
pub(super) async fn leftovers(node: &Node) -> Vec<String> {
    let places = &node.platform.places;
    let mut left: Vec<String> = node.left().lines().map(str::to_owned).collect();
    left.extend(node.containers().await.into_keys().map(|id| format!("container {id}")));
    let instance = &places.instance;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let own = line.contains(instance) || line.contains(places.data.to_str().unwrap());
        if own && !line.starts_with("containerd\0") && !line.contains("containerd\0--config") {
            left.push(format!("process {}", line.replace('\0', " ")));
        }
    }
    let folders = [places.data.join("alloc"), places.run.join("exec"), places.run.join("netns")];
    for folder in folders {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    let groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let own = groups.map(|group| group.path().join(places.cgroup().trim_start_matches('/')));
    left.extend(own.filter(|path| path.exists()).map(|path| format!("{}", path.display())));
    left
}

fn ctr(node: &Node, args: &[&str]) -> Vec<String> {
    let config = node.platform.containerd.config();
    let mut command = std::process::Command::new("ctr");
    command.arg("--address").arg(&config.socket).args(["--namespace", &config.namespace]);
    let text = crate::registry::run(command.args(args));
    text.lines().skip(1).map(str::to_owned).collect()
}

/// `MILL_TEST_LIVES=200` for more than fits the tests' time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lives_leave_nothing() {
    let lives = std::env::var("MILL_TEST_LIVES").map_or(20, |text| text.parse().unwrap());
    let node = Node::start().await;
    let service = shell(&node, "exec sleep 100000").await;
    let spec = node.deploy("web", service);
    let warm = node.place("web", &spec, 1).remove(0);
    node.phase(&warm, Phase::Running).await;
    node.stop(&warm);
    node.phase(&warm, Phase::Stopped).await;
    let (snapshots, leases) = (ctr(&node, &["snapshots", "ls"]), ctr(&node, &["leases", "ls"]));
    let begun = Instant::now();
    for first in (0..lives).step_by(10) {
        let name = format!("many{first}");
        let service = shell(&node, "exec sleep 100000").await;
        let spec = node.deploy(&name, service);
        let ids = node.place(&name, &spec, 10.min(lives - first));
        for id in &ids {
            node.phase(id, Phase::Running).await;
            node.stop(id);
        }
        for id in &ids {
            node.phase(id, Phase::Stopped).await;
        }
    }
    println!("{lives} lives in {:?}", begun.elapsed());
    let nothing = async || {
        let left = leftovers(&node).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    };
    poll_async(nothing).secs(20).expect_async("nothing is left").await;
    assert_eq!(ctr(&node, &["snapshots", "ls"]), snapshots);
    assert_eq!(ctr(&node, &["leases", "ls"]), leases);
    assert_eq!(ctr(&node, &["containers", "ls"]), Vec::<String>::new());
}
