//! What the nodes are seen to use beside what the state says: this node's figures, and the others'.
//!
//! Owns which nodes are asked. Never makes a caller wait for a node that is slow.

use super::context::Context;
use super::error::ApiError;
use super::reach::Ask;
use super::request::{Request, json};
use super::usage::{Figures, Line};
use crate::actors::platform::now;
use crate::actors::root::{Msg, View};
use crate::api::views::LiveUsage;
use crate::fsm::model::Role;
use crate::id::NodeId;
use crate::limits;
use futures_util::future::join_all;
use ractor::rpc::CallResult;
use std::collections::BTreeMap;
use std::sync::Arc;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

impl Context {
    /// What is known beside the state, of all nodes.
    pub async fn observed(&self, view: &View) -> LiveUsage {
        let (own, others) = tokio::join!(of_this_node(self), of_others(self, view));
        observed(view, own.map(|own| (view.node, own)).into_iter().chain(others))
    }

    /// The same, as far as it was asked for a moment ago.
    pub async fn observed_lately(&self, view: &View) -> LiveUsage {
        let own = of_this_node(self).await;
        let others = known_of_others(self, view);
        observed(view, own.map(|own| (view.node, own)).into_iter().chain(others))
    }

    /// The same, but of this node only.
    pub async fn observed_here(&self, view: &View) -> LiveUsage {
        let own = of_this_node(self).await;
        observed(view, own.map(|own| (view.node, own)).into_iter())
    }
}

fn observed(view: &View, figures: impl Iterator<Item = (NodeId, Figures)>) -> LiveUsage {
    let mut seen =
        LiveUsage { now: now(), leader: view.leader, node: view.node, ..LiveUsage::default() };
    for (node, figures) in figures {
        seen.mesh.insert(node, figures.mesh().clone());
        seen.nodes.insert(node, figures.node());
        if !figures.trouble().is_empty() {
            seen.trouble.insert(node, figures.trouble().to_vec());
        }
        seen.log_disks.insert(node, figures.log_disk);
        seen.allocations.extend(figures.allocations());
        seen.written.extend(figures.written());
        seen.disks.insert(node, figures.disks());
        for (route, (rate, requests)) in figures.traffic() {
            let (all, minute) = seen.traffic.entry(route.clone()).or_default();
            *all += rate;
            minute.merge(requests);
        }
        for (id, (rate, requests)) in figures.replicas() {
            let (all, minute) = seen.replicas.entry(id).or_default();
            *all += rate;
            minute.merge(requests);
        }
        seen.volumes.extend(figures.volumes());
    }
    seen
}

/// For another member: what this node uses.
pub async fn here(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let figures = of_this_node(&context).await.ok_or(ApiError::Starting)?;
    json(StatusCode::OK, &figures)
}

/// What this node uses, if its container actor answers or did so a moment ago.
pub async fn of_this_node(context: &Context) -> Option<Figures> {
    let last = &context.connections.own;
    if let Some(figures) = last.within(limits::USAGE_FRESH) {
        return Some(figures);
    }
    let wait = Some(limits::API_USAGE);
    let usage = context.root.call(Msg::Usage, wait);
    let (usage, mesh) = tokio::join!(usage, context.root.call(Msg::MeshFigures, wait));
    let Ok(CallResult::Success(usage)) = usage else { return None };
    let mesh = match mesh {
        Ok(CallResult::Success(mesh)) => mesh,
        _ => BTreeMap::new(),
    };
    let mut figures = Figures::from(usage);
    figures.mesh = mesh;
    figures.log_disk = context.vitals().await.map(|vitals| vitals.disk).unwrap_or_default();
    figures.traffic = context.ports.traffic.figures();
    figures.replicas = context.ports.traffic.of_replicas();
    Some(last.keep(figures))
}

/// The other nodes that may be asked, each with what is kept of it.
fn lines(context: &Context, view: &View) -> impl Iterator<Item = (NodeId, Arc<Line>)> {
    let there = view.state.nodes.values().filter(|node| node.id != view.node && node.is_up());
    let nodes: Vec<NodeId> = there.map(|node| node.id).collect();
    let lines = context.connections.to(&nodes);
    nodes.into_iter().zip(lines)
}

/// What the other nodes were said to use, without asking them.
pub fn known_of_others(context: &Context, view: &View) -> BTreeMap<NodeId, Figures> {
    let known = |(id, line): (NodeId, Arc<Line>)| Some((id, line.last.within(limits::USAGE_OLD)?));
    lines(context, view).filter_map(known).collect()
}

/// What the other nodes use, of those that answer in time or did so a moment ago.
pub async fn of_others(context: &Context, view: &View) -> BTreeMap<NodeId, Figures> {
    let each = lines(context, view).map(|(id, line)| async move {
        let ask = Ask::new(view, id, Role::Read, Method::GET, "/v1/usage").ok()?;
        let (asked, neighbours) = (Arc::clone(&line), Arc::clone(&context.ports.neighbours));
        // It goes on where the caller doesn't wait: the next one has its answer.
        let asking = tokio::spawn(async move { asked.ask(ask, &*neighbours).await });
        let answer = tokio::time::timeout(limits::API_USAGE, asking).await;
        let figures = match answer {
            Ok(Ok(Ok(figures))) => Some(figures),
            Ok(Ok(Err(error))) => {
                tracing::debug!(%error, "no figures of a node");
                None
            }
            _ => line.last.within(limits::USAGE_OLD),
        };
        Some((id, figures?))
    });
    join_all(each).await.into_iter().flatten().collect()
}
