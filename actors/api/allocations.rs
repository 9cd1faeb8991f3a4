//! Handlers of allocations, and what a name or the start of an id stands for.
//!
//! Never restarts anything itself: that is proposed.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::actors::root::View;
use crate::api::views;
use crate::fsm::model::Allocation;
use crate::fsm::{Command, State};
use crate::id::{AllocId, WorkloadName};
use crate::limits::FITS_SHOWN;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/allocations`.
pub async fn list(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let mut all = views::allocations(reading.state(), &seen);
    if request.one("all").is_some() && !request.flag("all")? {
        all.retain(|allocation| !allocation.status.is_ended());
    }
    if let Some(name) = request.one("name") {
        all.retain(|allocation| allocation.name == name);
    }
    if let Some(node) = request.one("node") {
        all.retain(|allocation| allocation.node == node);
    }
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `GET /v1/allocations/{id}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let found = by_id(reading.state(), request.param("id"))?;
    let view = views::allocation(reading.state(), found, &seen);
    Ok(reading.mark(json(StatusCode::OK, &view)?))
}

/// `POST /v1/allocations/{id}/restart`.
pub async fn restart(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let allocation = by_id(reading.state(), request.param("id"))?.id.clone();
    let key = context.key(&request, b"")?;
    let command = Command::RestartAllocation { allocation: allocation.clone() };
    let done = context.propose(command, key).await?;
    let view = context.view_after(&done)?;
    let seen = context.observed(&view).await;
    let found = by_id(&view.state, allocation.as_str())?;
    let shown = views::allocation(&view.state, found, &seen);
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &shown)?))
}

/// The allocation with that id, or the only one whose id starts so; of several, the only one that
/// has not ended.
///
/// # Errors
/// There is none, or there are several.
pub fn by_id<'a>(state: &'a State, id: &str) -> Result<&'a Arc<Allocation>, ApiError> {
    let not_found = || ApiError::NotFound { what: "allocation", name: id.to_owned() };
    if id.is_empty() {
        return Err(not_found());
    }
    let from = AllocId::from(id);
    let after = state.allocations.range(from..).map(|(_, allocation)| allocation);
    let fits: Vec<_> = after.take_while(|a| a.id.as_str().starts_with(id)).collect();
    let live: Vec<_> = fits.iter().filter(|a| a.is_live()).copied().collect();
    match (fits.as_slice(), live.as_slice()) {
        ([], _) => return Err(not_found()),
        ([first, ..], _) if first.id.as_str() == id => return Ok(first),
        ([only], _) | (_, [only]) => return Ok(only),
        _ => {}
    }
    let shown = if live.is_empty() { fits } else { live };
    let ids: Vec<&str> = shown.iter().take(FITS_SHOWN).map(|a| a.id.as_str()).collect();
    let fits = ids.join(", ");
    Err(ApiError::Ambiguous { name: id.to_owned(), fits })
}

/// The allocation with that id, if it is on the node whose view this is.
///
/// # Errors
/// There is none, or it is on another node.
pub fn on_this_node<'a>(view: &'a View, id: &str) -> Result<&'a Arc<Allocation>, ApiError> {
    let found = by_id(&view.state, id)?;
    if found.node == view.node {
        return Ok(found);
    }
    let message = format!("{} isn't on this node", found.id);
    Err(ApiError::Conflict { message, hint: Some("try again in a moment".to_owned()) })
}

/// The allocations that a name stands for: those of a service or task, else the one with that id or
/// the start of it.
///
/// # Errors
/// There is nothing of that name.
pub fn by_name<'a>(
    state: &'a State,
    name: &str,
) -> Result<(Vec<&'a Arc<Allocation>>, Option<WorkloadName>), ApiError> {
    let workload = WorkloadName::from(name);
    let mut all: Vec<_> = state.allocations_of(&workload).collect();
    let runs = state.derived.runs.get(&workload);
    let runs = runs.into_iter().flat_map(|of| of.live.iter().chain(of.ended.iter().map(|e| &e.1)));
    all.extend(runs.clone().filter_map(|id| state.allocations.get(id)));
    if runs.count() > 0 || !all.is_empty() || state.owner(&workload).is_some() {
        return Ok((all, Some(workload)));
    }
    match by_id(state, name) {
        Ok(one) => Ok((vec![one], None)),
        Err(ApiError::NotFound { .. }) => {
            let what = "service, task or allocation";
            Err(ApiError::NotFound { what, name: name.to_owned() })
        }
        Err(error) => Err(error),
    }
}
