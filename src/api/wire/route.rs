//! Documents of routes and of the requests that they got.
//!
//! Owns their shape. Never computes anything.

use serde::{Deserialize, Serialize};
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
