//! What a node's parts may suffer without a container noticing: `kill -9` of the daemon and of
//! containerd.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{TestDaemon, files};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// The node's processes with this in their command line.
fn processes(node: &TestDaemon, word: &str) -> Vec<i32> {
    let left = node.leftovers();
    let lines = left.iter().filter_map(|line| line.strip_prefix("process "));
    lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, command)| command.contains(word))
        .map(|(id, _)| id.parse().unwrap())
        .collect()
}

fn end(id: i32) {
    kill(Pid::from_raw(id), Signal::SIGKILL).unwrap();
}

/// The highest number that `chatty` has logged, with a check that none is missing.
fn last_line(node: &TestDaemon) -> usize {
    let out = node.mill(["logs", "chatty"]).ok();
    let mut numbers: Vec<usize> = out
        .lines()
        .filter_map(|line| line.split_once("| line "))
        .map(|(_, number)| number.parse().unwrap())
        .collect();
    // Each tenth line is on stderr, and between two streams only the program knows the order.
    numbers.sort_unstable();
    let wanted: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, wanted, "a gap in the log, or a line twice");
    numbers.len()
}

fn chatty(registry: &Registry) -> String {
    let image = registry.image("chatty:v1");
    files::service("chatty", &image, "env { COUNT \"5\"; EVERY \"0.05\" }")
}

#[test]
fn a_killed_daemon_finds_its_containers_again() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let _ = node.up(&chatty(&registry)).ok();
    let before = processes(&node, "/start");
    assert_eq!(before.len(), 1, "{:?}", node.leftovers());
    let allocation = node.allocations("chatty")[0].clone();
    node.kill();
    node.restart();
    assert_eq!(processes(&node, "/start"), before);
    let after = poll(|| {
        let after = node.allocations("chatty").first().cloned();
        after.filter(|after| after["status"] == "running")
    })
    .secs(20)
    .expect("the adopted allocation");
    for field in ["id", "restarts", "started_at"] {
        assert_eq!(after[field], allocation[field], "{field}");
    }
    let seen = last_line(&node);
    poll(|| last_line(&node) > seen + 5).secs(20).expect("further lines, without a gap");
}

#[test]
fn a_killed_containerd_finds_its_containers_again() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&chatty(&registry)).ok();
    let before = processes(&node, "/start");
    let containerd = processes(&node, "containerd --config");
    assert_eq!(containerd.len(), 1, "{:?}", node.leftovers());
    end(containerd[0]);
    poll(|| {
        let now = processes(&node, "containerd --config");
        now.len() == 1 && now != containerd
    })
    .secs(20)
    .expect("another containerd");
    assert_eq!(processes(&node, "/start"), before);
    let seen = last_line(&node);
    poll(|| last_line(&node) > seen + 5).secs(20).expect("further lines, without a gap");
    let _ = node.mill(["scale", "chatty", "2"]).ok();
    assert_eq!(node.allocations("chatty")[0]["restarts"], 0);
}

#[test]
fn a_container_that_ended_meanwhile_is_noticed() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let _ = node.up(&chatty(&registry)).ok();
    let before = processes(&node, "/start");
    node.kill();
    end(before[0]);
    node.restart();
    let allocation = poll(|| {
        let now = node.allocations("chatty").first().cloned();
        now.filter(|now| now["restarts"] == 1 && now["status"] == "running")
    })
    .secs(30)
    .expect("its second start");
    assert_eq!(allocation["exit"]["code"], 137, "{allocation}");
    let now = processes(&node, "/start");
    assert!(now.len() == 1 && now != before, "{now:?} {before:?}");
}

#[test]
fn probes_by_command_go_on_and_leave_no_process() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let more = "command \"/bin/sleep\" \"7001\"\n    \
                health exec=\"/bin/sleep 7002\" interval=\"1s\" timeout=\"100s\"";
    let text = files::service("web", &registry.image("busybox:v1"), more);
    let file = node.file("test.mill", &text);
    let _ = node.mill(["up", "--detach", "-f", file.to_str().unwrap()]).ok();
    let probes = |node: &TestDaemon| processes(node, "sleep 7002");
    let one = |other: i32| move |now: &Vec<i32>| now.len() == 1 && now[0] != other;
    let await_one = |node: &TestDaemon, other: i32| {
        let now = poll(|| Some(probes(node)).filter(one(other))).secs(30).expect("one probe");
        now[0]
    };
    let first = await_one(&node, 0);
    let program = processes(&node, "sleep 7001");
    node.kill();
    assert_eq!(probes(&node), [first], "it runs on without the daemon");
    node.restart();
    let second = await_one(&node, first);
    let containerd = processes(&node, "containerd --config");
    end(containerd[0]);
    let other = || Some(processes(&node, "containerd --config")).filter(|now| *now != containerd);
    poll(|| other().filter(|now| now.len() == 1)).secs(20).expect("another containerd");
    poll(|| node.mill(["image", "list"]).code == Some(0)).secs(20).expect("it to answer");
    // The next one comes, whoever noticed its end; and that of a later one is told, at the latest
    // once mill hears containerd's events again.
    end(second);
    let mut last = await_one(&node, second);
    let seen = poll(|| {
        end(last);
        last = await_one(&node, last);
        let seen = node.allocations("web")[0].to_string();
        if seen.contains("exited 137") { Ok(seen) } else { Err(seen) }
    });
    let seen = seen.secs(20).expect("the killed probe");
    assert!(seen.contains("/bin/sleep 7002 → exited 137"), "{seen}");
    assert_eq!(processes(&node, "sleep 7001"), program);
}

/// Shims of a test that stand still; they go on when this is dropped.
struct Still(Vec<i32>);

impl Still {
    fn stop(&mut self, id: i32) {
        kill(Pid::from_raw(id), Signal::SIGSTOP).unwrap();
        self.0.push(id);
    }

    fn go_on(&mut self) {
        for id in self.0.drain(..) {
            // It may have ended.
            let _ = kill(Pid::from_raw(id), Signal::SIGCONT);
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[test]
fn restarts_of_the_daemon_end_no_container() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let more = "replicas 4; stop grace=\"1s\"; command \"sleep\" \"9001\"\n    \
                health exec=\"/bin/true\" interval=\"100ms\" timeout=\"2s\"";
    let text = files::service("web", &registry.image("busybox:v1"), more);
    let _ = node.up(&text).ok();
    let programs = processes(&node, "sleep 9001");
    assert_eq!(programs.len(), 4);
    let shims = processes(&node, "containerd-shim");
    let mut still = Still(Vec::new());
    let begun = Instant::now();
    let mut restarts = 0;
    while restarts < 50 && begun.elapsed() < Duration::from_secs(40) {
        // Longer than containerd waits for a shim, over several lives of the daemon.
        if restarts % 10 == 5 {
            still.stop(shims[restarts / 10 % shims.len()]);
        } else if restarts % 10 == 0 {
            still.go_on();
        }
        if restarts % 2 == 0 {
            node.kill();
        } else {
            let _ = node.stop();
        }
        node.restart();
        restarts += 1;
    }
    println!("{restarts} restarts in {:?}", begun.elapsed());
    let still_at = Instant::now();
    still.stop(shims[0]);
    node.kill();
    node.restart();
    let unclear = Duration::from_secs(6);
    poll(|| still_at.elapsed() > unclear).secs(10).expect("a shim that stood still");
    still.go_on();
    let healthy = || {
        let all = node.allocations("web");
        let fine = |one: &serde_json::Value| one["health"] == "healthy" && one["restarts"] == 0;
        if all.len() == 4 && all.iter().all(fine) { Ok(()) } else { Err(all) }
    };
    poll(healthy).secs(30).expect("all of them to be healthy");
    assert_eq!(processes(&node, "sleep 9001"), programs, "the same processes");
    let stopped = Instant::now();
    let _ = node.mill(["down", "web", "--yes"]).ok();
    poll(|| processes(&node, "sleep 9001").is_empty()).secs(60).expect("the end of all");
    // Not a bound on speed: a runtime that waits for the reader of a probe that has gone ends
    // nothing for 30 s.
    assert!(stopped.elapsed() < Duration::from_secs(30), "{:?}", stopped.elapsed());
}

#[test]
fn a_lost_shim_and_a_reboot_end_in_the_next_attempt() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let text = files::service(
        "web",
        &registry.image("busybox:v1"),
        "replicas 2; stop grace=\"1s\"; command \"sleep\" \"8001\"",
    );
    let _ = node.up(&text).ok();
    let programs = processes(&node, "sleep 8001");
    assert_eq!(programs.len(), 2);
    let shims = processes(&node, "containerd-shim");
    assert_eq!(shims.len(), 2, "{:?}", node.leftovers());
    end(shims[0]);
    let attempts = |restarts: [u64; 2]| {
        let all = node.allocations("web");
        let mut now: Vec<u64> = all.iter().map(|a| a["restarts"].as_u64().unwrap()).collect();
        now.sort_unstable();
        let running = all.iter().all(|a| a["status"] == "running" && a["health"] == "healthy");
        if running && now == restarts { Ok(()) } else { Err(all) }
    };
    poll(|| attempts([0, 1])).secs(30).expect("the next attempt of the one without a shim");
    let now = processes(&node, "sleep 8001");
    assert!(now.len() == 2 && now != programs, "{programs:?} {now:?}");
    node.lose_power();
    assert!(processes(&node, "sleep 8001").is_empty());
    node.restart();
    let node = &node;
    let all = poll(|| {
        let all = node.allocations("web");
        let running = all.iter().all(|a| a["status"] == "running" && a["health"] == "healthy");
        let restarts: u64 = all.iter().map(|one| one["restarts"].as_u64().unwrap()).sum();
        if running && restarts == 3 { Ok(all) } else { Err(all) }
    })
    .secs(60)
    .expect("the next attempt of both");
    for one in &all {
        assert_eq!(one["exit"]["reason"], "lost", "{one}");
    }
    assert_eq!(processes(node, "sleep 8001").len(), 2);
}

/// A containerd that hangs is a state of its node, which is told and gets nothing new, until it
/// answers again.
#[test]
fn a_containerd_that_hangs_is_told_and_its_node_gets_nothing_new() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&chatty(&registry)).ok();
    let containerd = processes(&node, "containerd --config");
    assert_eq!(containerd.len(), 1, "{:?}", node.leftovers());
    let halted = Halted::new(containerd[0]);
    let first = || node.mill(["nodes", "--json"]).json()[0].clone();
    poll(|| first()["status"] == "degraded").secs(40).expect("that it doesn't answer");
    let told = first();
    assert!(told["cpu"]["used"].is_null() && told["memory"]["used"].is_null(), "{told}");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("containerd doesn't answer for "), "{message}");
    let status = node.mill(["status"]).ok();
    assert!(status.contains("0/1 nodes") && status.contains("doesn't answer for "), "{status}");
    let image = registry.image("chatty:v1");
    let two = "replicas 2; env { COUNT \"5\"; EVERY \"0.05\" }";
    let file = node.file("two.mill", &files::service("chatty", &image, two));
    let _ = node.mill(["up", "--detach", file.to_str().unwrap()]).ok();
    let waits = || node.mill(["ps"]).ok().contains("chatty-1 ");
    poll(waits).secs(20).expect("a replica that waits");
    assert!(node.mill(["why", "chatty"]).ok().contains("degraded"));
    drop(halted);
    poll(|| first()["status"] == "ready").secs(60).expect("that it answers again");
    let healthy = || {
        let all = node.allocations("chatty");
        all.iter().filter(|one| one["health"] == "healthy").count() == 2
    };
    poll(healthy).secs(60).expect("both replicas");
    assert_eq!(node.allocations("chatty")[0]["restarts"], 0);
}

/// A process that stands still until this is dropped.
struct Halted(Pid);

impl Halted {
    fn new(id: i32) -> Self {
        kill(Pid::from_raw(id), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(id))
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        // It may be gone.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
