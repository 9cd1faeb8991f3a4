//! What happened in the cluster, as documents.
//!
//! Never judges it.

use super::node_name;
use crate::events::Event;
use crate::fsm::State;
use crate::wire::EventView;

/// An event.
#[must_use]
pub fn event(state: &State, event: &Event) -> EventView {
    EventView {
        id: event.id,
        ts: event.time.to_string(),
        kind: event.kind.as_str().to_owned(),
        app: event.app.as_ref().map(ToString::to_string),
        revision: event.revision.map(|revision| revision.0),
        service: event.workload.as_ref().map(ToString::to_string),
        allocation: event.allocation.as_ref().map(ToString::to_string),
        node: event.node.map(|id| node_name(state, id)),
        message: event.message.clone(),
    }
}
