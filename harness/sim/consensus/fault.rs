//! What people do and what breaks while consensus is simulated, and what must hold at rest.
//!
//! Never repairs anything but in its time.

use super::{Event, NODES, World};
use crate::id::NodeId;
use crate::raft::Entry;
use crate::raft::node::{Conf, Member};
use crate::units::Millis;

impl World {
    /// All learn first, then all vote, by a joint change that is to be left.
    pub(super) fn plan_members(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let Some(conf) = life.conf.clone() else { return };
        let all: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        let entry = Entry { command: b"members".to_vec(), ..Entry::default() };
        if !conf.outgoing.is_empty() {
            return life.consensus.change(&[], None);
        }
        let known = |n: &&NodeId| conf.learners.contains(n) || conf.voters.contains(n);
        if let Some(new) = all.iter().find(|n| !known(n)) {
            life.consensus.change(&[Member::Learner(*new)], Some(&entry));
        } else if !conf.learners.is_empty() && conf.caught_up.len() == all.len() {
            let voters: Vec<_> = conf.learners.iter().map(|n| Member::Voter(*n)).collect();
            life.consensus.change(&voters, Some(&entry));
        }
    }

    pub(super) fn client(&mut self) {
        for id in 1..=NODES {
            let Some(life) = self.lives.get_mut(&id) else { continue };
            self.proposed += 1;
            let command = self.proposed.to_le_bytes().to_vec();
            // Whether it was taken shows when it is committed.
            let _ = life.consensus.propose(&Entry { command, ..Entry::default() });
            self.floors.insert(self.proposed, self.told);
            let _ = life.consensus.read(self.proposed, Millis(self.now));
            self.pump(id);
        }
        let pause = self.dice.between(20, 200);
        self.after(pause, Event::Client);
    }

    pub(super) fn trouble(&mut self) {
        if self.calm() {
            self.note("the faults end".to_owned());
            self.cut.0.clear();
            return;
        }
        let (one, other) = (self.dice.between(1, NODES), self.dice.between(1, NODES));
        match self.dice.below(6) {
            0 => self.cut.0.clear(),
            1 => {
                self.note(format!("n{one} is cut off"));
                let others = (1..=NODES).filter(|n| *n != one);
                self.cut.0.extend(others.flat_map(|n| [(one, n), (n, one)]));
            }
            2 => {
                self.note(format!("n{one} does not reach n{other}"));
                self.cut.0.insert((one, other));
            }
            3 => {
                if let Some(life) = self.lives.get_mut(&one) {
                    life.consensus.transfer(NodeId(other));
                    self.pump(one);
                }
            }
            _ => self.crash(one),
        }
        let pause = self.dice.between(50, 1_500);
        self.after(pause, Event::Trouble);
    }

    /// One leads, all have applied the same, all vote and no joint configuration is left over.
    pub(super) fn check_rest(&mut self) {
        let last = self.canon.keys().next_back().copied().unwrap_or(0);
        let late = self.lives.iter().find(|(_, life)| life.applied + 64 < last);
        let late = late.map(|(id, life)| format!("n{id} is at {} of {last}", life.applied));
        let settled = |conf: &Conf| conf.outgoing.is_empty() && conf.voters.len() as u64 == NODES;
        let shut = self.lives.values().any(|life| life.gate.is_none_or(|g| g > life.applied));
        let newest = self.leaders.last_key_value().and_then(|(_, id)| self.lives.get(id));
        if let Some(what) = late {
            self.fail(what);
        } else if self.lives.len() as u64 != NODES || last < 20 || shut {
            self.fail(format!("no rest: {} nodes, {last} entries, gate {shut}", self.lives.len()));
        } else if !newest.and_then(|life| life.conf.as_ref()).is_some_and(settled) {
            self.fail("the members never came to rest".to_owned());
        }
    }
}
