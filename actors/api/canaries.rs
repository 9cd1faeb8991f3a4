//! Handlers of canaries that a person ends.
//!
//! Never judges one: that is the scheduler's.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::wire::RevisionView;
use crate::fsm::command::CanaryEnd;
use crate::fsm::{Command, Outcome};
use crate::id::AppName;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/apps/{app}/promote`.
pub async fn promote(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    end(context, request, true).await
}

/// `POST /v1/apps/{app}/abort`.
pub async fn abort(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    end(context, request, false).await
}

async fn end(context: Arc<Context>, request: Request, promote: bool) -> Result<Response, ApiError> {
    let app = AppName::from(request.param("app"));
    let key = context.key(&request, b"")?;
    // Asked first, so that a name that doesn't exist costs no entry.
    if !context.read().await?.state().apps.contains_key(&app) {
        return Err(ApiError::NotFound { what: "app", name: app.to_string() });
    }
    let done = context.propose(Command::Canary(CanaryEnd { app, promote }), key).await?;
    let Outcome::Revision { revision, .. } = done.outcome else {
        return Err(ApiError::Internal {
            doing: "ending a canary",
            reason: "the state answered without a revision".to_owned(),
        });
    };
    let document = RevisionView { revision: revision.0 };
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &document)?))
}
