//! Logs: what programs write comes out whole, in order, once, whatever happens to the daemon.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::api::Events;
use crate::support::{TestDaemon, files};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A service that runs a shell script of busybox.
fn script(registry: &Registry, name: &str, text: &str) -> String {
    let command = format!("command \"/bin/sh\" \"-c\" #\"{text}\"#");
    files::service(name, &registry.image("busybox:v1"), &command)
}

/// The lines of `mill logs … --json`.
#[track_caller]
fn lines<'a>(node: &TestDaemon, args: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    let args = ["logs", "--json"].into_iter().chain(args);
    let out = node.mill(args).ok();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(line: &Value) -> &str {
    line["line"].as_str().unwrap()
}

fn of<'a>(lines: &'a [Value], stream: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line["stream"] == stream).map(text).collect()
}

/// The numbers of lines that `chatty` wrote, sorted: each tenth is on stderr, and between two
/// streams only the program knows the order.
fn numbers(lines: &[Value]) -> Vec<usize> {
    let mut numbers: Vec<usize> = lines.iter().map(|line| number(text(line))).collect();
    numbers.sort_unstable();
    numbers
}

/// The number in `line 17`.
fn number(line: &str) -> usize {
    line.rsplit_once("line ").unwrap().1.parse().unwrap()
}

fn chatty(registry: &Registry, more: &str) -> String {
    files::service("chatty", &registry.image("chatty:v1"), more)
}

#[test]
fn whatever_a_program_writes_comes_out_as_it_was() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let program = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo oops >&2; \
                   printf 'a\\tb\\r\\n\\n\\377\\n'; printf 'no newline'; exec >&2; sleep 1000";
    let _ = node.up(&script(&registry, "odd", program)).ok();
    let all = poll(|| {
        let all = lines(&node, ["odd"]);
        (all.len() >= 5).then_some(all)
    })
    .secs(20)
    .expect("the lines");
    let out = of(&all, "stdout");
    assert_eq!(out.len(), 4, "{:?}", out.iter().map(|line| line.len()).collect::<Vec<_>>());
    assert!(out[0].len() == 1_000_000 && out[0].bytes().all(|byte| byte == b'x'));
    assert_eq!(out[1..], ["a\tb\r", "", "\u{fffd}"]);
    assert_eq!(of(&all, "stderr"), ["oops"]);
    let allocation = node.allocations("odd")[0]["id"].clone();
    assert!(all.iter().all(|line| line["allocation"] == allocation && line["node"].is_string()));
    let id = allocation.as_str().unwrap();
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    let after = lines(&node, [id]);
    assert_eq!(of(&after, "stdout")[1..], ["a\tb\r", "", "\u{fffd}", "no newline"]);
}

#[test]
fn tail_and_since_cut_the_beginning_off() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&chatty(&registry, "env { COUNT \"3000\" }")).ok();
    let all = || {
        let all = lines(&node, ["chatty"]);
        (all.len() == 3000).then_some(all)
    };
    let all = poll(all).secs(20).expect("all lines");
    assert!(numbers(&all).into_iter().eq(1..=3000));
    let tail = lines(&node, ["chatty", "-n", "25"]);
    assert_eq!(tail, all[2975..]);
    assert_eq!(lines(&node, ["chatty", "--since", "1h"]).len(), 3000);
    assert_eq!(lines(&node, ["chatty", "-n", "0"]).len(), 0);
    let at = tail[4]["ts"].as_str().unwrap();
    let path = format!("/v1/logs/chatty?since={at}");
    let since = node.api().request("GET", &path).events();
    let since: Vec<Value> = since.map(|event| event.data).collect();
    // To the millisecond, so some that are a little older come too.
    assert!(since.len() >= 21 && all.ends_with(&since), "{} lines", since.len());
    node.api().request("GET", "/v1/logs/chatty?since=soon").send().error(400, "bad_request");
    node.api().request("GET", "/v1/logs/nobody").send().error(404, "not_found");
}

fn next_line(events: &mut Events) -> (String, usize) {
    let event = events.find(|event| event.data["line"].is_string()).expect("another line");
    (event.id, number(event.data["line"].as_str().unwrap()))
}

#[test]
fn a_stream_that_broke_is_resumed_without_gap_or_double() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&chatty(&registry, "env { COUNT \"50\"; EVERY \"0.02\" }")).ok();
    let api = node.api();
    let mut events = api.request("GET", "/v1/logs/chatty?follow=true&tail=2").events();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut id = String::new();
        for _ in 0..20 {
            let number;
            (id, number) = next_line(&mut events);
            seen.push(number);
        }
        let request = api.request("GET", "/v1/logs/chatty?follow=true&tail=2");
        events = request.header("Last-Event-ID", &id).events();
    }
    seen.sort_unstable();
    // The last ones may lack a line that the other stream had ready.
    let (first, sure) = (seen[0], &seen[..90]);
    assert!(first >= 40 && sure.iter().copied().eq(first..first + 90), "{seen:?}");
}

/// `mill logs -f` in the background, writing to a file.
struct Follower {
    child: Child,
    file: std::path::PathBuf,
}

impl Follower {
    fn start(node: &TestDaemon, name: &str) -> Self {
        let file = node.file("follower.out", "");
        let mut command = node.command(["logs", "-f", name]);
        let child = command.stdout(File::create(&file).unwrap()).stderr(Stdio::null());
        Self { child: child.spawn().unwrap(), file }
    }

    fn numbers(&self) -> Vec<usize> {
        let text = fs::read_to_string(&self.file).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter(|line| line.contains("| line ")).map(number).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_follows_misses_nothing_while_the_daemon_is_away() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let _ = node.up(&chatty(&registry, "env { COUNT \"5\"; EVERY \"0.02\" }")).ok();
    let follower = Follower::start(&node, "chatty");
    for _ in 0..2 {
        let seen = follower.numbers().len();
        poll(|| follower.numbers().len() > seen + 20).secs(20).expect("further lines");
        node.kill();
        node.restart();
    }
    let seen = follower.numbers().len();
    poll(|| follower.numbers().len() > seen + 20).secs(20).expect("lines after the restarts");
    let mut numbers = follower.numbers();
    numbers.sort_unstable();
    let sure = &numbers[..numbers.len() - 10];
    assert!(sure.iter().copied().eq(1..=sure.len()), "{numbers:?}");
}

#[test]
fn the_attempt_before_a_restart_can_still_be_read() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let program = "echo this is $(cat /proc/sys/kernel/random/uuid); exec sleep 1000";
    let _ = node.up(&script(&registry, "again", program)).ok();
    let said = |args: &[&str]| {
        let all = lines(&node, args.iter().copied());
        (all.len() == 1).then(|| text(&all[0]).to_owned())
    };
    let first = poll(|| said(&["again"])).secs(20).expect("its first words");
    assert_eq!(said(&["again", "--previous"]), None);
    let left = node.leftovers();
    let process = left.iter().find(|line| line.contains("sleep 1000")).unwrap();
    let pid = process.split(' ').nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let second = poll(|| said(&["again"]).filter(|words| *words != first)).secs(30);
    let second = second.expect("its second words");
    assert!(second.starts_with("this is ") && second != first);
    assert_eq!(said(&["again", "--previous"]).as_deref(), Some(first.as_str()));
    // A run has one attempt: once it has ended, that is it.
    let image = registry.image("busybox:v1");
    let spawn = ["spawn", "--image", &image, "--memory", "32M", "--", "sh", "-c", "echo ran"];
    let run = node.mill(spawn).ok().trim().to_owned();
    let ran = poll(|| said(&[&run, "--previous"])).secs(30);
    assert_eq!(ran.expect("what it said").as_str(), "ran");
}

#[test]
fn clients_that_leave_cost_nothing() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&chatty(&registry, "env { EVERY \"0.05\" }")).ok();
    let files = || fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    let api = node.api();
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut events = api.request("GET", "/v1/logs?follow=true&tail=1").events();
        let _ = next_line(&mut events);
        held.push(events);
    }
    let during = files();
    drop(held);
    poll(|| if files() <= during - 10 { Ok(()) } else { Err(files()) })
        .secs(20)
        .expect("the sockets and files of those who left to be closed");
}

#[test]
fn a_program_that_writes_much_is_bounded_and_stays_readable() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let program = "i=0; t=$(head -c 8000 /dev/zero | tr '\\0' x); while [ $i -lt 12000 ]; \
                   do i=$((i + 1)); echo $t line $i; done; exec sleep 1000";
    let _ = node.up(&script(&registry, "loud", program)).ok();
    let last = || lines(&node, ["loud", "-n", "1"]).first().map(|line| number(text(line)));
    poll(|| last() == Some(12_000)).secs(60).expect("the last line");
    let id = node.allocations("loud")[0]["id"].as_str().unwrap().to_owned();
    let folder = node.data().join("logs").join(&id);
    let size: u64 =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 80 << 20, "{size} bytes");
    let tail = lines(&node, ["loud", "-n", "1500"]);
    assert!(tail.iter().map(|line| number(text(line))).eq(10_501..=12_000));
}

/// How far a program's lines lag behind it: each says the time since boot when it was written.
fn lags(node: &TestDaemon, over: impl Fn() -> bool) -> Vec<Duration> {
    let mut lags = Vec::new();
    let mut events = node.api().request("GET", "/v1/logs/quiet?follow=true&tail=0").events();
    while !over() {
        let event = events.next().expect("a further line");
        let Some(line) = event.data["line"].as_str() else { continue };
        let written = Duration::from_secs_f64(line.parse().unwrap());
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
        lags.push(now.saturating_sub(written));
    }
    lags
}

/// Writes lines as fast as a shell can, checks that all came out in order, gives lines a second.
fn flood(node: &TestDaemon, image: &str) -> f64 {
    const LINES: usize = 100_000;
    let program = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i + 1)); \
         echo \"GET /some/path?with=query 200 in 3ms for somebody line $i\"; done"
    );
    let spawn = ["spawn", "--image", image, "--memory", "32M", "--wait", "--", "sh", "-c"];
    let seen = node.mill(spawn.into_iter().chain([program.as_str()])).ok();
    assert!(seen.lines().map(number).eq(1..=LINES), "who follows sees each once");
    let id = node.api().get("/v1/tasks")[0]["id"].as_str().unwrap().to_owned();
    let all = lines(node, [id.as_str()]);
    assert!(all.iter().map(|line| number(text(line))).eq(1..=LINES), "{} lines", all.len());
    let at = |line: &Value| line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = at(all.last().unwrap()).duration_since(at(&all[0]));
    LINES as f64 / took.as_secs_f64()
}

#[test]
fn ten_thousand_lines_a_second_are_all_there_and_slow_nobody() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let program = "while read up idle </proc/uptime; do echo $up; usleep 50000; done";
    let quiet = format!(
        "service \"quiet\" {{\n image \"{image}\"\n memory \"32M\"\n \
         command \"sh\" \"-c\" \"{program}\"\n}}\n"
    );
    let _ = node.up(&quiet).ok();
    // One who follows everything and reads nothing must not hold the others up either.
    let _idle = node.api().request("GET", "/v1/logs?follow=true&tail=0").events();
    let floods = || {
        // Other tests may have the processors: then once more.
        let mut rates = Vec::new();
        while rates.len() < 5 && !rates.iter().any(|rate| *rate > 10_000.0) {
            rates.push(flood(&node, &image));
        }
        rates
    };
    let (lags, rates) = std::thread::scope(|scope| {
        let floods = scope.spawn(floods);
        (lags(&node, || floods.is_finished()), floods.join().unwrap())
    });
    assert!(rates.iter().any(|rate| *rate > 10_000.0), "{rates:.0?} lines a second");
    let longest = lags.iter().max().expect("lines of the quiet one");
    assert!(lags.len() > 10 && *longest < Duration::from_secs(3), "{longest:?}: {lags:?}");
}
