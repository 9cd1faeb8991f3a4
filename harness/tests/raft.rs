//! The raft actor with real files: load, restart, replay, snapshots, damage, a full disk.

use crate::raft::ListNode;
use mill::actors::raft::lock::DataLock;
use mill::actors::raft::{Msg, ProposeError};
use mill::limits;
use ractor::RpcReplyPort;
use std::sync::Arc;
use tokio::sync::oneshot;

async fn fill(node: &Arc<ListNode>, writers: u64, each: u64, base: u64) -> Vec<u64> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let node = Arc::clone(node);
        tasks.spawn(async move {
            let mut done = Vec::new();
            for nth in 0..each {
                let number = base + writer * each + nth;
                if node.propose(number + 1, number).await.is_some() {
                    done.push(number);
                }
            }
            done
        });
    }
    let mut all: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

async fn stop(node: Arc<ListNode>) {
    Arc::into_inner(node).expect("no other user").stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_64_writers_were_told_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(ListNode::start(dir.path(), 64).await.unwrap());
    node.ready().await;
    let told = fill(&node, 64, 20, 0).await;
    assert_eq!(told.len(), 64 * 20);
    let before = node.until("all", |m| m.list.len() == told.len()).await;
    stop(node).await;
    let node = ListNode::start(dir.path(), 64).await.unwrap();
    let after = node.ready().await;
    assert_eq!(after.list, before.list, "the same commands in the same order");
    assert_eq!(after.installed, 0);
    assert!(after.confirmed.unwrap() >= before.index, "the gate lies behind what was committed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_shortens_the_log_and_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let pad = 64 << 10;
    let enough = limits::SNAPSHOT_BYTES / pad as u64 + 40;
    let node = Arc::new(ListNode::start(dir.path(), pad).await.unwrap());
    node.ready().await;
    assert_eq!(fill(&node, 4, enough / 2, 0).await.len() as u64, enough / 2 * 4);
    let before = node.until("a snapshot", |m| m.snapshots > 0).await;
    let total = enough / 2 * 4;
    node.until("all", |m| m.list.len() as u64 == total).await;
    stop(node).await;
    let files: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let logs = files.iter().filter(|f| f.starts_with("log-")).count() as u64;
    assert_eq!(files.iter().filter(|f| f.starts_with("snapshot-")).count(), 1, "{files:?}");
    let all = total * pad as u64 / limits::SEGMENT_SIZE;
    assert!(logs < all, "old segments are gone: {files:?}");
    assert!(!files.iter().any(|f| f.ends_with("tmp")), "{files:?}");
    for _ in 0..2 {
        let node = ListNode::start(dir.path(), pad).await.unwrap();
        let after = node.ready().await;
        assert_eq!(after.list.len() as u64, total);
        let mut sorted = after.list.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..total).collect::<Vec<_>>());
        assert!(after.installed > 0 && after.installed >= before.list.len() / 2);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_second_opener_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = DataLock::acquire(dir.path()).unwrap();
    let error = DataLock::acquire(dir.path()).unwrap_err().to_string();
    assert!(error.contains("another mill daemon (pid "), "{error}");
}

#[tokio::test]
async fn reads_are_confirmed_and_too_large_entries_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = ListNode::start(dir.path(), limits::ENTRY_MAX as usize).await.unwrap();
    let (port, reply) = oneshot::channel();
    node.raft.cast(Msg::ReadIndex { reply: RpcReplyPort::from(port) }).unwrap();
    let index = reply.await.unwrap().unwrap();
    assert!(index.0 >= 1, "at least the leader's first entry");
    let refused = node.append(1, 1).await.unwrap_err();
    assert!(matches!(refused, ProposeError::TooLarge { .. }), "{refused}");
    node.stop().await;
}

/// Replays of a log whose end was written only in part find everything before it.
#[tokio::test]
async fn a_write_that_was_cut_off_is_dropped_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = ListNode::start(dir.path(), 100).await.unwrap();
    node.ready().await;
    for n in 0..10 {
        node.propose(n + 1, n).await.unwrap();
    }
    node.stop().await;
    let log = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("log-"))
        .unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end] ^= 0xff;
    std::fs::write(&log, &bytes).unwrap();
    let node = ListNode::start(dir.path(), 100).await.unwrap();
    assert_eq!(
        node.ready().await.list,
        (0..10).collect::<Vec<_>>(),
        "the last record was a commit"
    );
    node.propose(11, 10).await.unwrap();
    node.stop().await;
    let node = ListNode::start(dir.path(), 100).await.unwrap();
    assert_eq!(node.ready().await.list, (0..11).collect::<Vec<_>>());
    node.stop().await;
    // The same in the middle is damage and not passed over.
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end / 2] ^= 0xff;
    std::fs::write(&log, &bytes).unwrap();
    let error = ListNode::start(dir.path(), 100).await.err().unwrap().to_string();
    assert!(error.contains("the log is damaged"), "{error}");
}
