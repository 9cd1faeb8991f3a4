//! How fast three nodes commit together, beside etcd on the same machines.
//!
//! Owns what is written and how often each side has its turn. Never a container.

use super::etcd::Etcd;
use super::load::{Load, Target, request, run};
use super::report::{Row, ms};
use crate::support::TestCluster;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

/// How it was measured.
pub const NOTES: &str = "
- A write is a label of about 200 bytes through the HTTP API, in clear text from the same machine;
  etcd's is a `put` of a value as large through its HTTP gateway. Three members each, a network
  namespace of this machine for each; mill's links are mutual TLS, etcd's plain. Clients keep their
  connections and send the next request when the last is answered. 3 s a turn, both in turn, the
  median of five turns.
";

/// Clients at once.
const MANY: usize = 64;
/// Keys that they share.
const KEYS: usize = 16;
/// Bytes of each value.
const SIZE: usize = 200;
/// Turns of each side; the median counts.
const TURNS: usize = 5;

/// Writes of labels through the API of a node.
fn target(cluster: &TestCluster, at: usize) -> Target {
    let address: SocketAddr = cluster.node(at).api_address().parse().unwrap();
    let token = format!("Authorization: Bearer {}\r\n", cluster.node(1).token());
    let write = move |client: usize, number: usize| {
        let (key, node) = (client % KEYS, client % 3 + 1);
        let body = json!({"labels": {format!("k{key}"): format!("{number:0>SIZE$}")}}).to_string();
        request("PATCH", &format!("/v1/nodes/n{node}"), &token, &body)
    };
    let namespace = cluster.node(at).namespace().path();
    Target { namespace, address, request: Arc::new(write) }
}

/// The median turn of both, taken in turn.
fn measured(mill: &Target, etcd: &Target, clients: usize) -> (Load, Load) {
    let turns = (0..TURNS).map(|_| (run(mill, clients), run(etcd, clients)));
    let (mut ours, mut theirs): (Vec<Load>, Vec<Load>) = turns.unzip();
    for side in [&mut ours, &mut theirs] {
        side.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    }
    (ours[TURNS / 2], theirs[TURNS / 2])
}

fn row(figure: &'static str, ours: Load, theirs: Load) -> Row {
    Row {
        figure,
        mill: format!("{:.0}/s, median {}", ours.rate, ms(ours.p50)),
        peer: format!("etcd {:.0}/s, median {}", theirs.rate, ms(theirs.p50)),
        aim: "at least etcd's",
        met: Some(ours.rate >= theirs.rate && ours.p50 <= theirs.p50),
    }
}

/// The figures of a cluster of three.
pub fn figures() -> Vec<Row> {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let leader = cluster.leader();
    let etcd = Etcd::start(&cluster);
    let mut rows = Vec::new();
    let places = [
        (leader, true, "writes over HTTP at the leader of three nodes"),
        (cluster.follower(), false, "the same at a follower"),
    ];
    for (at, at_leader, what) in places {
        let (ours, theirs) = (target(&cluster, at), etcd.target(at_leader, KEYS, SIZE));
        for (clients, how) in [(1, "one client"), (MANY, "64 clients")] {
            let (ours, theirs) = measured(&ours, &theirs, clients);
            let figure: &'static str = format!("{what}, {how}").leak();
            rows.push(row(figure, ours, theirs));
            eprintln!("{figure}: {ours:?} {theirs:?}");
        }
    }
    rows
}
