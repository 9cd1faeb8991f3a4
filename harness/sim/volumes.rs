//! Volumes in the simulation: of a provider in half of the worlds, of nodes in the others, with
//! people who move and delete them and nodes that are cut off, killed and lost.
//!
//! Real state, real planner, real decisions of leader and node; owns the world around them. What
//! must hold is in `check.rs`, what a node does in `node.rs`.

mod check;
mod node;
mod outside;

use super::Dice;
use super::tests::first_failure;
use crate::bugs::Bug;
use crate::fsm::command::{Deploy, Join, Register};
use crate::fsm::model::{DeployKind, WorkloadSpec};
use crate::fsm::volumes::{DROPLET, Provider, ProviderKind, REGION, VolumeChange};
use crate::fsm::{Command, FEATURE_LEVEL, State, apply_next, fixture};
use crate::id::{AllocId, AppName, BootId, NodeId, VolumeName};
use crate::scheduler::plan::{Scope, SettledIndexes, plan};
use crate::secret::Sealed;
use crate::spec::model::{
    HealthProbe, HealthSpec, RunSpec, ServiceSpec, StopSpec, UpdateOrder, UpdateSpec, VolumeSpec,
};
use crate::units::{Bytes, MilliCpu, Millis, Timestamp};
use node::SimNode;
use outside::{Call, SimDisk};
use std::collections::BTreeMap;

/// A moment of the world.
const TICK: u64 = 250;
/// What goes wrong stops after this long.
const TROUBLE: u64 = 150_000;
/// Then all comes to rest in this time.
const QUIET: u64 = 240_000;
const EPOCH: u64 = 1_700_000_000_000;
const NODES: u64 = 3;

/// The world of one seed.
struct World {
    now: u64,
    dice: Dice,
    state: State,
    nodes: BTreeMap<NodeId, SimNode>,
    /// What the provider has, by its name there.
    disks: BTreeMap<String, SimDisk>,
    calls: Vec<Call>,
    /// Volumes that have a turn, and since when nothing uses one, as this leader has seen.
    busy: BTreeMap<VolumeName, u64>,
    unused: BTreeMap<VolumeName, u64>,
    /// Copies of volumes on nodes: how often each was written.
    folders: BTreeMap<(NodeId, VolumeName, u64), u64>,
    fetches: BTreeMap<VolumeName, outside::Fetch>,
    /// How often a volume was written, and the program knows it.
    written: BTreeMap<VolumeName, u64>,
    /// Proposals on their way.
    entries: Vec<(u64, Command)>,
    wanted: bool,
    size: u64,
    version: u64,
    trace: Vec<String>,
    /// What happened, so that a test can see that it did.
    moves: u32,
    torn: u32,
    broken: Option<String>,
}

fn run(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed);
    while world.broken.is_none() && world.now < TROUBLE + QUIET {
        world.tick();
    }
    if world.broken.is_none() {
        world.check_rest();
    }
    match world.broken.take() {
        None => Ok(world),
        Some(what) => {
            let start = world.trace.len().saturating_sub(50);
            let tail = world.trace[start..].join("\n");
            Err(format!("seed {seed}: {what}\n{tail}"))
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            now: 0,
            dice: Dice(seed),
            state: State::default(),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            calls: Vec::new(),
            busy: BTreeMap::new(),
            unused: BTreeMap::new(),
            folders: BTreeMap::new(),
            fetches: BTreeMap::new(),
            written: BTreeMap::new(),
            entries: Vec::new(),
            wanted: false,
            size: 1 << 30,
            version: 0,
            trace: Vec::new(),
            moves: 0,
            torn: 0,
            broken: None,
        };
        let labels = |n: u64| {
            let labels = [(DROPLET, n.to_string()), (REGION, "x".to_owned())];
            labels.map(|(label, value)| (label.to_owned(), value)).into()
        };
        world.commit(Command::Init(crate::fsm::command::Init {
            labels: labels(1),
            ..fixture::init()
        }));
        for n in 2..=NODES {
            let join = Join { labels: labels(n), ..fixture::join(&format!("n{n}"), "") };
            world.commit(Command::Join(Join { feature_level: FEATURE_LEVEL, ..join }));
        }
        for id in world.state.nodes.keys().copied().collect::<Vec<_>>() {
            world.nodes.insert(id, SimNode::default());
            let hello = world.introduction(id);
            world.commit(hello);
        }
        world.commit(Command::Raise { level: FEATURE_LEVEL });
        if seed.is_multiple_of(2) {
            world.commit(Command::Volumes(VolumeChange::Provider(Provider {
                kind: ProviderKind::DigitalOcean,
                api: String::new(),
                token: Sealed { key: String::new(), text: String::new() },
            })));
        }
        world.wanted = true;
        let first = world.deploy();
        world.commit(first);
        world
    }

    fn introduction(&mut self, node: NodeId) -> Command {
        let boot = BootId(self.dice.roll());
        let after = self.state.nodes.get(&node).map(|known| known.boot);
        if let Some(sim) = self.nodes.get_mut(&node) {
            (sim.boot, sim.seq) = (boot, 0);
        }
        Command::Register(Register {
            node,
            boot,
            after,
            cpu: MilliCpu(4_000),
            memory: Bytes(4_000_000_000),
            feature_level: FEATURE_LEVEL,
            ..fixture::register()
        })
    }

    fn calm(&self) -> bool {
        self.now > TROUBLE
    }

    /// Proposes, as a network lets it: late, or not at all.
    fn propose(&mut self, command: Command) {
        if !self.calm() && self.dice.chance(5) {
            return;
        }
        let delay = self.dice.below(4) * TICK;
        self.entries.push((self.now + delay, command));
    }

    fn commit(&mut self, command: Command) {
        let text: String = format!("{command:?}").chars().take(220).collect();
        let time = Timestamp(EPOCH + self.now);
        let before = self.state.clone();
        let outcome = apply_next(&mut self.state, time, command.clone()).outcome;
        if outcome.is_ok() {
            self.check_given_up(&before, &command);
        }
        let outcome = outcome.err().map(|why| format!("  refused: {why}")).unwrap_or_default();
        self.note(format!("{text}{outcome}"));
        let gone = |name: &VolumeName| !self.state.volumes.contains_key(name);
        let gone: Vec<_> = self.written.keys().filter(|name| gone(name)).cloned().collect();
        for name in gone {
            self.written.remove(&name);
        }
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:>7} {what}", self.now));
    }

    fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn tick(&mut self) {
        self.now += TICK;
        if !self.calm() {
            self.people();
            self.faults();
        } else if self.now <= TROUBLE + TICK {
            self.mend();
        }
        let now = self.now;
        let due: Vec<Command> =
            self.entries.extract_if(.., |(at, _)| *at <= now).map(|(_, command)| command).collect();
        for command in due {
            self.commit(command);
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.node(node);
        }
        self.lead();
        self.outside();
        self.check();
    }

    /// The leader plans, and looks who is silent.
    fn lead(&mut self) {
        if self.dice.chance(2) {
            // Another one leads: what was asked before goes on.
            (self.busy, self.unused) = Default::default();
        }
        let silent: Vec<NodeId> = self.silent();
        for id in silent {
            let known = self.state.nodes.get(&id).filter(|node| node.is_up());
            if let Some(boot) = known.map(|node| node.boot) {
                self.commit(Command::NodeDown { node: id, boot });
            }
        }
        if self.dice.chance(40) {
            let settled = self.nodes.keys().map(|id| (*id, self.state.index)).collect();
            let observed = SettledIndexes { settled, ..SettledIndexes::default() };
            let (time, seed) = (Timestamp(EPOCH + self.now), self.dice.roll());
            for command in plan(&self.state, &observed, time, seed, &Scope::All).commands {
                self.propose(command);
            }
        }
        self.ask_provider();
    }

    fn people(&mut self) {
        if !self.dice.chance(3) {
            return;
        }
        let node = NodeId(self.dice.between(1, NODES));
        let name = VolumeName::from("data");
        let command = match self.dice.below(12) {
            0..3 => {
                self.wanted = true;
                self.version += 1;
                self.size += self.dice.below(2) << 30;
                self.deploy()
            }
            3 => {
                self.wanted = false;
                self.deploy()
            }
            4 => Command::Volumes(VolumeChange::Delete { name }),
            5..7 => Command::Volumes(VolumeChange::Move { name, to: node }),
            7 | 8 => Command::Drain { node, deadline: None },
            _ => Command::Undrain { node },
        };
        self.propose(command);
    }

    /// One service with one volume, or none.
    fn deploy(&self) -> Command {
        let volume = VolumeSpec {
            name: "data".to_owned(),
            path: "/data".to_owned(),
            ephemeral: false,
            size: Some(Bytes(self.size)),
        };
        let image = format!("good:{}", self.version);
        let run = RunSpec { volumes: vec![volume], ..RunSpec::of(image) };
        let service = ServiceSpec {
            run,
            ports: Vec::new(),
            replicas: 1,
            health: HealthSpec {
                explicit: false,
                probe: HealthProbe::Tcp,
                interval: Millis(10_000),
                timeout: Millis(2_000),
                grace: Millis(30_000),
                host: None,
            },
            routes: Vec::new(),
            publish: Vec::new(),
            update: UpdateSpec {
                max_parallel: 1,
                order: UpdateOrder::StopFirst,
                healthy_deadline: Millis(60_000),
                canary: None,
            },
            before_deploy: Vec::new(),
            after_deploy: Vec::new(),
            stop: StopSpec { signal: None, grace: Millis(10_000) },
        };
        let services = self.wanted.then(|| ("db".into(), WorkloadSpec::Service(service)));
        Command::Deploy(Deploy {
            app: AppName::from("store"),
            kind: DeployKind::Up,
            base: None,
            services: services.into_iter().collect(),
            tasks: BTreeMap::new(),
            file: String::new(),
            replace: true,
            plan: None,
        })
    }

    /// Whatever names a volume in the allocation's specification.
    fn names(&self, id: &AllocId) -> Vec<VolumeName> {
        let allocation = self.state.allocations.get(id);
        let spec = allocation.and_then(|one| self.state.spec(&one.spec));
        let run = spec.map(|spec| spec.spec.run());
        run.map(|run| run.persistent().map(|(name, _)| name).collect()).unwrap_or_default()
    }
}

#[test]
fn every_seed_keeps_the_volumes() {
    let count = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let (first, count) = first.map_or((0, count), |seed| (seed, 1));
    if let Some(why) = first_failure(first, count, None, |seed| run(seed).err()) {
        panic!("{why}");
    }
}

#[test]
fn volumes_are_moved_and_torn() {
    let (mut moves, mut torn) = (0, 0);
    for seed in 0..60 {
        let world = run(seed).map_err(drop).unwrap();
        moves += world.moves;
        torn += world.torn;
    }
    assert!(moves >= 5 && torn >= 2, "{moves} moves, {torn} torn");
}

#[yare::parameterized(
    attach_unfenced = { Bug::AttachUnfenced },
    delete_in_use = { Bug::DeleteInUse },
    format_anew = { Bug::FormatAnew },
    copy_written = { Bug::CopyWritten },
)]
fn a_deliberate_bug_of_volumes_is_found(bug: Bug) {
    let found = first_failure(0, 200, Some(bug), |seed| run(seed).err());
    assert!(found.is_some(), "no seed finds {bug:?}");
}
