//! The writers of the simulated nodes: one job after the other, on disks that are slow at times.
//!
//! Never writes anything before its time: what a crash leaves is the disk's.

use super::disk::Job;
use super::{Event, World};
use crate::bugs::{Bug, is_on};
use crate::limits;
use crate::units::Millis;

/// A time of the simulation, whose ticks are of [`super::TICK`], as raft's clock has it.
fn raft_time(time: u64) -> Millis {
    Millis(time * Millis::from(limits::RAFT_TICK).0 / super::TICK)
}

impl World {
    /// Asks the writer for something.
    pub(super) fn ask(&mut self, id: u64, job: Job) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if is_on(Bug::AcknowledgeEarly)
            && let Job::Write(write) = &job
        {
            life.consensus.written(write.number);
        }
        life.jobs.push_back(job);
        self.write_on(id);
    }

    fn write_on(&mut self, id: u64) {
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.batch.is_empty()) else {
            return;
        };
        life.batch = Job::batch(&mut life.jobs);
        if !life.batch.is_empty() {
            let boot = life.boot;
            let slow = !self.calm() && self.dice.chance(5);
            let slowest = if slow || self.slow_until > self.now { 400 } else { 8 };
            let delay = self.dice.between(1, slowest);
            let delay = self.usual_write.unwrap_or(delay);
            self.after(delay, Event::Wrote { id, boot, took: delay });
        }
    }

    pub(super) fn wrote(&mut self, id: u64, took: u64) {
        let disk = self.disks[&id].clone();
        let Some(life) = self.lives.get_mut(&id) else { return };
        let batch = std::mem::take(&mut life.batch);
        batch.iter().for_each(|job| disk.carry_out(job));
        match batch.last() {
            Some(Job::Write(write)) => {
                life.consensus.written(write.number);
                life.consensus.paced(raft_time(took));
            }
            Some(Job::Snapshot(meta, _)) => {
                let to = life.consensus.snapshot_saved(meta.index);
                life.jobs.push_back(Job::Compact(to));
            }
            Some(Job::Compact(_)) | None => {}
        }
        self.write_on(id);
        self.pump(id);
    }
}
