//! `GET /v1/logs`: the lines of several allocations as one stream of events.
//!
//! Owns which allocations belong to what was asked, also those that come while it is followed.
//! Never reads a file: that is the log reader's.

use super::allocations;
use super::context::{Context, Lines, LogSource};
use super::error::ApiError;
use super::request::Request;
use super::stream::{self, Feed, Left};
use crate::actors::container::logs::{Event, LogLine, LogTime, Merged, Query, Stream, merge};
use crate::actors::root::View;
use crate::fsm::State;
use crate::fsm::model::Allocation;
use crate::id::{AllocId, WorkloadName};
use crate::limits;
use crate::units::{Millis, Timestamp};
use crate::views;
use crate::wire::LogLineView;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
use warp::reply::Response;

/// `GET /v1/logs` and `GET /v1/logs/{name}`.
pub async fn logs(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let query = query(&request)?;
    let in_path = request.params.get("name").map(String::as_str);
    let names: Vec<&str> = in_path.into_iter().chain(request.all("name")).collect();
    let reading = context.read().await?;
    let scope = Scope::of(reading.state(), &names)?;
    let node = reading.view.node;
    let name = reading.state().nodes.get(&node).map(|node| node.name.clone());
    let mut following = Following {
        scope,
        query,
        known: BTreeSet::new(),
        node: name.unwrap_or_else(|| node.to_string()),
        source: Arc::clone(&context.doors.logs),
        views: context.views.clone(),
        shown: Arc::clone(&reading.view.state),
    };
    let sources = following.open_new(&reading.view, query).map_err(unreadable)?;
    let lines = merge(sources, query.tail);
    let response = stream::open(&context, move |feed| following.run(lines, feed))?;
    Ok(reading.mark(response))
}

fn unreadable(error: std::io::Error) -> ApiError {
    ApiError::Internal { doing: "reading the log", reason: error.to_string() }
}

fn query(request: &Request) -> Result<Query, ApiError> {
    let tail: Option<usize> = request.parsed("tail", "a number of lines")?;
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
        follow: request.flag("follow")?,
        previous: request.flag("previous")?,
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

/// Whose lines are wanted.
enum Scope {
    Everything,
    Named { workloads: BTreeSet<WorkloadName>, allocations: BTreeSet<AllocId> },
}

impl Scope {
    fn of(state: &State, names: &[&str]) -> Result<Self, ApiError> {
        if names.is_empty() {
            return Ok(Self::Everything);
        }
        let (mut workloads, mut allocations) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            // One that waits for a node has no allocation yet.
            let waiting = AllocId::from(*name);
            if state.runs.contains_key(&waiting) {
                allocations.insert(waiting);
                continue;
            }
            match allocations::by_name(state, name)? {
                (_, Some(workload)) => drop(workloads.insert(workload)),
                (found, None) => allocations.extend(found.iter().map(|a| a.id.clone())),
            }
        }
        Ok(Self::Named { workloads, allocations })
    }

    fn holds(&self, allocation: &Allocation) -> bool {
        match self {
            Self::Everything => true,
            Self::Named { workloads, allocations } => {
                workloads.contains(&allocation.workload) || allocations.contains(&allocation.id)
            }
        }
    }

    /// Nothing of it will ever write a line again.
    fn is_over(&self, state: &State) -> bool {
        match self {
            Self::Everything => false,
            Self::Named { workloads, allocations } => {
                let may_come = |id| state.runs.get(id).is_some_and(|run| run.ended_at.is_none());
                let is_live =
                    |id| state.allocations.get(id).is_some_and(|a| a.is_live()) || may_come(id);
                let spawned = |name: &WorkloadName| state.derived.runs.get(name);
                let runs = |name: &WorkloadName| {
                    state.owner(name).is_some()
                        || spawned(name).is_some_and(|of| !of.live.is_empty())
                };
                !workloads.iter().any(runs) && !allocations.iter().any(is_live)
            }
        }
    }
}

/// A stream of lines on its way to a client.
struct Following {
    scope: Scope,
    query: Query,
    /// The allocations that are read or have been.
    known: BTreeSet<AllocId>,
    node: String,
    source: Arc<dyn LogSource>,
    views: watch::Receiver<Option<View>>,
    /// The state whose endings have been told.
    shown: Arc<State>,
}

/// The stream of what mill itself says between the lines.
const EVENT: &str = "event";

impl Following {
    /// Begins to read the allocations on this node that aren't read yet.
    fn open_new(&mut self, view: &View, query: Query) -> std::io::Result<Vec<Lines>> {
        let mut opened = Vec::new();
        for allocation in view.state.allocations_on(view.node) {
            if self.scope.holds(allocation) && self.known.insert(allocation.id.clone()) {
                opened.push(self.source.read(&allocation.id, query)?);
            }
        }
        Ok(opened)
    }

    async fn run(mut self, mut lines: Merged<Lines>, feed: Feed) -> Result<(), Left> {
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
                line = lines.next(), if history => match line {
                    Some(line) => {
                        self.send(&line, &feed).await?;
                        last = None;
                    }
                    None => history = false,
                },
                Some(event) = late.next(), if !late.is_empty() => {
                    if let Event::Line(line) = event {
                        self.send(&line, &feed).await?;
                        last = None;
                    }
                }
                changed = self.views.changed(), if self.query.follow => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Some(view) = self.views.borrow_and_update().clone() else { continue };
                    late.extend(self.open_late(&view));
                    self.tell_endings(&view, &feed).await?;
                }
                () = tokio::time::sleep_until(end), if last.is_some() => return Ok(()),
                () = feed.closed() => return Err(Left),
            }
        }
    }

    /// Begins to read what came into being while the others were followed.
    fn open_late(&mut self, view: &View) -> Vec<Lines> {
        let query = Query { follow: true, ..Query::default() };
        self.open_new(view, query).unwrap_or_else(|error| {
            tracing::warn!(%error, "reading the log of a new allocation");
            Vec::new()
        })
    }

    /// Between the lines: whose program has ended since the last view.
    async fn tell_endings(&mut self, view: &View, feed: &Feed) -> Result<(), Left> {
        let time = super::context::now();
        let before = std::mem::replace(&mut self.shown, Arc::clone(&view.state));
        for allocation in view.state.allocations_on(view.node) {
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
                stream: EVENT.to_owned(),
                line: text,
                allocation: allocation.id.to_string(),
                node: self.node.clone(),
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

    async fn send(&self, line: &LogLine, feed: &Feed) -> Result<(), Left> {
        let data = LogLineView {
            ts: line.ts.to_string(),
            stream: match line.stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
                Stream::Mill => EVENT,
            }
            .to_owned(),
            line: line.line.clone(),
            allocation: line.allocation.to_string(),
            node: self.node.clone(),
        };
        feed.send(None, &line.ts.0.to_string(), &data).await
    }
}
