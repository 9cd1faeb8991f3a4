//! `POST /v1/leave`: this node gives its work away and is no member any more.
//!
//! Owns the order: drained, without a vote, removed by the cluster, then wiped by the daemon. Never
//! wipes a node that the cluster still counts on.

use super::context::{Context, now};
use super::error::ApiError;
use super::request::{Request, json};
use crate::actors::peer;
use crate::actors::root::View;
use crate::api::wire::{LeaveRequest, LeaveView};
use crate::fsm::model::RaftRole;
use crate::fsm::{Command, Rejection};
use crate::id::NodeId;
use crate::limits;
use crate::node::image_replication;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/leave`.
pub async fn leave(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: LeaveRequest = request.json_or_default("{\"timeout\": 600}").await?;
    let view = match context.read().await {
        Ok(reading) => reading.view,
        // Nothing of the cluster ever came here: there is nothing to give away.
        Err(ApiError::Starting) => return never_ready(&context),
        Err(error) => return Err(error),
    };
    let me = view.node;
    let name = view.state.nodes.get(&me).map(|node| node.name.clone()).unwrap_or_default();
    let cluster = view.state.cluster.as_ref().map(|cluster| cluster.name.clone());
    let others = view.state.nodes.values().any(|node| node.id != me && node.is_up());
    if !others {
        // Before anything is drained.
        return Err(Rejection::LastNode { name }.into());
    }
    let places = places(&view);
    let deadline = wanted.timeout.map(|s| now().plus(Millis(s.saturating_mul(1_000))));
    context.propose(Command::Drain { node: me, deadline }, None).await?;
    loop {
        wait_until_idle(&context).await?;
        match context.propose(Command::Remove { node: me }, None).await {
            // Something came in between: it is given away too.
            Err(ApiError::Rejected(Rejection::NodeBusy { .. })) => {}
            Ok(_) => break,
            // Whoever is removed is told nothing more: then the others say it.
            Err(error) if context.ports.claims.is_removed(places.clone()).await => {
                tracing::debug!(%error, "the removal was not confirmed, but it is done");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    context.ports.claims.leave();
    let cluster = cluster.unwrap_or_default();
    json(StatusCode::OK, &LeaveView { cluster, node: name, listed: false })
}

/// A node that was let in and has not heard of the cluster since.
fn never_ready(context: &Context) -> Result<Response, ApiError> {
    let Some((cluster, node)) = context.ports.claims.who() else { return Err(ApiError::Starting) };
    context.ports.claims.leave();
    json(StatusCode::OK, &LeaveView { cluster, node, listed: true })
}

/// Where the other members' peer ports are.
fn places(view: &View) -> BTreeMap<NodeId, String> {
    let others = view.state.nodes.values().filter(|node| node.id != view.node);
    others.filter_map(|node| Some((node.id, peer::place(node)?))).collect()
}

/// Waits until nothing runs on this node, and the cluster needs neither its vote nor its images.
async fn wait_until_idle(context: &Context) -> Result<(), ApiError> {
    let mut views = context.views.clone();
    let idle = |view: &Option<View>| view.as_ref().is_some_and(is_idle);
    let waited = tokio::time::timeout(limits::LEAVE, views.wait_for(idle)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ApiError::Stopping),
        Err(_) => {
            let message = "this node still has work that no other node can take".to_owned();
            let hint = "look why: mill status; stay after all: mill undrain NODE".to_owned();
            Err(ApiError::Conflict { message, hint: Some(hint) })
        }
    }
}

fn is_idle(view: &View) -> bool {
    let Some(me) = view.state.nodes.get(&view.node) else { return true };
    let busy = view.state.allocations_on(me.id).any(|allocation| allocation.is_live());
    let nodes = view.state.nodes.values();
    let voters: Vec<_> = nodes.filter(|node| node.part == RaftRole::Voter).collect();
    let others = voters.iter().filter(|node| node.id != me.id && node.is_up()).count();
    // Without it the rest must be able to commit that it goes.
    let is_needed = me.part == RaftRole::Voter && others * 2 <= voters.len();
    let is_last = image_replication::is_last(&view.state, me.id);
    !busy && !is_needed && !is_last && view.leader != Some(me.id)
}
