//! What clients saw, and what is wrong with it.
//!
//! Owns the clock of a run and the records of its operations, taken apart by register. Never asks a
//! node.

use crate::history::{Call, Operation, Placed, Value, Verdict, check, misplaced};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is said to be a register: a label of a node, or whether a token is there.
pub type Register = String;

/// How an operation ended, in the words of Jepsen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It was carried out.
    Ok,
    /// It certainly wasn't.
    Fail,
    /// Nobody knows.
    Info,
}

/// Who asked what of which node, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which client.
    pub client: usize,
    /// Which node.
    pub node: usize,
    /// When.
    pub began: Duration,
}

/// Which tokens there were.
#[derive(Clone, Debug)]
pub struct Listing {
    asked: Asked,
    ended: Duration,
    /// Their ids.
    pub ids: BTreeSet<String>,
}

/// The operations of one register.
#[derive(Default)]
struct Track {
    operations: Vec<Operation>,
    /// Readings that nobody confirmed: no part of the order, but of the past.
    stale: Vec<Operation>,
    written: Vec<Placed>,
    shown: Vec<Placed>,
}

/// Everything of one run.
pub struct Record {
    began: Instant,
    tracks: Mutex<BTreeMap<Register, Track>>,
    listings: Mutex<Vec<Listing>>,
    counts: Mutex<BTreeMap<(&'static str, End), usize>>,
    /// What is wrong in itself.
    wrong: Mutex<Vec<String>>,
}

/// How many operations ended how.
pub type Counts = BTreeMap<(&'static str, End), usize>;

impl Default for Record {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            tracks: Mutex::default(),
            listings: Mutex::default(),
            counts: Mutex::default(),
            wrong: Mutex::default(),
        }
    }
}

impl Record {
    /// The time of this run.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Counts an operation.
    pub fn count(&self, what: &'static str, end: End) {
        *self.counts.lock().unwrap().entry((what, end)).or_default() += 1;
    }

    /// Notes what no order of operations could excuse.
    pub fn is_wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// A register was to be set; `index` is where in the log that was done.
    pub fn wrote(&self, register: &str, asked: Asked, value: Value, end: End, index: Option<u64>) {
        if end == End::Fail {
            return;
        }
        let ended = (end == End::Ok).then(|| self.now());
        let Asked { client, node, began } = asked;
        let operation = Operation { client, node, call: Call::Write(value), began, ended };
        let mut tracks = self.tracks.lock().unwrap();
        let track = tracks.entry(register.to_owned()).or_default();
        track.operations.push(operation);
        track.written.extend(index.filter(|_| end == End::Ok).map(|at| (at, value)));
    }

    /// A register was read; `index` is as of where in the log, if writes say theirs too.
    pub fn read(
        &self,
        register: &str,
        asked: Asked,
        value: Value,
        stale: bool,
        index: Option<u64>,
    ) {
        let Asked { client, node, began } = asked;
        let ended = Some(self.now());
        let operation = Operation { client, node, call: Call::Read(value), began, ended };
        let mut tracks = self.tracks.lock().unwrap();
        let track = tracks.entry(register.to_owned()).or_default();
        if stale {
            track.stale.push(operation)
        } else {
            track.operations.push(operation)
        }
        track.shown.extend(index.map(|at| (at, value)));
    }

    /// The tokens were listed, confirmed.
    pub fn listed(&self, asked: Asked, ids: BTreeSet<String>) {
        let ended = self.now();
        self.listings.lock().unwrap().push(Listing { asked, ended, ids });
    }

    /// How many operations ended how.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// The number of readings that were marked as stale.
    pub fn stale(&self) -> usize {
        self.tracks.lock().unwrap().values().map(|track| track.stale.len()).sum()
    }

    /// Each listing is a reading of each token that anybody knows.
    fn spread_listings(&self) {
        let listings = std::mem::take(&mut *self.listings.lock().unwrap());
        let mut tracks = self.tracks.lock().unwrap();
        for (register, track) in tracks.iter_mut() {
            let Some(id) = register.strip_prefix("token ") else { continue };
            let made = track.operations.iter().map(|one| one.began).min().unwrap_or_default();
            for Listing { asked, ended, ids } in &listings {
                let value = ids.contains(id).then_some(1);
                // Nothing was there before, and everybody agrees.
                if value.is_none() && *ended < made {
                    continue;
                }
                let Asked { client, node, began } = *asked;
                let (call, ended) = (Call::Read(value), Some(*ended));
                track.operations.push(Operation { client, node, call, began, ended });
            }
        }
    }

    /// Everything that is wrong, each with the history of its register.
    pub fn verdict(&self) -> Vec<String> {
        self.spread_listings();
        let mut all = self.wrong.lock().unwrap().clone();
        for (register, track) in self.tracks.lock().unwrap().iter() {
            all.extend(track.wrong().map(|what| format!("{register}: {what}\n{}", track.told())));
        }
        all
    }

    /// Whether the history would be refused if a stale reading were taken for any other.
    pub fn would_be_refused_with_stale_readings(&self, register: &str) -> bool {
        let tracks = self.tracks.lock().unwrap();
        let track = &tracks[register];
        assert_eq!(check(None, &track.operations), Verdict::Linearizable, "{}", track.told());
        let both: Vec<Operation> = track.operations.iter().chain(&track.stale).copied().collect();
        matches!(check(None, &both), Verdict::Violation(_))
    }
}

impl Track {
    fn wrong(&self) -> Option<String> {
        match check(None, &self.operations) {
            Verdict::Linearizable => {}
            Verdict::Violation(at) => return Some(format!("not linearizable:\n{at}")),
            Verdict::Undecided => return Some("too much at once to tell".to_owned()),
        }
        let unknown: Vec<Value> = self
            .operations
            .iter()
            .filter_map(|one| match one.call {
                Call::Write(value) if one.ended.is_none() => Some(value),
                _ => None,
            })
            .collect();
        let (at, value) = misplaced(None, &self.written, &unknown, &self.shown)?;
        Some(format!("{value:?} was shown as of index {at}, where it was something else"))
    }

    /// The whole history, to be read by a person.
    fn told(&self) -> String {
        let mut all: Vec<(Operation, &str)> =
            self.operations.iter().map(|one| (*one, "")).collect();
        all.extend(self.stale.iter().map(|one| (*one, " (stale)")));
        all.sort_by_key(|(one, _)| one.began);
        let mut text = String::new();
        for (one, mark) in all {
            let _ = writeln!(text, "{one}{mark}");
        }
        let _ = writeln!(text, "written, by index: {:?}", self.written);
        text
    }
}
