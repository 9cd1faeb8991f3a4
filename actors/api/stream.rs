//! Server-sent events (HTML Standard, section 9.2): how they look and how they are fed.
//!
//! Owns the bound on what waits for a slow reader, and that a stream ends with its caller's token.
//! Never ends a stream for a
//! client that left: its feed fails, and that is all.

use super::caller::Place;
use super::context::Context;
use super::error::ApiError;
use crate::limits;
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Waker, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use warp::Reply as _;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use warp::reply::Response;

/// The client has left.
#[derive(Debug)]
pub struct Left;

/// Where a stream's events are put in.
#[derive(Clone)]
pub struct Feed {
    sender: mpsc::Sender<Bytes>,
}

impl Feed {
    /// Sends an event, waiting while the client is slow. Without an id, a client that resumes does
    /// so behind the last event that has one.
    ///
    /// # Errors
    /// The client has left.
    pub async fn send<T: Serialize>(
        &self,
        name: Option<&str>,
        id: &str,
        data: &T,
    ) -> Result<(), Left> {
        self.sender.send(frame(name, id, data)).await.map_err(|_| Left)
    }

    /// Ends when the client has left.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// An event as it is written. JSON has no line break outside of an escape.
fn frame<T: Serialize>(name: Option<&str>, id: &str, data: &T) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
    Bytes::from(format!("{name}data: {data}\n{id}\n"))
}

/// Opens a stream that `feeder` feeds in a task of its own, until it is through, the client leaves
/// or the API stops.
///
/// # Errors
/// Too many streams are open.
pub fn open<F, R>(context: &Context, feeder: F) -> Result<Response, ApiError>
where
    F: FnOnce(Feed) -> R,
    R: Future<Output = Result<(), Left>> + Send + 'static,
{
    let place = context.place()?;
    let expired = place.expired();
    let (sender, events) = mpsc::channel(limits::SSE_BUFFER);
    let feeding = feeder(Feed { sender });
    let stopping = context.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            // A client that left is no error: what it watched goes on.
            _ = feeding => {}
            () = stopping.cancelled() => {}
            () = expired => {}
        }
    });
    let body = Events::new(events, Some(place), limits::SSE_COMMENT);
    let mut response = warp::reply::stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies in front of the API shall hand events on at once.
    headers.insert(NO_BUFFER, HeaderValue::from_static("no"));
    Ok(response)
}

const NO_BUFFER: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The events of a stream, with a comment when there was none for a while.
struct Events {
    events: mpsc::Receiver<Bytes>,
    period: Duration,
    pause: Pin<Box<Sleep>>,
    _place: Option<Place>,
}

impl Events {
    fn new(events: mpsc::Receiver<Bytes>, place: Option<Place>, period: Duration) -> Self {
        let pause = Box::pin(tokio::time::sleep(period));
        Self { events, period, pause, _place: place }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Waker<'_>) -> Poll<Option<Self::Item>> {
        let next = self.events.poll_recv(context);
        let due = Instant::now() + self.period;
        match next {
            Poll::Ready(Some(event)) => {
                self.pause.as_mut().reset(due);
                Poll::Ready(Some(Ok(event)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if self.pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.pause.as_mut().reset(due);
                Poll::Ready(Some(Ok(Bytes::from_static(b":\n\n"))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[test]
    fn an_event_has_its_name_data_and_id() {
        let text = frame(Some("done"), "7-2", &serde_json::json!({"line": "a\nb"}));
        assert_eq!(text, "event: done\ndata: {\"line\":\"a\\nb\"}\nid: 7-2\n\n");
    }

    #[tokio::test]
    async fn a_quiet_stream_has_a_comment_in_every_period() {
        assert_eq!(limits::SSE_COMMENT.as_secs(), 15);
        let (sender, events) = mpsc::channel(1);
        let period = Duration::from_millis(100);
        let mut stream = Events::new(events, None, period);
        let start = Instant::now();
        for n in 1..4 {
            assert_eq!(stream.next().await.unwrap().unwrap(), ":\n\n");
            assert!(start.elapsed() >= period * n);
        }
        drop(sender);
        assert!(stream.next().await.is_none());
    }
}
