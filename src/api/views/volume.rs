//! Volumes as documents.
//!
//! Never judges them.

use super::LiveUsage;
use crate::api::wire::{VolumeProvider, VolumeStatus, VolumeView};
use crate::fsm::State;
use crate::fsm::volumes::{AttachStep, Attachment, Volume};
use crate::id::{VolumeName, WorkloadName};

/// A volume.
#[must_use]
pub fn volume(state: &State, name: &VolumeName, volume: &Volume, seen: &LiveUsage) -> VolumeView {
    let holder = state.allocations.get(&volume.holder).filter(|one| one.is_live());
    let users = state.users_of_volume(name);
    let provided = volume.provided.as_ref();
    let attachment = provided.and_then(|provided| provided.attachment.as_ref());
    let is_there = |at: &Attachment| at.node == volume.node && at.step == AttachStep::Attached;
    let status = match holder {
        _ if volume.deleting => VolumeStatus::Deleting,
        _ if volume.moving.is_some() => VolumeStatus::Moving,
        Some(_) if provided.is_some() && !attachment.is_some_and(is_there) => {
            VolumeStatus::Attaching
        }
        Some(_) => VolumeStatus::InUse,
        None if users.is_empty() => VolumeStatus::Unused,
        None => VolumeStatus::Waiting,
    };
    VolumeView {
        name: name.to_string(),
        provider: match provided {
            Some(_) => VolumeProvider::Digitalocean,
            None => VolumeProvider::Local,
        },
        status,
        size: volume.size.0,
        used: seen.volumes.get(name).map(|bytes| bytes.0),
        node: match provided {
            Some(_) => attachment.and_then(|at| state.nodes.get(&at.node)),
            None => state.nodes.get(&volume.node),
        }
        .map(|node| node.name.clone()),
        provider_id: provided.and_then(|provided| provided.id.clone()),
        error: provided.and_then(|provided| provided.error.clone()),
        moving_to: volume.moving.and_then(|to| Some(state.nodes.get(&to.to)?.name.clone())),
        stayed: volume.stayed.clone(),
        service: volume.service.to_string(),
        allocation: holder.map(|one| one.id.to_string()),
        used_by: users.iter().map(WorkloadName::to_string).collect(),
        created_at: volume.created_at.to_string(),
    }
}

/// Every volume, by name.
#[must_use]
pub fn volumes(state: &State, seen: &LiveUsage) -> Vec<VolumeView> {
    state.volumes.iter().map(|(name, one)| volume(state, name, one, seen)).collect()
}
