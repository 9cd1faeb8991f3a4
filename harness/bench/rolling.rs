//! The figure of a rolling update, beside Docker Swarm's.
//!
//! Never a cold image: both have it unpacked.

use super::peers::Peers;
use super::report::{Row, median, ms};
use crate::poll::poll;
use crate::registry::Registry;
use crate::support::TestDaemon;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- 3 replicas, start-first, one at a time, warm image, an HTTP health check each second; from the
  request until all new ones are healthy. Docker checks by a command in the container;
  `--update-monitor 1s --update-order start-first`. Medians.
";

const RUNS: usize = 3;
/// Replicas of the service.
pub const REPLICAS: usize = 3;

fn file(image: &str, version: usize) -> String {
    format!(
        "service \"bench\" {{\n    image \"{image}\"\n    port 8080\n    \
         replicas {REPLICAS}\n    memory \"16M\"\n    health \"/\" interval=\"1s\"\n    \
         env {{ VERSION \"{version}\" }}\n}}\n"
    )
}

fn deploy(node: &TestDaemon, file: String) {
    let api = node.api();
    let request = api.request("POST", "/v1/deploy").header("Accept", "application/json");
    let answer = request.body("text/plain", file).send();
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// The allocations that work.
fn healthy(node: &TestDaemon) -> BTreeSet<String> {
    let all = node.allocations("bench").into_iter();
    let healthy = all.filter(|one| one["status"] == "running" && one["health"] == "healthy");
    healthy.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn over(node: &TestDaemon) {
    poll(|| node.api().get("/v1/deployments")[0]["status"] == "succeeded")
        .secs(120)
        .expect("the end of the deployment");
}

/// From the request until all new replicas are healthy.
fn update(node: &TestDaemon, image: &str, version: usize) -> Duration {
    let old = healthy(node);
    let start = Instant::now();
    deploy(node, file(image, version));
    poll(|| healthy(node).difference(&old).count() == REPLICAS)
        .secs(120)
        .expect("all new replicas to be healthy");
    let took = start.elapsed();
    over(node);
    took
}

/// A rolling update of three replicas.
pub fn figures() -> Vec<Row> {
    let registry = Registry::start();
    let image = registry.image("hello:v1");
    let node = TestDaemon::start();
    deploy(&node, file(&image, 0));
    over(&node);
    let mut ours: Vec<Duration> = (1..=RUNS).map(|run| update(&node, &image, run)).collect();
    drop(node);
    let peers = Peers::start();
    let mut theirs: Vec<Duration> = (0..RUNS).map(|_| peers.swarm_update(REPLICAS)).collect();
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    vec![Row {
        figure: "rolling update of 3 replicas, all new healthy",
        mill: ms(ours),
        peer: format!("`docker service update` {}", ms(theirs)),
        aim: "at most half",
        met: Some(2 * ours <= theirs),
    }]
}
