//! `GET /v1/logs`: the lines of several allocations as one stream of events.
//!
//! Owns what can be asked. Never reads a file: that is the log reader's.

mod elsewhere;
mod following;
mod scope;

use super::context::Context;
use super::error::ApiError;
use super::request::Request;
use super::stream;
use crate::actors::platform::logs::{LogTime, Query, merge};
use crate::fsm::State;
use crate::limits;
use crate::units::{Millis, Timestamp};
use following::Following;
use scope::Scope;
use std::sync::Arc;
use warp::reply::Response;

/// `GET /v1/logs` and `GET /v1/logs/{name}`, of all nodes.
pub async fn logs(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let query = query(&request)?;
    let reading = context.read().await?;
    let scope = scope(reading.state(), &request, &query)?;
    let following = Following::new(&context, &reading.view, scope, query.clone());
    let mut following = following.with_others(&context, request.role);
    let sources = following.open_new(&reading.view, &query).map_err(unreadable)?;
    let lines = merge(sources, query.tail);
    let response = stream::open(&context, move |feed| following.run(lines, feed))?;
    Ok(reading.mark(response))
}

/// For another member: what is written on this node.
pub async fn here(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let query = query(&request)?;
    let view = context.view().ok_or(ApiError::Starting)?;
    let scope = scope(&view.state, &request, &query)?;
    let mut following = Following::new(&context, &view, scope, query.clone());
    let sources = following.open_new(&view, &query).map_err(unreadable)?;
    let lines = merge(sources, query.tail);
    stream::open(&context, move |feed| following.run(lines, feed))
}

fn scope(state: &State, request: &Request, query: &Query) -> Result<Scope, ApiError> {
    let in_path = request.params.get("name").map(String::as_str);
    let names: Vec<&str> = in_path.into_iter().chain(request.all("name")).collect();
    match (request.flag("access")?, query.previous) {
        (false, _) => Scope::of(state, &names),
        (true, false) => Scope::requests(state, &names),
        (true, true) => {
            Err(ApiError::bad("an access log has no attempts", "leave previous or access out"))
        }
    }
}

fn unreadable(error: std::io::Error) -> ApiError {
    ApiError::Internal { doing: "reading the log", reason: error.to_string() }
}

fn query(request: &Request) -> Result<Query, ApiError> {
    let tail = request.count("tail", "a number of lines")?;
    let resumed = request.header("last-event-id").and_then(|id| id.parse().ok());
    let since = match (request.one("since"), resumed) {
        // Times are strictly increasing: the next nanosecond is behind the line that was seen.
        (_, Some(seen)) => Some(LogTime(u64::saturating_add(seen, 1))),
        (Some(text), None) => Some(since(text)?.into()),
        (None, None) => None,
    };
    Ok(Query {
        tail: tail.filter(|_| resumed.is_none()).map(|lines| lines.min(limits::LOG_TAIL_MAX)),
        since,
        grep: request.one("grep").filter(|text| !text.is_empty()).map(Arc::from),
        follow: request.flag("follow")?,
        previous: request.flag("previous")?,
        current: None,
    })
}

/// A time, or how long ago.
fn since(text: &str) -> Result<Timestamp, ApiError> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(u64::try_from(time.as_millisecond()).unwrap_or_default()));
    }
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.map(|seconds| Millis((seconds * 1000.0) as u64));
    let ago = seconds.or_else(|| Millis::parse(text).ok()).ok_or_else(|| {
        let message = format!("since={text} is neither a time nor a duration");
        ApiError::bad(message, "write since=10m or since=2026-03-01T12:00:00Z")
    })?;
    Ok(Timestamp(super::context::now().0.saturating_sub(ago.0)))
}
