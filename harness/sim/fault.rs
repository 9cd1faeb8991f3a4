//! What goes wrong in the simulation: leaders, clocks, containers, daemons and whole nodes.
//!
//! Owns the choice and the leader's watch over the nodes. Never repairs anything but in its time.

use super::{Event, TROUBLE, World};
use crate::cluster::clock::LeaderClock;
use crate::cluster::failure_detector::Silence;
use crate::fsm::model::NodeStatus;
use crate::id::NodeId;
use crate::scheduler::plan::Observed;
use crate::units::Millis;

impl World {
    pub(super) fn trouble(&mut self) {
        if self.now > TROUBLE {
            return;
        }
        match self.dice.below(6) {
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

    fn change_leader(&mut self) {
        self.term += 1;
        self.observed = Observed::default();
        self.clock = LeaderClock::new(self.state.time, Millis(self.now));
        self.silence = Silence::new(Millis(self.now));
        self.note("the leader changes".to_owned());
        self.planned_at = None;
        self.plan_soon(self.now % 500);
    }

    /// A node is reached no more: its power is gone, or only the way to it.
    fn cut_off(&mut self, node: NodeId) {
        let dark = self.dice.chance(50);
        let Some(sim) = self.nodes.get_mut(&node).filter(|sim| !sim.cut) else { return };
        sim.cut = true;
        if dark {
            sim.containers.clear();
        }
        let how = if dark { "loses its power" } else { "is cut off" };
        self.note(format!("{node} {how}"));
        let away = if self.dice.chance(30) { 4_000 } else { 60_000 };
        let away = self.dice.between(100, away);
        self.after(away, Event::Return(node));
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
        self.silence.tick(&self.state, now);
        // The leader is none of the nodes: all of them may be lost.
        for command in self.silence.lost(&self.state, NodeId(0), now) {
            self.propose(command);
        }
        let all_well = self.nodes.iter().all(|(id, sim)| {
            let known = self.state.nodes.get(id);
            !sim.cut && known.is_some_and(|n| n.boot == sim.boot && n.is_there())
        });
        if self.now < TROUBLE || !all_well {
            self.after(1_000, Event::Watch);
        }
    }
}
