//! Histories of registers, and whether they are linearizable.
//!
//! Owns the search for an order in which every operation takes effect at one moment between its
//! beginning and its end (Wing and Gong 1993, with the states seen so far remembered as by Lowe
//! 2017). Never runs an operation, and never looks at more than one register: a system is
//! linearizable if each of its registers is (Herlihy and Wing 1990).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

/// States that a search may look at: more than any history here needs by far.
const STATES_MAX: usize = 400_000;

/// What a register holds: no value, or one that is written once in a history.
pub type Value = Option<u64>;

/// What was done to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It was set to this.
    Write(Value),
    /// It showed this.
    Read(Value),
}

impl Call {
    /// The register after it; nothing if it can't have been then.
    fn step(self, state: Value) -> Option<Value> {
        match self {
            Self::Write(value) => Some(value),
            Self::Read(seen) => (seen == state).then_some(state),
        }
    }
}

/// One operation. What certainly never took effect is left out of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub client: usize,
    /// Which node was asked.
    pub node: usize,
    /// What.
    pub call: Call,
    /// When it began.
    pub began: Duration,
    /// When its answer was there. Nothing if it isn't known whether it took effect: then it may
    /// have at any time after its beginning, or not at all.
    pub ended: Option<Duration>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, node, call, began, ended } = self;
        let ended = ended.map_or("?".to_owned(), |at| format!("{:.4}", at.as_secs_f64()));
        let began = began.as_secs_f64();
        write!(f, "{began:9.4} to {ended:>9}  client {client} at n{node}: {call:?}")
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none: no order gets past this operation.
    Violation(Operation),
    /// The search was given up.
    Undecided,
}

/// Whether the operations of one register, in any order, are linearizable.
#[must_use]
pub fn check(initial: Value, history: &[Operation]) -> Verdict {
    let (which, needed): (Vec<usize>, Vec<Operation>) = needed(history).into_iter().unzip();
    match Search::new(initial, &needed).run() {
        Found::Order => Verdict::Linearizable,
        Found::Stuck(at) => Verdict::Violation(history[which[at]]),
        Found::TooMuch => Verdict::Undecided,
    }
}

/// The history with as little left open as can be, each operation with its place in it.
///
/// Nothing hangs on a write of unknown outcome whose value nobody saw: taken out of any order, what
/// is left is one, as between such a write and the next there can be no read. And one whose value
/// was seen, which no other write has, came before the end of the first that saw it.
fn needed(history: &[Operation]) -> Vec<(usize, Operation)> {
    let mut seen: BTreeMap<Value, Duration> = BTreeMap::new();
    for one in history {
        if let (Call::Read(value), Some(ended)) = (one.call, one.ended) {
            let first = seen.entry(value).or_insert(ended);
            *first = ended.min(*first);
        }
    }
    let closed = |one: &Operation| match (one.call, one.ended) {
        (_, Some(_)) => Some(*one),
        (Call::Read(_), None) => None,
        (Call::Write(value), None) => {
            let ended = *seen.get(&value)?;
            // There may be other writes of nothing.
            Some(Operation { ended: value.map(|_| ended), ..*one })
        }
    };
    let all = history.iter().enumerate();
    all.filter_map(|(at, one)| Some((at, closed(one)?))).collect()
}

/// The beginning or end of an operation, as a place in the search's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    at: Duration,
    /// At the same moment beginnings come first: then the operations overlap.
    is_end: bool,
    operation: usize,
}

/// What a search ends with.
enum Found {
    Order,
    /// No order gets past this operation.
    Stuck(usize),
    TooMuch,
}

/// A list of marks of operations that aren't in the order yet, with a way back.
struct Search<'a> {
    operations: &'a [Operation],
    /// By place, from 1; 0 is both ends of the list.
    marks: Vec<Mark>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Where each operation begins, and ends if that is known.
    places: Vec<(usize, Option<usize>)>,
    state: Value,
    done: Vec<u64>,
    /// How many operations with a known end are not in the order yet.
    left: usize,
    /// The order so far, each with the state before it.
    order: Vec<(usize, Value)>,
    seen: HashSet<(Vec<u64>, Value)>,
}

impl<'a> Search<'a> {
    fn new(initial: Value, operations: &'a [Operation]) -> Self {
        let mut marks = Vec::with_capacity(operations.len() * 2);
        for (operation, one) in operations.iter().enumerate() {
            marks.push(Mark { at: one.began, is_end: false, operation });
            marks.extend(one.ended.map(|at| Mark { at, is_end: true, operation }));
        }
        marks.sort_unstable();
        let mut places = vec![(0, None); operations.len()];
        for (at, mark) in marks.iter().enumerate() {
            let place = &mut places[mark.operation];
            if mark.is_end { place.1 = Some(at + 1) } else { place.0 = at + 1 }
        }
        let length = marks.len() + 1;
        Self {
            operations,
            marks,
            next: (0..length).map(|at| (at + 1) % length).collect(),
            prev: (0..length).map(|at| (at + length - 1) % length).collect(),
            places,
            state: initial,
            done: vec![0; operations.len().div_ceil(64)],
            left: operations.iter().filter(|one| one.ended.is_some()).count(),
            order: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn run(mut self) -> Found {
        let mut at = self.next[0];
        let mut furthest = (0, None);
        while self.left > 0 {
            // The list can't end here: the end of an operation that is left is still in it.
            let Mark { is_end, operation, .. } = self.marks[at - 1];
            if !is_end {
                at = if self.take(operation) { self.next[0] } else { self.next[at] };
                if self.seen.len() > STATES_MAX {
                    return Found::TooMuch;
                }
                continue;
            }
            if furthest.1.is_none() || self.order.len() > furthest.0 {
                furthest = (self.order.len(), Some(operation));
            }
            match self.give_back() {
                Some(place) => at = self.next[place],
                None => {
                    return Found::Stuck(furthest.1.unwrap_or(operation));
                }
            }
        }
        Found::Order
    }

    /// Puts an operation next into the order, unless that can't be or leads to where the search
    /// was.
    fn take(&mut self, operation: usize) -> bool {
        let one = self.operations[operation];
        let Some(state) = one.call.step(self.state) else { return false };
        self.flip(operation);
        if !self.seen.insert((self.done.clone(), state)) {
            self.flip(operation);
            return false;
        }
        self.order.push((operation, self.state));
        self.state = state;
        self.left -= usize::from(one.ended.is_some());
        let (began, ended) = self.places[operation];
        for place in [Some(began), ended].into_iter().flatten() {
            self.next[self.prev[place]] = self.next[place];
            self.prev[self.next[place]] = self.prev[place];
        }
        true
    }

    /// Takes the last one out of the order; where it begins.
    fn give_back(&mut self) -> Option<usize> {
        let (operation, state) = self.order.pop()?;
        self.flip(operation);
        self.state = state;
        self.left += usize::from(self.operations[operation].ended.is_some());
        let (began, ended) = self.places[operation];
        for place in [ended, Some(began)].into_iter().flatten() {
            self.next[self.prev[place]] = place;
            self.prev[self.next[place]] = place;
        }
        Some(began)
    }

    fn flip(&mut self, operation: usize) {
        self.done[operation / 64] ^= 1 << (operation % 64);
    }
}

/// A value and the index in the log at which it was written, or as of which it was shown.
pub type Placed = (u64, Value);

/// The first reading that is no state of the register at the index that it names, if there is one:
/// something other than what was written last up to there. That may also be a write of unknown
/// outcome, whose value is one of `maybe`.
#[must_use]
pub fn misplaced(
    initial: Value,
    written: &[Placed],
    maybe: &[Value],
    readings: &[Placed],
) -> Option<Placed> {
    let mut written = written.to_vec();
    written.sort_unstable();
    let maybe: BTreeSet<Value> = maybe.iter().copied().collect();
    let holds = |(index, value): &Placed| {
        let before = written.partition_point(|(at, _)| at <= index);
        let last = before.checked_sub(1).map_or(initial, |at| written[at].1);
        *value == last || maybe.contains(value)
    };
    readings.iter().copied().find(|reading| !holds(reading))
}
