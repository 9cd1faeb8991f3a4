//! `GET` and `POST /v1/volumes/{name}/data`: what a volume holds, as a tar stream, out of the node
//! that has it and into it; and the same for the node that it is moved to.
//!
//! Owns when that may be. Never keeps more than a piece of it.

use super::caller::{self, EXPIRED};
use super::context::Context;
use super::error::ApiError;
use super::files::{blocking, feed};
use super::hand_over::hand_over;
use super::request::{Request, empty};
use super::volumes::missing;
use crate::actors::platform::volumes::archive;
use crate::actors::platform::volumes::{Lock, VolumeError, VolumeStore, is_in_use};
use crate::actors::root::View;
use crate::fsm::volumes::Volume;
use crate::id::VolumeName;
use crate::limits;
use futures_util::StreamExt as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};
use warp::Reply as _;
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderValue, Method};
use warp::reply::Response;

/// `GET` and `POST /v1/volumes/{name}/data`, wherever it is.
pub async fn data(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
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
    let name = VolumeName::from(request.param("name"));
    let reading = context.read().await?;
    let volume = reading.state().volumes.get(&name).ok_or_else(|| missing(&name))?;
    let is_member = reading.state().nodes.contains_key(&volume.node);
    let reads = request.method == Method::GET;
    if volume.provided.is_some() && !(reads && request.flag("online")?) {
        let message = format!("volume {name} is attached only while its service runs");
        let hint = if reads {
            "--online takes what it has at the moment, of its service or of one in its place that \
             only sleeps; or let the provider make a snapshot"
        } else {
            "copy into its service, or into one in its place that only sleeps: mill cp"
        };
        return Err(ApiError::Conflict { message, hint: Some(hint.to_owned()) });
    }
    if reads && !is_member {
        let message = format!("the node that has the data of {name} was removed");
        let hint = Some("bring its folder back: docs/workflows/volumes-and-migration.md".into());
        return Err(ApiError::Conflict { message, hint });
    }
    // One without a node gets its data here, and with it this node.
    if is_member && volume.node != reading.view.node {
        let path = format!("/v1/volumes/{name}/data");
        return hand_over(&context, &reading, volume.node, &path, request).await;
    }
    if reads { read_here(context, request).await } else { write_here(context, request).await }
}

/// Out of a volume of this node.
pub async fn read_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let view = context.view().ok_or(ApiError::Starting)?;
    let volume = view.state.volumes.get(&name).ok_or_else(|| missing(&name))?;
    let lock = if request.flag("online")? {
        None
    } else {
        let hint = "stop it, or take what it has at the moment: --online";
        check_unused(&view, &name, volume, hint)?;
        Some(store(&context)?.lock(&name, "being backed up")?)
    };
    let folder = found(&store(&context)?, &name)?;
    Ok(packed(folder, lock, false))
}

/// For the node that a volume of this one is moved to.
pub async fn copy_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let view = context.view().ok_or(ApiError::Starting)?;
    let volume = view.state.volumes.get(&name).ok_or_else(|| missing(&name))?;
    check_unused(&view, &name, volume, "it is tried again")?;
    if volume.moving.is_none() || volume.node != view.node {
        let message = format!("volume {name} is not moved from here");
        return Err(ApiError::Conflict { message, hint: None });
    }
    let lock = store(&context)?.lock(&name, "being moved")?;
    let folder = found(&store(&context)?, &name)?;
    check_free(&name, folder.clone()).await?;
    Ok(packed(folder, Some(lock), true))
}

fn packed(folder: PathBuf, lock: Option<Lock>, sealed: bool) -> Response {
    let (ours, theirs) = tokio::io::duplex(limits::COPY_PIECE);
    let packing = tokio::task::spawn_blocking(move || {
        let done = archive::pack(&folder, SyncIoBridge::new(ours), sealed);
        drop(lock);
        done
    });
    let failed = futures_util::stream::once(async move {
        // The answer breaks off, so that nobody takes a part for the whole.
        match packing.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(lost) => Some(io::Error::other(lost)),
        }
    });
    let failed = failed.filter_map(async |error| error.map(Err));
    let stream = ReaderStream::with_capacity(theirs, limits::COPY_PIECE).chain(failed);
    let mut response = warp::reply::stream(stream).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response
}

/// Into a volume of this node, in the place of what it has.
pub async fn write_here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = VolumeName::from(request.param("name"));
    let view = context.view().ok_or(ApiError::Starting)?;
    let volume = view.state.volumes.get(&name).ok_or_else(|| missing(&name))?;
    check_unused(&view, &name, volume, "stop it, and restore again")?;
    if volume.moving.is_some() || volume.deleting {
        let message = format!("volume {name} is being moved or deleted");
        return Err(ApiError::Conflict { message, hint: Some("mill volume list".to_owned()) });
    }
    let store = store(&context)?;
    let lock = store.lock(&name, "being restored")?;
    if let Some(folder) = store.find(&name) {
        check_free(&name, folder).await?;
    }
    let (sender, pieces) = mpsc::channel(1);
    let from = SyncIoBridge::new(StreamReader::new(ReceiverStream::new(pieces)));
    let shown = name.clone();
    let replacing = blocking(move || {
        let done = store.replace(&shown, from);
        drop(lock);
        done
    });
    let (replaced, ()) = tokio::join!(replacing, feed(request.body, sender));
    replaced?.map_err(|error| ApiError::Conflict {
        message: format!("volume {name} is as it was: {error}"),
        hint: None,
    })?;
    Ok(empty())
}

fn check_unused(
    view: &View,
    name: &VolumeName,
    volume: &Volume,
    hint: &str,
) -> Result<(), ApiError> {
    if !view.state.is_written(volume) {
        return Ok(());
    }
    let message = format!("volume {name} is used by {}", volume.holder);
    let hint = format!("mill scale {} 0 or mill down; {hint}", volume.service);
    Err(ApiError::Conflict { message, hint: Some(hint) })
}

/// Nothing on this node has it, whatever the state knows: what is lost with its node, and back with
/// it, may not have ended yet.
async fn check_free(name: &VolumeName, folder: PathBuf) -> Result<(), ApiError> {
    let used = blocking(move || is_in_use(&folder)).await?;
    let failed = |error: io::Error| ApiError::Conflict {
        message: format!("whether something uses volume {name} isn't known: {error}"),
        hint: None,
    };
    if !used.map_err(failed)? {
        return Ok(());
    }
    let message = format!("a container on its node still has volume {name}, and is being ended");
    Err(ApiError::Conflict { message, hint: Some("try again in a moment".to_owned()) })
}

fn store(context: &Context) -> Result<VolumeStore, ApiError> {
    (context.ports.volumes)().ok_or(ApiError::Starting)
}

fn found(store: &VolumeStore, name: &VolumeName) -> Result<PathBuf, ApiError> {
    let message = format!("volume {name} has no data on its node");
    store.find(name).ok_or(ApiError::Conflict { message, hint: None })
}

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> Self {
        let hint = Some("try again in a moment".to_owned());
        Self::Conflict { message: error.to_string(), hint }
    }
}
