//! Loaded images between members: a blob for the one that lacks it, and the same asked of another.
//!
//! Owns both ends of that way. Never checks what a blob holds: whoever stores it does.

use super::context::Context;
use super::error::ApiError;
use super::ports::Neighbours;
use super::reach::Ask;
use super::request::Request;
use crate::actors::platform::image::{LendError, Lent, Members};
use crate::actors::root::View;
use crate::fsm::model::Role;
use crate::id::{Digest, NodeId, VolumeName};
use crate::limits;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warp::Reply as _;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use warp::http::{HeaderValue, Method};
use warp::reply::Response;

/// For another member: a blob of this node's images, from an offset on.
pub async fn blob(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let digest = request.param("digest").to_owned();
    let from: u64 = request.parsed("from", "a number of bytes")?.unwrap_or(0);
    let lent = context.ports.images.lend(digest.as_str().into(), from).await?;
    let (size, bytes) = lent.ok_or(ApiError::NotFound { what: "blob", name: digest })?;
    let mut response = warp::reply::stream(passed_on(bytes)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size.saturating_sub(from)));
    Ok(response)
}

/// The pieces as an answer takes them: read by a task that ends with whoever wants them.
fn passed_on(mut bytes: Lent) -> ReceiverStream<io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(piece) = bytes.next().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(pieces)
}

/// The other members, for what only they have.
pub struct Lenders {
    neighbours: Arc<dyn Neighbours>,
}

impl Lenders {
    /// Those that are reached so.
    #[must_use]
    pub fn new(neighbours: Arc<dyn Neighbours>) -> Self {
        Self { neighbours }
    }

    fn ask(
        &self,
        view: &View,
        node: NodeId,
        role: Role,
        path: &str,
    ) -> BoxFuture<'static, Result<Lent, LendError>> {
        let ask = Ask::new(view, node, role, Method::GET, path);
        let neighbours = Arc::clone(&self.neighbours);
        Box::pin(async move {
            let answer = match ask {
                Ok(ask) => ask.send(&*neighbours, None, limits::REACH_ANSWER).await,
                Err(error) => Err(error),
            };
            let answer = answer.map_err(|error| LendError { reason: error.to_string() })?;
            let pieces = answer.into_body().into_data_stream();
            Ok(Box::pin(pieces.map(|piece| piece.map_err(io::Error::other))) as Lent)
        })
    }
}

impl Members for Lenders {
    fn blob(
        &self,
        view: &View,
        node: NodeId,
        digest: &Digest,
        from: u64,
    ) -> BoxFuture<'static, Result<Lent, LendError>> {
        self.ask(view, node, Role::Read, &format!("/v1/blobs/{digest}?from={from}"))
    }

    fn volume(
        &self,
        view: &View,
        node: NodeId,
        name: &VolumeName,
    ) -> BoxFuture<'static, Result<Lent, LendError>> {
        self.ask(view, node, Role::Admin, &format!("/v1/volumes/{name}/copy"))
    }
}
