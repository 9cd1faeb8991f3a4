//! Streams of events, and going on after a lost connection where it broke.
//!
//! Owns the last id, silence and retries. Never knows what an event means.

use super::sse::{Event, Parser};
use super::{Call, Client, ClientError};
use crate::api::wire::LogStream;
use crate::backoff::Backoff;
use crate::cli::shown;
use crate::limits;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;
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

/// Asks again while the daemon is perhaps only about to start again, or has no leader.
///
/// # Errors
/// A refusal, or no answer for too long.
pub async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let since = Instant::now();
    let mut backoff = Backoff::new(limits::RECONNECT);
    loop {
        match ask().await {
            Err(error) if error.may_pass() && since.elapsed() <= limits::RECONNECT_FOR => {}
            other => return other,
        }
        sleep(backoff.pause()).await;
    }
}

/// Which lines came already, by allocation. Those of several nodes are not in the order of their
/// times, so that the last one's says little.
#[derive(Debug, Default)]
struct Seen {
    newest: u64,
    lines: BTreeMap<String, u64>,
}

/// What tells a line from others.
#[derive(Deserialize)]
struct Whose {
    stream: LogStream,
    allocation: String,
}

impl Seen {
    /// Whether a line is new.
    fn take(&mut self, event: &Event) -> bool {
        let time = event.id.as_deref().and_then(|id| id.parse::<u64>().ok());
        let whose: Option<Whose> = serde_json::from_str(&event.data).ok();
        // What mill itself says between the lines has no time of its own.
        let (Some(time), Some(whose)) =
            (time, whose.filter(|whose| whose.stream != LogStream::Event))
        else {
            return true;
        };
        self.newest = self.newest.max(time);
        if self.lines.len() > limits::LINES_SEEN {
            let old = self.from();
            self.lines.retain(|_, last| *last > old);
        }
        let last = self.lines.entry(whose.allocation).or_default();
        let is_new = time > *last;
        *last = time.max(*last);
        is_new
    }

    /// From behind which time lines are asked for again.
    fn from(&self) -> u64 {
        let overlap = u64::try_from(limits::LINES_OVERLAP.as_nanos()).unwrap_or(u64::MAX);
        self.newest.saturating_sub(overlap)
    }
}

/// Events that go on over a lost connection: asked for again from after the last one.
pub struct Resuming<'a> {
    client: &'a Client,
    path: String,
    events: Option<Events>,
    last: Option<String>,
    endless: bool,
    begun: bool,
    /// Of a stream of lines: those that came.
    seen: Option<Seen>,
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
            seen: None,
            empty: 0,
        }
    }

    /// Lines of allocations from the beginning of the stream at that path; none comes twice.
    #[must_use]
    pub fn lines(client: &'a Client, path: impl Into<String>, endless: bool) -> Self {
        Self { seen: Some(Seen::default()), ..Self::new(client, path, endless) }
    }

    /// The daemon is known to answer: also the first time it is waited for.
    #[must_use]
    pub fn without_timeout(self) -> Self {
        Self { begun: true, ..self }
    }

    /// Asks once more for what comes behind the last event.
    pub async fn again(&mut self) {
        self.events = None;
        sleep(limits::RECONNECT[0]).await;
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
                    let is_new = self.seen.as_mut().is_none_or(|seen| seen.take(&event));
                    // A new answer may begin with one that has none.
                    if event.id.is_some() {
                        self.last.clone_from(&event.id);
                    }
                    if is_new {
                        return Ok(Some(event));
                    }
                    continue;
                }
                Ok(None) if !self.endless || self.empty == EMPTY_MAX => return Ok(None),
                Ok(None) => self.empty += 1,
                Err(error) if error.is_lost() => self.empty = 0,
                Err(error) => return Err(error),
            }
            self.events = None;
            // A daemon that ends every answer at once must not be asked in a tight loop.
            sleep(limits::RECONNECT[0]).await;
        }
    }

    async fn open(&self) -> Result<Events, ClientError> {
        let since = Instant::now();
        let mut backoff = Backoff::new(limits::RECONNECT);
        let again = self.begun;
        loop {
            let mut call = Call::get(self.path.clone());
            let last = match (&self.seen, &self.last) {
                (Some(seen), Some(_)) => Some(seen.from().to_string()),
                (_, last) => last.clone(),
            };
            if let Some(last) = last {
                call = call.header("last-event-id", last);
            }
            match self.client.events(call).await {
                Err(error) if again && error.may_pass() => {
                    if since.elapsed() > limits::RECONNECT_FOR {
                        return Err(error);
                    }
                }
                other => return other,
            }
            sleep(backoff.pause()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, allocation: &str, stream: &str) -> Event {
        let data = format!("{{\"stream\":\"{stream}\",\"allocation\":\"{allocation}\"}}");
        Event { id: Some(id.to_owned()), event: "message".to_owned(), data }
    }

    #[test]
    fn lines_of_several_nodes_come_once_though_they_overtake_each_other() {
        let mut seen = Seen::default();
        let overlap = u64::try_from(limits::LINES_OVERLAP.as_nanos()).unwrap();
        let at = |more: u64| (overlap + more).to_string();
        for (id, allocation, is_new) in [
            (at(5), "a", true),
            // Of another node, which is slower.
            (at(3), "b", true),
            // From here on it is asked again.
            (at(5), "a", false),
            (at(3), "b", false),
            (at(4), "b", true),
            (at(6), "a", true),
        ] {
            assert_eq!(seen.take(&line(&id, allocation, "stdout")), is_new, "{id} {allocation}");
        }
        assert_eq!(seen.from(), 6);
        assert!(seen.take(&line(&at(6), "a", "event")), "a note has the id of the line before");
    }
}
