//! Volumes as documents.
//!
//! Never judges them.

use super::Observed;
use crate::api::wire::VolumeView;
use crate::fsm::State;
use crate::fsm::volumes::{AttachStep, Attachment, ProviderKind, Volume};
use crate::id::{VolumeName, WorkloadName};

/// A volume.
#[must_use]
pub fn volume(state: &State, name: &VolumeName, volume: &Volume, seen: &Observed) -> VolumeView {
    let holder = state.allocations.get(&volume.holder).filter(|one| one.is_live());
    let users = state.users_of_volume(name);
    let provided = volume.provided.as_ref();
    let attachment = provided.and_then(|provided| provided.attachment.as_ref());
    let is_there = |at: &Attachment| at.node == volume.node && at.step == AttachStep::Attached;
    let status = match holder {
        _ if volume.deleting => "deleting",
        _ if volume.moving.is_some() => "moving",
        Some(_) if provided.is_some() && !attachment.is_some_and(is_there) => "attaching",
        Some(_) => "in-use",
        None if users.is_empty() => "unused",
        None => "waiting",
    };
    VolumeView {
        name: name.to_string(),
        provider: provider(state, volume).to_owned(),
        status: status.to_owned(),
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

/// Who keeps a volume.
fn provider(state: &State, volume: &Volume) -> &'static str {
    match (&volume.provided, &state.provider) {
        (Some(_), Some(provider)) => provider.kind.name(),
        (Some(_), None) => ProviderKind::DigitalOcean.name(),
        (None, _) => "local",
    }
}

/// Every volume, by name.
#[must_use]
pub fn volumes(state: &State, seen: &Observed) -> Vec<VolumeView> {
    state.volumes.iter().map(|(name, one)| volume(state, name, one, seen)).collect()
}
