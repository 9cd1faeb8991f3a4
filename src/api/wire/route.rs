//! Documents of routes and of the requests that they got.
//!
//! Owns their shape. Never computes anything.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Requests of a service or route, of all nodes that answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// Requests a second, in the last ten seconds.
    pub requests_per_second: f64,
    /// Requests of the last minute.
    pub requests: u64,
    /// Of these, answered with 500 or above, or not at all.
    pub errors: u64,
    /// Seconds within which half of them were answered.
    pub p50: Option<f64>,
    /// Seconds within which 99 of 100 were answered.
    pub p99: Option<f64>,
    /// How many were answered with a code of each class, `2xx`; `none`: without an answer.
    #[serde(default)]
    pub codes: BTreeMap<String, u64>,
    /// Bytes of bodies that came from clients.
    #[serde(default)]
    pub received: u64,
    /// Bytes of bodies that went to clients.
    #[serde(default)]
    pub sent: u64,
}

/// A request that a proxy took, as the access log has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccessView {
    /// The client's address.
    pub client: String,
    /// The name under which a route with `auth` let it in.
    pub user: Option<String>,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: String,
    /// The client spoke TLS.
    pub tls: bool,
    /// The method.
    pub method: String,
    /// The host as the client wrote it.
    pub host: String,
    /// Path and query as the client wrote them, cut at 2,048 bytes.
    pub path: String,
    /// What was answered; 0: the client has gone before.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Seconds until the answer's end.
    pub duration: f64,
    /// Host and path of the route.
    pub route: Option<String>,
    /// The route's service.
    pub service: Option<String>,
    /// The replica that was asked last.
    pub allocation: Option<String>,
    /// The `Mill-Error`, where the answer is mill's own.
    pub error: Option<String>,
    /// The `X-Request-Id` that the container got.
    pub request_id: String,
    /// The header of that name.
    pub referer: Option<String>,
    /// The header `User-Agent`.
    pub agent: Option<String>,
}

/// A host that is paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PauseView {
    /// What clients are told; empty: the usual.
    pub message: String,
    /// Since when.
    pub since: String,
}

/// What the clients of a host are told while it is paused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// One line; absent: the usual.
    #[serde(default)]
    pub message: Option<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Host and path, as figures name it.
    pub route: String,
    /// The host; `*.` at its beginning stands for one label.
    pub host: String,
    /// The path prefix.
    pub path: String,
    /// The service that it leads to.
    pub service: String,
    /// Who owns the service.
    pub app: String,
    /// The named port; absent: the main one.
    pub port: Option<String>,
    /// Where it redirects to, if it leads to no container.
    pub to: Option<String>,
    /// It is paused: its requests get the page of maintenance.
    #[serde(default)]
    pub paused: Option<PauseView>,
    /// Replicas that may get requests.
    pub healthy: u32,
    /// Its requests.
    pub traffic: TrafficView,
}

/// A port of a service in its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// Its number.
    pub port: u16,
    /// Absent for the main port.
    pub name: Option<String>,
}
