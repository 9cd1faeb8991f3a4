//! A request whose part is another node's, handed over to it whole.
//!
//! Owns that both bodies pass as they come. Never looks into them.

use super::context::{Context, Reading};
use super::error::ApiError;
use super::reach::{Ask, ReachError, lost};
use super::request::{self, Request};
use crate::id::NodeId;
use crate::limits;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use warp::Reply as _;
use warp::http::header::CONTENT_TYPE;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// Hands a request over to the node whose it is, and its answer back, both as they come.
///
/// # Errors
/// The node can't be reached, or refuses.
pub async fn hand_over(
    context: &Context,
    reading: &Reading,
    node: NodeId,
    path: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let Request { method, raw_query, role, body, .. } = request;
    let path = format!("{path}?{raw_query}");
    let ask = Ask::new(&reading.view, node, role, method.clone(), &path)?;
    let (body, patience) = if method == Method::GET {
        (None, limits::REACH_ANSWER)
    } else {
        let frames = body.map(|piece| piece.map(Frame::data).map_err(io::Error::other));
        // It ends when the body does, and that has its own deadlines.
        (Some(StreamBody::new(frames).boxed_unsync()), Duration::MAX)
    };
    let answer = tokio::select! {
        answer = ask.send(&*context.ports.neighbours, body, patience) => answer?,
        error = lost(context.views.clone(), node) => return Err(error.into()),
    };
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(request::empty());
    }
    let (head, body) = answer.into_parts();
    let lost = Box::pin(lost(context.views.clone(), node));
    let mut response = warp::reply::stream(until(body, lost)).into_response();
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}

/// An answer's body, which breaks off when its node is lost.
fn until(
    body: Incoming,
    lost: Pin<Box<impl Future<Output = ReachError> + Send>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let begun = Some((body.into_data_stream(), lost));
    futures_util::stream::unfold(begun, |left| async move {
        let (mut body, mut lost) = left?;
        tokio::select! {
            piece = body.next() => {
                let piece = piece?.map_err(io::Error::other);
                let left = piece.is_ok().then_some((body, lost));
                Some((piece, left))
            }
            error = &mut lost => Some((Err(io::Error::other(error)), None)),
        }
    })
}
