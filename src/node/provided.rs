//! What a node does about the provider's volumes that it has, or had.
//!
//! Owns which mounts count no more. Never mounts or unmounts anything.

use crate::fsm::volumes::{AttachStep, Attachment, Provided, Volumes};
use crate::id::{NodeId, VolumeName};

/// A mounted volume: its name and the number of its attachment.
pub type Mount = (VolumeName, u64);

/// The attachment by which a node may have a volume mounted.
#[must_use]
pub fn held<'a>(
    volumes: &'a Volumes,
    node: NodeId,
    name: &VolumeName,
) -> Option<(&'a Provided, &'a Attachment)> {
    let provided = volumes.get(name)?.provided.as_ref()?;
    let at = provided.attachment.as_ref()?;
    (at.node == node && at.step == AttachStep::Attached).then_some((provided, at))
}

/// Of a node's mounts those that are to go: the volume is another's, or on its way.
#[must_use]
pub fn stale(volumes: &Volumes, node: NodeId, mounts: &[Mount]) -> Vec<Mount> {
    let counts = |(name, number): &&Mount| {
        let held = held(volumes, node, name);
        held.is_none_or(|(_, at)| at.number != *number)
    };
    mounts.iter().filter(counts).cloned().collect()
}

/// The volumes that a node is to let go, each with the number of its attachment.
#[must_use]
pub fn released(volumes: &Volumes, node: NodeId) -> Vec<Mount> {
    let all = volumes.iter().filter_map(|(name, volume)| {
        let at = volume.provided.as_ref()?.attachment.as_ref()?;
        let is_due = at.node == node && at.step == AttachStep::Releasing;
        is_due.then(|| (name.clone(), at.number))
    });
    all.collect()
}

/// A node has a volume of the provider, or is about to: it must be sure that it is a member.
#[must_use]
pub fn needs_lease(volumes: &Volumes, node: NodeId) -> bool {
    let attached = volumes.values().filter_map(|volume| volume.provided.as_ref());
    attached.filter_map(|one| one.attachment.as_ref()).any(|at| at.node == node)
}
