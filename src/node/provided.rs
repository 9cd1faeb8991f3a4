//! What a node does about the provider's volumes that it has, or had.
//!
//! Owns which mounts count no more. Never mounts or unmounts anything.

use crate::bugs::{Bug, is_on};
use crate::fsm::volumes::{AttachStep, Attachment, Provided, Volumes};
use crate::id::{NodeId, VolumeName};

/// What a node does with a volume's device before it mounts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Makes a file system: there was never one.
    Format,
    /// Mounts the one that is there.
    Mount,
    /// Nothing: it has had data, and there is none.
    Refuse,
}

/// What is done with a device that has a file system or not, of a volume that a program has used
/// or not.
#[must_use]
pub fn opening(has_files: bool, used: bool) -> Opening {
    match (has_files, used) {
        _ if is_on(Bug::FormatAnew) => Opening::Format,
        (true, _) => Opening::Mount,
        (false, true) => Opening::Refuse,
        (false, false) => Opening::Format,
    }
}

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
