//! What members ask of each other: the node-local part of an answer that another one gives.
//!
//! Owns that nothing else is asked for: none of these asks a third node, so that no request goes
//! round. Never part of the API that clients see.

use super::super::{exec, files, forward, images, lend, logs, mesh, observed, volume_data};
use super::parts::{LOG_QUERY, change, forget, get, parameter};
use super::{Gives, Route, Takes, Verb, shape};
use crate::api::wire;
use crate::fsm::model::Role;

/// Every route between members.
pub static MEMBER_ROUTES: &[Route] = &[
    Route {
        role: Some(Role::Admin),
        query: &[
            parameter("cmd", ""),
            parameter("tty", ""),
            parameter("width", ""),
            parameter("height", ""),
        ],
        status: 101,
        ..get(
            "/v1/allocations/{id}/exec",
            |c, r| Box::pin(exec::here(c, r)),
            Gives::Nothing,
            "A program in a container of this node",
        )
    },
    Route {
        role: Some(Role::Deploy),
        query: &[parameter("port", "")],
        status: 101,
        ..get(
            "/v1/allocations/{id}/port-forward",
            |c, r| Box::pin(forward::here(c, r)),
            Gives::Nothing,
            "A connection to a container of this node",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[parameter("path", "")],
        ..get(
            "/v1/allocations/{id}/files",
            |c, r| Box::pin(files::read_here(c, r)),
            Gives::Archive,
            "Files out of a container of this node",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[parameter("path", "")],
        body: Takes::Archive,
        status: 204,
        ..change(
            Verb::Post,
            "/v1/allocations/{id}/files",
            |c, r| Box::pin(files::write_here(c, r)),
            Gives::Nothing,
            "Files into a container of this node",
        )
    },
    Route {
        query: LOG_QUERY,
        ..get(
            "/v1/logs",
            |c, r| Box::pin(logs::here(c, r)),
            Gives::Text,
            "What is written on this node",
        )
    },
    get(
        "/v1/images",
        |c, r| Box::pin(images::list_here(c, r)),
        Gives::List(shape::<wire::ImageView>()),
        "The images of this node",
    ),
    Route {
        query: &[parameter("reference", "")],
        ..forget(
            "/v1/images",
            |c, r| Box::pin(images::remove_here(c, r)),
            "Forget an image on this node",
        )
    },
    Route {
        query: &[parameter("from", "")],
        ..get(
            "/v1/blobs/{digest}",
            |c, r| Box::pin(lend::blob(c, r)),
            Gives::Archive,
            "A blob of this node's images",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[parameter("online", "")],
        ..get(
            "/v1/volumes/{name}/data",
            |c, r| Box::pin(volume_data::read_here(c, r)),
            Gives::Archive,
            "What a volume of this node holds",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Archive,
        status: 204,
        ..change(
            Verb::Post,
            "/v1/volumes/{name}/data",
            |c, r| Box::pin(volume_data::write_here(c, r)),
            Gives::Nothing,
            "Other data for a volume of this node",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..get(
            "/v1/volumes/{name}/copy",
            |c, r| Box::pin(volume_data::copy_here(c, r)),
            Gives::Archive,
            "A volume that is moved, with its checksum",
        )
    },
    get(
        "/v1/mesh/peers",
        |c, r| Box::pin(mesh::peers_here(c, r)),
        Gives::List(shape::<wire::PeerCheckView>()),
        "What this node reaches of the others",
    ),
    get(
        "/v1/usage",
        |c, r| Box::pin(observed::here(c, r)),
        Gives::Text,
        "What this node and its containers use",
    ),
];
