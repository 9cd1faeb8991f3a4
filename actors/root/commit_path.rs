//! The way of a change: proposal, entry, `apply`, views.
//!
//! Owns the order in which things happen to the state. Never waits for a child.

use super::{Child, Done, Proposal, ProposeError, RaftEvent, RootRef, State, View};
use crate::actors::peer::{self, Post};
use crate::actors::raft as consensus;
use crate::actors::raft::EncodeError;
use crate::actors::scheduler;
use crate::api::views::Expelled;
use crate::consensus::propose::{CommittedEntry, too_old};
use crate::fsm::model::Node;
use crate::fsm::{self, Applied, Command, Rejection, Touched};
use crate::id::{BootId, Index, NodeId, Term};
use crate::limits;
use crate::units::Timestamp;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

impl State {
    pub(super) fn on_raft(&mut self, event: RaftEvent, myself: &RootRef) {
        match event {
            RaftEvent::Installed(state) => {
                tracing::info!(index = %state.index, "a snapshot is taken over");
                self.fsm = Arc::from(state);
                self.answer_covered();
                self.on_advanced(&Touched::everything(), myself);
            }
            RaftEvent::Committed(entries) => self.on_committed(entries, myself),
            RaftEvent::Refused(node, boot, seq, refusal) => {
                let own = self.member.as_ref().map(|member| member.node);
                if Some(node) != own {
                    self.turn_back(node, boot, seq, refusal);
                } else if boot == self.boot {
                    self.on_refused(seq, refusal, myself);
                }
            }
            RaftEvent::Leader(leader, term) => self.on_leader(leader, term, myself),
            RaftEvent::Conf(conf) => {
                self.conf = Some(conf);
                self.children.scheduler.tell(scheduler::Msg::Conf(self.conf.clone()));
            }
            RaftEvent::Confirmed(index) => {
                self.confirmed = Some(index);
                self.keep_time(myself);
                self.introduce(myself);
                self.publish(&Touched::everything());
            }
            RaftEvent::SnapshotWanted => {
                let (index, state) = (self.fsm.index, Arc::clone(&self.fsm));
                let encode: consensus::Encode =
                    Box::new(move || state.encode().map_err(|e| EncodeError(Box::new(e))));
                let message = consensus::Msg::Snapshot { index, encode };
                self.children.raft.tell(message);
            }
            RaftEvent::Disk(disk) => {
                tracing::warn!(?disk, "the disk of the log");
                self.vitals.disk = disk;
            }
            RaftEvent::Fatal(reason) => self.fail(reason),
        }
    }

    fn on_leader(&mut self, leader: Option<NodeId>, term: Term, myself: &RootRef) {
        self.vitals.term = term;
        self.leader = leader;
        self.keep_time(myself);
        // After it has begun: until then the one before counts.
        let now = self.elapsed();
        self.clock.set_leader(leader.is_some(), now);
        if !self.leads() {
            self.conf = None;
            self.children.scheduler.tell(scheduler::Msg::Conf(None));
        }
        self.publish(&Touched::default());
        // What an earlier leader had may be lost with it.
        self.hand_over_all();
        self.arm_again(myself);
    }

    fn on_committed(&mut self, entries: Vec<CommittedEntry>, myself: &RootRef) {
        let was_current = self.is_current();
        let mut touched = Touched::default();
        let own = self.member.as_ref().map(|member| member.node);
        let start = Arc::clone(&self.fsm);
        for (n, CommittedEntry { index, entry }) in entries.iter().enumerate() {
            let index = *index;
            let Some(entry) = entry else {
                Arc::make_mut(&mut self.fsm).index = index;
                continue;
            };
            let session = entry.session;
            let applied = self.apply(index, entry.clone()).unwrap_or_else(|what| {
                self.fsm = Arc::new(replayed(&start, &entries[..n]));
                self.reject(index, entry.time, what)
            });
            touched.merge(&applied.touched);
            if Some(session.node) == own && session.boot == self.boot {
                let done = applied.outcome.map(|outcome| Done { index, outcome });
                self.answer(session.seq, done.map_err(ProposeError::from));
            }
        }
        self.children.raft.tell(consensus::Msg::Applied(self.fsm.index));
        self.children.stamp_raft();
        self.stamp(myself);
        // What was committed before this boot may be old.
        let is_fresh = |one: &CommittedEntry| {
            one.entry.is_some() && self.confirmed.is_some_and(|confirmed| one.index > confirmed)
        };
        if self.is_current() && entries.iter().any(is_fresh) {
            let now = self.elapsed();
            self.clock.applied(self.fsm.time, now);
        }
        if self.is_current() != was_current {
            touched.merge(&Touched::everything());
        }
        self.on_advanced(&touched, myself);
    }

    /// The state is further, by entries or by a snapshot, after which no entry need come.
    fn on_advanced(&mut self, touched: &Touched, myself: &RootRef) {
        if self.is_current() {
            self.keep_time(myself);
            self.introduce(myself);
        }
        self.publish(touched);
        self.tell_ready();
    }

    /// What was said if applying the entry panicked: then the state may be anything.
    fn apply(&mut self, index: Index, entry: fsm::Entry) -> Result<Applied, String> {
        let state = Arc::make_mut(&mut self.fsm);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| fsm::apply(state, index, entry)));
        result.map_err(|panic| panic_text(panic.as_ref()))
    }

    /// An entry that could not be applied is a rejection, the same on every node.
    fn reject(&mut self, index: Index, time: Timestamp, what: String) -> Applied {
        tracing::error!(index = index.0, %what, "applying an entry failed inside");
        let state = Arc::make_mut(&mut self.fsm);
        state.index = index;
        state.time = state.time.max(time);
        Applied { outcome: Err(Rejection::Internal { what }), touched: Touched::default() }
    }

    pub(super) fn is_current(&self) -> bool {
        self.confirmed.is_some_and(|confirmed| self.fsm.index >= confirmed)
    }

    /// Once the state is known to be current: the first node begins the cluster, then every node
    /// says what it has. One at a time, and again until the state shows it.
    pub(super) fn introduce(&mut self, myself: &RootRef) {
        self.begin_a_life_if_lost();
        let Some(member) = self.member.as_ref().filter(|_| !self.introducing) else { return };
        if self.is_known() {
            return;
        }
        let init = member.init.clone().filter(|_| self.fsm.cluster.is_none());
        let mut register = member.register.clone();
        register.boot = self.epoch;
        register.reach = register.reach.filter(|_| self.tells_reach());
        register.after = self.fsm.nodes.get(&member.node).map(|node| node.boot);
        let command = init.map_or(Command::Register(register), Command::Init);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.introducing = true;
        self.propose(Proposal::new(&command, None, sender.into()), myself);
        let myself = myself.clone();
        tokio::spawn(async move {
            let answer = receiver.await;
            if !matches!(answer, Ok(Ok(_))) {
                tracing::warn!(?answer, "the node could not introduce itself and tries again");
                tokio::time::sleep(limits::INTRODUCE_AGAIN).await;
            }
            // Root may have stopped meanwhile.
            let _ = myself.cast(super::Msg::Introduced);
        });
    }

    /// This life of the node was taken for lost: nothing that it says counts any more.
    fn begin_a_life_if_lost(&mut self) {
        let node = self.member.as_ref().and_then(|member| self.fsm.nodes.get(&member.node));
        let is_lost = |node: &Arc<Node>| node.boot == self.epoch && !node.is_up();
        if node.is_some_and(is_lost) {
            tracing::warn!("the cluster took this node for lost: it registers anew");
            self.epoch = BootId(rand::random());
        }
    }

    /// The state shows this life of the node, and where it is.
    fn is_known(&self) -> bool {
        let Some(member) = &self.member else { return false };
        let is_up = |node: &Node| {
            let reach = member.register.reach.as_ref().filter(|_| self.tells_reach());
            reach.is_none_or(|at| at.address == node.address && at.peer_port == node.peer_port)
        };
        let node = self.fsm.nodes.get(&member.node);
        node.is_some_and(|node| node.boot == self.epoch && is_up(node))
    }

    /// Every member takes in where a node is.
    fn tells_reach(&self) -> bool {
        self.fsm.is_next()
    }

    pub(super) fn tell_ready(&mut self) {
        if !self.waiting.is_empty() && self.is_current() && self.is_known() {
            for reply in self.waiting.drain(..) {
                // Who waited may have gone.
                let _ = reply.send(());
            }
        }
    }

    /// Hands the new view to every child that has settled its last one.
    pub(super) fn publish(&mut self, touched: &Touched) {
        let Some(view) = self.view() else { return };
        self.children.publish(&view, touched);
    }

    pub(super) fn on_settled(&mut self, child: Child, index: Index) {
        let Some(view) = self.view() else { return };
        if let Some(least) = self.children.settled(child, index, &view) {
            self.children.scheduler.tell(scheduler::Msg::Settled(view.node, least));
            self.children.peer.tell(peer::Notice::Settled(least));
        }
    }

    pub(super) fn view(&self) -> Option<View> {
        Some(View {
            index: self.fsm.index,
            state: Arc::clone(&self.fsm),
            touched: Arc::default(),
            current: self.is_current(),
            leader: self.leader,
            node: self.member.as_ref()?.node,
            boot: self.epoch,
            removed: self.vitals.expelled == Some(Expelled::Removed),
            time: self.leading_time(),
        })
    }
}

/// The state after entries that may have panicked: each is applied on a copy.
#[must_use]
pub fn replayed(start: &fsm::State, entries: &[CommittedEntry]) -> fsm::State {
    let mut state = start.clone();
    for CommittedEntry { index, entry } in entries {
        let mut next = state.clone();
        let apply = || entry.clone().map(|entry| fsm::apply(&mut next, *index, entry));
        if std::panic::catch_unwind(AssertUnwindSafe(apply)).is_ok() {
            state = next;
        }
        state.index = *index;
        state.time = state.time.max(entry.as_ref().map_or(state.time, |entry| entry.time));
    }
    state
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Where raft's events go: messages to other nodes straight into their letterboxes, the rest to
/// root, decoded on raft's side.
#[must_use]
pub fn sink(root: RootRef, post: Arc<Post>, level: u32) -> consensus::Sink {
    Arc::new(move |event| match event {
        consensus::Event::Send { to, bytes, bulk } => post.send(to, bytes, bulk),
        event => {
            if let Some(event) = RaftEvent::decode(event, level) {
                // Root stops raft before itself: nothing is lost.
                let _ = root.cast(super::Msg::Raft(event));
            }
        }
    })
}

impl RaftEvent {
    /// Decodes what raft tells. Runs on raft's side, so that root does not spend its time on it.
    /// Absent: nothing for root to do.
    /// `level` is the highest feature level that this build knows.
    #[must_use]
    pub fn decode(event: consensus::Event, level: u32) -> Option<Self> {
        Some(match event {
            consensus::Event::Installed { state, .. } => match fsm::State::decode(&state) {
                Ok(state) if state.level() > level => {
                    Self::Fatal(too_old("the state's snapshot", state.level(), level))
                }
                Ok(state) => Self::Installed(Box::new(state)),
                Err(error) => Self::Fatal(match fsm::State::level_of(&state) {
                    Some(newer) if newer > level => too_old("the state's snapshot", newer, level),
                    _ => format!("reading the state's snapshot: {error}"),
                }),
            },
            consensus::Event::Committed(entries) => {
                match entries.into_iter().map(|one| CommittedEntry::decode(one, level)).collect() {
                    Ok(entries) => Self::Committed(entries),
                    Err(reason) => Self::Fatal(reason),
                }
            }
            consensus::Event::Refused { node, boot, seq, error } => {
                Self::Refused(node, boot, seq, error.into())
            }
            consensus::Event::Conf(conf) => Self::Conf(conf),
            consensus::Event::Leader { leader, term, .. } => Self::Leader(leader, term),
            consensus::Event::Confirmed(index) => Self::Confirmed(index),
            consensus::Event::SnapshotWanted => Self::SnapshotWanted,
            consensus::Event::Disk(disk) => Self::Disk(disk),
            consensus::Event::Stuck(reason) => Self::Fatal(reason),
            consensus::Event::Fatal(error) => Self::Fatal(error.to_string()),
            consensus::Event::Send { .. } => return None,
        })
    }
}
