//! Handlers of apps: what one is, taking it down, going back.
//!
//! Owns nothing. Never computes a revision: that is `revise`.

use super::context::Context;
use super::error::ApiError;
use super::request::{Request, json};
use super::submit;
use crate::api::views;
use crate::api::wire::RollbackRequest;
use crate::id::{AppName, Revision};
use crate::scheduler::revise;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/apps/{app}`.
pub async fn app(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let name = AppName::from(request.param("app"));
    let state = reading.state();
    let found = state.apps.get(&name).and_then(|app| views::app(state, app));
    let not_found = || ApiError::NotFound { what: "app", name: name.to_string() };
    Ok(reading.mark(json(StatusCode::OK, &found.ok_or_else(not_found)?)?))
}

/// `DELETE /v1/apps/{app}`.
pub async fn down(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = AppName::from(request.param("app"));
    if !context.dev {
        submit::guard(context.read().await?.state(), request.one("cluster"))?;
    }
    let key = context.key(&request, b"")?;
    submit::change(&context, key, |state| revise::down(state, &name)).await
}

/// `POST /v1/rollback`.
pub async fn rollback(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: RollbackRequest = request.json("{\"revision\": 7, \"app\": \"shop\"}").await?;
    let app = wanted.app.as_deref().map(AppName::from);
    let to = wanted.revision.map(Revision);
    let body = format!("{app:?} {to:?}");
    let key = context.key(&request, body.as_bytes())?;
    submit::change(&context, key, |state| revise::rollback(state, app.as_ref(), to)).await
}
