//! The figures of logs: what the way from a program's output to the disk takes, beside containerd's
//! own `file://`.
//!
//! Never reads the logs back but for their last line.

use super::node::{down, loggers, processor_time};
use super::report::Row;
use super::side::Side;
use crate::poll::poll;
use crate::registry::Registry;
use crate::support::TestDaemon;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// How it was measured.
pub const NOTES: &str = "
- One container, lines of 100 bytes. The flood is 1 GB written in large pieces, as fast as it is
  taken; at 10,000 lines a second the program writes each line by itself, in bursts of 100.
  Processor time is that of the shim, with mill's logger; with `file://` the shim copies by itself,
  without times, streams or rotation. Medians of three.
";

/// Bytes of a line, with its newline.
const LINE: usize = 100;
/// The flood: 20 MB of lines, so many times.
const FLOOD: (usize, usize) = (200_000, 50);
const RUNS: usize = 3;

/// Writes the lines in large pieces as fast as they are taken, says how long that took, and stays.
fn flood() -> String {
    let (lines, times) = FLOOD;
    program(&format!(
        "yes {line} | head -n {lines} >/tmp/lines; read a x </proc/uptime; \
         for i in $(seq {times}); do cat /tmp/lines; done",
        line = "x".repeat(LINE - 1),
    ))
}

/// Writes 10,000 lines a second for five seconds, each by itself.
fn steady() -> String {
    program(&format!(
        "read a x </proc/uptime; for i in $(seq 500); do for j in $(seq 100); do \
         echo {line}; done; usleep 8000; done",
        line = "x".repeat(LINE - 1),
    ))
}

fn program(work: &str) -> String {
    format!("{work}; read b x </proc/uptime; echo took $a $b; exec sleep 100000")
}

/// What one run took: on the clock and of the processors.
#[derive(Clone, Copy)]
struct Taken {
    clock: f64,
    processor: Duration,
}

/// From `took 12.3 14.5`.
fn seconds(last: &str) -> Option<f64> {
    let (from, to) = last.trim_end().rsplit_once("took ")?.1.split_once(' ')?;
    Some(to.parse::<f64>().ok()? - from.parse::<f64>().ok()?)
}

/// The processes with all these words in their command lines.
fn processes(words: &[&str]) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        words.iter().all(|word| line.contains(word))
    })
    .collect()
}

/// By mill: the logger and the shim.
fn ours(node: &TestDaemon, image: &str, script: &str) -> Taken {
    let file = format!(
        "service \"bench\" {{\n    image \"{image}\"\n    memory \"64M\"\n    \
         command \"sh\" \"-c\" \"{script}\"\n}}\n"
    );
    let _ = node.up(&file).ok();
    let mut all = node.allocations("bench");
    all.retain(|one| one["status"] == "running");
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let last = || node.mill(["logs", &id, "-n", "1"]).ok();
    let clock = poll(|| seconds(&last())).secs(120).expect("the program's last line");
    let shims = processes(&["containerd-shim", &id]);
    let loggers = loggers(&node.data());
    assert_eq!((shims.len(), loggers.len()), (1, 1));
    let processor = shims.into_iter().chain(loggers).map(processor_time).sum();
    down(node);
    Taken { clock, processor }
}

/// By containerd's `file://`: the shim copies.
fn theirs(side: &Side, script: &str) -> Taken {
    let log = side.folder().join("log");
    let uri = format!("file://{}", log.display());
    let run = ["run", "--detach", "--log-uri", &uri, "busybox:v1", "loud", "sh", "-c", script];
    side.ctr(&run);
    let clock = poll(|| seconds(&end_of(&log))).secs(120).expect("the program's last line");
    let shims = processes(&["containerd-shim", side.socket().to_str().unwrap()]);
    assert_eq!(shims.len(), 1);
    let processor = shims.into_iter().map(processor_time).sum();
    side.clear();
    fs::remove_file(log).unwrap();
    Taken { clock, processor }
}

fn end_of(file: &Path) -> String {
    let mut file = File::open(file).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length.saturating_sub(64))).unwrap();
    let mut end = String::new();
    file.read_to_string(&mut end).unwrap();
    end
}

/// The median by the clock, with that run's processor time.
fn median(mut runs: Vec<Taken>) -> Taken {
    runs.sort_by(|one, other| one.clock.total_cmp(&other.clock));
    runs[runs.len() / 2]
}

/// Throughput, and what it costs.
pub fn figures() -> Vec<Row> {
    let registry = Registry::start();
    let image = registry.image("busybox:v1");
    let node = TestDaemon::start();
    let side = Side::start();
    side.import("busybox:v1");
    let both = |script: &str| {
        let runs = (0..RUNS).map(|_| (ours(&node, &image, script), theirs(&side, script)));
        let (ours, theirs) = runs.unzip();
        (median(ours), median(theirs))
    };
    let bytes = (LINE * FLOOD.0 * FLOOD.1) as f64;
    let rate = |taken: Taken| {
        let gigabyte = taken.processor.as_secs_f64() * 1e9 / bytes;
        format!("{:.0} MB/s, {gigabyte:.2} s of processor time a GB", bytes / taken.clock / 1e6)
    };
    let share = |taken: Taken| {
        let share = taken.processor.as_secs_f64() / taken.clock * 100.0;
        let lines = 50_000.0 / taken.clock;
        format!("{share:.1} % of a core at {lines:.0} lines/s")
    };
    let flood = both(&flood());
    let steady = both(&steady());
    let row = |figure, mill, peer| Row {
        figure,
        mill,
        peer: format!("`file://` {peer}"),
        aim: "-",
        met: None,
    };
    vec![
        row("a flood of log lines of 100 bytes", rate(flood.0), rate(flood.1)),
        row("10,000 log lines a second", share(steady.0), share(steady.1)),
    ]
}
