//! The simulator of consensus: the real glue over a simulated network and disk.
//!
//! One seed decides everything. Owns the faults and what must hold whatever they are. Never sleeps
//! and never reads a clock. A write to the log is there as a whole or not at all, and only what was
//! reported must be: so the log store promises.

mod disk;
mod fault;
mod tests;

use super::Dice;
use crate::bugs::{Bug, is_on};
use crate::id::{Index, NodeId};
use crate::limits;
use crate::raft::Tuning;
use crate::raft::consensus::{Consensus, Identity, Todo};
use crate::raft::event::Event as Told;
use crate::raft::log::LogView;
use crate::raft::node::{Conf, Write};
use crate::units::Millis;
use bytes::Bytes;
use disk::Shared;
use prost011::Message as _;
use raft::eraftpb::{Message, MessageType};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

const NODES: u64 = 3;
/// Faults end after so long; then there is so much time to come to rest.
const TROUBLE: u64 = 20_000;
const QUIET: u64 = 15_000;

struct Life {
    boot: u64,
    consensus: Consensus<u64>,
    writes: VecDeque<Write>,
    applied: u64,
    conf: Option<Conf>,
    gate: Option<u64>,
    committed_before: u64,
    /// Reads that were confirmed at an index and wait for it: the least that they must see.
    reads: Vec<(u64, u64)>,
}

enum Event {
    Tick(u64, u64),
    Arrive(u64, Bytes),
    Wrote(u64, u64),
    Start(u64),
    Client,
    Trouble,
}

#[derive(Default)]
struct Cut(BTreeSet<(u64, u64)>);

struct World {
    now: u64,
    dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    disks: BTreeMap<u64, Shared>,
    lives: BTreeMap<u64, Life>,
    cut: Cut,
    /// What was committed first at each index; who led each term; whom each node voted for.
    canon: BTreeMap<u64, (u64, Vec<u8>)>,
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    /// The least that a read must see, by its number.
    floors: BTreeMap<u64, u64>,
    told: u64,
    proposed: u64,
    confirmed_reads: u64,
    trace: Vec<String>,
    broken: Option<String>,
}

/// Runs a seed to its end; answers its trace and what was committed and read.
pub(super) fn run(seed: u64) -> Result<(Vec<String>, usize, u64), String> {
    let mut world = World {
        now: 0,
        dice: Dice(seed),
        events: BTreeMap::new(),
        next: 0,
        disks: (1..=NODES).map(|id| (id, Shared::default())).collect(),
        lives: BTreeMap::new(),
        cut: Cut::default(),
        canon: BTreeMap::new(),
        leaders: BTreeMap::new(),
        votes: BTreeMap::new(),
        floors: BTreeMap::new(),
        told: 0,
        proposed: 0,
        confirmed_reads: 0,
        trace: Vec::new(),
        broken: None,
    };
    (1..=NODES).for_each(|id| world.start(id));
    world.after(500, Event::Client);
    world.after(3_000, Event::Trouble);
    let ended = catch_unwind(AssertUnwindSafe(|| while world.broken.is_none() && world.step() {}));
    if ended.is_err() {
        world.fail("raft-rs found itself in a state that can't be".to_owned());
    }
    if world.broken.is_none() {
        world.check_rest();
    }
    match world.broken {
        None => Ok((world.trace, world.canon.len(), world.confirmed_reads)),
        Some(what) => {
            let tail = world.trace[world.trace.len().saturating_sub(60)..].join("\n");
            Err(format!("seed {seed}: {what}\n{tail}\nAgain: make sim SEED={seed}"))
        }
    }
}

impl World {
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

    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        self.now = at;
        if at > TROUBLE + QUIET {
            return false;
        }
        match event {
            Event::Tick(id, boot) => {
                if let Some(life) = self.lives.get_mut(&id).filter(|life| life.boot == boot) {
                    life.consensus.tick();
                    drop(life.consensus.give_up_reads(Millis(self.now)));
                    self.after(40, Event::Tick(id, boot));
                    self.plan_members(id);
                    self.pump(id);
                }
            }
            Event::Arrive(id, bytes) => {
                if let Some(life) = self.lives.get_mut(&id) {
                    life.consensus.step(bytes);
                    self.pump(id);
                }
            }
            Event::Wrote(id, boot) => self.wrote(id, boot),
            Event::Start(id) => self.start(id),
            Event::Client => self.client(),
            Event::Trouble => self.trouble(),
        }
        true
    }

    fn start(&mut self, id: u64) {
        if self.lives.contains_key(&id) {
            return;
        }
        let disk = self.disks[&id].clone();
        let found = disk.found();
        let boot = self.dice.roll();
        let me = Identity { node: NodeId(id), draw: boot };
        let view = LogView::new(&found, Box::new(disk));
        let (writes, reads) = (VecDeque::new(), Vec::new());
        let made = Consensus::new(me, &found, view, None, Tuning::default());
        let consensus = match made {
            Ok(consensus) => consensus,
            Err(error) => return self.fail(format!("n{id} can't start: {error}")),
        };
        let committed_before = self.canon.keys().next_back().copied().unwrap_or(0);
        let (conf, gate) = (None, None);
        let life =
            Life { boot, consensus, writes, applied: 0, conf, gate, committed_before, reads };
        self.lives.insert(id, life);
        self.note(format!("n{id} starts, log up to {}", found.last));
        self.after(1 + id, Event::Tick(id, boot));
        self.pump(id);
    }

    /// The power of a node goes: of what waits for the disk, some may have reached it, in order.
    fn crash(&mut self, id: u64) {
        let Some(life) = self.lives.remove(&id) else { return };
        let kept = self.dice.below(life.writes.len() as u64 + 1) as usize;
        life.writes.iter().take(kept).for_each(|write| self.disks[&id].put(write));
        self.note(format!("n{id} crashes, {kept} of {} writes remain", life.writes.len()));
        let away = self.dice.between(10, 3_000);
        self.after(away, Event::Start(id));
    }

    fn wrote(&mut self, id: u64, boot: u64) {
        let disk = self.disks[&id].clone();
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.boot == boot) else { return };
        let Some(write) = life.writes.pop_front() else { return };
        disk.put(&write);
        life.consensus.written(write.number);
        if !life.writes.is_empty() {
            self.disk_soon(id, boot);
        }
        self.pump(id);
    }

    fn disk_soon(&mut self, id: u64, boot: u64) {
        let slow = !self.calm() && self.dice.chance(5);
        let delay = self.dice.between(1, if slow { 600 } else { 8 });
        self.after(delay, Event::Wrote(id, boot));
    }

    fn pump(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let boot = life.boot;
        let todos = life.consensus.pump();
        let more = !todos.is_empty();
        for todo in todos {
            match todo {
                Todo::Tell(event) => self.told(id, event),
                Todo::Write(write) => {
                    let Some(life) = self.lives.get_mut(&id) else { return };
                    if is_on(Bug::AcknowledgeEarly) {
                        life.consensus.written(write.number);
                    }
                    life.writes.push_back(write);
                    if life.writes.len() == 1 {
                        self.disk_soon(id, boot);
                    }
                }
                Todo::Answer(read, Index(index)) => {
                    let Some(life) = self.lives.get_mut(&id) else { return };
                    life.reads.push((read, index));
                }
                Todo::ReadSnapshot => {}
                Todo::Fail(error) => self.fail(format!("n{id}: {error}")),
            }
        }
        self.answer_reads(id);
        if more {
            self.pump(id);
        }
    }

    /// What a read sees holds all that was told to anybody before it began.
    fn answer_reads(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let applied = life.applied;
        let (ready, wait) = life.reads.drain(..).partition(|(_, index)| *index <= applied);
        life.reads = wait;
        let ready: Vec<(u64, u64)> = ready;
        for (read, _) in ready {
            let floor = self.floors.remove(&read).unwrap_or(0);
            if applied < floor {
                self.fail(format!("n{id} read at {applied} what had to show {floor}"));
            }
            self.confirmed_reads += 1;
            self.told = self.told.max(applied);
        }
    }

    fn told(&mut self, id: u64, event: Told) {
        match event {
            Told::Send { to, bytes, .. } => self.send(id, to.0, bytes),
            Told::Committed(entries) => {
                for entry in entries {
                    let body = entry.entry.map(|e| e.command).unwrap_or_default();
                    self.committed(id, entry.index.0, (entry.term.0, body));
                }
                let Some(life) = self.lives.get_mut(&id) else { return };
                life.consensus.applied(Index(life.applied));
            }
            Told::Leader { is_leader: true, term, .. } => {
                self.note(format!("n{id} leads term {term}"));
                if *self.leaders.entry(term.0).or_insert(id) != id {
                    self.fail(format!("n{id} is a second leader of term {term}"));
                }
            }
            Told::Conf(conf) => {
                self.note(format!("n{id} sees {conf:?}"));
                if let Some(life) = self.lives.get_mut(&id) {
                    life.conf = Some(conf);
                }
            }
            Told::Confirmed(index) => {
                if let Some(life) = self.lives.get_mut(&id) {
                    life.gate = Some(index.0);
                    if index.0 < life.committed_before {
                        self.fail(format!("n{id} takes {index} for all that was committed"));
                    }
                }
            }
            _ => {}
        }
    }

    fn committed(&mut self, id: u64, index: u64, what: (u64, Vec<u8>)) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if index != life.applied + 1 {
            let applied = life.applied;
            return self.fail(format!("n{id} is handed {index} after {applied}"));
        }
        life.applied = index;
        if *self.canon.entry(index).or_insert_with(|| what.clone()) != what {
            self.fail(format!("n{id} has another entry {index} than was committed"));
        }
        // Whoever proposed it is told now.
        self.told = self.told.max(index);
    }

    fn send(&mut self, from: u64, to: u64, bytes: Bytes) {
        self.check_vote(from, &bytes);
        if self.cut.0.contains(&(from, to)) || !self.calm() && self.dice.chance(3) {
            return;
        }
        let copies = 1 + u64::from(!self.calm() && self.dice.chance(3));
        for _ in 0..copies {
            let slow = !self.calm() && self.dice.chance(5);
            let delay = self.dice.between(1, if slow { 900 } else { 10 });
            self.after(delay, Event::Arrive(to, bytes.clone()));
        }
    }

    /// One vote a term, whatever happened in between.
    fn check_vote(&mut self, from: u64, bytes: &Bytes) {
        let Ok(message) = Message::decode(bytes.clone()) else { return };
        let whom = match message.get_msg_type() {
            MessageType::MsgRequestVote => from,
            MessageType::MsgRequestVoteResponse if !message.reject => message.to,
            _ => return,
        };
        let term = message.term;
        let first = *self.votes.entry((from, term)).or_insert(whom);
        if first != whom {
            self.fail(format!("n{from} votes for n{first} and n{whom} in term {term}"));
        }
    }
}

const _: () = assert!(QUIET > 10 * limits::RAFT_TICK.as_millis() as u64);
