//! Handlers of the mesh between nodes: new keys, and what the nodes reach of each other.
//!
//! Never knows a private key: each node makes its own.

mod probe;

use super::context::Context;
use super::error::ApiError;
use super::reach::{Ask, ReachError};
use super::request::{self, Request, json};
use crate::actors::root::View;
use crate::api::views;
use crate::api::wire::{MeshKeysView, PeerCheckView};
use crate::fsm::model::Role;
use crate::fsm::{Command, State};
use crate::id::NodeId;
use crate::limits;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use std::sync::Arc;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// `POST /v1/mesh/rotate`: every node makes another key; done when those that are there have.
pub async fn rotate(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    if !reading.state().meshed {
        let message = "this cluster has no mesh: not every node has had a key yet".to_owned();
        return Err(ApiError::Conflict { message, hint: None });
    }
    let done = context.propose(Command::RotateMesh, None).await?;
    let is_done = |state: &State| !state.behind_in_mesh().any(|node| node.is_up());
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

/// `GET /v1/mesh/peers`: what each node reaches of the others, tried now.
pub async fn peers(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let view = &reading.view;
    let there = view.state.nodes.values().filter(|node| node.id != view.node && node.is_up());
    let others: Vec<NodeId> = there.map(|node| node.id).collect();
    let asks = others.into_iter().map(|node| {
        let context = &context;
        async move { asked(context, view, node).await }
    });
    let (own, others) = tokio::join!(probe::all(view), join_all(asks));
    let all: Vec<PeerCheckView> = own.into_iter().chain(others.into_iter().flatten()).collect();
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// For another member: what this node reaches of the others.
pub async fn peers_here(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let view = context.view().ok_or(ApiError::Starting)?;
    json(StatusCode::OK, &probe::all(&view).await)
}

/// What another node reaches; that it can't be asked is an answer, too.
async fn asked(context: &Context, view: &View, node: NodeId) -> Vec<PeerCheckView> {
    let asking = async {
        let ask = Ask::new(view, node, Role::Read, Method::GET, "/v1/mesh/peers")?;
        let broken = ask.breaking();
        let answer = ask.send(&*context.ports.neighbours, None, limits::REACH_ANSWER).await?;
        let body = Limited::new(answer.into_body(), limits::API_JSON_MAX).collect().await;
        let bytes = body.map_err(|error| broken(&*error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| broken(&error))
    };
    let failed = |error: ReachError| {
        let (from, to) = (views::node_name(&view.state, node), "its peers".to_owned());
        let (detail, hint) =
            (error.to_string(), Some(format!("run mill doctor --peers on {from}")));
        vec![PeerCheckView { from, to, port: String::new(), ok: false, detail, hint }]
    };
    asking.await.unwrap_or_else(failed)
}
