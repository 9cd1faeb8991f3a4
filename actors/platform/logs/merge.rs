//! Several allocations' logs as one stream, in the order of their times.
//!
//! Owns the order. Never holds more than one line of each, and the last ones if a `tail` is asked.

use super::format::LogTime;
use super::reader::{Event, LogLine, Tail};
use crate::limits;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt, StreamFuture};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A source and what is known of it.
struct Source<S> {
    number: usize,
    caught_up: bool,
    events: S,
}

impl<S: Stream<Item = Event> + Unpin> Stream for Source<S> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next_unpin(context)
    }
}

/// A source's next line and the source behind it; the earliest is the greatest.
struct Head<S> {
    line: LogLine,
    source: Source<S>,
}

impl<S> Head<S> {
    fn key(&self) -> (LogTime, usize) {
        (self.line.ts, self.source.number)
    }
}

impl<S> PartialEq for Head<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<S> Eq for Head<S> {}

impl<S> PartialOrd for Head<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for Head<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// See [`merge`].
pub struct Merged<S> {
    asked: FuturesUnordered<StreamFuture<Source<S>>>,
    heads: BinaryHeap<Head<S>>,
    /// Sources that still give out what was there at the beginning.
    behind: usize,
    /// Of those, the ones that are asked and haven't answered: nothing can be ordered before.
    awaited: usize,
    tail: Option<Tail>,
    ready: VecDeque<LogLine>,
    /// That all sources have caught up has been told.
    told: bool,
}

/// Merges sources by time. What was there when the reading began comes in exact order; then lines
/// come as they are written, without waiting for quiet sources. `tail` keeps only the last lines of
/// the first part, of all sources together. The end of the first part is told, once.
pub fn merge<S>(sources: Vec<S>, tail: Option<usize>) -> Merged<S>
where
    S: Stream<Item = Event> + Unpin,
{
    let count = sources.len();
    let merged = Merged {
        asked: FuturesUnordered::new(),
        heads: BinaryHeap::new(),
        behind: count,
        awaited: count,
        tail: tail.map(|lines| Tail::new(lines.min(limits::LOG_TAIL_MAX))),
        ready: VecDeque::new(),
        told: false,
    };
    for (number, events) in sources.into_iter().enumerate() {
        merged.asked.push(Source { number, caught_up: false, events }.into_future());
    }
    merged
}

impl<S: Stream<Item = Event> + Unpin> Merged<S> {
    fn ask(&mut self, source: Source<S>) {
        self.awaited += usize::from(!source.caught_up);
        self.asked.push(source.into_future());
    }

    fn answered(&mut self, event: Option<Event>, mut source: Source<S>) {
        self.awaited -= usize::from(!source.caught_up);
        match event {
            Some(Event::Line(line)) => self.heads.push(Head { line, source }),
            Some(Event::CaughtUp) => {
                self.behind -= usize::from(!source.caught_up);
                source.caught_up = true;
                self.ask(source);
            }
            None => self.behind -= usize::from(!source.caught_up),
        }
    }
}

impl<S: Stream<Item = Event> + Unpin> Stream for Merged<S> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Poll::Ready(Some(Event::Line(line)));
            }
            while let Poll::Ready(Some((event, source))) = self.asked.poll_next_unpin(context) {
                self.answered(event, source);
            }
            if self.awaited > 0 {
                return Poll::Pending;
            }
            if self.behind == 0
                && let Some(tail) = self.tail.take()
            {
                self.ready = tail.into_lines();
                continue;
            }
            if self.behind == 0 && !std::mem::replace(&mut self.told, true) {
                return Poll::Ready(Some(Event::CaughtUp));
            }
            let Some(Head { line, source }) = self.heads.pop() else {
                return if self.asked.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            };
            self.ask(source);
            match &mut self.tail {
                Some(tail) => tail.push(line),
                None => return Poll::Ready(Some(Event::Line(line))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Stream as Kind;
    use super::*;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    fn line(nanos: u64, name: &str) -> Event {
        let (ts, allocation) = (LogTime(nanos), name.into());
        let line = nanos.to_string();
        let (stream, bytes, open, node) = (Kind::Stdout, None, false, None);
        Event::Line(LogLine { ts, stream, line, bytes, open, allocation, node })
    }

    fn source(name: &str, times: &[u64]) -> futures_util::stream::Iter<std::vec::IntoIter<Event>> {
        let mut events: Vec<Event> = times.iter().map(|nanos| line(*nanos, name)).collect();
        events.push(Event::CaughtUp);
        futures_util::stream::iter(events)
    }

    fn lines(events: impl Stream<Item = Event>) -> impl Stream<Item = LogLine> {
        events.filter_map(async |event| match event {
            Event::Line(line) => Some(line),
            Event::CaughtUp => None,
        })
    }

    #[tokio::test]
    async fn history_comes_in_order_and_equal_times_by_source() {
        let sources = vec![source("a", &[1, 4, 9]), source("b", &[]), source("c", &[2, 3, 4, 10])];
        let got: Vec<(u64, String)> = lines(merge(sources, None))
            .map(|line| (line.ts.0, line.allocation.to_string()))
            .collect()
            .await;
        let want = [(1, "a"), (2, "c"), (3, "c"), (4, "a"), (4, "c"), (9, "a"), (10, "c")];
        assert_eq!(got, want.map(|(nanos, name)| (nanos, name.to_owned())));
    }

    #[tokio::test]
    async fn a_tail_is_of_all_together() {
        let sources = vec![source("a", &[1, 4, 9]), source("b", &[2, 3, 4, 10])];
        let got: Vec<u64> = lines(merge(sources, Some(3))).map(|line| line.ts.0).collect().await;
        assert_eq!(got, [4, 9, 10]);
    }

    #[tokio::test]
    async fn a_quiet_source_holds_up_history_but_not_what_is_new() {
        let (quiet, quiet_events) = tokio::sync::mpsc::unbounded_channel();
        let (loud, loud_events) = tokio::sync::mpsc::unbounded_channel();
        let sources = [quiet_events, loud_events].map(UnboundedReceiverStream::new);
        let mut merged = merge(sources.into(), Some(1));
        loud.send(line(5, "loud")).unwrap();
        loud.send(Event::CaughtUp).unwrap();
        loud.send(line(7, "loud")).unwrap();
        assert!(futures_util::poll!(merged.next()).is_pending());
        quiet.send(line(3, "quiet")).unwrap();
        assert!(futures_util::poll!(merged.next()).is_pending());
        quiet.send(Event::CaughtUp).unwrap();
        let mut got = Vec::new();
        while let Poll::Ready(Some(event)) = futures_util::poll!(merged.next()) {
            got.push(event);
        }
        assert_eq!(got, [line(5, "loud"), Event::CaughtUp, line(7, "loud")]);
        quiet.send(line(8, "quiet")).unwrap();
        assert_eq!(merged.next().await.unwrap(), line(8, "quiet"));
        drop((quiet, loud));
        assert_eq!(merged.next().await, None);
    }
}
