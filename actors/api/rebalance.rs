//! Handlers of spreading replicas anew: what would move, and the move.
//!
//! Never decides what moves: that is the scheduler's.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::views;
use crate::api::wire::MoveView;
use crate::fsm::{Command, State};
use crate::id::WorkloadName;
use crate::scheduler::rebalance::{self, Move};
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/rebalance`.
pub async fn plan(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let moves = wanted(reading.state(), &request)?;
    Ok(reading.mark(json(StatusCode::OK, &shown(reading.state(), &moves))?))
}

/// `POST /v1/rebalance`.
pub async fn begin(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let key = context.key(&request, b"")?;
    let reading = context.read().await?;
    let moves = wanted(reading.state(), &request)?;
    let document = shown(reading.state(), &moves);
    if moves.is_empty() {
        return Ok(reading.mark(json(StatusCode::ACCEPTED, &document)?));
    }
    let command = Command::Move { allocations: rebalance::allocations(&moves) };
    let done = context.propose(command, key).await?;
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &document)?))
}

fn wanted(state: &State, request: &Request) -> Result<Vec<Move>, ApiError> {
    let service = request.one("service").map(WorkloadName::from);
    if let Some(name) = &service
        && !state.owner(name).is_some_and(|app| app.services.contains_key(name))
    {
        return Err(ApiError::NotFound { what: "service", name: name.to_string() });
    }
    Ok(rebalance::moves(state, service.as_ref()))
}

fn shown(state: &State, moves: &[Move]) -> Vec<MoveView> {
    let view = |one: &Move| MoveView {
        service: one.service.to_string(),
        allocation: one.allocation.to_string(),
        from: views::node_name(state, one.from),
        to: views::node_name(state, one.to),
    };
    moves.iter().map(view).collect()
}
