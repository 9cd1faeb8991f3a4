//! Routes of the nodes and of the cluster that they form.
//!
//! Never answers a request itself.

use super::super::{backup, claims, leave, mesh, nodes, openapi, read};
use super::parts::{RESTORE_QUERY, change, forget, get, of_node, own};
use super::{Gives, Route, Takes, Verb, shape};
use crate::api::wire;
use crate::fsm::model::Role;

/// The routes.
pub(super) const NODES: &[Route] = &[
    Route {
        role: None,
        unclaimed: true,
        ..get(
            "/v1/health",
            |c, r| Box::pin(read::health(c, r)),
            Gives::Json(shape::<wire::HealthView>()),
            "Whether the node is ready; 503 while it starts",
        )
    },
    Route {
        role: None,
        unclaimed: true,
        ..get(
            "/v1/openapi.json",
            |c, r| Box::pin(openapi::serve(c, r)),
            Gives::OpenApi,
            "This document",
        )
    },
    own(
        "/v1/init",
        |c, r| Box::pin(claims::init(c, r)),
        Takes::Json(shape::<wire::InitRequest>()),
        Gives::Json(shape::<wire::InitView>()),
        "Make this node the first of a new cluster; on the UNIX socket only",
    ),
    own(
        "/v1/join",
        |c, r| Box::pin(claims::join(c, r)),
        Takes::Json(shape::<wire::JoinRequest>()),
        Gives::Json(shape::<wire::JoinView>()),
        "Make this node a member of a cluster; on the UNIX socket only",
    ),
    Route {
        query: RESTORE_QUERY,
        ..own(
            "/v1/restore",
            |c, r| Box::pin(backup::restore(c, r)),
            Takes::Archive,
            Gives::Json(shape::<wire::RestoreView>()),
            "Make this node the first of a cluster again, from its decrypted backup; on the UNIX \
             socket only",
        )
    },
    Route {
        unclaimed: false,
        ..own(
            "/v1/leave",
            |c, r| Box::pin(leave::leave(c, r)),
            Takes::Json(shape::<wire::LeaveRequest>()),
            Gives::Json(shape::<wire::LeaveView>()),
            "Drain this node, remove it from the cluster and wipe it; on the UNIX socket only",
        )
    },
    get(
        "/v1/status",
        |c, r| Box::pin(read::status(c, r)),
        Gives::Json(shape::<wire::StatusView>()),
        "The whole cluster at a glance",
    ),
    get(
        "/v1/nodes",
        |c, r| Box::pin(nodes::list(c, r)),
        Gives::List(shape::<wire::NodeView>()),
        "The nodes",
    ),
    get(
        "/v1/nodes/{id}",
        |c, r| Box::pin(nodes::get(c, r)),
        Gives::Json(shape::<wire::NodeView>()),
        "A node, by its name or id, with what is left on it while it drains",
    ),
    Route {
        body: Takes::Json(shape::<wire::LabelsRequest>()),
        ..of_node(
            Verb::Patch,
            "/v1/nodes/{id}",
            |c, r| Box::pin(nodes::label(c, r)),
            "Set labels of a node, or take them away with null",
        )
    },
    Route {
        body: Takes::Json(shape::<wire::DrainRequest>()),
        ..of_node(
            Verb::Post,
            "/v1/nodes/{id}/drain",
            |c, r| Box::pin(nodes::drain(c, r)),
            "Move a node's work to others within each service's update policy",
        )
    },
    of_node(
        Verb::Post,
        "/v1/nodes/{id}/undrain",
        |c, r| Box::pin(nodes::undrain(c, r)),
        "Let a draining node take work again",
    ),
    Route {
        role: Some(Role::Admin),
        ..forget(
            "/v1/nodes/{id}",
            |c, r| Box::pin(nodes::remove(c, r)),
            "Remove a drained node, or one that is down, for good",
        )
    },
    get(
        "/v1/mesh/peers",
        |c, r| Box::pin(mesh::peers(c, r)),
        Gives::List(shape::<wire::PeerCheckView>()),
        "Which ports the nodes reach of each other, tried now",
    ),
    Route {
        role: Some(Role::Admin),
        status: 200,
        ..change(
            Verb::Post,
            "/v1/mesh/rotate",
            |c, r| Box::pin(mesh::rotate(c, r)),
            Gives::Json(shape::<wire::MeshKeysView>()),
            "Let every node change its key of the mesh; connections go on",
        )
    },
];
