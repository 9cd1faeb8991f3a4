//! Scenes: worlds where certain things go wrong, and how it must end.
//!
//! Owns what happens in each. Never what may go wrong in any world: that is `fault`.

use super::manners::{BAD, Manner};
use super::tests::first_failure;
use super::{Event, World};
use crate::bugs::Bug;
use crate::fsm::Command;
use crate::fsm::command::Deploy;
use crate::fsm::model::{Allocation, DeployKind, DeployStatus, WorkloadSpec};
use crate::id::{AppName, NodeId, WorkloadName};
use crate::spec::model::{ServiceSpec, UpdateOrder};
use crate::units::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// Seeds of each scene.
const SEEDS: u64 = 60;

impl World {
    /// Until that moment, or something is broken.
    pub(super) fn until(&mut self, at: u64) {
        while self.broken.is_none() && self.queue.peek().is_some_and(|next| next.0.0 <= at) {
            self.step();
        }
        self.now = self.now.max(at);
    }

    /// Deploys app0 with one service and tries again until it is there.
    fn up(&mut self, image: &str, replicas: u32, order: UpdateOrder) {
        let mut spec = self.random_service();
        spec.run.image = format!("{image}:{}", self.dice.roll());
        (spec.replicas, spec.update.order) = (replicas, order);
        self.up_with(spec);
    }

    pub(super) fn up_with(&mut self, spec: ServiceSpec) {
        self.up_with_tasks(spec, BTreeMap::new());
    }

    fn up_with_tasks(&mut self, spec: ServiceSpec, tasks: BTreeMap<WorkloadName, WorkloadSpec>) {
        let services = BTreeMap::from([(name(), WorkloadSpec::Service(spec))]);
        self.commit(Command::Deploy(Deploy {
            app: AppName::from("app0"),
            kind: DeployKind::Up,
            base: None,
            services,
            tasks,
            file: String::new(),
            replace: true,
            plan: None,
        }));
    }

    /// The seats with a healthy replica on a node that is there.
    pub(super) fn healthy_seats(&self) -> usize {
        let is_there = |a: &Allocation| self.nodes.get(&a.node).is_some_and(|sim| !sim.cut);
        let name = name();
        let good = self.state.allocations_of(&name).filter(|a| a.is_routable() && is_there(a));
        good.filter_map(|a| a.replica()).collect::<BTreeSet<_>>().len()
    }

    fn newest(&self) -> DeployStatus {
        let app = &self.state.apps[&AppName::from("app0")];
        self.state.deployments[&app.revision].status
    }

    fn counts(&self) -> Vec<usize> {
        let live = |node: &NodeId| {
            self.state
                .allocations_on(*node)
                .filter(|a| a.is_live() && a.replica().is_some())
                .count()
        };
        self.nodes.keys().map(live).collect()
    }

    fn some_order(&mut self) -> UpdateOrder {
        if self.dice.chance(50) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst }
    }

    pub(super) fn told<T>(&self, seed: u64, ok: bool, what: T) -> Option<String>
    where
        T: std::fmt::Display,
    {
        if let Some(broken) = &self.broken {
            return Some(format!("seed {seed}: {broken}"));
        }
        let tail = self.trace[self.trace.len().saturating_sub(60)..].join("\n");
        (!ok).then(|| format!("seed {seed}: {what}\n{tail}"))
    }
}

pub(super) fn name() -> WorkloadName {
    WorkloadName::from("a0")
}

/// Nodes go for good, one after the other, down to a bare quorum, beside some that never came or
/// have been down for long: everything is placed elsewhere.
fn losses(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3 + seed % 5);
    let nodes = world.nodes.len();
    for _ in 0..world.dice.below(3) {
        let id = world.join();
        world.nodes.remove(&id);
    }
    let replicas = u32::try_from(world.dice.between(1, 6)).unwrap_or(1);
    let order = world.some_order();
    world.up("good", replicas, order);
    world.until(60_000);
    let mut left: Vec<NodeId> = world.nodes.keys().copied().collect();
    while left.len() > nodes / 2 + 1 {
        let which = usize::try_from(world.dice.below(left.len() as u64)).unwrap_or(0);
        let gone = left.remove(which);
        world.lose(gone);
        if world.dice.chance(30) {
            world.fall_silent(300);
        }
        let pause = world.dice.between(10_000, 60_000);
        world.until(world.now + pause);
    }
    world.until(world.now + 60_000);
    let healthy = world.healthy_seats();
    let found = format!("{healthy} of {replicas} are healthy, {left:?} of {nodes} nodes are left");
    world.told(seed, healthy == replicas as usize, found)
}

#[test]
fn everything_is_placed_elsewhere_down_to_a_bare_quorum() {
    if let Some(why) = first_failure(0, SEEDS, None, losses) {
        panic!("{why}");
    }
}

/// Some nodes are there and no good, from the start or later: a service that fits elsewhere ends
/// there, in a deployment and without one.
fn bad_nodes(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3 + seed % 3);
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    let bad = usize::try_from(world.dice.between(1, nodes.len() as u64 - 1)).unwrap_or(1);
    let from_start = world.dice.chance(60);
    let replicas = u32::try_from(world.dice.between(1, 4)).unwrap_or(1);
    let order = world.some_order();
    let spoil = |world: &mut World| {
        // Programs that end are tried on two nodes only: more of those may fail a deployment.
        let mut crashes = 0;
        for node in nodes.iter().take(bad) {
            let which = usize::try_from(world.dice.below(BAD.len() as u64)).unwrap_or(0);
            let fails = matches!(BAD[which], Manner::Crashes | Manner::Refuses);
            crashes += usize::from(fails);
            let manner = if fails && crashes > 1 { Manner::PullsNothing } else { BAD[which] };
            world.behave(*node, manner);
        }
    };
    if from_start {
        spoil(&mut world);
    }
    world.until(15_000);
    world.up("good", replicas, order);
    if !from_start {
        world.until(60_000);
        spoil(&mut world);
        for id in world.state.allocations.keys().cloned().collect::<Vec<_>>() {
            world.crash(&id);
        }
    }
    world.until(world.now + 420_000);
    let (healthy, status) = (world.healthy_seats(), world.newest());
    let is_good = healthy == replicas as usize && status == DeployStatus::Succeeded;
    let found = format!("{healthy} of {replicas} are healthy, the deployment {status:?}");
    world.told(seed, is_good, found)
}

#[test]
fn what_does_not_work_on_one_node_is_tried_on_another() {
    if let Some(why) = first_failure(0, SEEDS, None, bad_nodes) {
        panic!("{why}");
    }
    let found = first_failure(0, SEEDS, Some(Bug::StayWithBadNode), bad_nodes);
    assert!(found.is_some(), "nobody notices that it stays");
}

/// No node can pull the image, and for a while nobody leads: the deployment ends, however the
/// nodes' turns fall.
fn pulled_nowhere(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3 + seed % 2);
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    nodes.into_iter().for_each(|node| world.behave(node, Manner::PullsNothing));
    world.until(15_000);
    let order = world.some_order();
    world.up("good", 1, order);
    let (before, silent) =
        (world.dice.between(1_000, 170_000), world.dice.between(100_000, 500_000));
    world.until(world.now + before);
    world.fall_silent(silent);
    world.until(world.now + silent + 1_800_000);
    let status = world.newest();
    world.told(seed, status == DeployStatus::Failed, format!("the deployment: {status:?}"))
}

#[test]
fn what_no_node_can_pull_is_not_tried_for_ever() {
    if let Some(why) = first_failure(0, SEEDS, None, pulled_nowhere) {
        panic!("{why}");
    }
    let found = first_failure(0, SEEDS, Some(Bug::TryForEver), pulled_nowhere);
    assert!(found.is_some(), "the nodes' turns never come again");
}

/// A node falls silent, alone or with others, or its containerd hangs, in the middle of an update:
/// it ends within its deadlines, and what served before is not at nothing.
fn silent_in_an_update(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3 + seed % 3);
    let replicas = u32::try_from(world.dice.between(1, 4)).unwrap_or(1);
    let order = world.some_order();
    world.up("good", replicas, order);
    world.until(90_000);
    let before = world.healthy_seats();
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    world.up("good", replicas, order);
    let soon = world.dice.between(0, 8_000);
    world.until(world.now + soon);
    let mut unwell = 0;
    for node in nodes.iter().take((nodes.len() - 1) / 2) {
        if world.dice.chance(50) {
            world.lose(*node);
        } else {
            unwell += 1;
            world.behave(*node, Manner::Hangs);
        }
    }
    world.until(world.now + 700_000);
    let (mut healthy, status) = (world.healthy_seats(), world.newest());
    // Where two may not run at once, what was asked to end before its node hung is waited for.
    if unwell > 0 && order == UpdateOrder::StopFirst {
        world.all_behave();
        world.until(world.now + 120_000);
        healthy = world.healthy_seats();
    }
    let least = replicas as usize;
    let found = format!("{healthy} of {before} are healthy, the deployment {status:?}");
    world.told(seed, status != DeployStatus::Running && healthy >= least, found)
}

#[test]
fn an_update_whose_node_falls_silent_ends_and_never_at_nothing() {
    if let Some(why) = first_failure(0, SEEDS, None, silent_in_an_update) {
        panic!("{why}");
    }
}

/// Nobody leads for long in the middle of an update: that counts for no deadline, and afterwards
/// replicated time is where it should be.
fn silence(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3);
    let replicas = u32::try_from(world.dice.between(1, 4)).unwrap_or(1);
    let order = world.some_order();
    world.up("good", replicas, order);
    let soon = world.dice.between(10, 4_000);
    world.until(world.now + soon);
    let (short, long) = (world.dice.between(500, 5_000), world.dice.between(290_000, 500_000));
    let silent = if world.dice.chance(10) { short } else { long };
    world.fall_silent(silent);
    world.until(world.silent_until + 120_000);
    let (time, wall) = (world.leader_time().0, world.wall().0);
    let is_right = time.abs_diff(wall) < 2_000;
    let (healthy, status) = (world.healthy_seats(), world.newest());
    let is_good = healthy == replicas as usize && status == DeployStatus::Succeeded;
    let found = format!("{healthy} of {replicas}, {status:?}, time is {time} at {wall}");
    world.told(seed, is_good && is_right, found)
}

#[test]
fn a_silence_of_the_cluster_counts_for_no_deadline() {
    if let Some(why) = first_failure(0, SEEDS, None, silence) {
        panic!("{why}");
    }
    let found = first_failure(0, SEEDS, Some(Bug::CountStandstill), silence);
    assert!(found.is_some(), "nobody notices that it counts");
}

/// A node goes while a rollout waits for its task: what it had is placed elsewhere, in the version
/// that last succeeded. The world's own rules say whether it was.
fn held(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3 + seed % 3);
    let replicas = u32::try_from(world.dice.between(2, 6)).unwrap_or(2);
    let order = world.some_order();
    world.up("good", replicas, order);
    world.until(60_000);
    let (task, mut first) = (WorkloadName::from("m0"), world.random_task());
    first.run.image = "endless".to_owned();
    (first.timeout, first.schedule) = (Millis::secs(60), None);
    let mut spec = world.random_service();
    spec.run.image = "good:next".to_owned();
    (spec.replicas, spec.update.order) = (replicas, order);
    spec.before_deploy.push(task.clone());
    world.up_with_tasks(spec, BTreeMap::from([(task, WorkloadSpec::Task(first))]));
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    let which = usize::try_from(world.dice.below(nodes.len() as u64)).unwrap_or(0);
    world.lose(nodes[which]);
    // Its end is looked at, too.
    world.until(world.now + 90_000);
    world.told(seed, true, "")
}

#[test]
fn what_a_waiting_rollout_loses_is_replaced() {
    if let Some(why) = first_failure(0, SEEDS, None, held) {
        panic!("{why}");
    }
    let found = first_failure(0, SEEDS, Some(Bug::HoldNothing), held);
    assert!(found.is_some(), "nobody notices that it isn't");
}

/// After a drain and its end a restart or an update spreads a service as a first deployment would.
fn spread(seed: u64) -> Option<String> {
    let mut world = World::quiet(seed, 3);
    let replicas = u32::try_from(world.dice.between(2, 7)).unwrap_or(2);
    let order = world.some_order();
    world.up("good", replicas, order);
    world.until(100_000);
    let mut counts = vec![world.counts()];
    world.commit(Command::Drain { node: NodeId(1), deadline: None });
    world.until(250_000);
    world.commit(Command::Undrain { node: NodeId(1) });
    for n in 1..=3 {
        world.commit(Command::RestartService { service: name() });
        world.until(250_000 + n * 150_000);
        counts.push(world.counts());
    }
    world.commit(Command::Drain { node: NodeId(2), deadline: None });
    world.until(850_000);
    world.commit(Command::Undrain { node: NodeId(2) });
    world.up("good", replicas, order);
    world.until(1_000_000);
    counts.push(world.counts());
    let is_even = |counts: &Vec<usize>| {
        let (most, least) = (counts.iter().max(), counts.iter().min());
        most.zip(least).is_some_and(|(most, least)| most - least <= 1)
            && counts.iter().sum::<usize>() == replicas as usize
    };
    world.told(seed, counts.iter().all(is_even), format!("{replicas} replicas: {counts:?}"))
}

#[test]
fn a_restart_or_an_update_spreads_as_a_deployment_does() {
    if let Some(why) = first_failure(0, SEEDS / 3, None, spread) {
        panic!("{why}");
    }
}

/// A world in which nothing is done but what a scene says.
impl World {
    pub(super) fn quiet(seed: u64, members: u64) -> Self {
        let mut world = Self::bare(seed);
        for _ in 2..=members {
            world.join();
        }
        for id in world.nodes.keys().copied().collect::<Vec<_>>() {
            world.register(id);
        }
        world.raise_when_known();
        world.after(1_000, Event::Watch);
        world.keeps_watch = true;
        world.until(5_000);
        world
    }
}
