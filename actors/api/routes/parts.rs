//! What several routes share: parameters, events, what routes of a kind have in common.
//!
//! Never answers a request itself.

use super::super::{forward, read};
use super::{Gives, Handler, Parameter, Route, Shape, Takes, Verb, shape};
use crate::api::wire;
use crate::fsm::model::Role;

/// A parameter with what it does.
pub const fn parameter(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what }
}

/// What logs can be asked for.
pub const LOG_QUERY: &[Parameter] = &[
    parameter("name", "service, task, app, allocation or a unique start of its id; may repeat"),
    parameter("follow", "go on with new lines"),
    parameter("tail", "only so many lines from the end"),
    parameter("since", "only lines since a time (RFC 3339) or for a duration (10m, or seconds)"),
    parameter("grep", "only lines with this text in them"),
    parameter("previous", "of the attempt before the newest"),
    parameter("access", "the requests that proxies took, of services or all"),
];

/// Who a node becomes by a restore.
pub const RESTORE_QUERY: &[Parameter] = &[
    parameter("node", "its name; default: the host's"),
    parameter("advertise", "the address that others use"),
    parameter("nat", "the host doesn't have that address"),
    parameter("label", "KEY=VALUE; may repeat"),
];

/// Whose replicas are spread anew.
pub const MOVES: &[Parameter] = &[parameter("service", "only of this service")];

/// What a stream of a deployment tells.
pub const DEPLOY_EVENTS: &[(&str, Shape)] = &[
    ("accepted", shape::<wire::AcceptedEvent>()),
    ("progress", shape::<wire::ProgressEvent>()),
    ("done", shape::<wire::DoneEvent>()),
    ("failed", shape::<wire::FailedEvent>()),
];

/// A route that answers a document of the state to whoever may read.
pub(super) const fn get(
    path: &'static str,
    handler: Handler,
    answer: Gives,
    summary: &'static str,
) -> Route {
    Route {
        method: Verb::Get,
        path,
        role: Some(Role::Read),
        local: false,
        unclaimed: false,
        handler,
        summary,
        query: &[],
        body: Takes::Nothing,
        status: 200,
        answer,
    }
}

/// A route about this node's own place in a cluster, on its UNIX socket only.
pub(super) const fn own(
    path: &'static str,
    handler: Handler,
    body: Takes,
    answer: Gives,
    summary: &'static str,
) -> Route {
    Route {
        method: Verb::Post,
        role: Some(Role::Admin),
        local: true,
        unclaimed: true,
        body,
        ..get(path, handler, answer, summary)
    }
}

/// A route that changes what runs.
pub(super) const fn change(
    method: Verb,
    path: &'static str,
    handler: Handler,
    answer: Gives,
    summary: &'static str,
) -> Route {
    let status = 202;
    Route { method, role: Some(Role::Deploy), status, ..get(path, handler, answer, summary) }
}

/// A route that changes a node and answers with what it is then.
pub(super) const fn of_node(
    method: Verb,
    path: &'static str,
    handler: Handler,
    summary: &'static str,
) -> Route {
    let answer = Gives::Json(shape::<wire::NodeView>());
    Route { method, role: Some(Role::Admin), ..get(path, handler, answer, summary) }
}

/// A route that takes something away and answers nothing.
pub(super) const fn forget(path: &'static str, handler: Handler, summary: &'static str) -> Route {
    Route { status: 204, ..change(Verb::Delete, path, handler, Gives::Nothing, summary) }
}

/// `GET /v1/routes`.
pub(super) const LIST_ROUTES: Route = get(
    "/v1/routes",
    |c, r| Box::pin(read::routes(c, r)),
    Gives::List(shape::<wire::RouteView>()),
    "The routes, with the requests that they got",
);

/// `GET /v1/allocations/{id}/port-forward`.
pub(super) const PORT_FORWARD: Route = Route {
    role: Some(Role::Deploy),
    query: &[parameter("port", "its number, or the service's name for it; else the main one")],
    status: 101,
    ..get(
        "/v1/allocations/{id}/port-forward",
        |c, r| Box::pin(forward::forward(c, r)),
        Gives::Nothing,
        "A connection to a container's port, over a WebSocket; the first byte of a frame says what \
         it is: 0 to the container, 1 from it, 3 JSON eof or exit",
    )
};
