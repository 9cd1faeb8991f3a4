//! Persistent volumes: which there are, where their data is, and who may write it.
//!
//! Owns their record, and that one allocation holds a volume at a time. Never touches data: a
//! volume that is deleted is marked, and goes once its node has removed the data.

mod provided;

pub use provided::{
    AttachStep, Attachment, DROPLET, Provided, ProvidedStep, Provider, ProviderKind, REGION,
    TOKEN_PURPOSE,
};

use super::allocation::not_found;
use super::model::{Allocation, Desired, Phase};
use super::{Outcome, Rejection, State, Touched};
use crate::bugs::{Bug, is_on};
use crate::id::{AllocId, NodeId, SpecHash, VolumeName, WorkloadName};
use crate::limits;
use crate::units::{Bytes, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The feature level from which on the state knows persistent volumes.
pub const VOLUMES_LEVEL: u32 = super::command::NEXT_LEVEL;

/// Volumes by name.
pub type Volumes = OrdMap<VolumeName, Arc<Volume>>;

/// A persistent volume: a folder of one node, or a disk of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What was asked for; it only grows.
    pub size: Bytes,
    /// Where its data is; of one of the provider, where it is wanted.
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
    pub created_at: Timestamp,
    /// Which copy of the data is the volume; 0: the one that it was made with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copy: u64,
    /// Its data is being copied to another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// The node that its data was moved from, until the copy there is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<NodeId>,
    /// Why it was not moved the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stayed: Option<String>,
    /// The provider has it; absent: it is a folder of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided: Option<Provided>,
}

/// A copy of a volume that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// On which node.
    pub to: NodeId,
    /// Its number: the index at which it was asked for.
    pub copy: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change of the volumes. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeChange {
    /// Give a volume up, with its data.
    Delete { name: VolumeName },
    /// A node has removed the data of a volume that was given up.
    Gone {
        name: VolumeName,
        /// Whose data it was.
        node: NodeId,
    },
    /// Bring a volume's data to another node; to the one that has it: leave it there.
    Move {
        name: VolumeName,
        /// Where to.
        to: NodeId,
    },
    /// A node has all of a volume's data: from now on its copy is the volume.
    Moved {
        name: VolumeName,
        /// Who says so.
        node: NodeId,
        /// The number of its copy.
        copy: u64,
    },
    /// A node can't take a volume's data: it stays where it is.
    Stay {
        name: VolumeName,
        /// Who says so.
        node: NodeId,
        /// The number of the copy that it should have made.
        copy: u64,
        why: String,
    },
    /// A node has removed the copy of a volume that was moved away.
    Left {
        name: VolumeName,
        /// Who says so.
        node: NodeId,
    },
    /// A node has the data of a volume whose node is no member any more.
    Found {
        name: VolumeName,
        /// Who says so.
        node: NodeId,
    },
    /// Keep new volumes at this provider.
    Provider(Provider),
    /// Something has become of a volume of the provider.
    Provided { name: VolumeName, step: ProvidedStep },
}

/// As much of a reason as is kept.
fn shortened(mut why: String) -> String {
    let end = (0..=limits::VOLUME_WHY_MAX).rev().find(|at| why.is_char_boundary(*at));
    why.truncate(end.unwrap_or(0));
    why
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
            let mut volume = match self.volumes.get(&name) {
                Some(known) => Volume::clone(known),
                None => self.new_volume(&name, service, (node, id))?,
            };
            if volume.deleting || self.has_writer(&volume) {
                return Err(Rejection::Stale);
            }
            if volume.provided.is_some() {
                self.want_at(&mut volume, node)?;
            } else if volume.node != node || volume.moving.is_some() {
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

    /// One that is made where its first holder is placed.
    fn new_volume(
        &self,
        name: &VolumeName,
        service: &WorkloadName,
        (node, holder): (NodeId, &AllocId),
    ) -> Result<Volume, Rejection> {
        Ok(Volume {
            size: Bytes(0),
            node,
            service: service.clone(),
            holder: holder.clone(),
            fence: 0,
            used: false,
            deleting: false,
            created_at: self.time,
            copy: 0,
            moving: None,
            left: None,
            stayed: None,
            provided: self.new_provided(name, node)?,
        })
    }

    /// Whether something that may write it hasn't ended, as far as is known: what is lost with a
    /// node may come back with it.
    #[must_use]
    pub fn is_written(&self, volume: &Volume) -> bool {
        self.allocations.get(&volume.holder).is_some_and(|one| {
            let may_return = one.observed.phase == Phase::Lost && one.desired == Desired::Run;
            one.is_live() || may_return && self.nodes.contains_key(&one.node)
        })
    }

    /// The volume of a specification that is on its way to another node, and that node. One of the
    /// provider is there as soon as nothing writes it.
    #[must_use]
    pub fn moving_volume(&self, spec: &SpecHash) -> Option<(VolumeName, NodeId)> {
        let all = self.volumes_of(spec).into_iter();
        let mut moving = all.filter_map(|(name, _)| {
            let volume = self.volumes.get(&name)?;
            let moving = volume.moving?;
            let waits = volume.provided.is_none() || self.has_writer(volume);
            waits.then_some((name, moving.to))
        });
        moving.next()
    }

    /// A node is no member any more: nothing moves to it, and nothing is left on it.
    pub(super) fn forget_moves(&mut self, node: NodeId) {
        let to = |volume: &Volume| volume.moving.map(|moving| moving.to);
        let concerned = |volume: &Volume| [to(volume), volume.left].contains(&Some(node));
        let all: Vec<_> = self.volumes.iter().filter(|(_, one)| concerned(one)).collect();
        let all: Vec<_> = all.into_iter().map(|(n, v)| (n.clone(), Volume::clone(v))).collect();
        for (name, volume) in all {
            let moving = volume.moving.filter(|moving| moving.to != node);
            let left = volume.left.filter(|from| *from != node);
            self.volumes.insert(name, Arc::new(Volume { moving, left, ..volume }));
        }
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
                if let Some(user) = users.first().filter(|_| !is_on(Bug::DeleteInUse)) {
                    let what = format!("volume {name} is used by {user}");
                    return Err(Rejection::Illegal { what });
                }
                let volume = Volume { deleting: true, ..Volume::clone(known) };
                if volume.provided.is_some() || self.nodes.contains_key(&volume.node) {
                    self.volumes.insert(name, Arc::new(volume));
                } else {
                    self.volumes.remove(&name);
                }
            }
            VolumeChange::Gone { name, node } => {
                let is_it = |volume: &Arc<Volume>| {
                    volume.deleting && volume.node == node && volume.provided.is_none()
                };
                if !self.volumes.get(&name).is_some_and(is_it) {
                    return Err(Rejection::Stale);
                }
                self.volumes.remove(&name);
            }
            VolumeChange::Provider(_) | VolumeChange::Provided { .. } => {
                return self.change_provided(change, touched);
            }
            change => return self.move_volume(change, touched),
        }
        Ok(Outcome::Done)
    }

    fn move_volume(
        &mut self,
        change: VolumeChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let (VolumeChange::Move { name, .. }
        | VolumeChange::Moved { name, .. }
        | VolumeChange::Stay { name, .. }
        | VolumeChange::Left { name, .. }
        | VolumeChange::Found { name, .. }) = &change
        else {
            return Err(Rejection::Stale);
        };
        let name = name.clone();
        let known = self.volumes.get(&name);
        let known = known.ok_or_else(|| not_found("volume", name.as_str()))?;
        let mut volume = Volume::clone(known);
        let is_move = matches!(change, VolumeChange::Move { .. });
        if volume.provided.is_some() && !is_move {
            // The provider has its data: there is nothing to copy or to find.
            return Err(Rejection::Stale);
        }
        match change {
            VolumeChange::Move { to, .. } => {
                self.check_move(&name, &volume, to)?;
                volume.stayed = None;
                let copy = self.index.0;
                volume.moving = (volume.node != to).then_some(Moving { to, copy });
            }
            VolumeChange::Moved { node, copy, .. }
                if volume.moving == Some(Moving { to: node, copy })
                    && (!self.is_written(&volume) || is_on(Bug::CopyWritten)) =>
            {
                volume.left = self.nodes.contains_key(&volume.node).then_some(volume.node);
                (volume.node, volume.copy) = (node, copy);
                volume.moving = None;
                volume.fence += 1;
            }
            VolumeChange::Stay { node, copy, why, .. }
                if volume.moving == Some(Moving { to: node, copy }) =>
            {
                volume.moving = None;
                volume.stayed = Some(shortened(why));
            }
            VolumeChange::Left { node, .. } if volume.left == Some(node) => volume.left = None,
            VolumeChange::Found { node, .. }
                if !self.nodes.contains_key(&volume.node)
                    && self.nodes.contains_key(&node)
                    && !volume.deleting =>
            {
                volume.node = node;
                volume.moving = None;
                volume.fence += 1;
            }
            _ => return Err(Rejection::Stale),
        }
        // What was planned where it was is stale.
        let owner = self.owner(&volume.service).map(|app| app.name.clone());
        self.volumes.insert(name, Arc::new(volume));
        if let Some(app) = owner {
            self.outdate(&app, touched);
        }
        Ok(Outcome::Done)
    }

    fn check_move(&self, name: &VolumeName, volume: &Volume, to: NodeId) -> Result<(), Rejection> {
        let illegal = |what: String| Err(Rejection::Illegal { what });
        let target = self.node(to)?;
        if volume.deleting {
            return illegal(format!("volume {name} is being deleted"));
        }
        if volume.node == to {
            return match volume.moving {
                Some(_) => Ok(()),
                None => illegal(format!("volume {name} is on {} already", target.name)),
            };
        }
        if volume.provided.is_some() && self.users_of_volume(name).is_empty() {
            return illegal(format!(
                "nothing uses {name}: the provider has its data, and it is attached where its \
                 service runs"
            ));
        }
        if volume.provided.is_none() && !self.nodes.contains_key(&volume.node) {
            return illegal(format!("the node that has the data of {name} is no member any more"));
        }
        if volume.left.is_some() {
            return illegal(format!("an older copy of {name} is still being removed; try again"));
        }
        if !target.is_ready() {
            return illegal(format!("node {} is {}", target.name, target.status));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
