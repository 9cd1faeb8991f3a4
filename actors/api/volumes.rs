//! Handlers of persistent volumes.
//!
//! Never touches data: a volume that is given up goes on its node.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::views;
use crate::api::wire::MoveRequest;
use crate::fsm::Command;
use crate::fsm::volumes::VolumeChange;
use crate::id::{VolumeName, WorkloadName};
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/volumes`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    Ok(reading.mark(json(StatusCode::OK, &views::volumes(reading.state(), &seen))?))
}

/// `GET /v1/volumes/{name}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let found = reading.state().volumes.get(&name).ok_or_else(|| missing(&name))?;
    let shown = views::volume(reading.state(), &name, found, &seen);
    Ok(reading.mark(json(StatusCode::OK, &shown)?))
}

/// `DELETE /v1/volumes/{name}`.
pub async fn delete(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let reading = context.read().await?;
    // Asked first, so that a name that doesn't exist costs no entry.
    if !reading.state().volumes.contains_key(&name) {
        return Err(missing(&name));
    }
    let users = reading.state().users_of_volume(&name);
    if let Some(first) = users.first() {
        let users: Vec<&str> = users.iter().map(WorkloadName::as_str).collect();
        let message = format!("volume {name} is used by {}", users.join(", "));
        let hint = Some(format!("mill down {first} first, or take the volume out of the file"));
        return Err(ApiError::Conflict { message, hint });
    }
    let change = VolumeChange::Delete { name };
    let done = context.propose(Command::Volumes(change), None).await?;
    Ok(request::at(done.index, request::empty()))
}

/// `POST /v1/volumes/{name}/move`: the nodes carry it out.
pub async fn move_to(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let wanted: MoveRequest = request.json("{\"node\": \"n2\"}").await?;
    let reading = context.read().await?;
    if !reading.state().volumes.contains_key(&name) {
        return Err(missing(&name));
    }
    let to = super::nodes::named(reading.state(), &wanted.node)?.id;
    let change = VolumeChange::Move { name: name.clone(), to };
    let done = context.propose(Command::Volumes(change), None).await?;
    let view = context.view_after(&done)?;
    let kept = view.state.volumes.get(&name).ok_or(ApiError::Unconfirmed)?;
    let seen = context.observed_lately(&view).await;
    let shown = views::volume(&view.state, &name, kept, &seen);
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &shown)?))
}

pub(super) fn missing(name: &VolumeName) -> ApiError {
    ApiError::NotFound { what: "volume", name: name.to_string() }
}
