//! Proposals of the simulated nodes: to the leader, and again until they are applied.
//!
//! Owns what `actors/root/propose.rs` does, in the same order. Never decides what waits or goes
//! again: that is the core's.

use super::life::Who;
use super::{Event, HASTE, World};
use crate::consensus::propose::{Answer, Refusal};
use crate::consensus::raft::Entry;
use crate::fsm::Command;
use crate::limits;

impl World {
    pub(super) fn propose(&mut self, id: u64, who: Who, command: &Command, key: Option<String>) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        let boot = life.boot;
        let entry = Entry {
            feature_level: life.state.level(),
            node: id,
            boot,
            idempotency_key: key.unwrap_or_default(),
            command: serde_json::to_vec(command).unwrap(),
            ..Entry::default()
        };
        match life.proposals.add(who, entry, now) {
            Ok(seq) => {
                self.ledger.proposed(who, (id, boot, seq));
                self.hand_over(id, &[seq]);
                self.look_again(id);
            }
            Err(who) => self.fail(format!("n{id} has no room for what {who:?} wants")),
        }
    }

    pub(super) fn settle(&mut self, id: u64, seq: u64, answer: Answer) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if let Some((who, _)) = life.proposals.remove(seq) {
            self.answer(id, who, answer);
        }
    }

    fn answer(&mut self, id: u64, who: Who, answer: Answer) {
        match who {
            Who::Client(op) => self.on_answer(op, answer),
            Who::Joining(machine, draw) => self.on_joined(machine, draw, answer),
            Who::Introduction => {
                let Some(boot) = self.lives.get(&id).map(|life| life.boot) else { return };
                let again = limits::INTRODUCE_AGAIN.as_millis() as u64 / HASTE;
                let pause = if answer.is_ok() { 1 } else { again };
                self.after(pause, Event::Introduced { id, boot });
            }
            Who::Nobody => {}
        }
    }

    pub(super) fn hand_over_all(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let all = life.proposals.all();
        self.hand_over(id, &all);
    }

    fn hand_over(&mut self, id: u64, which: &[u64]) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let Some(leader) = life.leader else { return };
        for entry in life.proposals.hand_over(which) {
            if leader == id {
                self.append(id, entry);
            } else if !self.forward(id, leader, &entry) {
                self.refused(id, entry.boot, entry.seq, Refusal::NotLeader);
            }
        }
    }

    /// Another node's proposal: into the log, or back.
    pub(super) fn take_in(&mut self, id: u64, entry: Entry) {
        if self.lives.get(&id).is_some_and(|life| life.leads(id)) {
            return self.append(id, entry);
        }
        self.turn_back(id, entry.node, entry.boot, entry.seq, Refusal::NotLeader);
    }

    fn append(&mut self, id: u64, mut entry: Entry) {
        entry.time_ms = self.stamp(id);
        let Some(life) = self.lives.get_mut(&id) else { return };
        if let Err(error) = life.consensus.propose(&entry) {
            if entry.node == id {
                self.refused(id, entry.boot, entry.seq, error.into());
            } else {
                self.turn_back(id, entry.node, entry.boot, entry.seq, error.into());
            }
        }
    }

    pub(super) fn refused(&mut self, id: u64, boot: u64, seq: u64, refusal: Refusal) {
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.boot == boot) else { return };
        match life.proposals.refused(seq, refusal) {
            Some((who, error)) => self.answer(id, who, Err(error)),
            None => self.look_again(id),
        }
    }

    pub(super) fn look_again(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if !life.looking && life.proposals.need_a_look(life.leads(id)) {
            life.looking = true;
            let boot = life.boot;
            self.after(limits::PROPOSE_AGAIN.as_millis() as u64, Event::Again { id, boot });
        }
    }

    pub(super) fn send_again(&mut self, id: u64) {
        let now = self.clock();
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.looking = false;
        if !life.leads(id) {
            let late = life.proposals.late(now);
            late.into_iter().for_each(|(who, error)| self.answer(id, who, Err(error)));
        }
        let Some(life) = self.lives.get_mut(&id) else { return };
        let refused = life.proposals.take_refused();
        self.hand_over(id, &refused);
        self.look_again(id);
    }
}
