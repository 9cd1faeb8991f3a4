//! A node of the world of volumes: its containers, mounts, lease and daemon.
//!
//! Owns what the node knows, which is older than what is. Never decides what the real code decides.

use super::{EPOCH, TICK, World};
use crate::fsm::command::Report;
use crate::fsm::model::{AllocationStatus, Health, Phase};
use crate::fsm::volumes::{ProvidedStep, VolumeChange};
use crate::fsm::{Command, State};
use crate::id::{AllocId, Attempt, BootId, NodeId, VolumeName};
use crate::limits;
use crate::node::project::{Assignment, assignment};
use crate::node::provided::{Opening, held, opening, released, stale};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A node's own knowledge.
#[derive(Default)]
pub(super) struct SimNode {
    pub boot: BootId,
    pub seq: u64,
    /// Until then nothing reaches it, and it reaches nobody.
    pub cut: u64,
    /// Until then its daemon doesn't run; its containers do.
    pub dead: u64,
    pub silent_since: Option<u64>,
    /// What it has seen of the state.
    pub view: State,
    /// When a leader last confirmed it.
    pub confirmed: u64,
    pub containers: BTreeMap<AllocId, SimContainer>,
    /// By volume: the attachment's number, and the device that it is of.
    pub mounts: BTreeMap<VolumeName, (u64, u64)>,
}

pub(super) struct SimContainer {
    pub phase: Phase,
    pub attempt: u32,
    pub volumes: Vec<VolumeName>,
    /// It ends then.
    pub ends: Option<u64>,
}

impl SimContainer {
    /// It may write.
    pub fn runs(&self) -> bool {
        self.phase == Phase::Running || self.phase == Phase::Stopping
    }

    fn kill(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Starting;
            self.attempt += 1;
        } else if self.phase == Phase::Stopping {
            self.phase = Phase::Stopped;
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl World {
    pub(super) fn lives(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|sim| sim.dead <= self.now)
    }

    pub(super) fn hears(&self, node: NodeId) -> bool {
        self.lives(node) && self.nodes.get(&node).is_some_and(|sim| sim.cut <= self.now)
    }

    /// Those that the leader has not heard for long enough.
    pub(super) fn silent(&mut self) -> Vec<NodeId> {
        let (now, mut silent) = (self.now, Vec::new());
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let hears = self.hears(id);
            let Some(sim) = self.nodes.get_mut(&id) else { continue };
            if hears {
                sim.silent_since = None;
            } else if now - *sim.silent_since.get_or_insert(now) >= ms(limits::NODE_DOWN) {
                silent.push(id);
            }
        }
        silent
    }

    /// A moment of a node.
    pub(super) fn node(&mut self, id: NodeId) {
        self.write(id);
        if !self.lives(id) {
            return;
        }
        // As a rule a node is a moment behind, and at times more.
        let often = if self.calm() { 70 } else { 25 };
        let (hears, now, sees) = (self.hears(id), self.now, self.dice.chance(often));
        let state = self.state.clone();
        let Some(sim) = self.nodes.get_mut(&id) else { return };
        let boot = Some(sim.boot);
        let known = state.nodes.get(&id).map(|node| (node.boot, node.is_up()));
        let is_in = known.is_some_and(|(known, there)| there && Some(known) == boot);
        if hears && sees {
            sim.view = state;
            // What a leader confirms counts if the state knows this node.
            if is_in {
                sim.confirmed = now;
            }
        }
        if now - sim.confirmed >= ms(limits::VOLUME_LEASE) {
            self.cut_off(id);
        }
        if !is_in {
            if hears && self.dice.chance(20) {
                let hello = self.introduction(id);
                self.propose(hello);
            }
            return;
        }
        let Some(sim) = self.nodes.get(&id) else { return };
        let seen = sim.view.nodes.get(&id);
        if !seen.is_some_and(|node| Some(node.boot) == boot && node.is_up()) {
            return;
        }
        self.let_go(id);
        self.assigned(id);
        self.tend_folders(id);
        if hears {
            self.report(id);
        }
    }

    /// Its lease is over: what writes volumes of the provider ends.
    fn cut_off(&mut self, id: NodeId) {
        let Some(sim) = self.nodes.get_mut(&id) else { return };
        for name in std::mem::take(&mut sim.mounts).keys() {
            let has_it = |one: &&mut SimContainer| one.volumes.contains(name);
            sim.containers.values_mut().filter(has_it).for_each(SimContainer::kill);
        }
    }

    fn let_go(&mut self, id: NodeId) {
        let Some(sim) = self.nodes.get_mut(&id) else { return };
        let mounts: Vec<_> = sim.mounts.iter().map(|(name, (n, _))| (name.clone(), *n)).collect();
        let volumes = sim.view.volumes.clone();
        let mut due = stale(&volumes, id, &mounts);
        let released = released(&volumes, id);
        due.extend(released.iter().cloned());
        for (name, number) in due {
            let has_it = |one: &&mut SimContainer| one.volumes.contains(&name);
            sim.containers.values_mut().filter(has_it).for_each(SimContainer::kill);
            if sim.mounts.get(&name).is_some_and(|(mounted, _)| *mounted == number) {
                sim.mounts.remove(&name);
            }
        }
        let free = |(name, _): &(VolumeName, u64)| !sim.mounts.contains_key(name);
        let told: Vec<_> = released.into_iter().filter(free).collect();
        for (name, number) in told {
            let step = ProvidedStep::Unmounted { number, node: id };
            self.propose(Command::Volumes(VolumeChange::Provided { name, step }));
        }
    }

    /// Begins, goes on with and ends what the node's view assigns to it.
    fn assigned(&mut self, id: NodeId) {
        let Some(sim) = self.nodes.get(&id) else { return };
        let (view, now) = (sim.view.clone(), self.now);
        let wanted: BTreeMap<AllocId, Assignment> = view
            .allocations_on(id)
            .filter_map(|one| Some((one.id.clone(), assignment(one)?)))
            .collect();
        for alloc in wanted.keys() {
            let volumes = self.names(alloc);
            let before = view.allocations.get(alloc).map_or(0, |one| one.observed.attempt.0);
            let Some(sim) = self.nodes.get_mut(&id) else { return };
            sim.containers.entry(alloc.clone()).or_insert(SimContainer {
                phase: Phase::Pulling,
                attempt: before + 1,
                volumes,
                ends: None,
            });
        }
        let ids: Vec<AllocId> =
            self.nodes.get(&id).into_iter().flat_map(|s| s.containers.keys()).cloned().collect();
        for alloc in ids {
            let stops = wanted.get(&alloc) != Some(&Assignment::Run);
            let (goes_on, lasts) = (self.dice.chance(40), self.dice.between(0, 16) * TICK);
            let phase = self.phase(id, &alloc);
            let begins = phase == Some(Phase::Starting) && !stops && goes_on;
            let starts = begins && self.start(id, &alloc, &view);
            let sim = self.nodes.get_mut(&id);
            let Some(one) = sim.and_then(|sim| sim.containers.get_mut(&alloc)) else { continue };
            match one.phase {
                Phase::Stopping if one.ends.is_some_and(|at| at <= now) => {
                    one.phase = Phase::Stopped;
                }
                Phase::Stopped | Phase::Stopping => {}
                Phase::Running if stops => {
                    one.phase = Phase::Stopping;
                    one.ends = Some(now + lasts);
                }
                _ if stops => one.phase = Phase::Stopped,
                Phase::Pulling if goes_on => one.phase = Phase::Starting,
                Phase::Starting if starts => one.phase = Phase::Running,
                _ => {}
            }
        }
        let Some(sim) = self.nodes.get_mut(&id) else { return };
        sim.containers
            .retain(|alloc, one| one.phase != Phase::Stopped || wanted.contains_key(alloc));
    }

    fn phase(&self, id: NodeId, alloc: &AllocId) -> Option<Phase> {
        Some(self.nodes.get(&id)?.containers.get(alloc)?.phase)
    }

    /// Whether a container gets its volumes.
    fn start(&mut self, id: NodeId, alloc: &AllocId, view: &State) -> bool {
        for name in self.names(alloc) {
            let Some(volume) = view.volumes.get(&name).filter(|one| one.holder == *alloc) else {
                return false;
            };
            let expected = self.written.get(&name).copied().unwrap_or(0);
            if volume.provided.is_none() {
                let is_locked = self.fetches.contains_key(&name);
                if volume.node != id || is_locked {
                    return false;
                }
                let key = (id, name.clone(), volume.copy);
                if !self.folders.contains_key(&key) {
                    if volume.used {
                        self.fail(format!("the data of {name} isn't on {id}"));
                        return false;
                    }
                    self.folders.insert(key.clone(), 0);
                }
                let there = self.folders.get(&key).copied().unwrap_or(0);
                self.compare(&name, there, expected);
                continue;
            }
            if !self.mount(id, &name, view, volume.used) {
                return false;
            }
            let disk = volume.provided.as_ref().and_then(|one| self.disks.get(&one.name));
            let there = disk.map_or(0, |disk| disk.written);
            self.compare(&name, there, expected);
        }
        true
    }

    fn compare(&mut self, name: &VolumeName, there: u64, expected: u64) {
        if there != expected {
            self.fail(format!("{name} was written {expected} times, and has {there} of it"));
        }
    }

    fn mount(&mut self, id: NodeId, name: &VolumeName, view: &State, used: bool) -> bool {
        let Some((provided, at)) = held(&view.volumes, id, name) else { return false };
        let (now, number) = (self.now, at.number);
        let Some(sim) = self.nodes.get_mut(&id) else { return false };
        let has_lease = now - sim.confirmed < ms(limits::VOLUME_LEASE);
        let Some(disk) = self.disks.get_mut(&provided.name) else { return false };
        if !has_lease || disk.droplet != Some(id.0) {
            return false;
        }
        if let Some((mounted, _)) = sim.mounts.get(name) {
            return *mounted == number;
        }
        match opening(disk.has_files, used) {
            Opening::Mount => {}
            Opening::Refuse => return false,
            Opening::Format => {
                let had = std::mem::replace(&mut disk.written, 0);
                disk.has_files = true;
                if had > 0 {
                    self.fail(format!("{name} had data, and a file system was made"));
                    return false;
                }
            }
        }
        let device = disk.device;
        sim.mounts.insert(name.clone(), (number, device));
        true
    }

    /// What runs writes, whether the daemon lives or not.
    fn write(&mut self, id: NodeId) {
        let Some(sim) = self.nodes.get(&id) else { return };
        let running = sim.containers.iter().filter(|(_, one)| one.runs());
        let writes: Vec<VolumeName> = running.flat_map(|(_, one)| one.volumes.clone()).collect();
        for name in writes {
            let Some(volume) = self.state.volumes.get(&name).cloned() else { continue };
            let there = match &volume.provided {
                Some(provided) => {
                    let mounted =
                        self.nodes.get(&id).and_then(|sim| sim.mounts.get(&name)).copied();
                    let disk = self.disks.get_mut(&provided.name);
                    let disk = disk.filter(|disk| {
                        let is_it = mounted.is_some_and(|(_, device)| device == disk.device);
                        is_it && disk.droplet == Some(id.0)
                    });
                    let Some(disk) = disk else { continue };
                    disk.written += 1;
                    disk.written
                }
                None => {
                    let copies = self.folders.iter_mut();
                    let mut own = copies.filter(|((node, of, _), _)| *node == id && *of == name);
                    let Some((_, there)) = own.next_back() else { continue };
                    *there += 1;
                    *there
                }
            };
            let known = self.written.entry(name).or_default();
            *known = there.max(*known);
        }
    }

    fn report(&mut self, id: NodeId) {
        let now = Timestamp(EPOCH + self.now);
        let Some(sim) = self.nodes.get_mut(&id) else { return };
        let mut news = BTreeMap::new();
        for (alloc, one) in &sim.containers {
            let known = self.state.allocations.get(alloc).filter(|a| a.node == id && a.is_live());
            let Some(known) = known else { continue };
            let runs = one.phase == Phase::Running;
            let seen = AllocationStatus {
                phase: one.phase,
                attempt: Attempt(one.attempt),
                health: if runs { Health::Healthy } else { Health::None },
                started_at: runs.then(|| known.observed.started_at.unwrap_or(now)),
                ..AllocationStatus::default()
            };
            if seen != known.observed {
                news.insert(alloc.clone(), seen);
            }
        }
        if !news.is_empty() {
            sim.seq += 1;
            let (boot, seq) = (sim.boot, sim.seq);
            self.propose(Command::Report(Report { node: id, boot, seq, allocations: news }));
        }
    }
}
