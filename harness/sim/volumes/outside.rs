//! What is around the nodes: the provider and its calls, copies on their way, and what breaks.
//!
//! Owns the provider's disks. Never decides which call is next: that is the real leader's part.

use super::{EPOCH, NODES, TICK, World};
use crate::bugs::{Bug, is_on};
use crate::fsm::Command;
use crate::fsm::volumes::{Provided, ProvidedStep, VolumeChange};
use crate::id::{NodeId, VolumeName};
use crate::limits;
use crate::scheduler::provided::{Seen, Work, next, whole};
use crate::units::{Bytes, Timestamp};

/// A volume as the provider has it.
#[derive(Default)]
pub(super) struct SimDisk {
    pub droplet: Option<u64>,
    /// Another one after each attachment.
    pub device: u64,
    pub has_files: bool,
    pub written: u64,
    pub size: u64,
}

/// A call of a leader that the provider carries out then.
pub(super) struct Call {
    ends: u64,
    volume: VolumeName,
    /// As the volume stood then.
    provided: Provided,
    size: Bytes,
    work: Work,
}

/// A copy of a volume on its way between nodes.
pub(super) struct Fetch {
    to: NodeId,
    copy: u64,
    written: u64,
    ends: u64,
}

impl World {
    /// Asks the provider for what is next of each volume.
    pub(super) fn ask_provider(&mut self) {
        let time = Timestamp(EPOCH + self.now);
        for (name, volume) in self.state.volumes.clone() {
            let Some(provided) = &volume.provided else { continue };
            if self.busy.get(&name).is_some_and(|until| *until > self.now) {
                continue;
            }
            if self.state.has_writer(&volume) {
                self.unused.remove(&name);
            }
            let since = *self.unused.entry(name.clone()).or_insert(self.now);
            let bound = u64::try_from(limits::VOLUME_UNUSED.as_millis()).unwrap_or(u64::MAX);
            let seen = Seen { is_unused: self.now - since >= bound, is_gone: true };
            let Some(work) = next(&self.state, &volume, time, seen) else { continue };
            if let Work::Tell(step) = work {
                self.propose(Command::Volumes(VolumeChange::Provided { name, step }));
                continue;
            }
            let takes = self.dice.between(1, 12) * TICK;
            let (ends, provided) = (self.now + takes, provided.clone());
            self.busy.insert(name.clone(), ends + 2 * TICK);
            self.calls.push(Call { ends, volume: name, provided, size: volume.size, work });
        }
    }

    /// The provider's calls and the copies whose time has come.
    pub(super) fn outside(&mut self) {
        let now = self.now;
        let due: Vec<Call> = self.calls.extract_if(.., |call| call.ends <= now).collect();
        for call in due {
            if !self.calm() && self.dice.chance(15) {
                continue;
            }
            let name = call.volume.clone();
            // A leader makes sure right before that all stands as it did.
            let known = self.state.volumes.get(&name).and_then(|one| one.provided.clone());
            if known.as_ref() != Some(&call.provided) {
                continue;
            }
            let Some(step) = self.provide(call) else { continue };
            // Answers get lost, and leaders.
            if self.calm() || self.dice.chance(85) {
                self.propose(Command::Volumes(VolumeChange::Provided { name, step }));
            }
        }
        let ended = self.fetches.iter().filter(|(_, fetch)| fetch.ends <= now);
        let ended: Vec<VolumeName> = ended.map(|(name, _)| name.clone()).collect();
        for name in ended {
            let Some(Fetch { to, copy, written, .. }) = self.fetches.remove(&name) else {
                continue;
            };
            if self.lives(to) {
                self.folders.insert((to, name, copy), written);
            }
        }
    }

    /// Looked up first, as `actors/provider/carry_out.rs` does.
    fn provide(&mut self, call: Call) -> Option<ProvidedStep> {
        let Call { volume, provided, size, work, .. } = call;
        let disk = provided.name;
        self.note(format!("the provider: {volume}: {work:?}"));
        match work {
            Work::Make => {
                let size = whole(size);
                let made = self
                    .disks
                    .entry(disk)
                    .or_insert_with(|| SimDisk { size: size.0, ..SimDisk::default() });
                Some(ProvidedStep::Made { id: "id".to_owned(), size: Bytes(made.size) })
            }
            Work::Grow => {
                let there = self.disks.get_mut(&disk)?;
                there.size = there.size.max(whole(size).0);
                Some(ProvidedStep::Grown { size: Bytes(there.size) })
            }
            Work::Attach(at) => {
                let wanted = at.droplet.parse().ok()?;
                let there = self.disks.get(&disk)?.droplet;
                if let Some(other) = there.filter(|other| *other != wanted) {
                    self.tear(&volume, &disk, other);
                }
                let there = self.disks.get_mut(&disk)?;
                if there.droplet != Some(wanted) {
                    there.droplet = Some(wanted);
                    there.device += 1;
                }
                Some(ProvidedStep::Attached { number: at.number })
            }
            Work::Detach(at) => {
                let from = at.droplet.parse().ok()?;
                if self.disks.get(&disk).is_some_and(|there| there.droplet == Some(from)) {
                    self.tear(&volume, &disk, from);
                }
                Some(ProvidedStep::Detached { number: at.number })
            }
            Work::Delete => {
                self.check_deleted(&volume, None);
                self.disks.remove(&disk);
                Some(ProvidedStep::Deleted)
            }
            Work::Compare | Work::Tell(_) => None,
        }
    }

    /// A disk goes from a machine: nobody who could have let it go has it mounted.
    fn tear(&mut self, volume: &VolumeName, disk: &str, droplet: u64) {
        let node = NodeId(droplet);
        let device = self.disks.get(disk).map(|disk| disk.device);
        let mounted = self.nodes.get(&node).and_then(|sim| sim.mounts.get(volume));
        if mounted.is_some_and(|(_, of)| Some(*of) == device) {
            self.torn += 1;
            if self.lives(node) {
                self.fail(format!("{volume} was torn from {node}, which lives and has it mounted"));
            }
        }
        if let Some(disk) = self.disks.get_mut(disk) {
            disk.droplet = None;
        }
    }

    /// What a node does about volumes that are folders: fetches, tells, and removes.
    pub(super) fn tend_folders(&mut self, id: NodeId) {
        let Some(sim) = self.nodes.get(&id) else { return };
        let view = sim.view.clone();
        for (name, volume) in &view.volumes {
            if volume.provided.is_some() {
                continue;
            }
            let say = |change| Command::Volumes(change);
            let named = name.clone();
            if volume.deleting && volume.node == id {
                // Told before, and not heard yet, it is done again and changes nothing.
                if self.folders.keys().any(|(node, of, _)| *node == id && of == name) {
                    self.check_deleted(name, Some(id));
                }
                self.folders.retain(|(node, of, _), _| *node != id || of != name);
                self.propose(say(VolumeChange::Gone { name: named, node: id }));
            } else if volume.left == Some(id) {
                self.folders.retain(|(node, of, _), _| *node != id || of != name);
                self.propose(say(VolumeChange::Left { name: named, node: id }));
            } else if let Some(moving) = volume.moving.filter(|moving| moving.to == id) {
                let copy = moving.copy;
                if self.folders.contains_key(&(id, named.clone(), copy)) {
                    self.propose(say(VolumeChange::Moved { name: named, node: id, copy }));
                } else if !view.is_written(volume) || is_on(Bug::CopyWritten) {
                    self.fetch(name, (volume.node, volume.copy), (id, copy));
                }
            }
        }
    }

    /// Begins a copy, if the source lends it: nothing there has the volume.
    fn fetch(&mut self, name: &VolumeName, from: (NodeId, u64), (to, copy): (NodeId, u64)) {
        let source = self.nodes.get(&from.0);
        let has_it = source.is_some_and(|sim| {
            sim.containers.values().any(|one| one.runs() && one.volumes.contains(name))
        });
        let lends = self.hears(from.0) && self.hears(to) && !self.fetches.contains_key(name);
        if !lends || has_it && !is_on(Bug::CopyWritten) {
            return;
        }
        if !self.folders.contains_key(&(from.0, name.clone(), from.1)) {
            // It was never used, and there is nothing to copy.
            let (name, why) = (name.clone(), "no data".to_owned());
            let stay = VolumeChange::Stay { name, node: to, copy, why };
            return self.propose(Command::Volumes(stay));
        }
        let Some(written) = self.folders.get(&(from.0, name.clone(), from.1)).copied() else {
            return;
        };
        let ends = self.now + self.dice.between(1, 30) * TICK;
        self.moves += 1;
        self.fetches.insert(name.clone(), Fetch { to, copy, written, ends });
    }

    pub(super) fn faults(&mut self) {
        if !self.dice.chance(1) {
            return;
        }
        let (node, now) = (NodeId(self.dice.between(1, NODES)), self.now);
        let (lasts, which) = (self.dice.between(1_000, 40_000), self.dice.below(3));
        let Some(sim) = self.nodes.get_mut(&node) else { return };
        let what = match which {
            0 => {
                sim.cut = now + lasts;
                "is cut off"
            }
            1 => {
                sim.dead = now + lasts;
                sim.boot = crate::id::BootId(0);
                "has no daemon"
            }
            _ => {
                sim.dead = now + lasts;
                sim.boot = crate::id::BootId(0);
                sim.containers.clear();
                sim.mounts.clear();
                "has no power"
            }
        };
        self.note(format!("n{node} {what} for {lasts} ms"));
    }

    /// From now on all is well.
    pub(super) fn mend(&mut self) {
        let lasts =
            |command: &Command| !matches!(command, Command::Deploy(_) | Command::Drain { .. });
        self.entries.retain(|(_, command)| lasts(command));
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if let Some(sim) = self.nodes.get_mut(&id) {
                (sim.cut, sim.dead) = (0, sim.dead.min(self.now));
            }
            self.commit(Command::Undrain { node: id });
        }
        self.wanted = true;
        self.version += 1;
        let last = self.deploy();
        self.commit(last);
    }
}
