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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::volumes::{DROPLET, Provider, ProviderKind, REGION};
    use crate::fsm::{Command, apply_next, fixture};
    use crate::id::NodeId;
    use crate::secret::Sealed;
    use crate::units::Timestamp;
    use std::sync::Arc;

    #[test]
    fn two_nodes_that_say_to_be_one_machine_are_a_warning() {
        let mut state = State::default();
        let _ = apply_next(&mut state, Timestamp(1), Command::Init(fixture::init()));
        let token = Sealed { key: String::new(), text: String::new() };
        let kind = ProviderKind::DigitalOcean;
        state.provider = Some(Arc::new(Provider { kind, api: String::new(), token }));
        let label = |state: &mut State, id: u64, droplet: &str| {
            let mut node = state.nodes[&NodeId(1)].as_ref().clone();
            (node.id, node.name) = (NodeId(id), format!("n{id}"));
            let labels = [(DROPLET, droplet), (REGION, "fra1")];
            node.labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
            state.nodes.insert(node.id, Arc::new(node));
        };
        let told = |state: &State| {
            let all = crate::api::views::status(state, &LiveUsage::default()).warnings.into_iter();
            let of_machines = all.filter(|one| one.message.contains("machine"));
            of_machines.map(|one| (one.message, one.command)).collect::<Vec<_>>()
        };
        label(&mut state, 1, "101");
        label(&mut state, 2, "102");
        assert_eq!(told(&state), []);
        label(&mut state, 2, "101");
        let warning = |node: u64, other: u64| {
            let text = "it says to be the provider's machine 101, and so does";
            let message = format!("{text} n{other}: no volume is attached to it");
            (message, Some(format!("mill label n{node} droplet=ID region=REGION")))
        };
        assert_eq!(told(&state), [warning(1, 2), warning(2, 1)]);
    }
}
