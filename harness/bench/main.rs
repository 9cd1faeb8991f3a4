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
mod dns;
mod etcd;
mod failures;
mod kept;
mod load;
mod logs;
mod members;
mod mesh;
mod node;
mod parallel;
mod peers;
mod planning;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../poll.rs"]
mod poll;
#[path = "../ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../provider.rs"]
mod provider;
mod proxy;
mod pull;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../real_root.rs"]
mod real_root;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../registry.rs"]
mod registry;
mod report;
mod rolling;
mod side;
mod state;
#[allow(dead_code, unused_imports, reason = "shared with the tests")]
#[path = "../../smoke/support/mod.rs"]
mod support;

use report::Part;
use std::collections::BTreeMap;

/// All parts, in the order of the page.
const PARTS: &[Part] = &[
    Part {
        name: "members",
        title: "Three nodes commit",
        figures: members::figures,
        notes: members::NOTES,
    },
    Part {
        name: "failures",
        title: "Three nodes, when one is lost",
        figures: failures::figures,
        notes: failures::NOTES,
    },
    Part {
        name: "quiet",
        title: "Three nodes, when nothing happens",
        figures: failures::quiet,
        notes: failures::QUIET_NOTES,
    },
    Part {
        name: "mesh",
        title: "The mesh in the process",
        figures: mesh::figures,
        notes: mesh::NOTES,
    },
    Part { name: "dns", title: "Names", figures: dns::figures, notes: dns::NOTES },
    Part {
        name: "proxy",
        title: "Requests from outside",
        figures: proxy::figures,
        notes: proxy::NOTES,
    },
    Part {
        name: "commit",
        title: "One node commits",
        figures: commit::figures,
        notes: commit::NOTES,
    },
    Part {
        name: "planning",
        title: "Planning",
        figures: planning::figures,
        notes: planning::NOTES,
    },
    Part {
        name: "start",
        title: "Replicas start",
        figures: node::start_figures,
        notes: node::START_NOTES,
    },
    Part {
        name: "rolling",
        title: "A rolling update",
        figures: rolling::figures,
        notes: rolling::NOTES,
    },
    Part {
        name: "parallel",
        title: "Many containers at once",
        figures: parallel::figures,
        notes: parallel::NOTES,
    },
    Part { name: "pull", title: "Images", figures: pull::figures, notes: pull::NOTES },
    Part { name: "kept", title: "Secrets and volumes", figures: kept::figures, notes: kept::NOTES },
    Part { name: "logs", title: "Logs", figures: logs::figures, notes: logs::NOTES },
    Part {
        name: "idle",
        title: "One node, when nothing happens",
        figures: node::idle_figures,
        notes: node::IDLE_NOTES,
    },
];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("no part {unknown}; there are: {}", known.join(" "));
        std::process::exit(2);
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let mut measured = BTreeMap::new();
    let wanted = |part: &&Part| asked.is_empty() || asked.iter().any(|name| name == part.name);
    for part in PARTS.iter().filter(wanted) {
        eprintln!("== {}", part.title);
        let rows = (part.figures)();
        println!("{}", report::section(part, &rows));
        measured.insert(part.name, rows);
        // What was measured is kept, whatever becomes of the parts after it.
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, report::page(PARTS, &measured, &old)).unwrap();
    }
}
