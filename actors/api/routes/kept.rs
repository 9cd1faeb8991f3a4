//! Routes of what the cluster keeps for what runs: images, logins, volumes, secrets, tokens, paused
//! hosts.
//!
//! Never answers a request itself.

use super::super::{images, logins, pauses, secrets, tokens, volumes};
use super::parts::{change, forget, get, parameter};
use super::{Gives, Route, Takes, Verb, shape};
use crate::api::wire;
use crate::fsm::model::Role;

/// The routes.
pub(super) const KEPT: &[Route] = &[
    get(
        "/v1/images",
        |c, r| Box::pin(images::list(c, r)),
        Gives::List(shape::<wire::ImageView>()),
        "The images of all nodes",
    ),
    Route {
        body: Takes::Archive,
        status: 200,
        ..change(
            Verb::Post,
            "/v1/images",
            |c, r| Box::pin(images::load(c, r)),
            Gives::List(shape::<wire::ImageView>()),
            "Load the images of an OCI or Docker archive, for all nodes",
        )
    },
    Route {
        query: &[parameter("reference", "the image")],
        ..forget(
            "/v1/images",
            |c, r| Box::pin(images::remove(c, r)),
            "Forget an image on every node; one that runs is refused",
        )
    },
    forget(
        "/v1/images/{reference*}",
        |c, r| Box::pin(images::remove(c, r)),
        "Forget an image on every node; one that runs is refused",
    ),
    get(
        "/v1/registries",
        |c, r| Box::pin(logins::list(c, r)),
        Gives::List(shape::<wire::LoginView>()),
        "The logins to registries, without their passwords",
    ),
    Route {
        body: Takes::Json(shape::<wire::LoginRequest>()),
        status: 200,
        ..change(
            Verb::Put,
            "/v1/registries/{registry}",
            |c, r| Box::pin(logins::set(c, r)),
            Gives::Json(shape::<wire::LoginView>()),
            "Log in to a registry; tried before it is kept",
        )
    },
    forget(
        "/v1/registries/{registry}",
        |c, r| Box::pin(logins::remove(c, r)),
        "Log out of a registry",
    ),
    Route {
        body: Takes::Json(shape::<wire::PauseRequest>()),
        status: 200,
        ..change(
            Verb::Post,
            "/v1/routes/{host}/pause",
            |c, r| Box::pin(pauses::pause(c, r)),
            Gives::List(shape::<wire::RouteView>()),
            "Answer every request for a host with a page of maintenance; answers the host's routes",
        )
    },
    Route {
        status: 200,
        ..change(
            Verb::Post,
            "/v1/routes/{host}/resume",
            |c, r| Box::pin(pauses::resume(c, r)),
            Gives::List(shape::<wire::RouteView>()),
            "Let requests for a paused host through again; answers the host's routes",
        )
    },
    get(
        "/v1/volumes",
        |c, r| Box::pin(volumes::list(c, r)),
        Gives::List(shape::<wire::VolumeView>()),
        "The persistent volumes: how large, where, used by which allocation",
    ),
    get(
        "/v1/volumes/{name}",
        |c, r| Box::pin(volumes::get(c, r)),
        Gives::Json(shape::<wire::VolumeView>()),
        "A persistent volume",
    ),
    Route {
        role: Some(Role::Admin),
        ..forget(
            "/v1/volumes/{name}",
            |c, r| Box::pin(volumes::delete(c, r)),
            "Give a volume up, with its data; one that is used is refused",
        )
    },
    get(
        "/v1/secrets",
        |c, r| Box::pin(secrets::list(c, r)),
        Gives::List(shape::<wire::SecretView>()),
        "The secrets, without their values, and which services run with older ones",
    ),
    Route {
        body: Takes::Json(shape::<wire::SecretsRequest>()),
        status: 200,
        ..change(
            Verb::Post,
            "/v1/secrets",
            |c, r| Box::pin(secrets::import(c, r)),
            Gives::List(shape::<wire::SecretView>()),
            "Give several secrets new values: all or none",
        )
    },
    Route {
        role: Some(Role::Admin),
        status: 200,
        ..change(
            Verb::Post,
            "/v1/secrets/rotate-key",
            |c, r| Box::pin(secrets::rotate(c, r)),
            Gives::Json(shape::<wire::RotatedView>()),
            "Make another keyring and seal everything anew",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..get(
            "/v1/secrets/{name}",
            |c, r| Box::pin(secrets::get(c, r)),
            Gives::Json(shape::<wire::SecretValueView>()),
            "A secret with its value",
        )
    },
    Route {
        body: Takes::Json(shape::<wire::SecretRequest>()),
        status: 200,
        ..change(
            Verb::Put,
            "/v1/secrets/{name}",
            |c, r| Box::pin(secrets::set(c, r)),
            Gives::Json(shape::<wire::SecretView>()),
            "Give a secret a new value; what runs keeps the one that it started with",
        )
    },
    Route {
        query: &[parameter("force", "even if something that runs needs it")],
        ..forget("/v1/secrets/{name}", |c, r| Box::pin(secrets::delete(c, r)), "Forget a secret")
    },
    Route {
        role: Some(Role::Admin),
        ..get(
            "/v1/tokens",
            |c, r| Box::pin(tokens::list(c, r)),
            Gives::List(shape::<wire::TokenView>()),
            "The tokens, without their secret parts",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::TokenRequest>()),
        status: 201,
        ..change(
            Verb::Post,
            "/v1/tokens",
            |c, r| Box::pin(tokens::create(c, r)),
            Gives::Json(shape::<wire::NewTokenView>()),
            "Make a token; its secret part is shown this once",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..forget("/v1/tokens/{id}", |c, r| Box::pin(tokens::revoke(c, r)), "Let a token in no more")
    },
];
