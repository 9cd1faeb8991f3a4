//! The images of all nodes in one list, and the removal of one wherever it is.
//!
//! Owns how long the others are waited for. Never fails for a node that doesn't answer: its images
//! are left out, but for what the state knows of them.

use super::super::context::Context;
use super::super::error::ApiError;
use super::super::reach::{Ask, ReachError};
use crate::actors::root::View;
use crate::api::wire::ImageView;
use crate::fsm::model::Role;
use crate::id::NodeId;
use crate::limits;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use warp::http::Method;

/// All images, by reference and digest, with the nodes that have them.
pub async fn list(context: &Context, view: &View) -> Result<Vec<ImageView>, ApiError> {
    let others =
        others(view).map(|node| async move { (node, ask_list(context, view, node).await) });
    let (own, others) = tokio::join!(context.ports.images.list(), join_all(others));
    let mut all = BTreeMap::new();
    add(&mut all, view, view.node, own?);
    for (node, answer) in others {
        match answer {
            Ok(images) => add(&mut all, view, node, images),
            Err(error) => tracing::debug!(%error, "no images of a node"),
        }
    }
    for (reference, image) in &view.state.loaded {
        for (digest, copies) in &image.copies {
            let entry = all.entry((reference.clone(), digest.to_string()));
            let image = entry.or_insert_with(|| ImageView {
                reference: reference.clone(),
                digest: digest.to_string(),
                size: copies.size.0,
                loaded: true,
                used: false,
                nodes: Vec::new(),
            });
            image.loaded = true;
            let names = copies.nodes.iter().filter_map(|id| view.state.nodes.get(id));
            image.nodes.extend(names.map(|node| node.name.clone()));
        }
    }
    let mut all: Vec<ImageView> = all.into_values().collect();
    for image in &mut all {
        image.nodes.sort();
        image.nodes.dedup();
    }
    Ok(all)
}

fn add(
    all: &mut BTreeMap<(String, String), ImageView>,
    view: &View,
    node: NodeId,
    images: Vec<ImageView>,
) {
    let name = view.state.nodes.get(&node).map(|node| node.name.clone());
    for image in images {
        let key = (image.reference.clone(), image.digest.clone());
        let entry = all.entry(key).or_insert(ImageView { nodes: Vec::new(), ..image.clone() });
        entry.loaded |= image.loaded;
        entry.nodes.extend(name.clone());
    }
}

/// The other members that are there.
fn others(view: &View) -> impl Iterator<Item = NodeId> {
    let there = view.state.nodes.values().filter(|node| node.id != view.node && node.is_up());
    there.map(|node| node.id)
}

async fn ask_list(
    context: &Context,
    view: &View,
    node: NodeId,
) -> Result<Vec<ImageView>, ReachError> {
    let ask = Ask::new(view, node, Role::Read, Method::GET, "/v1/images")?;
    let broken = ask.breaking();
    let asking = async {
        let answer = ask.send(&*context.ports.neighbours, None, limits::IMAGES_ASKED).await?;
        let body = Limited::new(answer.into_body(), limits::IMAGES_ANSWER_MAX).collect().await;
        let bytes = body.map_err(|error| broken(&*error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| broken(&error))
    };
    tokio::time::timeout(limits::IMAGES_ASKED, asking)
        .await
        .unwrap_or_else(|late| Err(broken(&late)))
}

/// Forgets images on every node that has one of them and is there.
pub async fn remove(
    context: &Context,
    view: &View,
    images: &[ImageView],
    reference: &str,
) -> Result<(), ApiError> {
    let path = format!("/v1/images?reference={}", encoded(reference));
    let has = |node: &NodeId| {
        let name = view.state.nodes.get(node).map(|node| node.name.as_str());
        images.iter().any(|image| image.nodes.iter().any(|one| Some(one.as_str()) == name))
    };
    let asks = others(view).filter(has).map(|node| {
        let path = path.clone();
        async move {
            let ask = Ask::new(view, node, Role::Deploy, Method::DELETE, &path)?;
            ask.send(&*context.ports.neighbours, None, limits::REACH_ANSWER).await.map(drop)
        }
    });
    let (own, others) =
        tokio::join!(context.ports.images.remove(reference.to_owned()), join_all(asks));
    for error in others.into_iter().filter_map(Result::err) {
        // What was loaded it drops as soon as it sees that, and the rest when nothing needs it.
        tracing::warn!(reference, %error, "a node may still have an image that was removed");
    }
    own?;
    Ok(())
}

/// A reference as a part of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
