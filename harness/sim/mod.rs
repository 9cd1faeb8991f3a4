//! The simulator: real state, real planner, simulated time, nodes, containers and network.
//!
//! One seed decides everything; a failing seed prints its trace and replays identically. Owns the
//! world and its faults. Never sleeps and never reads a clock.

mod canary;
mod check;
mod consensus;
mod departing;
mod fault;
mod manners;
mod members;
mod node;
mod scenes;
mod tasks;
mod tests;
mod user;
mod volumes;

use crate::cluster::clock::Clock;
use crate::cluster::failure_detector::Silence;
use crate::fsm::command::{Init, Register, Report};
use crate::fsm::{self, Command, Entry, FEATURE_LEVEL, SessionStep, State};
use crate::id::{AllocId, AppName, BootId, Incarnation, Index, NodeId, Revision};
use crate::scheduler::plan::{Scope, SettledIndexes, plan};
use crate::units::{Bytes, MilliCpu, Millis, Timestamp};
use node::SimNode;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;

/// What goes wrong stops after this long; then the world has `QUIET` to come to rest.
const TROUBLE: u64 = 240_000;
/// Longer than any deadline; a deployment that is under way then has as long again, for several.
const QUIET: u64 = 900_000;
/// Wall time at the start.
const EPOCH: u64 = 1_700_000_000_000;

/// Numbers from a seed: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens next in the world.
#[derive(Clone, Debug)]
enum Event {
    /// A person does something.
    User,
    /// A person takes some of the drains back, before the world comes to rest.
    LastDrains,
    /// Something breaks.
    Trouble,
    /// A proposal reaches the log.
    Commit(Box<Entry>),
    /// The leader plans, if it still means to at this time. An older term's is ignored.
    Plan(u64),
    /// A node sees the state.
    View(NodeId),
    /// Something happens in a container.
    Container(NodeId, AllocId, node::Turn),
    /// A node sends what it saw. An older life's is ignored.
    Send(NodeId, BootId),
    /// The leader hears what a node has settled.
    Settled(NodeId, Index),
    /// The leader looks who is silent.
    Watch,
    /// A node is reached again.
    Return(NodeId),
    /// All nodes know the newest level.
    Raise,
    /// Somebody leads again.
    Lead(u64),
    /// Clients ask, and the nodes tell what they counted.
    Clients,
}

/// The world of one seed.
struct World {
    now: u64,
    dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    next_change: u64,
    state: State,
    log: Vec<(Index, Entry)>,
    nodes: BTreeMap<NodeId, SimNode>,
    observed: SettledIndexes,
    clock: Clock,
    silence: Silence,
    wall_jump: i64,
    term: u64,
    planned_at: Option<u64>,
    next_seq: u64,
    revision_of_user: u64,
    trace: Vec<String>,
    ledger: tasks::Ledger,
    /// What came back with its node lately, and when; how often that was.
    returned: BTreeMap<AllocId, u64>,
    returns: u32,
    /// When nodes were last let take work again; how many were removed.
    undrained: BTreeMap<NodeId, u64>,
    removals: u32,
    /// How many replicas of removed services went, and when.
    departed: departing::Count,
    /// Nobody leads until then; and the leader has not said so in the log yet.
    silent_until: u64,
    stands: bool,
    /// How long nobody led, and until when.
    silences: Vec<(u64, u64)>,
    /// When each deployment began.
    begun: BTreeMap<Revision, u64>,
    /// The highest level that the nodes know.
    level: u32,
    /// The leader looks on though all is well.
    keeps_watch: bool,
    /// Clients of a service, if there are any.
    clients: canary::Clients,
    /// The first invariant that did not hold.
    broken: Option<String>,
}

/// Runs a seed to its end.
fn run(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed);
    while world.broken.is_none() && world.step() {}
    if world.broken.is_none() {
        world.check_rest();
    }
    match world.broken.take() {
        None => Ok(world),
        Some(what) => {
            let shown = std::env::var("TRACE").ok().and_then(|lines| lines.parse().ok());
            let start = world.trace.len().saturating_sub(shown.unwrap_or(40));
            let tail = world.trace[start..].join("\n");
            Err(format!("seed {seed}: {what}\n{tail}\nAgain: make sim SEED={seed}"))
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self::bare(seed);
        // Some clusters have a node that doesn't know what is new.
        if world.dice.chance(10) {
            world.level = 1;
        }
        let members = world.dice.between(1, 4);
        for _ in 2..=members {
            world.join();
        }
        for id in world.nodes.keys().copied().collect::<Vec<_>>() {
            world.register(id);
        }
        world.raise_when_known();
        world.after(1, Event::User);
        world.after(5_000, Event::Trouble);
        world.after(1_000, Event::Watch);
        world.after(TROUBLE + 60_000, Event::LastDrains);
        world.draw_clients();
        world
    }

    /// One node and nothing that happens.
    fn bare(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut clock = Clock::default();
        let _ = clock.begin(Timestamp(0), Timestamp(EPOCH), Millis(0));
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            next_change: 0,
            state: State::default(),
            log: Vec::new(),
            nodes: BTreeMap::new(),
            observed: SettledIndexes::default(),
            clock,
            silence: Silence::new(Millis(0)),
            wall_jump: 0,
            term: 1,
            planned_at: None,
            next_seq: 0,
            revision_of_user: 0,
            trace: Vec::new(),
            ledger: tasks::Ledger::default(),
            returned: BTreeMap::new(),
            returns: 0,
            undrained: BTreeMap::new(),
            removals: 0,
            departed: departing::Count::default(),
            silent_until: 0,
            stands: false,
            silences: Vec::new(),
            begun: BTreeMap::new(),
            level: FEATURE_LEVEL,
            keeps_watch: false,
            clients: canary::Clients::default(),
            broken: None,
            dice: Dice(dice.roll()),
        };
        world.found();
        world
    }

    fn found(&mut self) {
        let init = Init {
            cluster: "sim".into(),
            cluster_id: "0".into(),
            incarnation: Incarnation(1),
            subnet: Ipv4Addr::new(10, 99, 0, 0),
            prefix: 16,
            node_name: "n1".into(),
            address: "10.0.0.1".into(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        };
        self.commit(Command::Init(init));
        self.nodes.insert(NodeId(1), SimNode::default());
    }

    fn register(&mut self, node: NodeId) {
        let boot = BootId(self.dice.roll());
        if let Some(sim) = self.nodes.get_mut(&node) {
            sim.begin(boot);
        }
        let hello = self.introduction(node, boot);
        self.propose(hello);
        self.after(30, Event::View(node));
    }

    fn introduction(&self, node: NodeId, boot: BootId) -> Command {
        let (cpu, memory) = (MilliCpu(4_000), Bytes(4_000_000_000));
        let after = self.state.nodes.get(&node).map(|known| known.boot);
        Command::Register(Register {
            node,
            boot,
            cpu,
            memory,
            version: "sim".to_owned(),
            after,
            reach: None,
            feature_level: self.level,
        })
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.next_event += 1;
        self.events.insert(self.next_event, event);
        self.queue.push(Reverse((self.now + delay, self.next_event)));
    }

    /// The leader's time.
    fn leader_time(&mut self) -> Timestamp {
        let wall = self.wall();
        let time = self.clock.read(wall, Millis(self.now)).unwrap_or_default();
        time.max(self.state.time)
    }

    fn wall(&self) -> Timestamp {
        Timestamp((EPOCH + self.now).saturating_add_signed(self.wall_jump))
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, id))) = self.queue.pop() else { return false };
        if !self.goes_on(at.saturating_sub(TROUBLE + QUIET)) {
            return false;
        }
        self.now = at;
        let Some(event) = self.events.remove(&id) else { return true };
        match event {
            Event::User => self.user(),
            Event::LastDrains => self.take_back_drains(),
            Event::Trouble => self.trouble(),
            Event::Commit(entry) => self.on_commit(*entry),
            Event::Plan(term) if term == self.term && self.planned_at == Some(at) => self.plan(),
            Event::Plan(_) => {}
            Event::View(node) => self.on_view(node),
            Event::Container(node, id, turn) => self.on_container(node, &id, turn),
            Event::Send(node, boot) => self.send_report(node, boot),
            Event::Settled(node, index) => {
                let known = self.observed.settled.entry(node).or_default();
                *known = index.max(*known);
                self.plan_soon(0);
            }
            Event::Watch => self.watch(),
            Event::Return(node) => self.on_return(node),
            Event::Raise if self.state.level() < self.level => self.raise_when_known(),
            Event::Raise => {}
            Event::Lead(term) if term == self.term => self.lead(),
            Event::Lead(_) => {}
            Event::Clients => self.ask_and_tell(),
        }
        true
    }

    /// Proposes with the faults of a network: late, twice, or not at all.
    fn propose(&mut self, command: Command) {
        if self.silent_until > self.now {
            return;
        }
        let calm = self.now > TROUBLE;
        if !calm && self.dice.chance(3) {
            return;
        }
        self.next_seq += 1;
        let session = SessionStep {
            node: NodeId(1),
            boot: BootId(1),
            seq: self.next_seq,
            low_water: self.next_seq.saturating_sub(50),
        };
        let time = self.leader_time();
        let entry = Entry { time, session, idempotency_key: None, command };
        let twice = !calm && self.dice.chance(5);
        let latest = if calm || self.dice.chance(80) { 5 } else { 2_000 };
        for _ in 0..=u8::from(twice) {
            let delay = self.dice.between(1, latest);
            self.after(delay, Event::Commit(Box::new(entry.clone())));
        }
    }

    fn commit(&mut self, command: Command) {
        let time = Timestamp(EPOCH + self.now);
        let session = SessionStep::default();
        self.on_commit(Entry { time, session, idempotency_key: None, command });
    }

    fn on_commit(&mut self, entry: Entry) {
        let index = Index(self.state.index.0 + 1);
        let before = self.state.clone();
        self.trace_entry(index, &entry);
        self.log.push((index, entry.clone()));
        let applied = fsm::apply(&mut self.state, index, entry.clone());
        if let Err(why) = &applied.outcome {
            self.note(format!("  refused: {why}"));
        }
        self.stands &= !matches!(entry.command, Command::Standstill { .. });
        self.check_entry(&before, &entry, &applied);
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let slow = self.now < TROUBLE && self.dice.chance(5);
            let delay = self.dice.between(1, if slow { 4_000 } else { 20 });
            self.after(delay, Event::View(node));
        }
        if !applied.touched.is_empty() {
            self.plan_soon(0);
        }
    }

    fn plan_soon(&mut self, delay: u64) {
        let extra = if self.dice.chance(10) { self.dice.below(300) } else { 1 };
        let at = self.now + delay + extra;
        if self.planned_at.is_some_and(|planned| planned >= self.now && planned <= at) {
            return;
        }
        self.planned_at = Some(at);
        self.after(delay + extra, Event::Plan(self.term));
    }

    fn plan(&mut self) {
        self.planned_at = None;
        // While nobody leads, or what that means isn't known yet, nothing is planned.
        if self.silent_until > self.now || self.stands {
            let wait = self.silent_until.saturating_sub(self.now).max(100);
            return self.plan_soon(wait);
        }
        let now = self.leader_time();
        let seed = self.dice.roll();
        let plan = plan(&self.state, &self.observed, now, seed, &Scope::All);
        let is_idle = plan.commands.is_empty();
        self.check_departures(&plan.commands);
        for command in plan.commands {
            self.propose(command);
        }
        // Refused or lost steps are found again.
        let soonest = plan.wake.values().min().map(|at| at.since(now).0.max(1));
        let next = if is_idle { soonest } else { Some(soonest.unwrap_or(3_000).min(3_000)) };
        if let Some(delay) = next {
            self.plan_soon(delay);
        }
    }

    fn send_report(&mut self, node: NodeId, boot: BootId) {
        let registered = self.state.nodes.get(&node).is_some_and(|n| n.boot == boot);
        let Some(sim) = self.nodes.get_mut(&node).filter(|sim| sim.boot == boot) else { return };
        sim.sending = false;
        if sim.cut {
            return;
        }
        let Some(mut allocations) = sim.unconfirmed(&self.state, node) else { return };
        sim.sending = true;
        self.lies(node, &mut allocations);
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        if registered {
            sim.seq += 1;
            let report = Report { node, boot, seq: sim.seq, allocations };
            self.propose(Command::Report(report));
        } else {
            let hello = self.introduction(node, boot);
            self.propose(hello);
        }
        self.after(2_500, Event::Send(node, boot));
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:>9} {what}", self.now));
    }

    fn trace_entry(&mut self, index: Index, entry: &Entry) {
        let text = match &entry.command {
            Command::Steps(steps) => {
                steps.actions.iter().map(node::describe).collect::<Vec<_>>().join(", ")
            }
            Command::Report(report) => node::describe_report(report),
            Command::Deploy(deploy) => user::describe(deploy),
            other => format!("{other:?}").chars().take(120).collect(),
        };
        self.note(format!("#{index} {text}"));
    }

    fn app_names(&self) -> Vec<AppName> {
        self.state.apps.keys().cloned().collect()
    }
}
