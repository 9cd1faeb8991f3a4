//! Streams of events, and going on after a lost connection where it broke.
//!
//! Owns the last id, silence and retries. Never knows what an event means.

use super::sse::{Event, Parser};
use super::{Call, Client, ClientError};
use crate::cli::shown;
use crate::limits;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The events of one answer.
pub struct Events {
    body: Incoming,
    parser: Parser,
    target: String,
    ended: bool,
    verbatim: bool,
}

impl Events {
    pub(super) fn new(body: Incoming, target: String, verbatim: bool) -> Self {
        Self { body, parser: Parser::default(), target, ended: false, verbatim }
    }

    /// The next event; none at the end of the answer. Safe to cancel.
    ///
    /// # Errors
    /// The connection broke, or nothing came for too long.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(mut event) = self.parser.pop() {
                if !self.verbatim {
                    event.data = shown::written_out(&event.data).into_owned();
                }
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let frame = timeout(limits::STREAM_SILENCE, self.body.frame()).await;
            match frame {
                Err(_) => return Err(ClientError::Silent { target: self.target.clone() }),
                Ok(None) => self.ended = true,
                Ok(Some(Err(error))) => return Err(self.lost(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.parser.push(&data).map_err(|error| self.lost(error))?;
                    }
                }
            }
        }
    }

    /// The first event.
    ///
    /// # Errors
    /// As [`Events::next`]; an answer without events is a lost one.
    pub async fn first(&mut self) -> Result<Event, ClientError> {
        match self.next().await? {
            Some(event) => Ok(event),
            None => Err(self.lost("the answer ended before its first event")),
        }
    }

    /// Makes an event the next one again.
    pub fn unread(&mut self, event: Event) {
        self.parser.unpop(event);
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Lost { target: self.target.clone(), source: source.into() }
    }
}

/// So many empty answers in a row mean that there is nothing more to come.
const EMPTY_MAX: u32 = 3;

/// Events that go on over a lost connection: asked for again from after the last one.
pub struct Resuming<'a> {
    client: &'a Client,
    path: String,
    events: Option<Events>,
    last: Option<String>,
    endless: bool,
    begun: bool,
    /// Answers in a row that ended well and held nothing.
    empty: u32,
}

impl<'a> Resuming<'a> {
    /// From the beginning of the stream at that path. One that is endless is resumed also after the
    /// daemon has ended the answer.
    #[must_use]
    pub fn new(client: &'a Client, path: impl Into<String>, endless: bool) -> Self {
        Self {
            client,
            path: path.into(),
            events: None,
            last: None,
            endless,
            begun: false,
            empty: 0,
        }
    }

    /// Goes on with events that another request began, and later with those of the path.
    #[must_use]
    pub fn going_on(client: &'a Client, path: impl Into<String>, events: Events) -> Self {
        Self { begun: true, events: Some(events), ..Self::new(client, path, true) }
    }

    /// The next event; none at the end. Safe to cancel.
    ///
    /// # Errors
    /// A refusal, or no connection for too long.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if self.events.is_none() {
                self.events = Some(self.open().await?);
                self.begun = true;
            }
            let Some(events) = &mut self.events else { continue };
            match events.next().await {
                Ok(Some(event)) => {
                    self.empty = 0;
                    self.last.clone_from(&event.id);
                    return Ok(Some(event));
                }
                Ok(None) if !self.endless || self.empty == EMPTY_MAX => return Ok(None),
                Ok(None) => self.empty += 1,
                Err(error) if error.is_lost() => self.empty = 0,
                Err(error) => return Err(error),
            }
            self.events = None;
            // A daemon that ends every answer at once must not be asked in a tight loop.
            sleep(limits::RECONNECT_FIRST).await;
        }
    }

    async fn open(&self) -> Result<Events, ClientError> {
        let since = Instant::now();
        let mut pause = limits::RECONNECT_FIRST;
        let again = self.begun;
        loop {
            let mut call = Call::get(self.path.clone());
            if let Some(last) = &self.last {
                call = call.header("last-event-id", last.clone());
            }
            match self.client.events(call).await {
                Err(error) if again && error.may_pass() => {
                    if since.elapsed() > limits::RECONNECT_FOR {
                        return Err(error);
                    }
                }
                other => return other,
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}
