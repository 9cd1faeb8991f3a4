//! A stream of lines on its way to a client, or to another member that passes them on.
//!
//! Owns which allocations belong to what was asked, also those that come while it is followed.
//! Never asks another node for what a third one has.

use super::elsewhere::{Elsewhere, Said, note};
use super::scope::Scope;
use crate::actors::api::context::{Context, now};
use crate::actors::api::ports::{Lines, LogSource, Neighbours};
use crate::actors::api::reach::ReachError;
use crate::actors::api::stream::{Feed, Left};
use crate::actors::platform::logs::{Event, LogLine, Merged, Query, Stream};
use crate::actors::root::View;
use crate::api::views;
use crate::api::wire::{AccessView, LogLineView, LogStream};
use crate::fsm::State;
use crate::fsm::model::{Allocation, AllocationStatus, Phase, Role};
use crate::id::{AllocId, Attempt, NodeId};
use crate::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A stream of lines.
pub(super) struct Following {
    scope: Scope,
    query: Query,
    /// The allocations of this node that are read or have been.
    known: BTreeSet<AllocId>,
    /// This node's name.
    node: String,
    source: Arc<dyn LogSource>,
    views: watch::Receiver<Option<View>>,
    /// The state whose endings have been told.
    shown: Arc<State>,
    /// The lines of other nodes; absent where a member asks.
    others: Option<Others>,
}

/// The lines of other nodes.
struct Others {
    role: Role,
    neighbours: Arc<dyn Neighbours>,
    /// Those that are asked or have been.
    asked: BTreeSet<NodeId>,
    teller: mpsc::Sender<LogLineView>,
    told: mpsc::Receiver<LogLineView>,
}

impl Others {
    /// What is said of nodes that can't be reached.
    async fn told(others: &mut Option<Self>) -> LogLineView {
        match others {
            // It has a sender itself.
            Some(others) => match others.told.recv().await {
                Some(note) => note,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

impl Following {
    /// Of this node's lines.
    pub(super) fn new(context: &Context, view: &View, scope: Scope, query: Query) -> Self {
        Self {
            scope,
            query,
            known: BTreeSet::new(),
            node: views::node_name(&view.state, view.node),
            source: Arc::clone(&context.ports.logs),
            views: context.views.clone(),
            shown: Arc::clone(&view.state),
            others: None,
        }
    }

    /// Of all nodes' lines, for a caller with that role.
    pub(super) fn with_others(mut self, context: &Context, role: Role) -> Self {
        let (teller, told) = mpsc::channel(limits::NODE_NOTES);
        let neighbours = Arc::clone(&context.ports.neighbours);
        self.others = Some(Others { role, neighbours, asked: BTreeSet::new(), teller, told });
        self
    }

    /// Begins to read the allocations that aren't read yet: here, and on nodes that aren't asked.
    pub(super) fn open_new(&mut self, view: &View, query: &Query) -> io::Result<Vec<Lines>> {
        let mut opened = Vec::new();
        for allocation in view.state.allocations_on(view.node) {
            let wanted = match query.previous {
                true => self.scope.holds_previous(&view.state, allocation),
                false => self.scope.holds(allocation),
            };
            if wanted && self.known.insert(allocation.id.clone()) {
                let current = query.previous.then(|| current_attempt(allocation));
                let query = Query { current, ..query.clone() };
                opened.push(self.source.read(&allocation.id, query)?);
            }
        }
        for log in self.scope.access_logs(&view.state) {
            if self.known.insert(log.clone()) {
                opened.push(self.source.read(&log, query.clone())?);
            }
        }
        let Some(others) = &mut self.others else { return Ok(opened) };
        for node in self.scope.nodes(&view.state) {
            if node == view.node || !others.asked.insert(node) {
                continue;
            }
            if view.state.nodes.contains_key(&node) {
                let elsewhere = Elsewhere {
                    node,
                    scope: self.scope.query(),
                    query: query.clone(),
                    role: others.role,
                    neighbours: Arc::clone(&others.neighbours),
                    views: self.views.clone(),
                    teller: others.teller.clone(),
                };
                opened.push(elsewhere.read());
            } else {
                let line = format!("{}: its lines are missing here", ReachError::Gone { node });
                // Where so many were removed that there is no room, the first are told.
                let _ = others.teller.try_send(note(&views::node_name(&view.state, node), line));
            }
        }
        Ok(opened)
    }

    /// Feeds the stream until all is told or the client has left.
    pub(super) async fn run(mut self, lines: Merged<Lines>, feed: Feed) -> Result<(), Left> {
        self.tell_all(lines, &feed).await?;
        let Some(others) = &mut self.others else { return feed.send(None, "", &Said::End).await };
        while let Ok(note) = others.told.try_recv() {
            feed.send(None, "", &note).await?;
        }
        Ok(())
    }

    async fn tell_all(&mut self, mut lines: Merged<Lines>, feed: &Feed) -> Result<(), Left> {
        let mut late = SelectAll::new();
        let mut history = true;
        let mut last = None;
        loop {
            let is_over = self.is_over();
            if is_over && !history && late.is_empty() {
                return Ok(());
            }
            if is_over && self.query.follow {
                // A log that was never begun, or whose writer was killed, has no end.
                last = last.or(Some(Instant::now() + limits::LOG_LAST));
            }
            let end = last.unwrap_or_else(Instant::now);
            tokio::select! {
                event = lines.next(), if history => match event {
                    Some(event) => {
                        self.send(event, feed).await?;
                        last = None;
                    }
                    None => history = false,
                },
                Some(event) = late.next(), if !late.is_empty() => {
                    if let Event::Line(_) = event {
                        self.send(event, feed).await?;
                        last = None;
                    }
                }
                note = Others::told(&mut self.others) => feed.send(None, "", &note).await?,
                changed = self.views.changed(), if self.query.follow => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Some(view) = self.views.borrow_and_update().clone() else { continue };
                    late.extend(self.open_late(&view));
                    self.tell_endings(&view, feed).await?;
                }
                () = tokio::time::sleep_until(end), if last.is_some() => return Ok(()),
                () = feed.closed() => return Err(Left),
            }
        }
    }

    /// Begins to read what came into being while the others were followed.
    fn open_late(&mut self, view: &View) -> Vec<Lines> {
        let (now, then) = (&view.state, &self.shown);
        let same = match self.scope {
            Scope::Requests(_) => now.apps.ptr_eq(&then.apps) && now.nodes.ptr_eq(&then.nodes),
            _ => now.allocations.ptr_eq(&then.allocations),
        };
        if same {
            return Vec::new();
        }
        let grep = self.query.grep.clone();
        self.open_new(view, &Query { follow: true, grep, ..Query::default() }).unwrap_or_else(
            |error| {
                tracing::warn!(%error, "reading the log of a new allocation");
                Vec::new()
            },
        )
    }

    /// Between the lines: whose program has ended since the last view.
    async fn tell_endings(&mut self, view: &View, feed: &Feed) -> Result<(), Left> {
        let time = now();
        let before = std::mem::replace(&mut self.shown, Arc::clone(&view.state));
        // A member that asks sees for itself.
        if self.others.is_none() || before.allocations.ptr_eq(&view.state.allocations) {
            return Ok(());
        }
        for allocation in view.state.allocations.values() {
            let old = before.allocations.get(&allocation.id);
            let same = old.is_some_and(|old| Arc::ptr_eq(old, allocation));
            if same || !self.scope.holds(allocation) {
                continue;
            }
            let Some(text) = views::ending(old.map(|old| &**old), allocation, time) else {
                continue;
            };
            let data = LogLineView {
                ts: time.to_string(),
                stream: LogStream::Event,
                line: text,
                bytes: None,
                open: false,
                allocation: allocation.id.to_string(),
                node: views::node_name(&view.state, allocation.node),
                access: None,
            };
            feed.send(None, "", &data).await?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        if !self.query.follow || self.query.previous {
            return true;
        }
        self.views.borrow().as_ref().is_none_or(|view| self.scope.is_over(&view.state))
    }

    async fn send(&self, event: Event, feed: &Feed) -> Result<(), Left> {
        let line = match event {
            Event::Line(line) if self.others.is_some() => line,
            Event::CaughtUp if self.others.is_some() => return Ok(()),
            event => return feed.send(None, "", &Said::from(event)).await,
        };
        let LogLine { ts, stream, line, bytes, open, allocation, node } = line;
        let id = ts.0.to_string();
        let data = LogLineView {
            ts: ts.to_string(),
            stream: match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
                Stream::Mill => LogStream::Event,
            },
            line,
            bytes: bytes.map(|bytes| STANDARD.encode(bytes)),
            open,
            allocation: allocation.to_string(),
            node: node.map_or_else(|| self.node.clone(), |node| node.to_string()),
            access: None,
        };
        let data = if matches!(self.scope, Scope::Requests(_)) { request(data) } else { data };
        feed.send(None, &id, &data).await
    }
}

/// The attempt that runs or is the next to.
fn current_attempt(allocation: &Allocation) -> Attempt {
    let AllocationStatus { attempt, phase, .. } = allocation.observed;
    let is_over = phase == Phase::Backoff || phase.is_terminal();
    if is_over { Attempt(attempt.0.saturating_add(1)) } else { attempt }
}

/// A line of an access log, as it is shown: what the proxy wrote is for programs.
fn request(mut line: LogLineView) -> LogLineView {
    line.allocation = String::new();
    if let Ok(request) = serde_json::from_str::<AccessView>(&line.line) {
        line.stream = LogStream::Access;
        line.line = views::access(&request);
        line.allocation = request.allocation.clone().unwrap_or_default();
        line.access = Some(Box::new(request));
    }
    line
}
