//! Persistent volumes: which there are, where their data is, and who may write it.
//!
//! Owns their record, and that one allocation holds a volume at a time. Never touches data: a
//! volume that is deleted is marked, and goes once its node has removed the data.

use super::allocation::not_found;
use super::model::{Allocation, Phase};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AllocId, NodeId, SpecHash, VolumeName, WorkloadName};
use crate::units::{Bytes, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The feature level from which on the state knows persistent volumes.
pub const VOLUMES_LEVEL: u32 = super::command::NEXT_LEVEL;

/// Volumes by name.
pub type Volumes = OrdMap<VolumeName, Arc<Volume>>;

/// A persistent volume: a folder of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What was asked for; it only grows.
    pub size: Bytes,
    /// Where its data is.
    pub node: NodeId,
    /// The service that it was made for, or that used it last.
    pub service: WorkloadName,
    /// The allocation that may write it, or did last.
    pub holder: AllocId,
    /// Counts the holders.
    pub fence: u64,
    /// A program ran with it: its data must be there.
    pub used: bool,
    /// It is to go as soon as its node has removed the data.
    pub deleting: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A change of the volumes. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeChange {
    /// Give a volume up, with its data.
    Delete {
        /// Which.
        name: VolumeName,
    },
    /// A node has removed the data of a volume that was given up.
    Gone {
        /// Which.
        name: VolumeName,
        /// Whose data it was.
        node: NodeId,
    },
}

impl State {
    /// Whether every node knows persistent volumes.
    #[must_use]
    pub fn knows_volumes(&self) -> bool {
        self.level() >= VOLUMES_LEVEL
    }

    /// The persistent volumes that a specification names.
    fn volumes_of(&self, spec: &SpecHash) -> Vec<(VolumeName, Bytes)> {
        let run = self.spec(spec).map(|stored| stored.spec.run());
        run.map(|run| run.persistent().collect()).unwrap_or_default()
    }

    /// The services that want a volume, or of which something that runs has it.
    #[must_use]
    pub fn users_of_volume(&self, name: &VolumeName) -> BTreeSet<WorkloadName> {
        let names = |spec: &SpecHash| self.volumes_of(spec).iter().any(|(one, _)| one == name);
        let mut users = BTreeSet::new();
        for app in self.apps.values() {
            let wanted = app.services.iter();
            let wanted = wanted.filter(|(_, one)| one.target.as_ref().is_some_and(&names));
            users.extend(wanted.map(|(service, _)| service.clone()));
        }
        let live = self.allocations.values().filter(|one| one.is_live() && names(&one.spec));
        users.extend(live.map(|one| one.workload.clone()));
        users
    }

    /// Gives an allocation that is being placed its volumes; a new one is made where it is placed.
    pub(super) fn hold_volumes(
        &mut self,
        id: &AllocId,
        service: &WorkloadName,
        node: NodeId,
        spec: &SpecHash,
    ) -> Result<(), Rejection> {
        for (name, size) in self.volumes_of(spec) {
            let known = self.volumes.get(&name).map(|known| Volume::clone(known));
            let mut volume = known.unwrap_or_else(|| Volume {
                size,
                node,
                service: service.clone(),
                holder: id.clone(),
                fence: 0,
                used: false,
                deleting: false,
                created_at: self.time,
            });
            let writes = self.allocations.get(&volume.holder).is_some_and(|one| one.is_live());
            if volume.node != node || volume.deleting || writes {
                return Err(Rejection::Stale);
            }
            volume.size = volume.size.max(size);
            volume.service = service.clone();
            volume.holder = id.clone();
            volume.fence += 1;
            self.volumes.insert(name, Arc::new(volume));
        }
        Ok(())
    }

    /// A program runs: its volumes have data from now on.
    pub(super) fn use_volumes(&mut self, allocation: &Allocation) {
        if allocation.observed.phase != Phase::Running {
            return;
        }
        for (name, _) in self.volumes_of(&allocation.spec) {
            let unused = self.volumes.get(&name).filter(|volume| !volume.used);
            if let Some(volume) = unused.map(|volume| Volume::clone(volume)) {
                self.volumes.insert(name, Arc::new(Volume { used: true, ..volume }));
            }
        }
    }

    pub(super) fn change_volumes(
        &mut self,
        change: VolumeChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.volumes = true;
        match change {
            VolumeChange::Delete { name } => {
                let users = self.users_of_volume(&name);
                let known = self.volumes.get(&name);
                let known = known.ok_or_else(|| not_found("volume", name.as_str()))?;
                if let Some(user) = users.first() {
                    let what = format!("volume {name} is used by {user}");
                    return Err(Rejection::Illegal { what });
                }
                let volume = Volume { deleting: true, ..Volume::clone(known) };
                if self.nodes.contains_key(&volume.node) {
                    self.volumes.insert(name, Arc::new(volume));
                } else {
                    self.volumes.remove(&name);
                }
            }
            VolumeChange::Gone { name, node } => {
                let is_it = |volume: &Arc<Volume>| volume.deleting && volume.node == node;
                if !self.volumes.get(&name).is_some_and(is_it) {
                    return Err(Rejection::Stale);
                }
                self.volumes.remove(&name);
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::Command;
    use crate::fsm::command::Report;
    use crate::fsm::command::{Action, Place, Steps};
    use crate::fsm::deploy::tests::{change, put, running};
    use crate::fsm::model::{Health, Observed, WorkloadSpec};
    use crate::spec::model::VolumeSpec;

    /// A service with a volume, not placed yet.
    fn with_volume() -> (State, SpecHash) {
        let mut state = running();
        put(&mut state, &[("db", "postgres")]);
        let app = state.owner(&"db".into()).unwrap().clone();
        let hash = app.services[&"db".into()].target.clone().unwrap();
        let mut stored = (*state.specs[&hash]).clone();
        let WorkloadSpec::Service(service) = &mut stored.spec else { panic!("a service") };
        service.run.volumes.push(VolumeSpec {
            name: "data".to_owned(),
            path: "/data".to_owned(),
            ephemeral: false,
            size: Some(Bytes(5)),
        });
        state.specs.insert(hash.clone(), Arc::new(stored));
        (state, hash)
    }

    fn place(id: &str, node: u64, spec: &SpecHash) -> Command {
        Command::Steps(Steps {
            actions: vec![Action::Place(Place {
                id: id.into(),
                workload: "db".into(),
                replica: 0,
                node: NodeId(node),
                spec: spec.clone(),
                replaces: None,
            })],
            ..Steps::default()
        })
    }

    fn seen(state: &mut State, id: &str, seq: u64, phase: Phase) {
        let boot = state.nodes[&NodeId(1)].boot;
        let observed = Observed { phase, health: Health::None, ..Observed::default() };
        let allocations = [(AllocId::from(id), observed)].into();
        let report = Report { node: NodeId(1), boot, seq, allocations };
        change(state, Command::Report(report)).unwrap();
    }

    fn volume(state: &State) -> Volume {
        Volume::clone(&state.volumes[&VolumeName::from("data")])
    }

    #[test]
    fn one_allocation_at_a_time_holds_it() {
        let (mut state, spec) = with_volume();
        change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
        assert_eq!((volume(&state).node, volume(&state).fence), (NodeId(1), 1));
        assert_eq!(change(&mut state, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
        assert!(!volume(&state).used);
        seen(&mut state, "db-0-aaaa", 1, Phase::Running);
        assert!(volume(&state).used, "its data must be there from now on");
        seen(&mut state, "db-0-aaaa", 2, Phase::Stopped);
        change(&mut state, place("db-0-bbbb", 1, &spec)).unwrap();
        assert_eq!((volume(&state).holder.as_str(), volume(&state).fence), ("db-0-bbbb", 2));
    }

    #[test]
    fn it_stays_where_its_data_is_and_goes_only_by_itself() {
        let (mut state, spec) = with_volume();
        let delete = || Command::Volumes(VolumeChange::Delete { name: "data".into() });
        let gone = |node| {
            let (name, node) = ("data".into(), NodeId(node));
            Command::Volumes(VolumeChange::Gone { name, node })
        };
        assert!(change(&mut state, delete()).is_err(), "there is none yet");
        change(&mut state, place("db-0-aaaa", 1, &spec)).unwrap();
        assert!(change(&mut state, delete()).is_err(), "it is used");
        seen(&mut state, "db-0-aaaa", 1, Phase::Stopped);
        let mut elsewhere = volume(&state);
        elsewhere.node = NodeId(7);
        let mut other = state.clone();
        other.volumes.insert("data".into(), Arc::new(elsewhere));
        assert_eq!(change(&mut other, place("db-0-bbbb", 1, &spec)), Err(Rejection::Stale));
        let mut app = crate::fsm::model::App::clone(state.owner(&"db".into()).unwrap());
        app.services.clear();
        state.apps.insert(app.name.clone(), Arc::new(app));
        seen(&mut state, "db-0-aaaa", 2, Phase::Stopped);
        assert_eq!(change(&mut state, gone(1)), Err(Rejection::Stale), "nobody gave it up");
        change(&mut state, delete()).unwrap();
        assert!(volume(&state).deleting);
        assert_eq!(change(&mut state, gone(2)), Err(Rejection::Stale));
        change(&mut state, gone(1)).unwrap();
        assert!(state.volumes.is_empty());
    }
}
