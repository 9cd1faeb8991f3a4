//! The private containerd: ready, adopted, kept alive, ended; clear when it can't be.

use crate::poll::poll;
use mill::actors::platform::private_containerd::{Config, Daemon, Error, answers, stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;

fn alive(pid: i32) -> bool {
    // A zombie is no process any more.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z') && !rest.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_adopted_restarted_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::below(folder.path());
    let first = Daemon::start(config.clone()).await.unwrap();
    assert!(answers(&first.socket()).await);
    let pid = first.pid().unwrap();
    drop(first);

    let second = Daemon::start(config.clone()).await.unwrap();
    assert_eq!(second.pid(), Some(pid), "the running one is adopted");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    poll(|| second.pid().is_some_and(|now| now != pid)).secs(20).expect("another process");
    assert_eq!(second.restarts(), 1);
    assert!(answers(&second.socket()).await);

    let pid = second.pid().unwrap();
    second.stop().await.unwrap();
    poll(|| !alive(pid)).secs(5).expect("the process to end");
    assert!(!answers(&config.socket()).await);
    stop(&config).await.unwrap();
}

#[tokio::test]
async fn says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let absent =
        Config { binary: Some("/nowhere/containerd".into()), ..Config::below(folder.path()) };
    let error = Daemon::start(absent).await.unwrap_err();
    assert!(matches!(error, Error::Absent));
    assert!(error.to_string().contains("apt-get install containerd"), "{error}");

    let broken = Config { binary: Some("/bin/false".into()), ..Config::below(folder.path()) };
    let error = Daemon::start(broken).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");

    let long =
        Config { state: folder.path().join("x".repeat(100)), ..Config::below(folder.path()) };
    let error = Daemon::start(long).await.unwrap_err();
    assert!(matches!(error, Error::PathTooLong { .. }), "{error}");

    let read_only = Config { root: "/proc/mill".into(), ..Config::below(folder.path()) };
    let error = Daemon::start(read_only).await.unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert!(!answers(Path::new("/nowhere/containerd.sock")).await);
}
