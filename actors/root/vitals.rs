//! What root counts for its node's metrics: restarts of its children, the term, its own changes.
//!
//! Never decides anything by them, and starts anew with the process.

use super::Child;
use crate::actors::mailbox::Waits;
use crate::api::views::Expelled;
use crate::consensus::raft::event::LogDisk;
use crate::consensus::raft::node::Conf;
use crate::id::{NodeId, Term};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What root has counted in this boot.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// The term of the consensus; 0 before there is any.
    pub term: Term,
    /// How long changes of this node took, from proposed to applied, in seconds.
    pub commits: Histogram,
    /// The configuration of raft, while this node leads.
    pub conf: Option<Conf>,
    /// How the disk of the log is.
    pub disk: LogDisk,
    /// Another member has said that this node is none any more.
    pub expelled: Option<Expelled>,
    /// Which other nodes can be reached, and since when they can or can't.
    pub(super) links: BTreeMap<NodeId, (bool, Instant)>,
    /// When the process began.
    pub(super) begun: Instant,
    /// How often each child that root starts again was.
    pub restarts: BTreeMap<Child, u64>,
    /// How long messages waited in the actors' mailboxes.
    pub waits: Waits,
}

impl Default for Vitals {
    fn default() -> Self {
        let restarts = Child::ALL.into_iter().filter(|child| *child != Child::Raft);
        Self {
            term: Term::default(),
            conf: None,
            disk: LogDisk::default(),
            expelled: None,
            links: BTreeMap::new(),
            begun: Instant::now(),
            // From 100 µs, each twice the one before, to 1.6 s.
            commits: Histogram::new(exponential_buckets(0.0001, 2.0, 15)),
            restarts: restarts.map(|child| (child, 0)).collect(),
            waits: Waits::default(),
        }
    }
}

impl Vitals {
    /// A change of this node was committed and applied so long after it was proposed.
    pub(super) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// Another node can be reached.
    pub(super) fn reached(&mut self, node: NodeId) {
        self.links.insert(node, (true, Instant::now()));
    }

    /// Another node can't be reached.
    pub(super) fn lost(&mut self, node: NodeId) {
        let link = self.links.entry(node).or_insert((false, self.begun));
        if link.0 {
            *link = (false, Instant::now());
        }
    }

    /// For how long another node could not be reached; absent where it can be.
    #[must_use]
    pub fn silence(&self, node: NodeId) -> Option<Duration> {
        let (up, since) = self.links.get(&node).copied().unwrap_or((false, self.begun));
        (!up).then(|| since.elapsed())
    }

    /// The other nodes that a link was tried to, and for how long each could not be reached.
    #[must_use]
    pub fn others(&self) -> BTreeMap<NodeId, Option<Duration>> {
        self.links.keys().map(|id| (*id, self.silence(*id))).collect()
    }

    /// How long the process has lived.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A child is started again.
    pub(super) fn restarted(&mut self, child: Child) {
        *self.restarts.entry(child).or_default() += 1;
    }
}
