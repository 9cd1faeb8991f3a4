//! The benchmarks: mill beside its peers, in one run on one machine, into `docs/performance.md`.
//!
//! Owns which figures there are. Never a test: nothing fails by being slow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test tells by panicking; to clippy only `#[test]` functions are tests"
)]

mod commit;
mod disk;
mod etcd;
mod failures;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../lap.rs"]
mod lap;
mod load;
mod logs;
mod members;
mod node;
mod parallel;
mod peers;
mod planning;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../poll.rs"]
mod poll;
mod pull;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../registry.rs"]
mod registry;
mod report;
mod rolling;
mod side;
#[allow(dead_code, unused_imports, reason = "shared with the tests")]
#[path = "../../smoke/support/mod.rs"]
mod support;

use report::Row;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let mut rows: Vec<Row> = Vec::new();
    if wanted("commit") {
        rows.extend(commit::figures());
    }
    if wanted("members") {
        rows.extend(members::figures());
    }
    if wanted("failures") {
        rows.extend(failures::figures());
    }
    if wanted("planning") {
        rows.extend(planning::figures());
    }
    if wanted("start") {
        rows.extend(node::start_figures());
    }
    if wanted("rolling") {
        rows.extend(rolling::figures());
    }
    if wanted("idle") {
        rows.extend(node::idle_figures());
    }
    if wanted("pull") {
        rows.extend(pull::figures());
    }
    if wanted("parallel") {
        rows.extend(parallel::figures());
    }
    if wanted("logs") {
        rows.extend(logs::figures());
    }
    let page = report::page(&rows);
    println!("{page}");
    if only.is_empty() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        std::fs::write(path, page).unwrap();
    }
}
