//! `GET` and `POST /v1/allocations/{id}/files`: files out of and into a container, as a tar stream.
//!
//! Owns the way between the request's stream and the blocking copy. Never keeps more than a piece
//! of it.

use super::allocations::{by_id, on_this_node};
use super::caller::{self, EXPIRED};
use super::context::Context;
use super::error::ApiError;
use super::hand_over::hand_over;
use super::request::{Body, Request, empty};
use crate::actors::platform::transfer::{CopyError, Root};
use crate::fsm::model::Phase;
use crate::id::ContainerId;
use crate::limits;
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};
use warp::Reply as _;
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderValue, Method};
use warp::reply::Response;

/// `GET` and `POST /v1/allocations/{id}/files`, wherever the container is.
pub async fn files(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    path(&request)?;
    let place = context.place()?;
    let copies = request.method == Method::GET;
    let answer = tokio::select! {
        answer = wherever(context, request) => answer?,
        () = place.expired() => {
            let message = EXPIRED.to_owned();
            return Err(ApiError::Denied { message, hint: None });
        }
    };
    Ok(if copies { caller::cut_off(answer, place) } else { answer })
}

async fn wherever(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let allocation = by_id(reading.state(), request.param("id"))?;
    if allocation.node != reading.view.node {
        let path = format!("/v1/allocations/{}/files", allocation.id);
        return hand_over(&context, &reading, allocation.node, &path, request).await;
    }
    if request.method == Method::POST {
        write_here(context, request).await
    } else {
        read_here(context, request).await
    }
}

/// Out of a container of this node.
pub async fn read_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let path = path(&request)?;
    let root = root(&context, request.param("id").to_owned()).await?;
    let source = blocking(move || root.find(&path)).await??;
    let (ours, theirs) = tokio::io::duplex(limits::COPY_PIECE);
    let packing = tokio::task::spawn_blocking(move || source.pack(SyncIoBridge::new(ours)));
    let failed = futures_util::stream::once(async move {
        // The answer breaks off, so that nobody takes a part for the whole.
        match packing.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(io::Error::other(error)),
            Err(lost) => Some(io::Error::other(lost)),
        }
    });
    let failed = failed.filter_map(async |error| error.map(Err));
    let stream = ReaderStream::with_capacity(theirs, limits::COPY_PIECE).chain(failed);
    let mut response = warp::reply::stream(stream).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

/// Into a container of this node.
pub async fn write_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let path = path(&request)?;
    let root = root(&context, request.param("id").to_owned()).await?;
    let (sender, pieces) = mpsc::channel(1);
    let from = SyncIoBridge::new(StreamReader::new(ReceiverStream::new(pieces)));
    let unpacking = blocking(move || root.unpack(&path, from));
    let (unpacked, ()) = tokio::join!(unpacking, feed(request.body, sender));
    unpacked??;
    Ok(empty())
}

/// Passes a body on, until it ends or nobody wants it any more.
pub(super) async fn feed(mut body: Body, to: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(io::Error::other);
        let is_last = piece.is_err();
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

fn path(request: &Request) -> Result<PathBuf, ApiError> {
    match request.one("path").map(Path::new) {
        Some(path) if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(ApiError::bad("the path in the container must begin with /", "?path=/etc/hosts")),
    }
}

async fn root(context: &Context, id: String) -> Result<Root, ApiError> {
    let view = context.view().ok_or(ApiError::Starting)?;
    let allocation = on_this_node(&view, &id)?;
    let execs = (context.ports.execs)().ok_or(ApiError::Starting)?;
    let container = ContainerId::new(&allocation.id, allocation.observed.attempt);
    let refused = |reason: String| {
        let hint = Some(format!("mill ps {}", allocation.workload));
        let message = format!("the files of {} can't be reached: {reason}", allocation.id);
        ApiError::Conflict { message, hint }
    };
    if !matches!(allocation.observed.phase, Phase::Running | Phase::Stopping) {
        return Err(refused("it doesn't run".to_owned()));
    }
    execs.root(&container).await.map_err(|error| refused(error.to_string()))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let lost = |error: tokio::task::JoinError| ApiError::Internal {
        doing: "copying files",
        reason: error.to_string(),
    };
    tokio::task::spawn_blocking(work).await.map_err(lost)
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Path { path, reason: "isn't there" } => {
                Self::NotFound { what: "file", name: path.display().to_string() }
            }
            CopyError::System { .. } => Self::Conflict { message: error.to_string(), hint: None },
            other => Self::BadRequest { message: other.to_string(), hint: None },
        }
    }
}
