//! Handlers by which a node becomes a member.
//!
//! Owns nothing but the request's form: the daemon carries it out.

use super::Membership;
use super::context::Context;
use super::error::ApiError;
use super::request::{Request, json};
use crate::api::wire::{InitRequest, JoinRequest};
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/init`.
pub async fn init(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    check_unclaimed(&context)?;
    let wanted: InitRequest = request.json("{\"cluster\": \"prod\"}").await?;
    let done = context.ports.claims.init(wanted).await?;
    json(StatusCode::OK, &done)
}

/// `POST /v1/join`.
pub async fn join(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    check_unclaimed(&context)?;
    let example = "{\"address\": \"10.0.0.1:4401\", \"token\": \"mill_…\"}";
    let wanted: JoinRequest = request.json(example).await?;
    let done = context.ports.claims.join(wanted).await?;
    json(StatusCode::OK, &done)
}

pub(super) fn check_unclaimed(context: &Context) -> Result<(), ApiError> {
    if matches!(*context.membership.borrow(), Membership::Unclaimed) {
        return Ok(());
    }
    let message = "this node belongs to a cluster already".to_owned();
    let hint = Some("look at it: mill status; to go to another one: mill leave".to_owned());
    Err(ApiError::Conflict { message, hint })
}
