//! Handlers of the cluster's images: those of every node, and what was loaded under which name.
//!
//! Owns the bound on archives. Never opens an archive: that is the image store's.

mod everywhere;

use super::context::Context;
use super::error::ApiError;
use super::ports::StoreError;
use super::request::{self, Body, Request, empty, json};
use crate::actors::root::View;
use crate::api::wire::ImageView;
use crate::fsm::loaded::{ImageChange, Pin as ImagePin};
use crate::fsm::{Command, State};
use crate::id::{Digest, Index};
use crate::limits;
use crate::spec::image::Reference;
use crate::units::Bytes as Size;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tokio_util::io::StreamReader;
use warp::http::StatusCode;
use warp::reply::Response;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Input { reason } => Self::BadRequest { message: reason, hint: None },
            StoreError::Refused { reason } => Self::Conflict { message: reason, hint: None },
            StoreError::Store { reason } => {
                Self::Internal { doing: "looking after the images", reason }
            }
        }
    }
}

/// `GET /v1/images`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let mut all = everywhere::list(&context, &reading.view).await?;
    mark_used(reading.state(), &mut all);
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// For another member: the images of this node.
pub async fn list_here(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    json(StatusCode::OK, &context.ports.images.list().await?)
}

/// `POST /v1/images`.
pub async fn load(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let place = Arc::clone(&context.archives).try_acquire_owned();
    let place = place.map_err(|_| ApiError::TooMany { what: "archives" })?;
    // To its end, whether the client waits for it or not: half of it would stay.
    let whole = load_whole(Arc::clone(&context), request.body);
    let loading = tokio::spawn(async move {
        let _place = place;
        whole.await
    });
    let (loaded, index) = loading.await.unwrap_or(Err(ApiError::Stopping))?;
    let answer = json(StatusCode::OK, &loaded)?;
    Ok(match index {
        Some(index) => request::at(index, answer),
        None => answer,
    })
}

async fn load_whole(
    context: Arc<Context>,
    body: Body,
) -> Result<(Vec<ImageView>, Option<Index>), ApiError> {
    let view = context.read().await?.view;
    let cluster = view.state.cluster.as_ref().map(|cluster| cluster.id.clone());
    let cluster = cluster.filter(|_| view.state.shares_images());
    let archive = Box::pin(StreamReader::new(Box::pin(bounded(body))));
    let mut loaded = context.ports.images.load(archive, cluster.clone()).await?;
    let index = match cluster {
        Some(_) => Some(share(&context, &view, &loaded).await?),
        None => None,
    };
    if let Some(view) = context.view() {
        mark_used(&view.state, &mut loaded);
    }
    let name = view.state.nodes.get(&view.node).map(|node| node.name.clone());
    for image in &mut loaded {
        image.nodes.extend(name.clone());
    }
    Ok((loaded, index))
}

/// Tells the cluster what was loaded: from then on every node has it, or knows who does.
async fn share(context: &Context, view: &View, loaded: &[ImageView]) -> Result<Index, ApiError> {
    let pin = |image: &ImageView| ImagePin {
        reference: image.reference.clone(),
        digest: image.digest.as_str().into(),
    };
    let pins: Vec<ImagePin> = loaded.iter().map(pin).collect();
    let sizes = loaded.iter().map(|image| Size(image.size));
    let images = pins.iter().cloned().zip(sizes).collect();
    let change = ImageChange::Load { node: view.node, images, late: false };
    let done = context.propose(Command::Images(change), None).await;
    match &done {
        Ok(done) => context.ports.images.settle(&pins, Some(done.index)),
        // It may come yet: what is here of it stays.
        Err(ApiError::Unconfirmed) => {}
        Err(_) => context.ports.images.settle(&pins, None),
    }
    Ok(done?.index)
}

/// `DELETE /v1/images/{reference}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reference = named(&request)?;
    let reading = context.read().await?;
    let mut wanted = everywhere::list(&context, &reading.view).await?;
    wanted.retain(|image| is_meant(image, &reference));
    let user = |image: &ImageView| reading.state().user_of(&image.digest.as_str().into()).cloned();
    if let Some(user) = wanted.iter().find_map(user) {
        let message = format!("{reference} is what {user} runs");
        let hint = Some(format!("take {user} down first: mill down {user}"));
        return Err(ApiError::Conflict { message, hint });
    }
    if wanted.is_empty() {
        return Err(ApiError::NotFound { what: "image", name: reference });
    }
    let mut index = reading.view.index;
    for (reference, digest) in known(reading.state(), &wanted, &reference) {
        let change = ImageChange::Remove { reference, digest };
        index = context.propose(Command::Images(change), None).await?.index;
    }
    // The nodes would find it out by themselves of what was loaded, but not of the rest.
    everywhere::remove(&context, &reading.view, &wanted, &reference).await?;
    Ok(request::at(index, empty()))
}

/// For another member: this node forgets an image.
pub async fn remove_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    context.ports.images.remove(named(&request)?).await?;
    Ok(empty())
}

/// What of these images the cluster knows as loaded, as it is to be removed.
fn known(
    state: &State,
    wanted: &[ImageView],
    reference: &str,
) -> BTreeSet<(String, Option<Digest>)> {
    let is_exact = Reference::parse(reference).is_ok_and(|parsed| parsed.digest.is_some());
    let digest = |image: &ImageView| Digest::from(image.digest.as_str());
    let is_known = |image: &&ImageView| {
        let known = state.loaded.get(&image.reference);
        known.is_some_and(|known| known.copies.contains_key(&digest(image)))
    };
    let all = wanted.iter().filter(is_known);
    all.map(|image| (image.reference.clone(), is_exact.then(|| digest(image)))).collect()
}

fn named(request: &Request) -> Result<String, ApiError> {
    let given = request.params.get("reference").map(String::as_str).or(request.one("reference"));
    let given = given.filter(|text| !text.is_empty());
    let none = || ApiError::bad("no image is named", "mill image list shows them");
    given.map(str::to_owned).ok_or_else(none)
}

/// Whether a reference, perhaps a short one or one with a digest, leads to this image.
fn is_meant(image: &ImageView, reference: &str) -> bool {
    let Ok(wanted) = Reference::parse(reference) else { return false };
    let Ok(listed) = Reference::parse(&image.reference) else { return false };
    let same = (&wanted.registry, &wanted.repository) == (&listed.registry, &listed.repository);
    let tag = wanted.tag.is_none() || wanted.tag == listed.tag;
    same && tag && wanted.digest.is_none_or(|digest| digest.as_str() == image.digest)
}

/// What a specification of the state pins is needed: to run, or to roll back to.
fn mark_used(state: &State, images: &mut [ImageView]) {
    for image in images {
        image.used = state.pins(&image.digest.as_str().into());
    }
}

/// An archive as it comes in, with an end to its size and to its silence.
fn bounded(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let failed = |kind, message: &str| io::Error::new(kind, message.to_owned());
    stream::try_unfold((body, 0u64), move |(mut body, read)| async move {
        let next = tokio::time::timeout(limits::API_STALL, body.next()).await;
        let stalled = |_| failed(io::ErrorKind::TimedOut, "nothing of the archive came");
        let Some(chunk) = next.map_err(stalled)? else { return Ok(None) };
        let chunk = chunk.map_err(io::Error::other)?;
        let read = read + chunk.len() as u64;
        if read > limits::API_ARCHIVE_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge, "the archive is too large"));
        }
        Ok(Some((chunk, (body, read))))
    })
}
