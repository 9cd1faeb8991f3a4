//! Handlers of this node's images.
//!
//! Owns the bound on archives. Never opens an archive: that is the image store's.

use super::context::{Context, StoreError};
use super::error::ApiError;
use super::request::{Body, Request, empty, json};
use crate::fsm::State;
use crate::id::Digest;
use crate::limits;
use crate::spec::image::Reference;
use crate::wire::ImageView;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
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
    let mut all = context.doors.images.list().await?;
    mark_used(reading.state(), &mut all);
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `POST /v1/images`.
pub async fn load(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let archive = StreamReader::new(Box::pin(bounded(request.body)));
    let mut loaded = context.doors.images.load(Box::pin(archive)).await?;
    if let Some(view) = context.view() {
        mark_used(&view.state, &mut loaded);
    }
    json(StatusCode::OK, &loaded)
}

/// `DELETE /v1/images/{reference}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let given = request.params.get("reference").map(String::as_str).or(request.one("reference"));
    let Some(reference) = given.filter(|text| !text.is_empty()) else {
        return Err(ApiError::bad("no image is named", "DELETE /v1/images/REFERENCE"));
    };
    let reading = context.read().await?;
    let listed = context.doors.images.list().await?;
    let mut wanted = listed.iter().filter(|image| is_meant(image, reference));
    if let Some(user) = wanted.find_map(|image| runs(reading.state(), &image.digest)) {
        let message = format!("{reference} is what {user} runs");
        let hint = Some(format!("take {user} down first: mill down {user}"));
        return Err(ApiError::Conflict { message, hint });
    }
    if !context.doors.images.remove(reference.to_owned()).await? {
        return Err(ApiError::NotFound { what: "image", name: reference.to_owned() });
    }
    Ok(reading.mark(empty()))
}

/// Whether a reference, perhaps a short one or one with a digest, leads to this image.
fn is_meant(image: &ImageView, reference: &str) -> bool {
    let Ok(wanted) = Reference::parse(reference) else { return false };
    let Ok(listed) = Reference::parse(&image.reference) else { return false };
    let same = (&wanted.registry, &wanted.repository) == (&listed.registry, &listed.repository);
    let tag = wanted.tag.is_none() || wanted.tag == listed.tag;
    same && tag && wanted.digest.is_none_or(|digest| digest.as_str() == image.digest)
}

/// The service or task that a live allocation runs this image for.
fn runs(state: &State, digest: &str) -> Option<String> {
    let live = state.allocations.values().filter(|allocation| allocation.is_live());
    let mut users = live.filter(|a| {
        let run = state.spec(&a.spec).map(|stored| stored.spec.run());
        run.and_then(|run| run.digest.as_ref()).is_some_and(|own| own.as_str() == digest)
    });
    users.next().map(|allocation| allocation.workload.to_string())
}

/// What a specification of the state pins is needed: to run, or to roll back to.
fn mark_used(state: &State, images: &mut [ImageView]) {
    for image in images {
        let digest = Digest::from(image.digest.as_str());
        let pins = |stored: &Arc<crate::fsm::model::StoredSpec>| {
            stored.spec.run().digest.as_ref() == Some(&digest)
        };
        image.used = state.specs.values().any(pins);
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
