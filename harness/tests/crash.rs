//! Nothing acknowledged is lost: by `kill -9`, a failed sync, a full disk.

use crate::crash::{Known, Writing, child, tear};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Lets a child find what is there, and checks it.
fn check(test: &str, dir: &Path, known: &mut Known, base: u64) {
    let mut writing = Writing::start(test, dir, base, &[]);
    writing.listen(known, 1);
    writing.kill(known);
}

/// `CRASH_ROUNDS` sets how many.
#[test]
fn kill_at_a_random_moment() {
    child();
    let test = "tests::crash::kill_at_a_random_moment";
    let rounds = std::env::var("CRASH_ROUNDS").map_or(60, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("raft");
    let mut known = Known::default();
    for round in 0..rounds {
        let mut writing = Writing::start(test, &log, (round + 1) << 32, &[]);
        // Up to some 2,000 entries: past new segments and snapshots. None: while it starts.
        let enough = rand::random_range(0..40u32).pow(2) as usize;
        writing.listen(&mut known, enough);
        let more = Duration::from_micros(rand::random_range(0..5_000));
        let until = Instant::now() + more;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        writing.kill(&mut known);
        if rand::random_bool(0.3) && log.exists() {
            let size = rand::random_range(1..6_000);
            let garbage: Vec<u8> = (0..size).map(|_| rand::random()).collect();
            tear(&log, &garbage);
        }
    }
    check(test, &log, &mut known, (rounds + 1) << 32);
    assert!(known.acknowledged.len() > rounds as usize, "the rounds wrote something");
    println!("{rounds} rounds, {} acknowledged, none lost", known.acknowledged.len());
}

#[test]
fn a_failed_sync_ends_the_process_and_loses_nothing() {
    child();
    let test = "tests::crash::a_failed_sync_ends_the_process_and_loses_nothing";
    let dir = tempfile::tempdir().unwrap();
    let mut known = Known::default();
    for (round, nth) in [2, 7, 40].into_iter().enumerate() {
        let inject = format!("inject=fdatasync:error=EIO:when={nth}");
        let prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject.as_str()];
        let base = (round as u64 + 1) << 32;
        let (status, said) = Writing::start(test, dir.path(), base, &prefix).wait(&mut known);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("writing the log: "), "{said}");
        assert!(said.contains("Input/output error"), "{said}");
        assert!(said.contains("check the disk, then start mill again"), "{said}");
    }
    check(test, dir.path(), &mut known, 100 << 32);
    assert!(!known.acknowledged.is_empty());
}

/// A small file system of its own, gone with the value.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "mill-test", path.to_str().unwrap()]);
        Self(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

#[test]
fn a_full_disk_ends_the_process_and_loses_nothing() {
    child();
    let test = "tests::crash::a_full_disk_ends_the_process_and_loses_nothing";
    let dir = tempfile::tempdir().unwrap();
    let small = Small::mount(dir.path(), "size=6m");
    let log = dir.path().join("raft");
    let mut known = Known::default();
    let (status, said) = Writing::start(test, &log, 1 << 32, &[]).wait(&mut known);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("free some space and start mill again"), "{said}");
    assert!(known.acknowledged.len() > 100, "the first segment was filled");
    run("mount", &["-o", "remount,size=64m", small.0.to_str().unwrap()]);
    check(test, &log, &mut known, 2 << 32);
}
