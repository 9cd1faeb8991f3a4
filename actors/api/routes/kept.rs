//! Routes of what the cluster keeps for what runs: images, logins, volumes, secrets, tokens, paused
//! hosts.
//!
//! Never answers a request itself.

use super::super::{
    backup, certificates, images, logins, pauses, provider, secrets, tokens, volume_data, volumes,
};
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
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::MoveRequest>()),
        ..change(
            Verb::Post,
            "/v1/volumes/{name}/move",
            |c, r| Box::pin(volumes::move_to(c, r)),
            Gives::Json(shape::<wire::VolumeView>()),
            "Bring a volume's data to another node; its service stops there and starts here",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[parameter("online", "also while it is used")],
        ..get(
            "/v1/volumes/{name}/data",
            |c, r| Box::pin(volume_data::data(c, r)),
            Gives::Archive,
            "What a volume holds, as a tar archive",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Archive,
        status: 204,
        ..change(
            Verb::Post,
            "/v1/volumes/{name}/data",
            |c, r| Box::pin(volume_data::data(c, r)),
            Gives::Nothing,
            "Put what a tar archive holds in the place of a volume's data",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::ProviderRequest>()),
        status: 204,
        ..change(
            Verb::Put,
            "/v1/provider",
            |c, r| Box::pin(provider::set(c, r)),
            Gives::Nothing,
            "Keep new volumes at a provider of block storage, or give it another token",
        )
    },
    get(
        "/v1/certs",
        |c, r| Box::pin(certificates::list(c, r)),
        Gives::List(shape::<wire::CertificateView>()),
        "The hosts of routes and how they stand with their certificates",
    ),
    get(
        "/v1/certs/{host}",
        |c, r| Box::pin(certificates::get(c, r)),
        Gives::Json(shape::<wire::CertificateView>()),
        "A host and how it stands with its certificate",
    ),
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::CertificateRequest>()),
        status: 200,
        ..change(
            Verb::Put,
            "/v1/certs/{host}",
            |c, r| Box::pin(certificates::import(c, r)),
            Gives::Json(shape::<wire::CertificateView>()),
            "Serve a host by this certificate; checked before it is taken",
        )
    },
    Route {
        status: 200,
        ..change(
            Verb::Post,
            "/v1/certs/{host}/renew",
            |c, r| Box::pin(certificates::renew(c, r)),
            Gives::Json(shape::<wire::CertificateView>()),
            "Order a host's certificate anew, now",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..forget(
            "/v1/certs/{host}",
            |c, r| Box::pin(certificates::delete(c, r)),
            "Delete a host's certificate; one that can be ordered is ordered anew",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::AcmeRequest>()),
        status: 204,
        ..change(
            Verb::Put,
            "/v1/acme",
            |c, r| Box::pin(certificates::set_authority(c, r)),
            Gives::Nothing,
            "Order certificates there from now on",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..forget(
            "/v1/acme",
            |c, r| Box::pin(certificates::forget_authority(c, r)),
            "Order no more certificates",
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
        query: &[parameter("recipient", "whom it is encrypted for, age1…; may repeat")],
        ..get(
            "/v1/backup",
            |c, r| Box::pin(backup::take(c, r)),
            Gives::Bytes,
            "A backup of the cluster's state and keys, encrypted by age",
        )
    },
    Route {
        role: Some(Role::Admin),
        ..get(
            "/v1/backup/schedule",
            |c, r| Box::pin(backup::schedule(c, r)),
            Gives::Json(shape::<wire::BackupsView>()),
            "When backups are taken by themselves, and how the last ones ended",
        )
    },
    Route {
        role: Some(Role::Admin),
        body: Takes::Json(shape::<wire::ScheduleRequest>()),
        status: 200,
        ..change(
            Verb::Put,
            "/v1/backup/schedule",
            |c, r| Box::pin(backup::set_schedule(c, r)),
            Gives::Json(shape::<wire::BackupsView>()),
            "Take backups by themselves, on the leader's node and one other",
        )
    },
    Route {
        role: Some(Role::Admin),
        status: 200,
        ..change(
            Verb::Delete,
            "/v1/backup/schedule",
            |c, r| Box::pin(backup::end_schedule(c, r)),
            Gives::Json(shape::<wire::BackupsView>()),
            "Take none by themselves any more",
        )
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
