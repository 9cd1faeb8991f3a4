//! Who breaks things: one fault after the other, sometimes two at once, by a seed.
//!
//! Owns the choice of faults and nodes, and that everything is whole again after them. Never talks
//! to clients.

use super::Run;
use crate::poll::poll;
use crate::support::{Fault, TestCluster};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The order of strikes, and how often each fault struck.
pub struct Nemesis {
    dice: StdRng,
    /// All faults in some order, and then again in another.
    due: Vec<Fault>,
    /// How often each struck.
    pub struck: BTreeMap<String, usize>,
    /// What was done, to be read by a person.
    pub schedule: Vec<String>,
}

/// Whether the daemon ends by it. Two such at once would wait for each other when they begin anew.
fn ends_the_daemon(fault: Fault) -> bool {
    matches!(fault, Fault::Kill | Fault::Stop | Fault::FullDisk)
}

impl Nemesis {
    /// What it does hangs on the seed and on who leads.
    pub fn new(seed: u64) -> Self {
        let (dice, due) = (StdRng::seed_from_u64(seed), Vec::new());
        Self { dice, due, struck: BTreeMap::new(), schedule: Vec::new() }
    }

    fn next(&mut self) -> Fault {
        if self.due.is_empty() {
            self.due = Fault::ALL.to_vec();
            self.due.shuffle(&mut self.dice);
        }
        self.due.pop().expect("a fault")
    }

    /// One fault, in a quarter of the cases with another on another node, for some seconds; then
    /// some rest. Every second one is the leader's.
    pub fn strike(&mut self, cluster: &mut TestCluster, run: &Run, end: Instant) {
        revive(cluster);
        let faults = self.choose(cluster);
        let hold = Duration::from_millis(self.dice.random_range(1_500..5_000));
        let rest = Duration::from_millis(self.dice.random_range(300..1_500));
        let left = || end.saturating_duration_since(Instant::now());
        let began = run.record.now();
        for (node, fault) in &faults {
            cluster.strike(*node, *fault);
            *self.struck.entry(fault.to_string()).or_default() += 1;
        }
        run.goes_on_after(hold.min(left()));
        let ended = run.record.now();
        for (node, fault) in &faults {
            cluster.undo(*node, *fault);
        }
        let what: Vec<String> =
            faults.iter().map(|(node, fault)| format!("{fault} n{node}")).collect();
        let (began, ended) = (began.as_secs_f64(), ended.as_secs_f64());
        let line = format!("{began:7.2} to {ended:7.2} s: {}", what.join(", "));
        println!("{line}");
        self.schedule.push(line);
        run.goes_on_after(rest.min(left()));
    }

    /// Which faults of which nodes, in the order in which they are undone.
    fn choose(&mut self, cluster: &TestCluster) -> Vec<(usize, Fault)> {
        let any = self.dice.random_range(1..=cluster.len());
        let leads = cluster.names_with("leader", true);
        let leader = leads.first().and_then(|name| name.trim_start_matches('n').parse().ok());
        let is_for_the_leader = self.dice.random_range(0..2) == 0;
        let node = leader.filter(|_| is_for_the_leader).unwrap_or(any);
        let mut faults = vec![(node, self.next())];
        if self.dice.random_range(0..4) == 0 {
            let other = 1 + (node + self.dice.random_range(0..2)) % cluster.len();
            let fault = self.next();
            if ends_the_daemon(fault) && ends_the_daemon(faults[0].1) {
                self.due.push(fault);
            } else {
                faults.push((other, fault));
            }
        }
        faults.sort_by_key(|(_, fault)| ends_the_daemon(*fault));
        faults
    }
}

/// Starts daemons that ended by what they met, and waits until all answer.
pub fn revive(cluster: &mut TestCluster) {
    for n in 1..=cluster.len() {
        let answers = || {
            if !cluster.node(n).is_running() {
                let _ = cluster.node_mut(n).wait();
                cluster.node_mut(n).launch();
            }
            let answer = cluster.node(n).api().request("GET", "/v1/health").try_send();
            answer.is_ok_and(|answer| answer.status == 200)
        };
        poll(answers).secs(60).expect("every daemon to answer");
    }
}
