//! What the API acknowledged is there after the daemon was killed, its disk failed or was full.

use crate::poll::poll;
use crate::support::{Api, TestDaemon};
use mill::actors::raft::wal::{self, Store};
use mill::consensus::raft::node::Write;
use mill::limits;
use raft::eraftpb::{ConfState, Entry};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const WRITERS: usize = 4;

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Tokens that must be there.
    there: BTreeSet<String>,
    /// Tokens that must be gone.
    gone: BTreeSet<String>,
}

/// Clients that make tokens and revoke every second one, until the daemon is gone.
struct Clients {
    threads: Vec<JoinHandle<()>>,
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

/// One token made and perhaps revoked; false when the daemon didn't answer.
fn one(api: &Api, told: &Mutex<Told>, revoke: bool) -> bool {
    let Ok(made) = api.request("POST", "/v1/tokens").json(&json!({"role": "read"})).try_send()
    else {
        return false;
    };
    if made.status != 201 {
        return false;
    }
    let id = made.json()["id"].as_str().unwrap().to_owned();
    if !revoke {
        told.lock().unwrap().there.insert(id);
        return true;
    }
    let path = format!("/v1/tokens/{id}");
    let done = api.request("DELETE", &path).try_send().is_ok_and(|a| a.status < 300);
    if done {
        told.lock().unwrap().gone.insert(id);
    }
    done
}

impl Clients {
    /// `keep`: one in so many tokens stays.
    fn start(node: &TestDaemon, told: &Arc<Mutex<Told>>, keep: usize) -> Self {
        let (answers, stop) = (Arc::default(), Arc::default());
        let client = |_| {
            let (api, told) = (Api::socket(node.socket()), Arc::clone(told));
            let (answers, stop): (Arc<AtomicUsize>, Arc<AtomicBool>) =
                (Arc::clone(&answers), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let nth = answers.fetch_add(1, Ordering::Relaxed);
                    if !one(&api, &told, nth % keep != 0) {
                        return;
                    }
                }
            })
        };
        let threads = (0..WRITERS).map(client).collect();
        Self { threads, answers, stop }
    }

    fn wait_for(&self, answers: usize) {
        let before = self.answers.load(Ordering::Relaxed);
        poll(|| self.answers.load(Ordering::Relaxed) >= before + answers)
            .secs(60)
            .expect("clients to be answered");
    }

    fn join(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[track_caller]
fn check(node: &TestDaemon, told: &Mutex<Told>) {
    let list = node.api().get("/v1/tokens");
    let ids: BTreeSet<String> =
        list.as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect();
    let told = told.lock().unwrap();
    let lost: Vec<_> = told.there.difference(&ids).collect();
    let back: Vec<_> = told.gone.intersection(&ids).collect();
    assert!(lost.is_empty() && back.is_empty(), "lost: {lost:?}, back again: {back:?}");
    assert!(!told.there.is_empty(), "something was acknowledged");
}

/// `CRASH_ROUNDS` sets how many.
#[test]
fn a_killed_daemon_keeps_what_it_acknowledged() {
    let rounds = std::env::var("CRASH_ROUNDS").map_or(5, |n| n.parse().unwrap());
    let mut node = TestDaemon::start();
    let told = Arc::default();
    for _ in 0..rounds {
        let clients = Clients::start(&node, &told, 10);
        clients.wait_for(rand::random_range(5..150));
        node.kill();
        clients.join();
        node.restart();
        check(&node, &told);
    }
}

/// strace on the daemon's log thread alone; ends with the thread.
struct Tracer(Child);

impl Tracer {
    fn fail_syncs(node: &TestDaemon) -> Self {
        let tasks = format!("/proc/{}/task", node.pid());
        let name = |task: &Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let thread: PathBuf = std::fs::read_dir(tasks)
            .unwrap()
            .map(|task| task.unwrap().path())
            .find(|task| name(task).trim() == "mill-log")
            .expect("the log's thread");
        let id = thread.file_name().unwrap().to_str().unwrap().to_owned();
        let inject = "inject=fdatasync:error=EIO";
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-e", inject, "-p", &id]);
        let tracer = Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let status = thread.join("status");
        poll(|| {
            // The thread may have failed and ended already.
            let Ok(status) = std::fs::read_to_string(&status) else { return true };
            status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
        })
        .expect("strace to attach");
        tracer
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_failed_sync_ends_the_daemon_and_nothing_is_lost() {
    let mut node = TestDaemon::start();
    let told = Arc::default();
    let clients = Clients::start(&node, &told, 2);
    clients.wait_for(20);
    let tracer = Tracer::fail_syncs(&node);
    assert_eq!(node.wait(), Some(1), "{}", node.log());
    clients.join();
    drop(tracer);
    let log = node.log();
    assert!(log.contains("writing the log: "), "{log}");
    assert!(log.contains("Input/output error"), "{log}");
    node.restart();
    check(&node, &told);
}

/// A small file system over a folder, taken away with the value.
struct Small(PathBuf);

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

impl Small {
    /// With what is in the folder now.
    fn over(folder: PathBuf, size: &str) -> Self {
        let aside = folder.with_extension("aside");
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::create_dir(&folder).unwrap();
        run("mount", &["-t", "tmpfs", "-o", size, "mill-test", folder.to_str().unwrap()]);
        let small = Self(folder);
        let all = format!("{}/.", aside.display());
        run("cp", &["-a", &all, small.0.to_str().unwrap()]);
        std::fs::remove_dir_all(&aside).unwrap();
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// Fills the log's segment but for some 50 KiB with entries that say nothing.
fn fill(log: &Path) {
    let opened = wal::open(log, &ConfState::default()).unwrap();
    let (mut wal, found) = (opened.wal, opened.found);
    let context = vec![7; limits::SEGMENT_SIZE as usize / 4 - (16 << 10)];
    for nth in 1..=4 {
        let (index, term) = (found.last + nth, found.hard.term);
        let entry = Entry { index, term, context: context.clone(), ..Entry::default() };
        let hard = found.hard.clone();
        wal.write(&Write { entries: vec![entry], hard, ..Write::default() }).unwrap();
    }
}

#[test]
fn a_full_disk_ends_no_daemon_and_nothing_is_lost() {
    let mut node = TestDaemon::start();
    let told: Arc<Mutex<Told>> = Arc::default();
    let api = Api::socket(node.socket());
    for nth in 0..20 {
        assert!(one(&api, &told, nth % 2 != 0));
    }
    assert_eq!(node.stop(), Some(0));
    let small = Small::over(node.data().join("raft"), "size=9m");
    fill(&small.0);
    node.restart();
    // More than the segment has room for.
    for nth in 0..500 {
        one(&api, &told, nth % 10 != 0);
    }
    assert!(node.is_running(), "{}", node.log());
    run("mount", &["-o", "remount,size=64m", small.0.to_str().unwrap()]);
    node.kill();
    node.restart();
    check(&node, &told);
    assert_eq!(node.stop(), Some(0));
}
