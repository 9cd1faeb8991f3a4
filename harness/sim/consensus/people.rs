//! Machines and those who run them, while consensus is simulated: nodes join, drain, are removed
//! and wiped.
//!
//! Owns what people may do without losing the quorum by their own hands: one machine of a voter is
//! wiped at a time, and nobody is removed meanwhile. Never changes the members itself.

use super::disk::Shared;
use super::life::Who;
use super::{Event, MACHINES, TROUBLE, World};
use crate::consensus::propose::Answer;
use crate::fsm::command::Join;
use crate::fsm::{Command, Outcome, fixture};
use crate::id::NodeId;

/// A removal may still come about so long after it was asked for.
const REMOVAL: u64 = 5_000;

/// A machine, by its number.
#[derive(Default)]
pub(super) struct Machine {
    /// The node that it is.
    node: Option<u64>,
    /// How often it was wiped: its keys are others each time.
    wiped: u64,
    /// The newest try to join.
    tried: u64,
}

impl Machine {
    pub(super) fn is_there(&self) -> bool {
        self.node.is_some()
    }
}

impl World {
    /// The first machine begins the cluster; the others join sometime.
    pub(super) fn found(&mut self) {
        self.machines.insert(1, Machine { node: Some(1), ..Machine::default() });
        self.disks.insert(1, Shared::new());
        self.start(1);
        let count = self.dice.between(3, MACHINES);
        for machine in 2..=count {
            self.machines.insert(machine, Machine::default());
            let latest = if machine <= 3 { 1_000 } else { 9_000 };
            let late = self.dice.between(200, latest);
            self.after(late, Event::Machine(machine));
        }
    }

    /// A machine that isn't a member asks one to become it.
    pub(super) fn machine(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number).filter(|m| m.node.is_none()) else {
            return;
        };
        machine.tried += 1;
        let (wiped, tried) = (machine.wiped, machine.tried);
        let again = self.dice.between(300, 2_500);
        self.after(again, Event::Machine(number));
        let key = format!("key {number} {wiped}");
        let join = Join { ..fixture::join(&format!("m{number}"), &key) };
        let Some(door) = self.some_node().filter(|id| self.is_member(*id)) else { return };
        self.propose(door, Who::Joining(number, tried), &Command::Join(join), None);
        self.pump(door);
    }

    /// Its table is new enough to have it.
    fn is_member(&self, id: u64) -> bool {
        self.lives.get(&id).is_some_and(|life| life.state.nodes.contains_key(&NodeId(id)))
    }

    pub(super) fn on_joined(&mut self, number: u64, tried: u64, answer: Answer) {
        let Ok(done) = answer else { return };
        let Outcome::Node { id, .. } = done.outcome else { return };
        let Some(machine) = self.machines.get_mut(&number) else { return };
        // An answer that comes late: another try may have succeeded, or the machine was wiped.
        if machine.node.is_some() || machine.tried != tried {
            return;
        }
        machine.node = Some(id.0);
        self.note(format!("machine {number} is n{id}"));
        if self.disks.insert(id.0, Shared::new()).is_some() {
            self.fail(format!("n{id} is given a second time"));
        }
        self.after(1, Event::Start(id.0));
    }

    pub(super) fn people(&mut self) {
        let pause = if self.calm() { 500 } else { self.dice.between(300, 2_500) };
        self.after(pause, Event::People);
        if self.usual_write.is_some() {
            return;
        }
        let draining = self.table.nodes.values().find(|node| node.drain.is_some());
        let draining = draining.map(|node| node.id);
        let Some(by) = self.some_node() else { return };
        let ids: Vec<NodeId> = self.table.nodes.keys().copied().collect();
        let n = self.dice.below(ids.len() as u64) as usize;
        let Some(some) = ids.get(n).copied() else { return };
        let command = match (draining, self.dice.below(6)) {
            (Some(node), _) if self.calm() => Command::Undrain { node },
            (Some(node), 0 | 1) => Command::Undrain { node },
            (Some(node), 2..=4) if self.may_remove() => {
                self.removed_at = self.now;
                Command::Remove { node }
            }
            (None, 0..=3) if !self.calm() => Command::Drain { node: some, deadline: None },
            _ => return,
        };
        self.note(format!("by n{by}: {command:?}"));
        self.propose(by, Who::Nobody, &command, None);
        self.pump(by);
    }

    /// Everybody who counts has a disk, and enough stay.
    fn may_remove(&self) -> bool {
        self.now < TROUBLE - REMOVAL && self.table.nodes.len() >= 4 && self.all_are_whole()
    }

    /// Nobody in the table or in the newest configuration was wiped, and nobody votes any more who
    /// isn't in the table: the others don't listen to one that was removed.
    fn all_are_whole(&self) -> bool {
        let conf = self.confs.values().next_back();
        let votes = conf.into_iter().flat_map(|conf| [&conf.voters, &conf.voters_outgoing]);
        let mut votes = votes.flatten();
        let mut nodes = self.table.nodes.keys();
        let is_known = |id: &u64| self.table.nodes.contains_key(&NodeId(*id));
        nodes.all(|id| self.disks.contains_key(&id.0)) && votes.all(is_known)
    }

    /// A machine loses all that it has, and joins as another node.
    pub(super) fn wipe(&mut self) {
        let numbers: Vec<u64> = self.machines.keys().copied().collect();
        let n = self.dice.below(numbers.len() as u64) as usize;
        let number = numbers[n];
        let Some(id) = self.machines[&number].node else { return };
        let conf = self.confs.values().next_back();
        let votes = conf
            .is_some_and(|conf| conf.voters.contains(&id) || conf.voters_outgoing.contains(&id));
        let is_known = self.table.nodes.contains_key(&NodeId(id));
        let enough = conf.is_some_and(|conf| {
            let outgoing = conf.voters_outgoing.len();
            conf.voters.len() >= 3 && (outgoing == 0 || outgoing >= 3)
        });
        let calm = self.now > self.removed_at + REMOVAL || self.removed_at == 0;
        let is_over = !is_known && !votes;
        let may_go = is_over || enough && calm && self.all_are_whole();
        if !may_go {
            return;
        }
        self.note(format!("machine {number} loses n{id}"));
        self.lives.remove(&id);
        self.disks.remove(&id);
        self.sever_all(id);
        if let Some(machine) = self.machines.get_mut(&number) {
            (machine.node, machine.wiped) = (None, machine.wiped + 1);
        }
        let late = self.dice.between(200, 2_500);
        self.after(late, Event::Machine(number));
    }
}
