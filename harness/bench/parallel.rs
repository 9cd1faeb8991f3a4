//! The figure of many containers started at once, beside as many `ctr run -d` at once.
//!
//! Never a cold image: both have it unpacked.

use super::node::{deploy, down};
use super::report::{Row, median, ms};
use super::side::Side;
use crate::registry::Registry;
use crate::support::TestDaemon;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- 50 replicas of a service, each with a ceiling of 0.04 cores and 16 MB, from the request until all
  are `running`; 50 processes of `ctr run -d` with the same image and the same ceilings, started at
  once, until the last one has ended. mill's containers also have a network and a log. Medians of
  three.
";

const CONTAINERS: usize = 50;
const RUNS: usize = 3;
/// The ceiling on processor time: 50 of them are what a small machine has.
const CPU: &str = "0.04";

/// From starting all clients until the last one has ended.
fn theirs(side: &Side) -> Duration {
    let start = Instant::now();
    let clients: Vec<_> = (0..CONTAINERS)
        .map(|number| {
            let mut client = side.client();
            client.args(["run", "--detach", "--cpus", CPU, "--memory-limit", "16000000"]);
            client.args(["hello:v1", &format!("bench{number}")]);
            client.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
    let took = start.elapsed();
    assert_eq!(side.ctr(&["tasks", "ls", "-q"]).lines().count(), CONTAINERS);
    side.clear();
    took
}

/// Containers started in parallel.
pub fn figures() -> Vec<Row> {
    let registry = Registry::start();
    let image = registry.image("hello:v1");
    let node = TestDaemon::start();
    let ours = || {
        let took = deploy(&node, &image, CONTAINERS, Some(CPU));
        down(&node);
        took
    };
    let _ = ours(); // pulls the image
    let side = Side::start();
    side.import("hello:v1");
    let _ = theirs(&side);
    let (mut mill, mut ctr): (Vec<_>, Vec<_>) = (0..RUNS).map(|_| (ours(), theirs(&side))).unzip();
    let (mill, ctr) = (median(&mut mill), median(&mut ctr));
    vec![Row {
        figure: "50 containers started in parallel",
        mill: ms(mill),
        peer: format!("50 × `ctr run -d` at once {}", ms(ctr)),
        aim: "at most 1.3 ×",
        met: Some(mill.as_secs_f64() <= 1.3 * ctr.as_secs_f64()),
    }]
}
