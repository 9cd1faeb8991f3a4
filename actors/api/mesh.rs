//! Handlers of the mesh between nodes: new keys, and what the nodes reach of each other.
//!
//! Never knows a private key: each node makes its own.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api::wire::MeshKeysView;
use crate::fsm::{Command, State};
use crate::limits;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/mesh/rotate`: every node makes another key; done when those that are there have.
pub async fn rotate(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    if !reading.state().meshed {
        let message = "this cluster has no mesh: not every node has had a key yet".to_owned();
        return Err(ApiError::Conflict { message, hint: None });
    }
    let done = context.propose(Command::RotateMesh, None).await?;
    let is_done = |state: &State| !state.behind_in_mesh().any(|node| node.is_there());
    let mut views = context.views.clone();
    let all = views.wait_for(|view| {
        view.as_ref().is_some_and(|view| view.index >= done.index && is_done(&view.state))
    });
    // One that does not answer changes its key when it does: the others don't wait for it.
    let _ = tokio::time::timeout(limits::MESH_ROTATE_WAIT, all).await;
    let view = context.view().ok_or(ApiError::Starting)?;
    let names = |behind: bool| {
        let is_behind = |id| view.state.behind_in_mesh().any(|node| node.id == id);
        let nodes = view.state.nodes.values().filter(|node| is_behind(node.id) == behind);
        nodes.map(|node| node.name.clone()).collect()
    };
    let document = MeshKeysView { changed: names(false), waiting: names(true) };
    Ok(request::at(view.index, json(StatusCode::OK, &document)?))
}
