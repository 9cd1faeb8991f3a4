//! Handlers that show the state.
//!
//! Owns no projection: those are in `views`.

use super::Membership;
use super::context::{Context, silent};
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::views;
use crate::api::wire::{DaemonStatus, HealthView};
use crate::id::WorkloadName;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/health`.
pub async fn health(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let unclaimed = matches!(*context.membership.borrow(), Membership::Unclaimed);
    let view = context.view().filter(|view| view.current && !unclaimed);
    let (status, code) = match (&view, unclaimed) {
        (_, true) => (DaemonStatus::Unclaimed, StatusCode::OK),
        (Some(_), _) => (DaemonStatus::Ready, StatusCode::OK),
        (None, _) => (DaemonStatus::Starting, StatusCode::SERVICE_UNAVAILABLE),
    };
    let node = view.as_ref().and_then(|view| view.state.nodes.get(&view.node));
    let cluster = view.as_ref().and_then(|view| view.state.cluster.as_ref());
    let health = HealthView {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.map(|node| node.name.clone()),
        cluster: cluster.map(|cluster| cluster.name.clone()),
    };
    let response = json(code, &health)?;
    Ok(match view {
        Some(view) => request::at(view.index, response),
        None => response,
    })
}

/// `GET /v1/status`.
pub async fn status(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let mut seen = context.observed(&reading.view).await;
    if let Some(vitals) = context.vitals().await {
        seen.expelled = vitals.expelled;
        seen.silent = silent(&reading.view, &vitals);
        // Also where figures hang on the disk.
        seen.log_disks.insert(reading.view.node, vitals.disk);
    }
    Ok(reading.mark(json(StatusCode::OK, &views::status(reading.state(), &seen))?))
}

/// `GET /v1/routes`.
pub async fn routes(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    Ok(reading.mark(json(StatusCode::OK, &views::routes(reading.state(), &seen))?))
}

/// `GET /v1/services`.
pub async fn services(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    Ok(reading.mark(json(StatusCode::OK, &views::services(reading.state(), &seen))?))
}

/// `GET /v1/services/{name}`.
pub async fn service(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let name = WorkloadName::from(request.param("name"));
    let found = views::service_named(reading.state(), &name, &seen);
    let not_found = || ApiError::NotFound { what: "service", name: name.to_string() };
    Ok(reading.mark(json(StatusCode::OK, &found.ok_or_else(not_found)?)?))
}
