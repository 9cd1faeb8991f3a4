//! What happened in the cluster, as documents.
//!
//! Never judges it.

use super::node_name;
use crate::api::wire::{EVENTS_MISSED, EventName, EventView};
use crate::fsm::State;
use crate::fsm::events::Event;
use crate::limits;

/// An event.
#[must_use]
pub fn event(state: &State, event: &Event) -> EventView {
    EventView {
        id: event.id,
        ts: event.time.to_string(),
        kind: EventName::Kept(event.kind),
        app: event.app.as_ref().map(ToString::to_string),
        revision: event.revision.map(|revision| revision.0),
        service: event.workload.as_ref().map(ToString::to_string),
        allocation: event.allocation.as_ref().map(ToString::to_string),
        node: event.node.map(|id| node_name(state, id)),
        message: event.message.clone(),
    }
}

/// What is told in the place of events behind this one that are not kept any more, if there are
/// any.
#[must_use]
pub fn missed(state: &State, last: u64) -> Option<EventView> {
    let (next, oldest) = state.events.get_min()?;
    let missed = next.saturating_sub(last.saturating_add(1));
    let (verb, kept) = (if missed == 1 { "event is" } else { "events are" }, limits::EVENTS_KEPT);
    (missed > 0).then(|| EventView {
        id: next - 1,
        ts: oldest.time.to_string(),
        kind: EventName::Told(EVENTS_MISSED.to_owned()),
        app: None,
        revision: None,
        service: None,
        allocation: None,
        node: None,
        message: Some(format!("{missed} {verb} missing: the newest {kept} are kept")),
    })
}
