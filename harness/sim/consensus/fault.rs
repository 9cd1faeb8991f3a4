//! What breaks while consensus is simulated.
//!
//! Never repairs anything but in its time.

use super::{Event, TROUBLE, World};
use crate::id::NodeId;

impl World {
    pub(super) fn trouble(&mut self) {
        if self.usual_write.is_some() {
            return;
        }
        if self.calm() {
            self.note("the faults end".to_owned());
            self.cut.clear();
            return;
        }
        let pause = self.dice.between(50, 1_200);
        self.after(pause, Event::Trouble);
        let (Some(one), Some(other)) = (self.some_node(), self.some_node()) else { return };
        match self.dice.below(16) {
            0..=2 => self.cut.clear(),
            3 => self.isolate(one),
            4 => {
                self.note(format!("n{one} does not reach n{other}"));
                self.cut(one, other);
            }
            5 => self.divide(),
            6 => {
                if let Some(life) = self.lives.get_mut(&one) {
                    life.consensus.transfer(NodeId(other));
                    self.pump(one);
                }
            }
            7 => self.sever(one, other),
            8 | 9 => self.pause(one),
            10 => self.wipe(),
            11 => self.stop(one),
            12 => self.blackout(),
            13 => self.slow_until = self.now + 1_500,
            14 if self.slow_until > self.now => self.blackout(),
            _ => self.crash(one),
        }
    }

    /// The last of what broke is whole again soon after the faults end.
    fn until_calm(&self) -> u64 {
        TROUBLE + 500 - self.now
    }

    fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
        self.sever(from, to);
        self.sever(to, from);
    }

    fn isolate(&mut self, one: u64) {
        self.note(format!("n{one} is cut off"));
        let others: Vec<u64> = self.disks.keys().copied().filter(|id| *id != one).collect();
        for other in others {
            self.cut(one, other);
            self.cut(other, one);
        }
    }

    fn divide(&mut self) {
        let ids: Vec<u64> = self.disks.keys().copied().collect();
        let sides = self.dice.roll();
        let (left, right): (Vec<u64>, Vec<u64>) =
            ids.into_iter().partition(|id| sides >> (id % 64) & 1 == 0);
        self.note(format!("{left:?} and {right:?} are apart"));
        for (one, other) in left.iter().flat_map(|one| right.iter().map(move |o| (*one, *o))) {
            self.cut(one, other);
            self.cut(other, one);
        }
    }

    /// A process stands still: what comes for it waits.
    fn pause(&mut self, id: u64) {
        let longest = if self.dice.chance(20) { 6_000 } else { 1_500 };
        let until = self.now + self.dice.between(20, longest).min(self.until_calm());
        self.note(format!("n{id} stands still until {until}"));
        if let Some(life) = self.lives.get_mut(&id) {
            life.paused_until = until;
        }
    }

    /// The power of a node goes: what the disk was busy with is there as a whole or not at all.
    fn crash(&mut self, id: u64) {
        let Some(life) = self.lives.remove(&id) else { return };
        let kept = self.dice.below(3);
        let disk = &self.disks[&id];
        match kept {
            0 => {}
            1 => life.batch.iter().for_each(|job| disk.carry_out(job)),
            _ => life.batch.iter().for_each(|job| disk.carry_out_half(job)),
        }
        let waits = life.batch.len() + life.jobs.len();
        self.note(format!("n{id} crashes, {waits} writes on their way, kept: {kept}"));
        self.come_back(id);
    }

    /// The power of most nodes goes at the same time.
    fn blackout(&mut self) {
        for id in self.lives.keys().copied().collect::<Vec<_>>() {
            if self.dice.chance(80) {
                self.crash(id);
            }
        }
    }

    /// A process ends in order: what it had to write is written.
    fn stop(&mut self, id: u64) {
        let Some(mut life) = self.lives.remove(&id) else { return };
        let disk = &self.disks[&id];
        life.batch.iter().chain(&life.jobs).for_each(|job| disk.carry_out(job));
        if let Some(write) = life.consensus.last_write() {
            disk.carry_out(&super::Job::Write(write));
        }
        self.note(format!("n{id} stops"));
        self.come_back(id);
    }

    fn come_back(&mut self, id: u64) {
        self.sever_all(id);
        let latest = if self.dice.chance(10) { 14_000 } else { 2_500 };
        let away = self.dice.between(10, latest);
        self.after(away.min(self.until_calm()), Event::Start(id));
    }
}
