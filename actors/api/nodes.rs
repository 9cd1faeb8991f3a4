//! Handlers of nodes: labels, drains, removal.
//!
//! Never moves anything itself: what is asked for is proposed.

use super::context::{Context, now};
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::actors::root::Done;
use crate::api::views;
use crate::api::wire::{DrainRequest, LabelsRequest};
use crate::cluster::join;
use crate::fsm::model::Node;
use crate::fsm::{Command, Rejection, State};
use crate::id::NodeId;
use crate::units::Millis;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/nodes`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    Ok(reading.mark(json(StatusCode::OK, &views::nodes(reading.state(), &seen))?))
}

/// `GET /v1/nodes/{id}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let found = named(reading.state(), request.param("id"))?;
    Ok(reading.mark(json(StatusCode::OK, &views::node(reading.state(), found, &seen))?))
}

/// `PATCH /v1/nodes/{id}`.
pub async fn label(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: LabelsRequest =
        request.json("{\"labels\": {\"zone\": \"eu-1\", \"old\": null}}").await?;
    for (label, value) in &wanted.labels {
        check(label, value.as_deref())?;
    }
    let labels = wanted.labels;
    let command = |node| Command::Label { node, labels: labels.clone() };
    change(&context, request.param("id"), command).await
}

/// `POST /v1/nodes/{id}/drain`.
pub async fn drain(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: DrainRequest = request.json_or_default("{\"timeout\": 600}").await?;
    let after = |seconds: u64| now().plus(Millis(seconds.saturating_mul(1000)));
    let deadline = wanted.timeout.map(after);
    change(&context, request.param("id"), |node| Command::Drain { node, deadline }).await
}

/// `POST /v1/nodes/{id}/undrain`.
pub async fn undrain(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    change(&context, request.param("id"), |node| Command::Undrain { node }).await
}

/// `DELETE /v1/nodes/{id}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let (_, done) = propose(&context, request.param("id"), |node| Command::Remove { node }).await?;
    Ok(request::at(done.index, empty()))
}

/// Proposes a change of a node and shows what it is then.
async fn change(
    context: &Context,
    name: &str,
    command: impl Fn(NodeId) -> Command,
) -> Result<Response, ApiError> {
    let (node, done) = propose(context, name, command).await?;
    let view = context.view_after(&done)?;
    let seen = context.observed_lately(&view).await;
    let found = view.state.nodes.get(&node).ok_or_else(|| no_node(name))?;
    let shown = views::node(&view.state, found, &seen);
    Ok(request::at(done.index, json(StatusCode::OK, &shown)?))
}

/// Proposes a change of the node that the path means. This node's own view mostly knows it, and the
/// log decides whether it is right: only where it is not, a leader is asked first.
async fn propose(
    context: &Context,
    name: &str,
    command: impl Fn(NodeId) -> Command,
) -> Result<(NodeId, Done), ApiError> {
    let known = context.view().and_then(|view| named(&view.state, name).ok().map(|node| node.id));
    if let Some(node) = known {
        match context.propose(command(node), None).await {
            // Another node may have the name since.
            Err(ApiError::Rejected(Rejection::NotFound { .. })) => {}
            done => return Ok((node, done?)),
        }
    }
    let reading = context.read().await?;
    let node = named(reading.state(), name)?.id;
    Ok((node, context.propose(command(node), None).await?))
}

/// The member of that name, or else with that id.
pub(super) fn named<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Node>, ApiError> {
    let id = || state.nodes.get(&NodeId(text.parse().ok()?));
    let found = state.nodes.values().find(|node| node.name == text).or_else(id);
    found.ok_or_else(|| no_node(text))
}

fn no_node(text: &str) -> ApiError {
    ApiError::NotFound { what: "node", name: text.to_owned() }
}

fn check(label: &str, value: Option<&str>) -> Result<(), ApiError> {
    join::check_label(label, value).map_err(|no| ApiError::bad(no.to_string(), no.hint()))
}
