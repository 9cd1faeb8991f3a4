//! The lines that are written on another node, as a source of one stream.
//!
//! Owns asking again while they are followed: none comes twice, none is left out, and that some are
//! missing is said. Never orders anything.

use crate::actors::api::context::now;
use crate::actors::api::ports::{Lines, Neighbours};
use crate::actors::api::reach::{Ask, ReachError, lost};
use crate::actors::platform::logs::{Event, LogLine, LogTime, Query, Stream};
use crate::actors::root::View;
use crate::api::views;
use crate::api::wire::{LogLineView, LogStream};
use crate::backoff::Backoff;
use crate::fsm::model::Role;
use crate::id::{AllocId, NodeId};
use crate::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use warp::http::Method;

/// What a node says of its lines to the one that passes them on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Line {
        /// When, in nanoseconds.
        ts: u64,
        /// Where it came from.
        stream: Stream,
        /// Its text.
        line: String,
        /// Its bytes in base64, if they are no text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
        /// No newline stands behind it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        open: bool,
        /// Whose it is.
        allocation: String,
    },
    /// What was there at the beginning has been given out.
    CaughtUp,
    /// That was all. Without it, the stream has broken off.
    End,
}

impl From<Event> for Said {
    fn from(event: Event) -> Self {
        match event {
            Event::Line(LogLine { ts, stream, line, bytes, open, allocation, .. }) => {
                let bytes = bytes.map(|bytes| STANDARD.encode(bytes));
                let allocation = allocation.to_string();
                Self::Line { ts: ts.0, stream, line, bytes, open, allocation }
            }
            Event::CaughtUp => Self::CaughtUp,
        }
    }
}

/// Another node's lines.
pub(super) struct Elsewhere {
    pub(super) node: NodeId,
    /// Whose lines, as a query has it.
    pub(super) scope: String,
    /// Which of them.
    pub(super) query: Query,
    /// For whom.
    pub(super) role: Role,
    /// The way there.
    pub(super) neighbours: Arc<dyn Neighbours>,
    /// Where the node is.
    pub(super) views: watch::Receiver<Option<View>>,
    /// Takes what is to be said where the node can't be reached.
    pub(super) teller: mpsc::Sender<LogLineView>,
}

/// Whoever wanted the lines has left.
struct Gone;

/// Why a node's lines ended.
enum Ending {
    /// There are no more.
    All,
    /// It can't be reached, or not any more.
    Lost(ReachError),
}

impl Elsewhere {
    /// Begins to read.
    pub(super) fn read(self) -> Lines {
        let (sender, events) = mpsc::channel(limits::LINES_WAITING);
        let reading = Reading {
            last: BTreeMap::new(),
            caught_up: false,
            said: None,
            name: Arc::from(""),
            of: self,
            sender,
        };
        tokio::spawn(async move {
            let left = reading.sender.clone();
            tokio::select! {
                // Who has left is told nothing.
                _ = reading.run() => {}
                () = left.closed() => {}
            }
        });
        Box::pin(ReceiverStream::new(events))
    }
}

/// What is known while a node's lines are read.
struct Reading {
    of: Elsewhere,
    name: Arc<str>,
    sender: mpsc::Sender<Event>,
    /// By allocation, the time of the last line.
    last: BTreeMap<AllocId, LogTime>,
    caught_up: bool,
    /// What was said last of the node.
    said: Option<String>,
}

impl Reading {
    async fn run(mut self) -> Result<(), Gone> {
        let mut backoff = Backoff::new(limits::LINES_AGAIN);
        loop {
            let seen = self.of.views.borrow_and_update().clone();
            let Some(view) = seen else { return Ok(()) };
            self.name = views::node_name(&view.state, self.of.node).into();
            let before = self.last.clone();
            let error = match self.once(&view).await? {
                Ending::All => return Ok(()),
                Ending::Lost(error) => error,
            };
            if self.last != before {
                backoff.reset();
            }
            self.catch_up().await?;
            let ends = !self.of.query.follow || matches!(error, ReachError::Gone { .. });
            self.tell(&error, ends).await;
            if ends {
                return Ok(());
            }
            self.wait(&error, backoff.pause()).await?;
        }
    }

    /// Nobody waits for a node that is silent.
    async fn catch_up(&mut self) -> Result<(), Gone> {
        if std::mem::replace(&mut self.caught_up, true) {
            return Ok(());
        }
        self.sender.send(Event::CaughtUp).await.map_err(|_| Gone)
    }

    /// Says once why lines are missing.
    async fn tell(&mut self, error: &ReachError, ends: bool) {
        let what = if ends {
            "its lines are missing here"
        } else {
            "its lines are missing until it answers again"
        };
        let kind = match error {
            ReachError::Down { name, .. } => name.clone(),
            other => other.to_string(),
        };
        if self.said.replace(kind.clone()) != Some(kind) {
            // Who has left is told nothing.
            let _ = self.of.teller.send(note(&self.name, format!("{error}: {what}"))).await;
        }
    }

    /// Until it is worth asking again: one that is down is heard of by the state.
    async fn wait(&mut self, error: &ReachError, pause: Duration) -> Result<(), Gone> {
        if !matches!(error, ReachError::Down { .. }) {
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        let node = self.of.node;
        let is_back = |view: &Option<View>| {
            let member = view.as_ref().and_then(|view| view.state.nodes.get(&node));
            member.is_none_or(|member| member.is_up())
        };
        self.of.views.wait_for(is_back).await.map_err(|_| Gone)?;
        Ok(())
    }

    async fn once(&mut self, view: &View) -> Result<Ending, Gone> {
        let lost = lost(self.of.views.clone(), self.of.node);
        tokio::pin!(lost);
        let path = self.path();
        let asked = Ask::new(view, self.of.node, self.of.role, Method::GET, &path);
        let answer = match asked {
            Ok(ask) => {
                let broken = ask.breaking();
                let sent = ask.send(&*self.of.neighbours, None, limits::REACH_ANSWER);
                let sent = tokio::select! {
                    sent = sent => sent,
                    error = &mut lost => Err(error),
                };
                sent.map(|answer| (answer, broken))
            }
            Err(error) => Err(error),
        };
        let (answer, broken) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Ending::Lost(error)),
        };
        if self.said.take().is_some() {
            let again = format!("{} answers again", self.name);
            let _ = self.of.teller.send(note(&self.name, again)).await;
        }
        let mut body = Frames { body: answer.into_body(), bytes: BytesMut::new() };
        loop {
            let next = tokio::select! {
                next = body.next() => next,
                error = &mut lost => return Ok(Ending::Lost(error)),
            };
            match next {
                Ok(Some(said)) => {
                    if self.take(said).await? {
                        return Ok(Ending::All);
                    }
                }
                Ok(None) => return Ok(Ending::Lost(broken(&Broken::Ended))),
                Err(error) => return Ok(Ending::Lost(broken(&error))),
            }
        }
    }

    /// Passes on what is said; whether that was all.
    async fn take(&mut self, said: Said) -> Result<bool, Gone> {
        let event = match said {
            Said::End => return Ok(true),
            Said::CaughtUp if std::mem::replace(&mut self.caught_up, true) => return Ok(false),
            Said::CaughtUp => Event::CaughtUp,
            Said::Line { ts, stream, line, bytes, open, allocation } => {
                let bytes = bytes.and_then(|text| STANDARD.decode(text).ok());
                let (ts, allocation) = (LogTime(ts), AllocId::from(allocation));
                // Each allocation's times increase.
                if self.last.get(&allocation).is_some_and(|last| *last >= ts) {
                    return Ok(false);
                }
                self.last.insert(allocation.clone(), ts);
                let node = Some(Arc::clone(&self.name));
                Event::Line(LogLine { ts, stream, line, bytes, open, allocation, node })
            }
        };
        self.sender.send(event).await.map_err(|_| Gone)?;
        Ok(false)
    }

    /// What is asked for: what has been seen comes again in part, since the lines of several
    /// allocations are not in one order.
    fn path(&self) -> String {
        let Query { tail, since, follow, previous, ref grep, .. } = self.of.query;
        let mut path = format!("/v1/logs?follow={follow}&previous={previous}{}", self.of.scope);
        let last = self.last.values().max();
        let again = last.map(|last| {
            let overlap = u64::try_from(limits::LINES_OVERLAP.as_nanos()).unwrap_or(u64::MAX);
            LogTime(last.0.saturating_sub(overlap))
        });
        if let Some(from) = since.max(again) {
            path.push_str(&format!("&since={from}"));
        }
        if let Some(text) = grep {
            path.push_str(&format!("&grep={}", escaped(text)));
        }
        if let Some(tail) = tail.filter(|_| last.is_none()) {
            path.push_str(&format!("&tail={tail}"));
        }
        path
    }
}

/// A text as a query's value.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let one = |byte: u8| match byte {
        _ if plain(byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Why an answer can't be read on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it broke off")]
    Ended,
    #[error("nothing was heard for {}s", limits::LINES_SILENCE.as_secs())]
    Silent,
    #[error("a line is too long")]
    Long,
    #[error("what it says can't be read")]
    Strange(#[from] serde_json::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// The events of an answer.
struct Frames {
    body: Incoming,
    bytes: BytesMut,
}

impl Frames {
    /// The next one; none where the answer ends.
    async fn next(&mut self) -> Result<Option<Said>, Broken> {
        loop {
            while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.split_to(end + 1);
                if let Some(json) = line.strip_prefix(b"data: ") {
                    return Ok(Some(serde_json::from_slice(json)?));
                }
            }
            if self.bytes.len() > limits::LINES_EVENT_MAX {
                return Err(Broken::Long);
            }
            let frame = tokio::time::timeout(limits::LINES_SILENCE, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Broken::Silent)? else { return Ok(None) };
            if let Ok(bytes) = frame?.into_data() {
                self.bytes.extend_from_slice(&bytes);
            }
        }
    }
}

/// What is said of a node whose lines can't be had.
pub(super) fn note(node: &str, line: String) -> LogLineView {
    LogLineView {
        ts: now().to_string(),
        stream: LogStream::Event,
        line,
        bytes: None,
        open: false,
        allocation: String::new(),
        node: node.to_owned(),
        access: None,
    }
}
