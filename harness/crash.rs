//! A process that writes to a log until it is killed, and what its parent knows of it.
//!
//! Owns both sides of the crash rounds: the child appends and says what was acknowledged, the
//! parent kills it and checks the next one. Never trusts a child about what it had said before.

use crate::raft::ListNode;
use mill::consensus::raft::frame::{self, Found};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

const DIR: &str = "MILL_TEST_CRASH_DIR";
const BASE: &str = "MILL_TEST_CRASH_BASE";
/// Large enough that rounds run into new segments, snapshots and compaction.
const ENTRY: usize = 4096;
const WRITERS: u64 = 8;

/// In a child, writes until killed and doesn't return; in the parent it returns at once.
pub fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let base = std::env::var(BASE).ok().and_then(|n| n.parse().ok()).expect("a number");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    let code = runtime.block_on(write_on(Path::new(&dir), base));
    std::process::exit(code);
}

async fn write_on(dir: &Path, base: u64) -> i32 {
    let node = match ListNode::start(dir, ENTRY).await {
        Ok(node) => Arc::new(node),
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let machine = node.machine.clone();
    let begun = node.until("current or ended", |m| {
        m.fatal.is_some() || m.confirmed.is_some_and(|c| m.index >= c)
    });
    let list: Vec<String> = begun.await.list.iter().map(u64::to_string).collect();
    println!("list {}", list.join(" "));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let node = Arc::clone(&node);
        tasks.spawn(async move {
            for nth in 0.. {
                let number = base + nth * WRITERS + writer;
                if node.propose(number, number).await.is_none() {
                    return;
                }
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {number}").and_then(|()| out.flush()).expect("the pipe");
            }
        });
    }
    tasks.join_all().await;
    let fatal = machine.borrow().fatal.clone();
    eprintln!("{}", fatal.expect("writers only end with raft"));
    1
}

/// What the parent knows.
#[derive(Default)]
pub struct Known {
    /// The list that the last child found, in order.
    pub list: Vec<u64>,
    /// What any child acknowledged.
    pub acknowledged: BTreeSet<u64>,
}

/// A running child.
pub struct Writing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writing {
    /// Starts a child of the test with this name, its numbers from `base` on; `prefix` is a
    /// command to run it under.
    pub fn start(test: &str, dir: &Path, base: u64, prefix: &[&str]) -> Self {
        let own = std::env::current_exe().expect("the test's own path");
        let mut words: Vec<&str> = prefix.to_vec();
        let own = own.to_str().expect("a plain path");
        words.extend([own, test, "--exact", "--nocapture"]);
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .env(DIR, dir)
            .env(BASE, base.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    /// Takes in what the child says until there is enough of it, or it ends.
    pub fn listen(&mut self, known: &mut Known, acknowledgements: usize) {
        let mut seen = 0;
        let mut line = String::new();
        while seen < acknowledgements && self.lines.read_line(&mut line).expect("its output") > 0 {
            seen += usize::from(known.take(line.trim_end()));
            line.clear();
        }
    }

    /// Kills it and takes in the rest.
    pub fn kill(mut self, known: &mut Known) {
        self.child.kill().expect("it can be killed");
        self.listen(known, usize::MAX);
        self.child.wait().expect("it ends");
    }

    /// Waits until it ends by itself; answers how and what it said.
    pub fn wait(mut self, known: &mut Known) -> (ExitStatus, String) {
        self.listen(known, usize::MAX);
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("its errors");
        stderr.read_to_string(&mut said).expect("its errors");
        (self.child.wait().expect("it ends"), said)
    }
}

impl Known {
    /// A line of a child; true for an acknowledgement. A list must hold all that is known.
    fn take(&mut self, line: &str) -> bool {
        if let Some(number) = line.strip_prefix("ack ") {
            // A line that the kill cut off is no acknowledgement that anybody saw.
            return number.parse().is_ok_and(|n| self.acknowledged.insert(n));
        }
        // The test runner's own words come before it in the same line.
        if let Some((_, numbers)) = line.split_once("list ") {
            let list: Vec<u64> =
                numbers.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            let there: BTreeSet<u64> = list.iter().copied().collect();
            let lost: Vec<_> = self.acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            assert!(list.starts_with(&self.list), "what was applied before is there, in order");
            assert_eq!(there.len(), list.len(), "nothing is there twice");
            self.list = list;
        }
        false
    }
}

/// Writes garbage where the next record would go, as a write that the power cut short might have.
pub fn tear(dir: &Path, garbage: &[u8]) {
    let newest = |name: &str| name.starts_with("log-") && !name.ends_with("tmp");
    let files = std::fs::read_dir(dir).expect("the log").map(|e| e.expect("a file").path());
    let mut logs: Vec<PathBuf> =
        files.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(newest)).collect();
    logs.sort();
    let Some(path) = logs.pop() else { return };
    let bytes = std::fs::read(&path).expect("the segment");
    let (salt, mut sequence) = frame::parse_segment_head(&bytes).expect("its head");
    let mut at = frame::SEGMENT_HEADER;
    while let Found::Record { size, .. } = frame::record(&bytes[at..], salt, sequence) {
        at += size;
        sequence += 1;
    }
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the segment");
    file.write_all_at(garbage, at as u64).expect("garbage");
}
