//! How long a commit takes, beside a raw append with fdatasync on the same disk.
//!
//! A few rounds in every test run, to keep it working; `COMMIT_ROUNDS=3000` in a release build
//! measures: one line of JSON, `COMMIT_DIR` is where.

use crate::raft::ListNode;
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENTRY: usize = 512;

fn figures(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
    json!({ "p50_us": at(50).round(), "p99_us": at(99).round(), "count": times.len() })
}

/// One 512-byte append with fdatasync after the other, into a file that is there already.
fn raw(dir: &Path, rounds: usize) -> Vec<Duration> {
    let file = std::fs::File::create(dir.join("raw")).unwrap();
    file.write_all_at(&vec![0; rounds * ENTRY], 0).unwrap();
    file.sync_all().unwrap();
    let bytes = [7; ENTRY];
    let one = |nth: usize| {
        let start = Instant::now();
        file.write_all_at(&bytes, (nth * ENTRY) as u64).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    (0..rounds).map(one).collect()
}

async fn writers(node: &Arc<ListNode>, count: u64, rounds: usize, base: u64) -> Vec<Duration> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..count {
        let node = Arc::clone(node);
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(rounds);
            for nth in 0..rounds as u64 {
                let seq = base + writer * rounds as u64 + nth + 1;
                let start = Instant::now();
                node.propose(seq, seq).await.expect("applied");
                times.push(start.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_beside_a_raw_append() {
    let rounds = std::env::var("COMMIT_ROUNDS").map_or(50, |n| n.parse().unwrap());
    let dir = match std::env::var("COMMIT_DIR") {
        Ok(dir) => tempfile::tempdir_in(dir).unwrap(),
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let before = raw(dir.path(), rounds);
    let node = Arc::new(ListNode::start(&dir.path().join("raft"), ENTRY).await.unwrap());
    node.ready().await;
    let one = writers(&node, 1, rounds, 0).await;
    let start = Instant::now();
    let many = writers(&node, 64, rounds, rounds as u64).await;
    let took = start.elapsed().as_secs_f64();
    let after = raw(dir.path(), rounds);
    let rate_one = one.len() as f64 / one.iter().sum::<Duration>().as_secs_f64();
    let rate_many = many.len() as f64 / took;
    let (raw, one) = (figures([before, after].concat()), figures(one));
    let times = one["p50_us"].as_f64().unwrap() / raw["p50_us"].as_f64().unwrap();
    let report = json!({
        "raw": raw, "one_writer": one, "64_writers": figures(many),
        "one_writer_per_second": rate_one.round(), "64_writers_per_second": rate_many.round(),
        "p50_over_raw": (times * 100.0).round() / 100.0,
        "rate_over_one": (rate_many / rate_one * 10.0).round() / 10.0,
    });
    println!("{report}");
    let all = node.until("all", |m| m.list.len() == rounds * 65).await;
    assert_eq!(all.fatal, None);
}
