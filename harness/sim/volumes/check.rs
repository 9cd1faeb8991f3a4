//! What must hold of volumes in every world, at every moment and at rest.
//!
//! Owns the invariants. Never changes the world but for the verdict.

use super::World;
use crate::fsm::model::Health;
use crate::fsm::volumes::VolumeChange;
use crate::fsm::{Command, State};
use crate::id::{NodeId, VolumeName};
use std::collections::BTreeMap;

impl World {
    pub(super) fn check(&mut self) {
        self.check_mounts();
        self.check_writers();
    }

    /// Never mounted twice: of nodes that could let it go, one has it at most.
    fn check_mounts(&mut self) {
        let mut at: BTreeMap<VolumeName, NodeId> = BTreeMap::new();
        let mut wrong = None;
        for (id, sim) in self.nodes.iter().filter(|(id, _)| self.lives(**id)) {
            for (name, (_, device)) in &sim.mounts {
                let provided = self.state.volumes.get(name).and_then(|one| one.provided.as_ref());
                let disk = provided.and_then(|provided| self.disks.get(&provided.name));
                // One that is gone writes nowhere.
                if disk.is_none_or(|disk| disk.device != *device) {
                    continue;
                }
                if let Some(other) = at.insert(name.clone(), *id) {
                    wrong = Some(format!("{name} is mounted on {other} and on {id}"));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// Of a folder's copies one is written at most.
    fn check_writers(&mut self) {
        let mut at: BTreeMap<VolumeName, NodeId> = BTreeMap::new();
        let mut wrong = None;
        for (id, sim) in &self.nodes {
            for one in sim.containers.values().filter(|one| one.runs()) {
                for name in &one.volumes {
                    let volume = self.state.volumes.get(name);
                    let is_folder = volume.is_some_and(|volume| volume.provided.is_none());
                    let other = at.insert(name.clone(), *id).filter(|other| other != id);
                    if let Some(other) = other.filter(|_| is_folder) {
                        wrong = Some(format!("{name} is written on {other} and on {id}"));
                    }
                }
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// Never deleted while it is named by what runs; a folder, by what runs where it is.
    pub(super) fn check_deleted(&mut self, name: &VolumeName, node: Option<NodeId>) {
        let live = self.state.allocations.values().filter(|one| one.is_live());
        let live = live.filter(|one| node.is_none_or(|node| node == one.node));
        let user = live.map(|one| one.id.clone()).find(|id| self.names(id).contains(name));
        if let Some(user) = user {
            self.fail(format!("{name} was deleted, and {user} names it"));
        }
    }

    /// Never given up while it is named by what is to run.
    pub(super) fn check_given_up(&mut self, before: &State, command: &Command) {
        let Command::Volumes(VolumeChange::Delete { name }) = command else { return };
        if let Some(user) = before.users_of_volume(name).first() {
            self.fail(format!("{name} was given up, and {user} names it"));
        }
    }

    /// At rest the service runs, and nothing is half done.
    pub(super) fn check_rest(&mut self) {
        let mut replicas = self.state.allocations.values();
        let healthy = replicas.any(|one| one.is_live() && one.observed.health == Health::Healthy);
        if !healthy {
            let volumes = format!("{:?}", self.state.volumes);
            return self.fail(format!("the service doesn't run at rest: {volumes}"));
        }
        let half = self.state.volumes.iter().find(|(_, one)| one.deleting || one.moving.is_some());
        if let Some((name, volume)) = half {
            self.fail(format!("{name} is half done at rest: {volume:?}"));
        }
    }
}
