//! Handlers of paused hosts: the page of maintenance in place of what their routes lead to.
//!
//! Never answers a client of a route: that is the proxy of each node.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::views;
use crate::api::wire::{PauseRequest, RouteView};
use crate::fsm::Command;
use crate::fsm::routes::RouteChange;
use crate::limits::PAUSE_MESSAGE_MAX;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/routes/{host}/pause`.
pub async fn pause(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: PauseRequest = request.json_or_default("{\"message\": \"Back at noon\"}").await?;
    let message = wanted.message.unwrap_or_default().trim().to_owned();
    if message.len() > PAUSE_MESSAGE_MAX || message.chars().any(char::is_control) {
        let what = "the message is no line that a page can show";
        return Err(ApiError::bad(what, format!("one line, at most {PAUSE_MESSAGE_MAX} bytes")));
    }
    let host = request.param("host").to_owned();
    change(&context, &host, RouteChange::Pause { host: host.clone(), message }).await
}

/// `POST /v1/routes/{host}/resume`.
pub async fn resume(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let host = request.param("host").to_owned();
    change(&context, &host, RouteChange::Resume { host: host.clone() }).await
}

/// Proposes the change and shows the host's routes as they are then.
async fn change(context: &Context, host: &str, change: RouteChange) -> Result<Response, ApiError> {
    let done = context.propose(Command::Routes(change), None).await?;
    let view = context.view_after(&done)?;
    let seen = context.observed_lately(&view).await;
    let mut shown: Vec<RouteView> = views::routes(&view.state, &seen);
    shown.retain(|route| route.host == host);
    Ok(request::at(done.index, json(StatusCode::OK, &shown)?))
}
