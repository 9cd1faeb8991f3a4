//! The simulator of consensus: the real glue and the real state machine, a simulated network and
//! disk.
//!
//! One seed decides everything. Owns the nodes' processes and when they do what. Never sleeps and
//! never reads a clock. A write to the log is there as a whole or not at all, and only what was
//! reported must be: so the log store promises.

mod check;
mod client;
mod disk;
mod fault;
mod life;
mod network;
mod people;
mod proposals;
mod tests;
mod writer;

use super::Dice;
use crate::cluster::clock::Clock;
use crate::consensus::propose::{Proposals, Refusal};
use crate::consensus::raft::consensus::{Consensus, Identity, Todo};
use crate::consensus::raft::event::Committed;
use crate::consensus::raft::log::LogView;
use crate::consensus::raft::{Entry, Tuning};
use crate::fsm::State;
use crate::id::{BootId, NodeId, SpecHash};
use crate::units::Millis;
use bytes::Bytes;
use client::Ledger;
use disk::{Job, Shared};
use life::Life;
use people::Machine;
use raft::eraftpb::ConfState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Machines, each with one node at a time.
const MACHINES: u64 = 6;
/// Faults end after so long; then there is so much time to come to rest.
const TROUBLE: u64 = 20_000;
const QUIET: u64 = 16_000;
/// So much faster than raft's go the clocks of deadlines: a minute is ten seconds.
const HASTE: u64 = 6;
/// Between two ticks of raft.
const TICK: u64 = 40;
/// After so many rounds there must be nothing to do before something else happens.
const PUMPS: u32 = 1_000;
/// More never happens while all is well: some tens of thousands.
const EVENTS: u64 = 500_000;
/// Snapshots and a short log come about within a seed.
const TUNING: Tuning =
    Tuning { snapshot_entries: 40, snapshot_bytes: 1 << 20, entries_kept: 15, bytes_kept: 1 << 16 };

enum Event {
    Tick { id: u64, boot: u64 },
    Arrive { from: u64, to: u64, bytes: Bytes },
    Bulk { from: u64, boot: u64, to: u64, bytes: Bytes },
    Proposal { from: u64, to: u64, epoch: u64, entry: Box<Entry> },
    Refused { to: u64, boot: u64, seq: u64, refusal: Refusal },
    Beat { id: u64, boot: u64 },
    Heard { from: u64, to: u64 },
    Unheard { from: u64, to: u64 },
    Dial { from: u64, boot: u64, to: u64 },
    Notice { from: u64, boot: u64, to: u64 },
    Wrote { id: u64, boot: u64, took: u64 },
    Encoded { id: u64, boot: u64, job: Box<Job> },
    ReadSnapshot { id: u64, boot: u64 },
    Again { id: u64, boot: u64 },
    Introduced { id: u64, boot: u64 },
    Look { id: u64, boot: u64, watches: u64 },
    Start(u64),
    Machine(u64),
    Client,
    People,
    Trouble,
}

impl Event {
    /// The node whose process is needed for it.
    fn node(&self) -> Option<u64> {
        Some(match self {
            Self::Arrive { to, .. } | Self::Proposal { to, .. } => *to,
            Self::Refused { to, .. } | Self::Heard { to, .. } => *to,
            Self::Unheard { to, .. } => *to,
            Self::Bulk { from, .. } | Self::Dial { from, .. } | Self::Notice { from, .. } => *from,
            Self::Tick { id, .. } | Self::Beat { id, .. } | Self::Wrote { id, .. } => *id,
            Self::Encoded { id, .. } | Self::ReadSnapshot { id, .. } => *id,
            Self::Again { id, .. } | Self::Introduced { id, .. } | Self::Look { id, .. } => *id,
            Self::Start(_) | Self::Machine(_) | Self::Client | Self::People | Self::Trouble => {
                return None;
            }
        })
    }

    /// The process that it is for; one that has ended since needs it no more.
    fn process(&self) -> Option<(u64, u64)> {
        match self {
            Self::Tick { id, boot } | Self::Beat { id, boot } | Self::Wrote { id, boot, .. } => {
                Some((*id, *boot))
            }
            Self::Encoded { id, boot, .. } | Self::ReadSnapshot { id, boot } => Some((*id, *boot)),
            Self::Again { id, boot } | Self::Introduced { id, boot } => Some((*id, *boot)),
            Self::Look { id, boot, .. } => Some((*id, *boot)),
            _ => None,
        }
    }
}

struct World {
    now: u64,
    dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    machines: BTreeMap<u64, Machine>,
    disks: BTreeMap<u64, Shared>,
    lives: BTreeMap<u64, Life>,
    /// Who doesn't reach whom.
    cut: BTreeSet<(u64, u64)>,
    /// What was committed first at each index, and the last index that some node has applied.
    canon: BTreeMap<u64, Committed>,
    frontier: u64,
    hashes: BTreeMap<u64, SpecHash>,
    /// The configurations, by the index of what made them.
    confs: BTreeMap<u64, ConfState>,
    /// The newest state in which the nodes have changed.
    table: State,
    /// Who led each term; whom each node voted for; whose votes a candidate has.
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    electors: BTreeMap<(u64, u64), BTreeSet<NodeId>>,
    led_since: u64,
    /// The newest state that a node's containers were made by.
    made: BTreeMap<u64, u64>,
    /// The least that a read must see, by its number.
    floors: BTreeMap<u64, u64>,
    ledger: Ledger,
    removed_at: u64,
    /// All disks are slow.
    slow_until: u64,
    /// All disks take so long for each write, and nothing else goes wrong.
    usual_write: Option<u64>,
    confirmed_reads: u64,
    installed: u64,
    removals: u64,
    trace: Vec<String>,
    broken: Option<String>,
}

/// What a seed came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    trace: Vec<String>,
    committed: usize,
    acknowledged: u64,
    reads: u64,
    installed: u64,
    removals: u64,
    /// Terms that had a leader.
    leaders: usize,
}

/// Runs a seed to its end.
pub(super) fn run(seed: u64) -> Result<Outcome, String> {
    run_world(World::new(seed), seed)
}

/// Runs a seed in which every write of every disk takes so long, and nothing else goes wrong.
pub(super) fn run_slow(seed: u64, write: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    world.usual_write = Some(write);
    run_world(world, seed)
}

fn run_world(mut world: World, seed: u64) -> Result<Outcome, String> {
    let ended = catch_unwind(AssertUnwindSafe(|| while world.broken.is_none() && world.step() {}));
    if ended.is_err() {
        world.fail("something found itself in a state that can't be".to_owned());
    }
    if world.broken.is_none() {
        world.check_rest();
    }
    match world.broken {
        None => Ok(Outcome {
            committed: world.canon.len(),
            acknowledged: world.ledger.acknowledged,
            reads: world.confirmed_reads,
            installed: world.installed,
            removals: world.removals,
            leaders: world.leaders.len(),
            trace: world.trace,
        }),
        Some(what) => {
            let shown = std::env::var("TRACE").ok().and_then(|lines| lines.parse().ok());
            let start = world.trace.len().saturating_sub(shown.unwrap_or(60));
            let tail = world.trace[start..].join("\n");
            Err(format!("seed {seed}: {what}\n{tail}\nAgain: make sim SEED={seed}"))
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            now: 0,
            dice: Dice(seed),
            events: BTreeMap::new(),
            next: 0,
            machines: BTreeMap::new(),
            disks: BTreeMap::new(),
            lives: BTreeMap::new(),
            cut: BTreeSet::new(),
            canon: BTreeMap::new(),
            frontier: 0,
            hashes: BTreeMap::new(),
            confs: [(0, ConfState { voters: vec![1], ..ConfState::default() })].into(),
            table: State::default(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            electors: BTreeMap::new(),
            led_since: 0,
            made: BTreeMap::new(),
            floors: BTreeMap::new(),
            ledger: Ledger::default(),
            removed_at: 0,
            slow_until: 0,
            usual_write: None,
            confirmed_reads: 0,
            installed: 0,
            removals: 0,
            trace: Vec::new(),
            broken: None,
        };
        world.found();
        world.after(500, Event::Client);
        world.after(2_000, Event::People);
        world.after(2_500, Event::Trouble);
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now + delay, self.next), event);
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:>6} {what}", self.now));
    }

    fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn calm(&self) -> bool {
        self.now > TROUBLE
    }

    fn is_paused(&self, id: u64) -> bool {
        self.lives.get(&id).is_some_and(|life| life.paused_until > self.now)
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        self.now = at;
        if at > TROUBLE + QUIET {
            return false;
        }
        if self.next > EVENTS {
            self.fail("messages without end".to_owned());
        }
        // What comes for a process that stands still waits for it, in order.
        let paused = event.node().and_then(|id| self.lives.get(&id)).map(|life| life.paused_until);
        if let Some(until) = paused.filter(|until| *until > at) {
            self.next += 1;
            self.events.insert((until, self.next), event);
            return true;
        }
        let of = |(id, boot)| self.lives.get(&id).is_some_and(|life| life.boot == boot);
        if event.process().is_none_or(of) {
            self.take(event);
        }
        true
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Tick { id, boot } => self.tick(id, boot),
            Event::Arrive { from, to, bytes } => self.arrive(from, to, bytes),
            Event::Bulk { from, boot, to, bytes } => self.bulk(from, boot, to, bytes),
            Event::Proposal { from, to, epoch, entry } => self.proposal(from, to, epoch, *entry),
            Event::Refused { to, boot, seq, refusal } => {
                self.refused(to, boot, seq, refusal);
                self.pump(to);
            }
            Event::Beat { id, boot } => {
                self.beat(id);
                let pause = crate::limits::HEARTBEAT.as_millis() as u64 / HASTE;
                self.after(pause, Event::Beat { id, boot });
            }
            Event::Heard { from, to } => self.heard(from, to),
            Event::Unheard { from, to } => self.unheard(from, to),
            Event::Dial { from, boot, to } => self.dial(from, boot, to),
            Event::Notice { from, boot, to } => self.notice(from, boot, to),
            Event::Wrote { id, took, .. } => self.wrote(id, took),
            Event::Encoded { id, job, .. } => self.ask(id, *job),
            Event::ReadSnapshot { id, .. } => {
                let snapshot = self.disks[&id].snapshot();
                if let Some(life) = self.lives.get_mut(&id) {
                    life.consensus.snapshot_read(snapshot);
                    self.pump(id);
                }
            }
            Event::Again { id, .. } => {
                self.send_again(id);
                self.pump(id);
            }
            Event::Introduced { id, boot } => self.introduced(id, boot),
            Event::Look { id, watches, .. } => {
                if self.lives.get(&id).is_some_and(|life| life.watches == watches) {
                    self.look(id);
                    self.pump(id);
                }
            }
            Event::Start(id) => self.start(id),
            Event::Machine(machine) => self.machine(machine),
            Event::Client => self.client(),
            Event::People => self.people(),
            Event::Trouble => self.trouble(),
        }
    }

    fn tick(&mut self, id: u64, boot: u64) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.consensus.tick();
            drop(life.consensus.give_up_reads(Millis(self.now)));
            self.after(TICK, Event::Tick { id, boot });
            self.pump(id);
        }
    }

    fn start(&mut self, id: u64) {
        let Some(disk) = self.disks.get(&id).cloned().filter(|_| !self.lives.contains_key(&id))
        else {
            return;
        };
        let found = match disk.found() {
            Ok(found) => found,
            Err(what) => return self.fail(format!("n{id} can't read its log: {what}")),
        };
        let boot = self.dice.roll();
        let me = Identity { node: NodeId(id), draw: boot };
        let snapshot = disk.snapshot();
        let view = LogView::new(&found, Box::new(disk)).keeping(2_000);
        let consensus = match Consensus::new(me, &found, view, snapshot, TUNING) {
            Ok(consensus) => consensus,
            Err(error) => return self.fail(format!("n{id} can't start: {error}")),
        };
        let life = Life {
            boot,
            life: BootId(boot),
            consensus,
            jobs: VecDeque::new(),
            batch: Vec::new(),
            state: State::default(),
            leader: None,
            conf: None,
            gate: None,
            committed_before: self.frontier,
            reads: Vec::new(),
            proposals: Proposals::default(),
            looking: false,
            introducing: false,
            clock: Clock::default(),
            read_at: self.clock(),
            watch: None,
            watches: 0,
            plan_due: false,
            paused_until: 0,
            links: BTreeMap::new(),
            callers: BTreeSet::new(),
        };
        self.lives.insert(id, life);
        self.note(format!("n{id} starts, log {:?} to {}", found.compacted, found.last));
        let soon = self.dice.between(1, TICK);
        self.after(soon, Event::Tick { id, boot });
        self.after(soon, Event::Beat { id, boot });
        self.keep_links(id);
        self.pump(id);
    }

    /// Carries out what consensus wants, until it wants nothing.
    fn pump(&mut self, id: u64) {
        for _ in 0..PUMPS {
            let Some(life) = self.lives.get_mut(&id) else { return };
            let todos = life.consensus.pump();
            let plan = std::mem::take(&mut life.plan_due);
            if todos.is_empty() && !plan || self.broken.is_some() {
                return self.answer_reads(id);
            }
            for todo in todos {
                self.carry_out(id, todo);
            }
            if plan {
                self.plan_members(id);
            }
        }
        self.fail(format!("n{id} finds no end of what is to be done"));
    }

    fn carry_out(&mut self, id: u64, todo: Todo<u64>) {
        match todo {
            Todo::Tell(event) => self.told(id, event),
            Todo::Write(write) => {
                if let Some((index, conf)) = &write.conf {
                    self.check_conf(id, *index, conf);
                }
                self.ask(id, Job::Write(write));
            }
            Todo::Answer(read, index) => {
                if let Some(life) = self.lives.get_mut(&id) {
                    life.reads.push((read, index.0));
                }
            }
            Todo::ReadSnapshot => {
                let Some(boot) = self.lives.get(&id).map(|life| life.boot) else { return };
                let delay = self.dice.between(1, 30);
                self.after(delay, Event::ReadSnapshot { id, boot });
            }
            Todo::Fail(error) => self.fail(format!("n{id}: {error}")),
        }
    }
}

const _: () = assert!(QUIET > 10 * crate::limits::RAFT_TICK.as_millis() as u64);
