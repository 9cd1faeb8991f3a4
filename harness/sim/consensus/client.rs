//! Clients in the simulation: changes that must have one effect, and reads that must see them.
//!
//! Owns what was asked for, what came of it, and what that forbids. Never changes anything itself.

use super::life::Who;
use super::{Event, World};
use crate::consensus::propose::{Answer, ProposeError};
use crate::consensus::raft::Entry;
use crate::fsm::command::Deploy;
use crate::fsm::model::{DeployKind, WorkloadSpec};
use crate::fsm::{Command, SessionStep, State};
use crate::id::AppName;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const APP: &str = "shop";
const SERVICES: [&str; 2] = ["db", "web"];

/// A client's change: a service is restarted, which its generation counts.
#[derive(Default)]
struct Change {
    service: usize,
    key: Option<String>,
    /// Where it took effect.
    at: Option<u64>,
    /// A client was told that it was not done: it may not be any more.
    never: bool,
    /// The network made two of one copy, which a link never does: refusals don't count.
    doubled: bool,
}

/// What clients asked for.
#[derive(Default)]
pub(super) struct Ledger {
    changes: Vec<Change>,
    /// By proposer's node, process and number.
    sessions: BTreeMap<(u64, u64, u64), usize>,
    /// Those with a key of which a client doesn't know what became of them.
    unknown: Vec<usize>,
    pub(super) acknowledged: u64,
    reads: u64,
}

impl Ledger {
    pub(super) fn proposed(&mut self, who: Who, step: (u64, u64, u64)) {
        if let Who::Client(change) = who {
            self.sessions.insert(step, change);
        }
    }

    pub(super) fn doubled(&mut self, entry: &Entry) {
        let step = (entry.node, entry.boot, entry.seq);
        if let Some(change) = self.sessions.get(&step).and_then(|n| self.changes.get_mut(*n)) {
            change.doubled = true;
        }
    }

    fn of(&self, step: SessionStep) -> Option<usize> {
        self.sessions.get(&(step.node.0, step.boot.0, step.seq)).copied()
    }
}

fn generation(state: &State, service: usize) -> u64 {
    let app = state.apps.get(&AppName::from(APP));
    let service = app.and_then(|app| app.services.get(&SERVICES[service].into()));
    service.map_or(0, |service| service.generation)
}

fn deploy() -> &'static Command {
    static DEPLOY: OnceLock<Command> = OnceLock::new();
    DEPLOY.get_or_init(|| {
        let one = |name: &str| {
            let text = format!("service \"{name}\" {{\n image \"{name}:1\"\n}}\n");
            let service = crate::spec::parse("file", &text).unwrap().services.into_values().next();
            (name.into(), WorkloadSpec::Service(service.unwrap()))
        };
        Command::Deploy(Deploy {
            app: APP.into(),
            kind: DeployKind::Up,
            base: None,
            services: SERVICES.into_iter().map(one).collect(),
            tasks: BTreeMap::new(),
            file: String::new(),
            replace: false,
            plan: None,
        })
    })
}

impl World {
    /// A node that serves clients.
    pub(super) fn some_node(&mut self) -> Option<u64> {
        let alive: Vec<u64> = self.lives.keys().copied().collect();
        let n = self.dice.below(alive.len() as u64) as usize;
        alive.get(n).copied()
    }

    pub(super) fn client(&mut self) {
        let pause = self.dice.between(15, 150);
        self.after(pause, Event::Client);
        let Some(id) = self.some_node() else { return };
        let has_app = self.lives[&id].state.apps.contains_key(&AppName::from(APP));
        if has_app {
            self.change(id);
        } else {
            self.propose(id, Who::Nobody, deploy(), None);
        }
        self.read(id);
        self.pump(id);
    }

    fn change(&mut self, id: u64) {
        let ledger = &mut self.ledger;
        let again = !ledger.unknown.is_empty() && self.dice.chance(50);
        let change = if again {
            let n = self.dice.below(ledger.unknown.len() as u64) as usize;
            ledger.unknown.swap_remove(n)
        } else {
            let n = ledger.changes.len();
            let key = self.dice.chance(40).then(|| n.to_string());
            let service = self.dice.below(SERVICES.len() as u64) as usize;
            ledger.changes.push(Change { service, key, ..Change::default() });
            n
        };
        let Change { service, key, .. } = &ledger.changes[change];
        let (command, key) = (SERVICES[*service].into(), key.clone());
        let command = Command::RestartService { service: command };
        // A client that hears nothing asks again some time, wherever it is.
        if key.is_some() && self.dice.chance(20) {
            self.ledger.unknown.push(change);
        }
        self.propose(id, Who::Client(change), &command, key);
    }

    fn read(&mut self, id: u64) {
        self.ledger.reads += 1;
        let read = self.ledger.reads;
        self.floors.insert(read, self.frontier);
        if let Some(life) = self.lives.get_mut(&id) {
            let _ = life.consensus.read(read, Millis(self.now));
        }
    }

    /// What a read sees holds all that was committed before it began.
    pub(super) fn answer_reads(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let applied = life.state.index.0;
        let (ready, wait): (Vec<_>, Vec<_>) =
            life.reads.drain(..).partition(|(_, index)| *index <= applied);
        life.reads = wait;
        for (read, _) in ready {
            let floor = self.floors.remove(&read).unwrap_or(0);
            if applied < floor {
                self.fail(format!("n{id} read at {applied} what had to show {floor}"));
            }
            self.confirmed_reads += 1;
        }
    }

    /// An entry was applied for the first time anywhere: a change takes effect once, and not when
    /// its client was told that it won't.
    pub(super) fn check_effect(
        &mut self,
        id: u64,
        before: &State,
        step: SessionStep,
        key: Option<&str>,
    ) {
        let state = &self.lives[&id].state;
        let index = state.index.0;
        let moved = |service: &usize| generation(before, *service) != generation(state, *service);
        let Some(service) = (0..SERVICES.len()).find(moved) else { return };
        if !before.apps.contains_key(&AppName::from(APP)) {
            return;
        }
        let by_key = key.and_then(|key| key.parse().ok());
        let Some(number) = by_key.or_else(|| self.ledger.of(step)) else {
            return self.fail(format!("#{index} restarts {} for nobody", SERVICES[service]));
        };
        let change = &mut self.ledger.changes[number];
        let (was, never) = (change.at.replace(index), change.never);
        if let Some(was) = was {
            self.fail(format!("change {number} has an effect at {was} and at {index}"));
        } else if never {
            self.fail(format!("change {number} has an effect at {index}; it was refused for good"));
        }
    }

    /// A client is told what became of its change.
    pub(super) fn on_answer(&mut self, number: usize, answer: Answer) {
        let change = &mut self.ledger.changes[number];
        match answer {
            Ok(done) => {
                self.ledger.acknowledged += 1;
                if change.at.is_none_or(|at| at > done.index.0) {
                    let (at, index) = (change.at, done.index);
                    let what =
                        format!("change {number} is acknowledged at {index}, done at {at:?}");
                    self.fail(what);
                }
            }
            Err(ProposeError::Unconfirmed) => {
                if change.key.is_some() {
                    self.ledger.unknown.push(number);
                }
            }
            Err(ProposeError::NoLeader | ProposeError::Overloaded) if change.key.is_some() => {
                self.ledger.unknown.push(number);
            }
            Err(ProposeError::NoLeader | ProposeError::Overloaded) if change.doubled => {}
            Err(error) => {
                change.never = change.key.is_none();
                if let Some(at) = change.at {
                    self.fail(format!("change {number} is refused ({error}), and done at {at}"));
                }
            }
        }
    }
}
