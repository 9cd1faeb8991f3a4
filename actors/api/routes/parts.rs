//! Parameters and events that several routes share.
//!
//! Never a route.

use super::{Parameter, Shape, shape};
use crate::wire;

/// A parameter with what it does.
pub const fn parameter(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what }
}

/// What logs can be asked for.
pub const LOG_QUERY: &[Parameter] = &[
    parameter("name", "service, allocation or a unique start of its id; may repeat"),
    parameter("follow", "go on with new lines"),
    parameter("tail", "only so many lines from the end"),
    parameter("since", "only lines since a time (RFC 3339) or for a duration (10m, or seconds)"),
    parameter("previous", "of the attempt before the newest"),
];

/// What a stream of a deployment tells.
pub const DEPLOY_EVENTS: &[(&str, Shape)] = &[
    ("accepted", shape::<wire::AcceptedEvent>()),
    ("progress", shape::<wire::ProgressEvent>()),
    ("done", shape::<wire::DoneEvent>()),
    ("failed", shape::<wire::FailedEvent>()),
];
