//! Handlers of one service: removing, scaling and restarting it.
//!
//! Owns nothing. Never computes a revision: that is `revise`.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use super::submit;
use crate::api::views;
use crate::api::wire::ScaleRequest;
use crate::fsm::Command;
use crate::id::WorkloadName;
use crate::scheduler::revise;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `DELETE /v1/services/{name}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = WorkloadName::from(request.param("name"));
    let key = context.key(&request, b"")?;
    submit::change(&context, key, |state| revise::without(state, &name)).await
}

/// `POST /v1/services/{name}/scale`.
pub async fn scale(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: ScaleRequest = request.json("{\"replicas\": 3}").await?;
    let name = WorkloadName::from(request.param("name"));
    let count = wanted.replicas;
    let key = context.key(&request, count.to_string().as_bytes())?;
    submit::change(&context, key, |state| revise::scale(state, &name, count)).await
}

/// `POST /v1/services/{name}/restart`.
pub async fn restart(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let service = WorkloadName::from(request.param("name"));
    let key = context.key(&request, b"")?;
    // Asked first, so that a name that doesn't exist costs no entry.
    let reading = context.read().await?;
    let not_found = || ApiError::NotFound { what: "service", name: service.to_string() };
    let seen = context.observed(&reading.view).await;
    views::service_named(reading.state(), &service, &seen).ok_or_else(not_found)?;
    let done = context.propose(Command::RestartService { service: service.clone() }, key).await?;
    let view = context.view_after(&done)?;
    let shown = views::service_named(&view.state, &service, &seen).ok_or_else(not_found)?;
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &shown)?))
}
