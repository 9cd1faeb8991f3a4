//! How long a change takes from proposed to durable, committed and applied: root and raft, one
//! voter.
//!
//! Never a container, a socket or a scheduler.

use super::disk;
use super::report::{Row, median, ms};
use crate::real_root::RealRoot;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- A proposal to root until it is applied and answered, one voter, entries of 512 bytes. The raw
  append writes 512 bytes at the end of a file and calls fdatasync.
";

const WRITERS: usize = 64;
const SINGLE: usize = 2000;
const MANY: usize = 20_000;

/// The figures of the log.
pub fn figures() -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let (growing, reserved) = disk::append(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (single, one_rate, many_rate) = runtime.block_on(measure(&folder.path().join("raft")));
    let met = single.as_secs_f64() <= 2.5 * reserved.as_secs_f64();
    let factor = many_rate / one_rate;
    vec![
        Row {
            figure: "commit, propose to applied, median",
            mill: ms(single),
            peer: format!("raw append {} (growing file {})", ms(reserved), ms(growing)),
            aim: "at most 2.5 ×",
            met: Some(met),
        },
        Row {
            figure: "commits a second, 64 writers",
            mill: format!("{many_rate:.0}/s"),
            peer: format!("one writer {one_rate:.0}/s: {factor:.1} ×"),
            aim: "at least 10 ×",
            met: Some(factor >= 10.0),
        },
    ]
}

async fn measure(dir: &Path) -> (Duration, f64, f64) {
    let real = Arc::new(RealRoot::start(dir, 1).await);
    let start = Instant::now();
    let mut times = Vec::with_capacity(SINGLE);
    for n in 0..SINGLE {
        let one = Instant::now();
        real.token(&format!("one-{n}"), disk::RECORD).await.unwrap();
        times.push(one.elapsed());
    }
    let one_rate = SINGLE as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let real = Arc::clone(&real);
            tokio::spawn(async move {
                for n in 0..MANY / WRITERS {
                    real.token(&format!("{writer}-{n}"), disk::RECORD).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let many_rate = (MANY / WRITERS * WRITERS) as f64 / start.elapsed().as_secs_f64();
    if let Some(real) = Arc::into_inner(real) {
        real.stop().await;
    }
    (median(&mut times), one_rate, many_rate)
}
