//! Canaries in the simulation: clients whose requests fail so often, and what becomes of the new
//! version.
//!
//! Owns the clients and their scenes. Never how the requests are judged.

use super::scenes::name;
use super::tests::first_failure;
use super::{Event, World, run};
use crate::bugs::Bug;
use crate::fsm::Command;
use crate::fsm::command::{Action, CanaryStep};
use crate::fsm::model::{Allocation, DeployStatus};
use crate::id::{AllocId, AppName, NodeId, WorkloadName};
use crate::node::ingress::figures::Requests;
use crate::scheduler::canary::{Counted, Ledger, Stage};
use crate::spec::model::{CanarySpec, UpdateOrder};
use crate::units::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Seeds of each scene.
const SEEDS: u64 = 20;

/// What a node has counted of a canary.
type Count = BTreeMap<AllocId, Requests>;

/// Clients of services, on all nodes.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Requests a second on each node.
    rate: u64,
    /// Of 10,000 requests so many fail: of the old version, of the new.
    failing: (u64, u64),
    /// The canaries that the nodes count for.
    stages: BTreeMap<WorkloadName, Stage>,
    /// What they have counted.
    counted: BTreeMap<(NodeId, WorkloadName), Count>,
    ledger: Ledger,
}

impl World {
    /// Some worlds have clients, and versions that fail so often.
    pub(super) fn draw_clients(&mut self) {
        if self.dice.chance(70) {
            let fails = [50, 200, 2_000][usize::try_from(self.dice.below(3)).unwrap_or(0)];
            self.clients.failing = (10, fails);
            self.clients.rate = [2, 20, 50][usize::try_from(self.dice.below(3)).unwrap_or(0)];
        }
        self.after(1_000, Event::Clients);
    }

    /// A random service's new versions may have to show first what they are good for.
    pub(super) fn draw_canary(&mut self) -> Option<CanarySpec> {
        self.dice.chance(25).then(|| CanarySpec {
            count: u32::try_from(self.dice.between(1, 3)).unwrap_or(1),
            duration: Millis::secs(self.dice.between(5, 30)),
            max_error_rate: self.dice.chance(80).then_some(1_000),
            max_latency_ratio: self.dice.chance(50).then_some(1_500),
            min_requests: u32::try_from(self.dice.between(1, 200)).unwrap_or(100),
        })
    }

    /// A second of requests, and the leader hears of them.
    pub(super) fn ask_and_tell(&mut self) {
        self.after(1_000, Event::Clients);
        let state = self.state.clone();
        let watched = state.canaries().filter_map(|(name, canary)| {
            let stage = (canary.deployment.revision, canary.progress?.since);
            Some((name.clone(), stage, canary.new.stored.run.clone()))
        });
        let watched: Vec<_> = watched.collect();
        let stages = watched.iter().map(|(name, stage, _)| (name.clone(), *stage)).collect();
        let old = std::mem::replace(&mut self.clients.stages, stages);
        let clients = &mut self.clients;
        clients.counted.retain(|(_, name), _| clients.stages.get(name) == old.get(name));
        let nodes: Vec<NodeId> =
            self.nodes.iter().filter(|(_, sim)| !sim.cut).map(|(id, _)| *id).collect();
        for node in nodes {
            let mut all = Vec::new();
            for (service, stage, run) in &watched {
                let routable = state.allocations_of(service).filter(|one| one.is_routable());
                let is_new = |one: &Allocation| {
                    state.spec(&one.spec).is_some_and(|stored| stored.run == *run)
                };
                let routable: Vec<_> = routable.map(|one| (one.id.clone(), is_new(one))).collect();
                self.ask((node, service), &routable);
                let counted = self.clients.counted.get(&(node, service.clone()));
                let replicas = counted.cloned().unwrap_or_default();
                all.push(Counted { service: service.clone(), stage: *stage, replicas });
            }
            if !all.is_empty() {
                let (boot, now) = (self.nodes[&node].boot, Millis(self.now));
                self.clients.ledger.heard(node, boot, all, now);
            }
        }
        let samples = self.clients.ledger.samples(&state, Millis(self.now));
        if samples != self.observed.canaries || !watched.is_empty() {
            self.observed.canaries = samples;
            self.plan_soon(0);
        }
    }

    fn ask(&mut self, (node, service): (NodeId, &WorkloadName), routable: &[(AllocId, bool)]) {
        let counted = self.clients.counted.entry((node, service.clone())).or_default();
        for _ in 0..self.clients.rate {
            let at = usize::try_from(self.dice.below(routable.len() as u64)).unwrap_or(0);
            let Some((id, is_new)) = routable.get(at) else { return };
            let (old, new) = self.clients.failing;
            let fails = self.dice.below(10_000) < if *is_new { new } else { old };
            let took = Duration::from_millis(self.dice.between(5, 50));
            let code = if fails { 500 } else { 200 };
            counted.entry(id.clone()).or_default().add(code, took, (0, 0));
        }
    }

    /// Two versions of a service, the second one with a canary, and these clients. How many
    /// replicas there are.
    fn two_versions(&mut self, rate: u64, failing: (u64, u64)) -> u32 {
        let replicas = u32::try_from(self.dice.between(1, 3)).unwrap_or(1);
        let mut spec = self.random_service();
        spec.run.image = "good:v1".to_owned();
        (spec.replicas, spec.update.order) = (replicas, UpdateOrder::StartFirst);
        if replicas > 1 && self.dice.chance(40) {
            spec.update.order = UpdateOrder::StopFirst;
        }
        self.up_with(spec.clone());
        self.until(90_000);
        spec.run.image = "good:v2".to_owned();
        spec.update.canary = Some(CanarySpec {
            count: 1,
            duration: Millis::secs(60),
            max_error_rate: Some(1_000),
            max_latency_ratio: Some(1_500),
            min_requests: 100,
        });
        (self.clients.rate, self.clients.failing) = (rate, failing);
        self.after(1_000, Event::Clients);
        self.up_with(spec);
        replicas
    }

    /// The images that run, and how the last deployment ended.
    fn outcome(&self) -> (BTreeSet<String>, DeployStatus, Option<String>) {
        let service = name();
        let live = self.state.allocations_of(&service).filter(|one| one.is_live());
        let stored = live.filter_map(|one| self.state.spec(&one.spec));
        let images = stored.map(|stored| stored.spec.run().image.clone()).collect();
        let newest = &self.state.deployments[&self.state.apps[&AppName::from("app0")].revision];
        let canary = newest.canaries.get(&service);
        let why = canary.and_then(|canary| Some(canary.verdict.as_ref()?.why.clone()));
        (images, newest.status, why)
    }
}

/// How many canaries of a random world were promoted, and how many taken back for their requests.
fn ended(seed: u64) -> (usize, usize) {
    let world = run(seed).map_err(drop).unwrap();
    let actions = world.log.iter().filter_map(|(_, entry)| match &entry.command {
        Command::Steps(steps) => Some(&steps.actions),
        _ => None,
    });
    let actions: Vec<&Action> = actions.flatten().collect();
    let is_promoted = |action: &&&Action| {
        matches!(action, Action::Canary { step: CanaryStep::Promote { .. }, .. })
    };
    let says = |reason: &str| reason.contains(" requests failed");
    let is_worse =
        |action: &&&Action| matches!(action, Action::Revert { reason, .. } if says(reason));
    (actions.iter().filter(is_promoted).count(), actions.iter().filter(is_worse).count())
}

#[test]
fn random_worlds_have_canaries_of_both_ends() {
    let found = |seed, counts: &dyn Fn((usize, usize)) -> usize| {
        (counts(ended(seed)) > 0).then(|| format!("seed {seed}"))
    };
    let promoted = first_failure(0, 300, None, |seed| found(seed, &|(promoted, _)| promoted));
    let worse = first_failure(0, 300, None, |seed| found(seed, &|(_, worse)| worse));
    assert!(promoted.is_some() && worse.is_some(), "{promoted:?}, {worse:?}");
}

/// A new version fails so often, of 10,000; while it is watched the leader may die.
fn failing(seed: u64, fails: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3);
    let replicas = world.two_versions(100, (10, fails));
    let soon = world.dice.between(1_000, 50_000);
    world.until(world.now + soon);
    let seats = world.healthy_seats();
    if world.dice.chance(50) {
        // The next one knows only what it hears from then on.
        world.clients.ledger = Ledger::default();
        world.observed.canaries.clear();
        let silent = world.dice.between(500, 5_000);
        world.fall_silent(silent);
    }
    world.until(world.now + 400_000);
    let (images, status, why) = world.outcome();
    let (version, expected) = match fails {
        0..100 => ("good:v2", DeployStatus::Succeeded),
        _ => ("good:v1", DeployStatus::Failed),
    };
    let is_so = status == expected && images == BTreeSet::from([version.to_owned()]);
    let is_whole = world.healthy_seats() == replicas as usize && seats + 1 >= replicas as usize;
    let says = why.as_ref().is_some_and(|why| why.contains(" requests failed"));
    world.told(seed, is_so && is_whole && says, format!("{images:?}, {status:?}: {why:?}"))
}

#[yare::parameterized(
    half_a_percent = { 50 },
    two_percent = { 200 },
    a_fifth = { 2_000 },
)]
fn a_new_version_is_judged_by_its_requests(fails: u64) {
    if let Some(why) = first_failure(0, SEEDS, None, |seed| failing(seed, fails)) {
        panic!("{why}");
    }
}

#[test]
fn who_judges_by_few_requests_is_found() {
    let found = first_failure(0, SEEDS, Some(Bug::DecideByFew), |seed| failing(seed, 50));
    assert!(found.is_some(), "nobody notices that a good version is taken back");
}

/// Hardly anybody asks: the canary runs on and is promoted because it is healthy.
fn idle(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3);
    let replicas = world.two_versions(0, (0, 0));
    world.until(world.now + 170_000);
    let (images, status, _) = world.outcome();
    let waits = status == DeployStatus::Running && images.len() == 2;
    world.until(world.now + 200_000);
    let (images, status, why) = world.outcome();
    let says = why.as_ref().is_some_and(|why| why.contains("too few requests"));
    let is_so = status == DeployStatus::Succeeded && says && images.len() == 1;
    let is_whole = world.healthy_seats() == replicas as usize;
    world.told(seed, waits && is_so && is_whole, format!("{images:?}, {status:?}: {why:?}"))
}

#[test]
fn with_too_few_requests_health_decides_at_last() {
    if let Some(why) = first_failure(0, SEEDS, None, idle) {
        panic!("{why}");
    }
}
