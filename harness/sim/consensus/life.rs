//! A node's process in the simulation: consensus, and what root does around it.
//!
//! Owns what `actors/root` and `actors/scheduler` do with entries, snapshots and the members, in
//! the same order. Never decides what they do: that is the core's.

use super::check::sorted;
use super::disk::Job;
use super::network::Link;
use super::{Event, HASTE, World};
use crate::cluster::clock::Clock;
use crate::cluster::members::Next;
use crate::cluster::watch::Watch;
use crate::consensus::propose::{CommittedEntry, Proposals};
use crate::consensus::raft::Entry;
use crate::consensus::raft::consensus::{Consensus, packed};
use crate::consensus::raft::event::{Committed, Event as Told};
use crate::consensus::raft::node::Conf;
use crate::fsm::command::Register;
use crate::fsm::{self, Command, FEATURE_LEVEL, State, fixture};
use crate::id::{BootId, Index, NodeId};
use crate::limits;
use crate::units::{Millis, Timestamp};
use raft::eraftpb::SnapshotMetadata;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who waits for a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A client, for this of its changes.
    Client(usize),
    /// The node itself, which introduces itself.
    Introduction,
    /// A machine that wants to join, with its try.
    Joining(u64, u64),
    Nobody,
}

pub(super) struct Life {
    pub(super) boot: u64,
    /// This life of the node, as the cluster counts them.
    pub(super) life: BootId,
    pub(super) consensus: Consensus<u64>,
    pub(super) jobs: VecDeque<Job>,
    /// What the disk is busy with.
    pub(super) batch: Vec<Job>,
    pub(super) state: State,
    pub(super) leader: Option<u64>,
    pub(super) conf: Option<Conf>,
    pub(super) gate: Option<u64>,
    pub(super) committed_before: u64,
    /// Reads that were confirmed at an index and wait for it.
    pub(super) reads: Vec<(u64, u64)>,
    pub(super) proposals: Proposals<Who>,
    pub(super) looking: bool,
    pub(super) introducing: bool,
    pub(super) clock: Clock,
    /// When replicated time was last seen to go on.
    pub(super) read_at: Millis,
    pub(super) watch: Option<Watch>,
    pub(super) watches: u64,
    pub(super) plan_due: bool,
    pub(super) paused_until: u64,
    pub(super) links: BTreeMap<u64, Link>,
    /// Who has called.
    pub(super) callers: BTreeSet<u64>,
}

/// Where all clocks agree, replicated time is never further off than this, once a leader has heard
/// the others.
const ASTRAY: Millis = Millis(5_000);

impl Life {
    pub(super) fn is_current(&self) -> bool {
        self.gate.is_some_and(|gate| self.state.index.0 >= gate)
    }

    pub(super) fn leads(&self, id: u64) -> bool {
        self.leader == Some(id)
    }
}

impl World {
    /// The clock of the processes. It runs faster than raft's, so that long deadlines come about.
    pub(super) fn clock(&self) -> Millis {
        Millis(self.now * HASTE)
    }

    /// What a leader stamps entries with.
    pub(super) fn stamp(&mut self, id: u64) -> u64 {
        let now = self.clock();
        let wall = Timestamp(super::super::EPOCH + now.0);
        let Some(life) = self.lives.get_mut(&id) else { return 0 };
        if !life.clock.leads() {
            let _ = life.clock.begin(life.state.time, wall, now);
        }
        let there = life.state.nodes.values().filter(|node| node.is_up()).map(|node| node.id);
        let others = there.filter(|node| node.0 != id).collect();
        let _ = life.clock.step(&others, wall, now);
        let time = life.clock.read(wall, now).unwrap_or_default();
        let is_settled = !life.clock.may_step();
        if time.since(wall) > ASTRAY || is_settled && wall.since(time) > ASTRAY {
            self.fail(format!("n{id} stamps entries {time} at {wall}"));
        }
        time.0
    }

    pub(super) fn told(&mut self, id: u64, event: Told) {
        match event {
            Told::Send { to, bytes, bulk } => self.send(id, to.0, bytes, bulk),
            Told::Committed(entries) => self.on_committed(id, entries),
            Told::Leader { leader, term, is_leader } => {
                if is_leader {
                    self.check_leader(id, term.0);
                }
                self.on_leader(id, leader);
            }
            Told::Conf(conf) => self.on_conf(id, conf),
            Told::Confirmed(index) => self.on_confirmed(id, index.0),
            Told::Installed { index, state } => self.on_installed(id, index, &state),
            Told::SnapshotWanted => self.on_snapshot_wanted(id),
            Told::Refused { .. } | Told::Disk(_) | Told::Stuck(_) | Told::Fatal(_) => {}
        }
    }

    fn on_leader(&mut self, id: u64, leader: Option<NodeId>) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.leader = leader.map(|leader| leader.0);
        if !life.leads(id) {
            life.clock.end(now);
            (life.conf, life.watch) = (None, None);
        }
        self.keep_watch(id);
        self.hand_over_all(id);
        self.look_again(id);
    }

    fn on_confirmed(&mut self, id: u64, index: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.gate = Some(index);
        let before = life.committed_before;
        if index < before {
            self.fail(format!("n{id} takes {index} for all of the {before} that was committed"));
        }
        self.see(id);
    }

    fn on_installed(&mut self, id: u64, index: Index, state: &[u8]) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let state = match State::decode(state) {
            Ok(state) => state,
            Err(error) => return self.fail(format!("n{id} can't read a snapshot: {error}")),
        };
        let from = life.state.index;
        if state.index != index || index < from {
            return self.fail(format!("n{id} goes from {from} to {}, not {index}", state.index));
        }
        life.state = state;
        let covered = life.proposals.covered(&life.state, NodeId(id), BootId(life.boot));
        for (seq, answer) in covered {
            self.settle(id, seq, answer);
        }
        self.note(format!("n{id} has the state at {index}"));
        self.installed += u64::from(from.0 > 0);
        self.check_hash(id, true);
        self.keep_links(id);
        self.see(id);
    }

    fn on_snapshot_wanted(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let Some(meta) = life.consensus.snapshot(life.state.index) else { return };
        let (boot, data) = (life.boot, packed(life.state.encode().unwrap()));
        self.check_hash(id, true);
        self.check_conf_of(id, &meta);
        let delay = self.dice.between(1, 60);
        self.after(delay, Event::Encoded { id, boot, job: Box::new(Job::Snapshot(meta, data)) });
    }

    fn check_conf_of(&mut self, id: u64, meta: &SnapshotMetadata) {
        let has = sorted(meta.get_conf_state());
        let known = self.confs.range(..=meta.index).next_back();
        if let Some((at, known)) = known.filter(|(_, conf)| **conf != has) {
            let index = meta.index;
            let what = format!("n{id} has {has:?} in its snapshot at {index}, {at} made {known:?}");
            self.fail(what);
        }
    }

    fn on_committed(&mut self, id: u64, entries: Vec<Committed>) {
        let mut nodes = false;
        for committed in entries {
            self.check_canon(id, &committed);
            let entry = match CommittedEntry::decode(committed, FEATURE_LEVEL) {
                Ok(entry) => entry,
                Err(error) => return self.fail(format!("n{id}: {error}")),
            };
            nodes |= self.apply(id, entry);
        }
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.consensus.applied(life.state.index);
        if life.is_current() {
            life.clock.applied(life.state.time, now);
        }
        life.plan_due |= nodes;
        if nodes {
            self.keep_links(id);
        }
        self.see(id);
    }

    /// Answers whether the nodes have changed.
    fn apply(&mut self, id: u64, CommittedEntry { index, entry }: CommittedEntry) -> bool {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return false };
        if index.0 != life.state.index.0 + 1 {
            let at = life.state.index;
            self.fail(format!("n{id} is handed {index} after {at}"));
            return false;
        }
        let Some(entry) = entry else {
            life.state.index = index;
            self.frontier = self.frontier.max(index.0);
            return false;
        };
        let (session, key) = (entry.session, entry.idempotency_key.clone());
        let before = (self.frontier < index.0).then(|| life.state.clone());
        if entry.time > life.state.time {
            life.read_at = now;
        }
        let applied = fsm::apply(&mut life.state, index, entry);
        let own = session.node.0 == id && session.boot.0 == life.boot;
        if let Some(before) = before {
            self.frontier = index.0;
            self.check_effect(id, &before, session, key.as_deref());
            if applied.touched.nodes {
                self.check_table(id, &before);
            }
        }
        self.check_hash(id, false);
        if own {
            let done =
                applied.outcome.map(|outcome| crate::consensus::propose::Done { index, outcome });
            self.settle(id, session.seq, done.map_err(Into::into));
        }
        applied.touched.nodes
    }

    /// What the children do with a new view.
    fn see(&mut self, id: u64) {
        self.act(id);
        self.introduce(id);
        self.keep_watch(id);
    }

    /// The container actor: it makes nothing true before the state is current.
    fn act(&mut self, id: u64) {
        let Some(life) = self.lives.get(&id).filter(|life| life.is_current()) else { return };
        let (index, before) = (life.state.index.0, life.committed_before);
        let made = self.made.entry(id).or_default();
        let newest = before.max(*made);
        *made = index.max(*made);
        if index < newest {
            self.fail(format!("n{id} makes the state at {index} true after {newest}"));
        }
    }

    /// Once the state is current: the first node begins the cluster, then every node says what it
    /// has.
    pub(super) fn introduce(&mut self, id: u64) {
        let another = BootId(self.lives.get(&id).map_or(0, |life| life.life.0.wrapping_add(1)));
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.is_current()) else { return };
        let node = life.state.nodes.get(&NodeId(id));
        if node.is_some_and(|node| node.boot == life.life && !node.is_up()) {
            life.life = another;
        }
        let known = node.is_some_and(|node| node.boot == life.life);
        if life.introducing || known {
            return;
        }
        life.introducing = true;
        let after = node.map(|node| node.boot);
        let register = Register { node: NodeId(id), boot: life.life, after, ..fixture::register() };
        let command = if life.state.cluster.is_none() {
            Command::Init(fsm::command::Init { node_name: "m1".to_owned(), ..fixture::init() })
        } else {
            Command::Register(register)
        };
        self.propose(id, Who::Introduction, &command, None);
    }

    pub(super) fn introduced(&mut self, id: u64, boot: u64) {
        if let Some(life) = self.lives.get_mut(&id).filter(|life| life.boot == boot) {
            life.introducing = false;
            self.introduce(id);
            self.pump(id);
        }
    }

    /// Begins the watch when this node leads, ends it when it doesn't.
    fn keep_watch(&mut self, id: u64) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        let leads = life.is_current() && life.leads(id);
        if leads && life.watch.is_none() {
            life.watch = Some(Watch::new(life.conf.clone(), now));
            self.look(id);
        } else if !leads {
            life.watch = None;
        }
    }

    fn on_conf(&mut self, id: u64, conf: Conf) {
        self.note(format!("n{id} sees {conf:?}"));
        self.check_electors(id, &conf);
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.conf = Some(conf.clone());
        if let Some(watch) = &mut life.watch {
            watch.set_conf(conf);
        }
        life.plan_due = true;
        self.keep_watch(id);
    }

    /// Looks who is silent, and again a tick later.
    pub(super) fn look(&mut self, id: u64) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        let time = life.state.time.plus(now.since(life.read_at));
        let Some(watch) = &mut life.watch else { return };
        let seen = watch.look(&life.state, NodeId(id), now, time);
        life.watches += 1;
        life.plan_due = true;
        let (boot, watches) = (life.boot, life.watches);
        let tick = limits::SILENCE_TICK.as_millis() as u64 / HASTE;
        self.after(tick, Event::Look { id, boot, watches });
        seen.into_iter().for_each(|command| self.propose(id, Who::Nobody, &command, None));
    }

    /// Takes the next step toward the members that raft should have.
    pub(super) fn plan_members(&mut self, id: u64) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        let time = life.state.time.plus(now.since(life.read_at));
        let Some(watch) = life.watch.as_mut() else { return };
        let next = watch.plan(&life.state, NodeId(id), now, time).cloned();
        match next {
            Some(Next::Change { members, command }) => {
                self.note(format!("n{id} wants {members:?}"));
                let time_ms = self.stamp(id);
                let Some(life) = self.lives.get_mut(&id) else { return };
                let command = serde_json::to_vec(&command).unwrap();
                let (feature_level, boot) = (life.state.level(), life.boot);
                let entry =
                    Entry { feature_level, node: id, boot, time_ms, command, ..Entry::default() };
                life.consensus.change(&members, Some(&entry));
            }
            Some(Next::Leave) => life.consensus.change(&[], None),
            Some(Next::TransferLeader(to)) => life.consensus.transfer(to),
            Some(Next::Record(command)) => self.propose(id, Who::Nobody, &command, None),
            Some(Next::Nothing) | None => {}
        }
    }
}
