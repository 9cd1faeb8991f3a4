//! What goes wrong in the simulation: leaders, clocks, containers, daemons and whole nodes.
//!
//! Owns the choice and the leader's watch over the nodes. Never repairs anything but in its time.

use super::manners::{BAD, Manner};
use super::{Event, TROUBLE, World};
use crate::cluster::failure_detector::Silence;
use crate::fsm::model::NodeStatus;
use crate::fsm::{Command, Entry, SessionStep};
use crate::id::NodeId;
use crate::scheduler::plan::SettledIndexes;
use crate::units::Millis;
use std::collections::BTreeSet;

impl World {
    pub(super) fn trouble(&mut self) {
        if self.now > TROUBLE {
            return;
        }
        match self.dice.below(7) {
            0 => self.change_leader(),
            1 => {
                let jump = self.dice.between(0, 7_200_000);
                self.wall_jump = 3_600_000 - i64::try_from(jump).unwrap_or(0);
                self.note(format!("wall time is off by {} s", self.wall_jump / 1000));
            }
            2 => self.crash_container(),
            3 | 4 => {
                let node = self.some_node();
                self.cut_off(node);
            }
            5 => {
                let node = self.some_node();
                let which = usize::try_from(self.dice.below(BAD.len() as u64)).unwrap_or(0);
                let is_good = self.nodes.get(&node).is_some_and(|n| n.manner == Manner::Good);
                self.behave(node, if is_good { BAD[which] } else { Manner::Good });
            }
            _ => {
                let node = self.some_node();
                if self.nodes.get(&node).is_some_and(|sim| !sim.cut) {
                    self.note(format!("daemon of {node} starts again"));
                    self.register(node);
                }
            }
        }
        let pause = self.dice.between(500, 20_000);
        self.after(pause, Event::Trouble);
    }

    pub(super) fn change_leader(&mut self) {
        // Mostly another leads at once; at times there is no quorum for long.
        let silent = match self.dice.below(100) {
            0..85 => 300,
            85..96 => self.dice.between(1_000, 30_000),
            _ => self.dice.between(30_000, 400_000),
        };
        self.fall_silent(silent);
    }

    /// Nobody leads for so long.
    pub(super) fn fall_silent(&mut self, silent: u64) {
        let now = Millis(self.now);
        self.term += 1;
        self.observed = SettledIndexes::default();
        if self.clock.leads() {
            self.clock.set_leader(true, now);
        }
        self.clock.set_leader(false, now);
        self.clock.end(now);
        self.note(format!("nobody leads for {silent} ms"));
        self.planned_at = None;
        self.silent_until = self.now + silent;
        if let Some(last) = self.silences.last_mut() {
            last.1 = self.now.min(last.1);
        }
        self.silences.push((self.now, self.silent_until));
        self.after(silent, Event::Lead(self.term));
    }

    /// Another leads, or the same again.
    pub(super) fn lead(&mut self) {
        let now = Millis(self.now);
        self.silence = Silence::new(now);
        let wall = self.wall();
        let begun = self.clock.begin(self.state.time, wall, now);
        self.clock.set_leader(true, now);
        // All clocks are off alike: those of the members agree.
        let stepped = match self.state.is_next() {
            true => self.clock.step(&BTreeSet::new(), wall, now),
            false => None,
        };
        self.note("somebody leads".to_owned());
        if let Some(from) = begun.silent_since.into_iter().chain(stepped).min()
            && self.state.is_next()
        {
            let time = self.leader_time();
            let session = SessionStep::default();
            let command = Command::Standstill { from };
            let entry = Entry { time, session, idempotency_key: None, command };
            self.stands = true;
            let soon = self.dice.between(1, 50);
            self.after(soon, Event::Commit(Box::new(entry)));
        }
        self.plan_soon(self.now % 500);
    }

    /// A node is reached no more: its power is gone, or only the way to it.
    fn cut_off(&mut self, node: NodeId) {
        let dark = self.dice.chance(50);
        if !self.unreach(node, dark) {
            return;
        }
        let how = if dark { "loses its power" } else { "is cut off" };
        self.note(format!("{node} {how}"));
        let away = if self.dice.chance(30) { 4_000 } else { 60_000 };
        let away = self.dice.between(100, away);
        self.after(away, Event::Return(node));
    }

    /// A node is gone for good.
    pub(super) fn lose(&mut self, node: NodeId) {
        let dark = self.dice.chance(50);
        self.unreach(node, dark);
        self.note(format!("{node} is gone"));
    }

    fn unreach(&mut self, node: NodeId, dark: bool) -> bool {
        let Some(sim) = self.nodes.get_mut(&node).filter(|sim| !sim.cut) else { return false };
        sim.cut = true;
        if dark {
            sim.containers.clear();
        }
        true
    }

    pub(super) fn on_return(&mut self, node: NodeId) {
        if let Some(sim) = self.nodes.get_mut(&node) {
            sim.cut = false;
        }
        self.note(format!("{node} is back"));
        self.register(node);
    }

    /// The leader's look at who is silent; who is there and not known says so again.
    pub(super) fn watch(&mut self) {
        if self.silent_until > self.now {
            return self.after(1_000, Event::Watch);
        }
        let now = Millis(self.now);
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let Some(sim) = self.nodes.get(&node).filter(|sim| !sim.cut) else { continue };
            let boot = sim.boot;
            if self.now > TROUBLE || !self.dice.chance(3) {
                self.silence.heard(node, now);
            }
            let Some(known) = self.state.nodes.get(&node) else { continue };
            if known.boot != boot {
                let hello = self.introduction(node, boot);
                self.propose(hello);
            } else if known.status == NodeStatus::Down {
                self.note(format!("{node} sees that it counts as lost"));
                self.register(node);
            }
        }
        self.notice_runtimes();
        let time = self.leader_time();
        self.silence.tick(&self.state, now, time);
        // The leader is none of the nodes: all of them may be lost.
        for command in self.silence.judge(&self.state, NodeId(0), now) {
            self.propose(command);
        }
        let all_well = self.nodes.iter().all(|(id, sim)| {
            let known = self.state.nodes.get(id);
            let is_well = |n: &std::sync::Arc<crate::fsm::model::Node>| {
                n.boot == sim.boot && n.is_up() && n.condition.is_well()
            };
            !sim.cut && sim.manner == Manner::Good && known.is_some_and(is_well)
        });
        if self.now < TROUBLE || !all_well || self.keeps_watch {
            self.after(1_000, Event::Watch);
        }
    }
}
