//! Reading logs: an allocation's lines as a stream, to the end or followed.
//!
//! Owns the task behind each stream, which ends when its reader leaves. Never polls: it waits for
//! events of the directory. Never reads ahead of a slow reader by more than a few batches.

use super::cursor::{self, Cursor};
use super::files;
use super::format::{Joined, LogTime, Stream};
use super::watch::{Subscription, Watcher};
use crate::id::{AllocId, Attempt};
use crate::limits;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio_stream::Stream as AsyncStream;

/// A line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When its end was read from the container: strictly increasing within an attempt, so that
    /// `since` the next nanosecond resumes behind this line.
    pub ts: LogTime,
    /// Where it came from.
    pub stream: Stream,
    /// The text; bytes that are no UTF-8 are replaced.
    pub line: String,
    /// The bytes, if they are no UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// No newline stands behind it.
    pub open: bool,
    /// Whose it is.
    pub allocation: AllocId,
    /// The name of the node that it comes from, if that isn't this one.
    pub node: Option<Arc<str>>,
}

impl LogLine {
    fn size(&self) -> usize {
        self.line.len() + self.bytes.as_ref().map_or(0, Vec::len)
    }
}

/// What a stream of log lines tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line.
    Line(LogLine),
    /// What was there when the reading began has been given out: what follows is new. Once.
    CaughtUp,
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At most so many from the end.
    pub tail: Option<usize>,
    /// None older than this.
    pub since: Option<LogTime>,
    /// Only those with this text in them.
    pub grep: Option<Arc<str>>,
    /// Go on with new lines, also of the allocation's next attempts, until it has ended.
    pub follow: bool,
    /// Of the attempt before the newest one; there is nothing to follow then.
    pub previous: bool,
    /// The attempt that runs or is the next to: that before it is the previous one, though the
    /// newer may not have written anything yet.
    pub current: Option<Attempt>,
}

/// Reads the logs of a node. One for a process is enough.
pub struct LogReader {
    data_dir: PathBuf,
    watcher: Watcher,
}

/// The events of one allocation's log.
pub struct LogStream {
    batches: mpsc::Receiver<Vec<Event>>,
    batch: VecDeque<Event>,
}

impl AsyncStream for LogStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                return Poll::Ready(Some(event));
            }
            match ready!(self.batches.poll_recv(context)) {
                Some(batch) => self.batch = batch.into(),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl LogReader {
    /// A reader of a data directory's logs. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system has no inotify instance left.
    pub fn new(data_dir: &Path) -> io::Result<Self> {
        Ok(Self { data_dir: data_dir.to_owned(), watcher: Watcher::new()? })
    }

    /// Begins to read an allocation's log. The stream ends when all is read, or with `follow` when
    /// the allocation is marked as ended ([`super::mark_ended`]) or its log is removed. An
    /// allocation without a log has no lines; with `follow` they are waited for.
    ///
    /// # Errors
    /// The directory can't be read or watched.
    pub fn read(&self, allocation: &AllocId, query: Query) -> io::Result<LogStream> {
        let directory = files::directory(&self.data_dir, allocation);
        let follow = query.follow && !query.previous;
        let subscription = if follow {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            Some(self.watcher.subscribe(&directory)?)
        } else {
            None
        };
        let (sender, batches) = mpsc::channel(limits::LOG_BATCHES);
        let task = Reading {
            directory,
            allocation: allocation.clone(),
            tail: query.tail.map(|lines| Tail::new(lines.min(limits::LOG_TAIL_MAX))),
            query,
            last: LogTime::default(),
            sender,
        };
        tokio::spawn(task.run(subscription));
        Ok(LogStream { batches, batch: VecDeque::new() })
    }
}

/// The last lines of what passed by, bounded in number and bytes.
pub(super) struct Tail {
    wanted: usize,
    bytes: usize,
    lines: VecDeque<LogLine>,
}

impl Tail {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, bytes: 0, lines: VecDeque::new() }
    }

    pub(super) fn push(&mut self, line: LogLine) {
        self.bytes += line.size();
        self.lines.push_back(line);
        while self.lines.len() > self.wanted || self.bytes > limits::LOG_TAIL_BYTES {
            let Some(first) = self.lines.pop_front() else { return };
            self.bytes -= first.size();
        }
    }

    pub(super) fn into_lines(self) -> VecDeque<LogLine> {
        self.lines
    }
}

/// The reader that the stream belongs to has left.
struct Left;

/// One reading.
struct Reading {
    directory: PathBuf,
    allocation: AllocId,
    query: Query,
    tail: Option<Tail>,
    last: LogTime,
    sender: mpsc::Sender<Vec<Event>>,
}

impl Reading {
    async fn run(mut self, subscription: Option<Subscription>) {
        // Whether it was read to the end or the reader has left, there is nobody to tell.
        let _ = self.read(subscription).await;
    }

    async fn read(&mut self, mut subscription: Option<Subscription>) -> Result<(), Left> {
        let (directory, query) = (self.directory.clone(), self.query.clone());
        let mut cursor = match blocking(move || begin(directory, query)).await {
            Ok(Some(cursor)) => cursor,
            Ok(None) => return Ok(()),
            Err(error) => return self.fail(&error).await,
        };
        let mut caught_up = false;
        loop {
            // Before the files are read: what was written before the mark is not missed.
            let ended = files::is_ended(&self.directory);
            cursor = match self.drain(cursor).await? {
                Ok(cursor) => cursor,
                Err(error) => return self.fail(&error).await,
            };
            let last_round = ended || subscription.is_none();
            if last_round {
                let mut lines = Vec::new();
                cursor.finish(|line| lines.push(line));
                self.hand_out(lines).await?;
            }
            if !caught_up {
                caught_up = true;
                self.catch_up().await?;
            }
            let Some(changes) = subscription.as_mut().filter(|_| !last_round) else {
                return Ok(());
            };
            tokio::select! {
                there = changes.changed() => if !there { return Ok(()) },
                () = self.sender.closed() => return Err(Left),
            }
        }
    }

    /// Reads all that is there.
    async fn drain(&mut self, mut cursor: Cursor) -> Result<io::Result<Cursor>, Left> {
        loop {
            let step = blocking(move || {
                let mut lines = Vec::new();
                let more = cursor.step(|line| lines.push(line))?;
                Ok((cursor, lines, more))
            });
            let (back, lines, more) = match step.await {
                Ok(step) => step,
                Err(error) => return Ok(Err(error)),
            };
            cursor = back;
            self.hand_out(lines).await?;
            if !more {
                return Ok(Ok(cursor));
            }
        }
    }

    async fn hand_out(&mut self, lines: Vec<Joined>) -> Result<(), Left> {
        let mut events = Vec::with_capacity(lines.len());
        for Joined { nanos, stream, bytes, open } in lines {
            let ts = if nanos == 0 { self.last } else { LogTime(nanos) };
            self.last = self.last.max(ts);
            if self.query.since.is_some_and(|since| ts < since) {
                continue;
            }
            let (line, bytes) = match String::from_utf8(bytes) {
                Ok(text) => (text, None),
                Err(error) => {
                    let bytes = error.into_bytes();
                    (String::from_utf8_lossy(&bytes).into_owned(), Some(bytes))
                }
            };
            if self.query.grep.as_deref().is_some_and(|text| !line.contains(text)) {
                continue;
            }
            let allocation = self.allocation.clone();
            let line = LogLine { ts, stream, line, bytes, open, allocation, node: None };
            match &mut self.tail {
                Some(tail) => tail.push(line),
                None => events.push(Event::Line(line)),
            }
        }
        self.send(events).await
    }

    /// What was there is read: gives out the tail and says so.
    async fn catch_up(&mut self) -> Result<(), Left> {
        if let Some(tail) = self.tail.take() {
            let lines: Vec<LogLine> = tail.into_lines().into();
            for batch in lines.chunks(limits::LOG_TAIL_BATCH) {
                self.send(batch.iter().cloned().map(Event::Line).collect()).await?;
            }
        }
        self.send(vec![Event::CaughtUp]).await
    }

    async fn fail(&mut self, error: &io::Error) -> Result<(), Left> {
        let line = format!("the log can't be read: {error}");
        let allocation = self.allocation.clone();
        let (ts, stream, bytes, open, node) = (self.last, Stream::Mill, None, false, None);
        let line = LogLine { ts, stream, line, bytes, open, allocation, node };
        self.send(vec![Event::Line(line)]).await
    }

    async fn send(&mut self, events: Vec<Event>) -> Result<(), Left> {
        if events.is_empty() && !self.sender.is_closed() {
            return Ok(());
        }
        self.sender.send(events).await.map_err(|_| Left)
    }
}

/// Where a query begins; `None` if there is nothing to read.
fn begin(directory: PathBuf, query: Query) -> io::Result<Option<Cursor>> {
    let attempts = cursor::attempts(&directory, query.previous, query.current)?;
    let Some(attempts) = attempts else { return Ok(None) };
    let mut cursor = Cursor::new(directory, attempts);
    // How far back so many lines with a text in them are, isn't known.
    if let Some(lines) = query.tail.filter(|_| query.grep.is_none()) {
        cursor.seek_tail(lines.min(limits::LOG_TAIL_MAX))?;
    }
    if let Some(since) = query.since {
        cursor.seek_time(since.0)?;
    }
    Ok(Some(cursor))
}

/// Runs file access where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

#[cfg(test)]
mod tests;
