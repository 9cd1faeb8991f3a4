//! Health in real containers: probes by command, what they leave, and what becomes of traffic.

use super::parts::publish;
use super::support::Node;
use super::{container, free_port, get};
use crate::poll::{poll, poll_async};
use mill::actors::platform::containerd::TaskState;
use mill::actors::platform::exec::Probed;
use mill::fsm::model::{AllocationStatus, ExitReason, Health, Phase};
use mill::id::{Attempt, ContainerId};
use mill::spec::model::{EnvPart, EnvValue, HealthProbe, ServiceSpec};
use mill::units::Millis;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell(script: &str) -> Vec<String> {
    words(&["/bin/sh", "-c", script])
}

/// A program that does nothing, probed by that script.
async fn probed(node: &Node, script: &str) -> ServiceSpec {
    let mut service = node.service("busybox:v1").await;
    service.run.command = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    service.health.probe = HealthProbe::Exec(shell(script));
    service.health.grace = Millis(500);
    service
}

/// The names of the processes in a container's control group, without `sleep 0.1` of its program.
fn processes(node: &Node, id: &ContainerId) -> Vec<String> {
    let parent = node.platform.places.cgroup();
    let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
    let files = roots.map(|root| format!("{root}{parent}/{id}/cgroup.procs"));
    let procs = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap();
    let command = |pid: &str| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some(line.replace('\0', " ").trim_end().to_owned())
    };
    let all = procs.lines().filter_map(command);
    all.filter(|line| line != "sleep 0.1" && !line.contains("trap")).collect()
}

async fn in_container(node: &Node, id: &ContainerId, script: &str) -> Probed {
    let within = Duration::from_secs(10);
    node.platform.execs.probe(id, &shell(script), within).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_in_the_container_decides_on_health() {
    let node = Node::start().await;
    let mut service = probed(&node, "echo $(id -u):$(id -g) $GREETING; test -e /tmp/ok").await;
    service.run.user = Some("1000:1000".into());
    service.run.env.insert("GREETING".into(), EnvValue(vec![EnvPart::Text("hello".into())]));
    service.health.grace = Millis::secs(30);
    let id = node.run("web", service);
    let told = |seen: &AllocationStatus| seen.message.is_some();
    let seen = node.until(&id, "the failing probe to be told", told).await;
    assert_eq!((seen.phase, seen.health), (Phase::Running, Health::Checking));
    let message = seen.message.unwrap();
    assert!(message.contains("→ exited 1\n1000:1000 hello"), "{message}");
    let first = container(&id, 1);
    assert_eq!(in_container(&node, &first, "touch /tmp/ok").await, Probed::Exited(0, "".into()));
    let seen = node.healthy(&id).await;
    assert_eq!((seen.attempt, seen.message), (Attempt(1), None));
    in_container(&node, &first, "rm /tmp/ok").await;
    let exit = node.phase(&id, Phase::Backoff).await.exit.unwrap();
    assert_eq!(exit.reason, ExitReason::Killed);
    let message = exit.message.unwrap();
    assert!(message.contains("→ exited 1 (3×)\n1000:1000 hello"), "{message}");
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
    assert!(!node.platform.places.execs().exists(), "no pipe is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_leave_nothing_behind() {
    let node = Node::start().await;
    let id = node.run("web", probed(&node, "true").await);
    node.healthy(&id).await;
    let id = container(&id, 1);
    let execs = &node.platform.execs;
    let late = shell("echo begun; sleep 4000 & sleep 3000");
    let short = Duration::from_millis(300);
    assert_eq!(execs.probe(&id, &late, short).await.unwrap(), Probed::Late("begun".into()));
    let long = in_container(&node, &id, "yes 0123456789 | head -n 100000; exit 7").await;
    let Probed::Exited(7, output) = long else { panic!("{long:?}") };
    assert!(output.len() <= 1024 && output.ends_with("\n0123456789"), "{output}");
    let held = execs.probe(&id, &shell("sleep 2 & echo left"), Duration::from_secs(5)).await;
    assert_eq!(held.unwrap(), Probed::Exited(0, "left".into()), "a child holds the output");
    for _ in 0..3 {
        // Given up in the middle, as when its allocation is stopped.
        let given_up = execs.probe(&id, &late, Duration::from_secs(100));
        let _ = tokio::time::timeout(Duration::from_millis(150), given_up).await;
    }
    let missing = execs.probe(&id, &words(&["/no/such"]), short).await.unwrap_err();
    assert!(missing.to_string().starts_with("\"/no/such\" isn't in the image"), "{missing}");
    poll(|| match processes(&node, &id) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .secs(60)
    .expect("no process is left");
    let folder = node.platform.places.execs();
    let own = || match std::fs::read_dir(&folder) {
        // The service's own probe may be under way.
        Ok(entries) => entries.count() <= 1,
        Err(_) => true,
    };
    poll(own).expect("no pipe is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_is_given_up_holds_up_no_stop() {
    let node = Node::start().await;
    let mut service = probed(&node, "true").await;
    service.stop.grace = Millis::secs(1);
    let id = node.run("web", service);
    node.healthy(&id).await;
    let (first, execs, long) = (container(&id, 1), &node.platform.execs, shell("sleep 5"));
    // At every point of its start, as when its actor ends.
    for after in (0..100).step_by(4) {
        let given_up = execs.probe(&first, &long, Duration::from_secs(100));
        let _ = tokio::time::timeout(Duration::from_millis(after), given_up).await;
    }
    let begun = std::time::Instant::now();
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
    // A runtime that waits for a reader of a pipe does so for 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_stands_still_is_no_end() {
    let node = Node::start().await;
    let id = node.run("web", probed(&node, "true").await);
    node.healthy(&id).await;
    let first = container(&id, 1);
    let process = node.containers().await[&first].unwrap();
    let shim = parent(process);
    let still = Still::of(shim);
    node.crash().await;
    node.begin_life(2).await;
    // containerd itself gives up on a shim after 2 s.
    let found = async || {
        let found = node.platform.containerd.list().await.unwrap();
        if found[0].task == TaskState::Unknown { Ok(()) } else { Err(found) }
    };
    poll_async(found).secs(20).expect_async("an unclear answer").await;
    let begun = std::time::Instant::now();
    let late = || begun.elapsed() > Duration::from_secs(6);
    poll_async(async || late()).secs(10).expect_async("several looks").await;
    drop(still);
    node.healthy(&id).await;
    assert_eq!(node.containers().await, BTreeMap::from([(first, Some(process))]));
    assert_eq!((node.seen(&id).attempt, node.seen(&id).restarts), (Attempt(1), 0));
}

/// A process that stands still for as long as this lives.
struct Still(nix::unistd::Pid);

impl Still {
    fn of(pid: nix::unistd::Pid) -> Self {
        nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::SIGCONT);
    }
}

/// The process that has started another.
fn parent(of: u32) -> nix::unistd::Pid {
    let status = std::fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    nix::unistd::Pid::from_raw(line.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_is_late_or_not_there_is_told() {
    let node = Node::start().await;
    let mut late = probed(&node, "echo thinking; sleep 5000").await;
    late.health.timeout = Millis(200);
    let mut absent = probed(&node, "").await;
    absent.health.probe = HealthProbe::Exec(words(&["pg_isready", "-q"]));
    let (late, absent) = (node.run("late", late), node.run("absent", absent));
    let message = |seen: AllocationStatus| seen.exit.unwrap().message.unwrap();
    let late = message(node.phase(&late, Phase::Backoff).await);
    assert!(late.contains("→ no end in 200ms, killed (3×)\nthinking"), "{late}");
    let absent = message(node.phase(&absent, Phase::Backoff).await);
    assert_eq!(absent, "health: \"pg_isready\" isn't in the image; check its path (3×)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_replica_gets_nothing_more_although_it_still_runs() {
    let node = Node::start().await;
    let port = free_port();
    let mut service = node.hello().await;
    service.publish = publish(port);
    // As the first process it doesn't hear SIGTERM.
    service.run.command = words(&["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    service.health.probe = HealthProbe::Exec(shell("! test -e /tmp/broken"));
    service.stop.grace = Millis::secs(60);
    let id = node.run("web", service);
    node.healthy(&id).await;
    let open = || get((Ipv4Addr::LOCALHOST, port)).is_ok();
    poll(open).expect("the published port");
    let first = container(&id, 1);
    in_container(&node, &first, "touch /tmp/broken").await;
    let unhealthy = |seen: &AllocationStatus| seen.health == Health::Unhealthy;
    let seen = node.until(&id, "it to be unhealthy", unhealthy).await;
    poll(|| !open()).secs(3).expect("nothing leads to it");
    assert!(node.containers().await[&first].is_some(), "it still has its time to end");
    assert!(get((seen.address.unwrap(), 8080)).is_ok(), "and answers");
}
