//! What the leader does next about each volume of the provider.
//!
//! Owns the order: made, attached, and given up again. Never remembers anything that the next
//! leader would miss, and never asks the provider itself.

pub mod compare;

use crate::fsm::State;
use crate::fsm::volumes::{AttachStep, Attachment, Provided, ProvidedStep, Volume};
use crate::units::{Bytes, Timestamp};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Let the provider make it, unless it has it by its name.
    Make,
    /// Let the provider make it larger.
    Grow,
    /// Let the provider attach it.
    Attach(Attachment),
    /// Let the provider detach it.
    Detach(Attachment),
    /// Let the provider delete it.
    Delete,
    /// Compare what the provider says of it with the state.
    Compare,
    /// Only the state has to hear of it.
    Tell(ProvidedStep),
}

/// What the leader has seen that isn't in the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Nothing has used it for a while.
    pub is_unused: bool,
    /// The node that it is attached to has been no member for a while.
    pub is_gone: bool,
}

/// A provider makes volumes of whole gibibytes: the size of one that holds so much.
#[must_use]
pub fn whole(size: Bytes) -> Bytes {
    Bytes(size.0.div_ceil(1 << 30).max(1) << 30)
}

/// The next step of a volume of the provider, if there is one.
#[must_use]
pub fn next(state: &State, volume: &Volume, now: Timestamp, seen: Seen) -> Option<Work> {
    let provided = volume.provided.as_ref()?;
    if let Some(at) = &provided.attachment {
        let number = at.number;
        match at.step {
            AttachStep::Detaching => return Some(Work::Detach(at.clone())),
            AttachStep::Releasing => {
                let is_member = state.nodes.contains_key(&at.node);
                let is_over = state.lease_is_over(at.node, now) && (is_member || seen.is_gone);
                return is_over.then_some(Work::Tell(ProvidedStep::Expired { number }));
            }
            AttachStep::Attaching | AttachStep::Attached => {
                let is_free = !state.has_writer(volume) && (seen.is_unused || volume.deleting);
                if is_free || state.is_astray(at) {
                    return Some(Work::Tell(ProvidedStep::Release { number }));
                }
            }
        }
    }
    if volume.deleting {
        return provided.attachment.is_none().then_some(Work::Delete);
    }
    forward(volume, provided)
}

/// What brings a volume to where it is wanted.
fn forward(volume: &Volume, provided: &Provided) -> Option<Work> {
    if provided.id.is_none() {
        return provided.attachment.is_some().then_some(Work::Make);
    }
    if provided.made < volume.size {
        return Some(Work::Grow);
    }
    let at = provided.attachment.as_ref()?;
    (at.step == AttachStep::Attaching).then(|| Work::Attach(at.clone()))
}
