//! The letterboxes of the other members: where what is meant for them is put.
//!
//! Owns their bounds. Never waits: what doesn't fit is dropped and told, as a network would.

use crate::actors::raft as consensus;
use crate::actors::traffic::Traffic;
use crate::consensus::raft::Entry;
use crate::id::{BootId, Index, NodeId};
use crate::limits;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, mpsc, watch};

/// What goes over a link.
pub(super) enum Letter {
    /// A raft message.
    Raft(Bytes),
    /// A proposal for the leader.
    Proposal(Box<Entry>),
}

impl Letter {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Raft(bytes) => bytes.len(),
            Self::Proposal(entry) => entry.command.len() + entry.idempotency_key.len(),
        }
    }
}

/// What a link's heartbeats say, and to whom they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeartbeatState {
    pub(super) leader: Option<NodeId>,
    pub(super) boot: BootId,
    pub(super) settled: Index,
}

/// What waits for one other node.
pub(super) struct Outbox {
    /// There while its link is up.
    letters: ArcSwapOption<mpsc::Sender<Letter>>,
    /// Bytes that wait.
    pub(super) bytes: AtomicUsize,
    /// Raft has been told that the node can't be reached.
    told: AtomicBool,
    bulk: mpsc::Sender<Bytes>,
    /// The node has been heard: it may be reached again.
    pub(super) wake: Notify,
}

impl Outbox {
    /// A box whose link isn't up, and where what is large comes out.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (bulk, large) = mpsc::channel(1);
        let letters = ArcSwapOption::empty();
        let (bytes, told) = (AtomicUsize::new(0), AtomicBool::new(false));
        (Arc::new(Self { letters, bytes, told, bulk, wake: Notify::new() }), large)
    }

    /// The link is up: what is put in comes out here.
    pub(super) fn open(&self) -> mpsc::Receiver<Letter> {
        let (sender, letters) = mpsc::channel(limits::PEER_LETTERS);
        self.bytes.store(0, Ordering::Relaxed);
        self.letters.store(Some(Arc::new(sender)));
        self.told.store(false, Ordering::Relaxed);
        letters
    }

    /// The link is down.
    pub(super) fn close(&self) {
        self.letters.store(None);
    }

    /// Answers whether there was room.
    fn put(&self, letter: Letter) -> bool {
        let size = letter.size();
        if self.bytes.load(Ordering::Relaxed) > limits::PEER_BYTES {
            return false;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let letters = self.letters.load();
        let put = letters.as_ref().is_some_and(|letters| letters.try_send(letter).is_ok());
        if !put {
            self.taken(size);
        }
        put
    }

    /// So many bytes have left the box.
    pub(super) fn taken(&self, size: usize) {
        let less = |bytes: usize| Some(bytes.saturating_sub(size));
        // It always gives a value.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The letterboxes of all other members. Raft's events and root's proposals go straight to it, so
/// that they wait for no mailbox.
#[derive(Default)]
pub struct Post {
    boxes: ArcSwap<BTreeMap<NodeId, Arc<Outbox>>>,
    raft: OnceLock<ActorRef<consensus::Msg>>,
    traffic: OnceLock<Arc<Traffic>>,
    heartbeat: watch::Sender<HeartbeatState>,
}

impl Post {
    /// No letterboxes yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Where the requests of canaries are counted. There is one of these in a process.
    pub fn set_traffic(&self, traffic: Arc<Traffic>) {
        let _ = self.traffic.set(traffic);
    }

    /// What this node has counted of canaries, for the leader.
    pub(super) fn counted(&self) -> Bytes {
        let counted = self.traffic.get().map(|traffic| traffic.counted()).unwrap_or_default();
        if counted.is_empty() {
            return Bytes::new();
        }
        // It is numbers and names: there is nothing that could not be written.
        let text = serde_json::to_vec(&counted).unwrap_or_default();
        if text.len() > limits::CANARY_REPORT_MAX { Bytes::new() } else { text.into() }
    }

    /// Sends a raft message; a large one goes over a connection of its own.
    pub fn send(&self, to: NodeId, bytes: Bytes, bulk: bool) {
        let boxes = self.boxes.load();
        let outbox = boxes.get(&to);
        if bulk {
            if outbox.is_none_or(|outbox| outbox.bulk.try_send(bytes).is_err()) {
                self.tell_raft(consensus::Msg::SnapshotSent { to, ok: false });
            }
            return;
        }
        if outbox.is_some_and(|outbox| outbox.put(Letter::Raft(bytes))) {
            return;
        }
        if outbox.is_none_or(|outbox| !outbox.told.swap(true, Ordering::Relaxed)) {
            self.tell_raft(consensus::Msg::Unreachable(to));
        }
    }

    /// Sends a proposal; answers whether it is on its way.
    pub(super) fn propose(&self, to: NodeId, entry: Entry) -> bool {
        let boxes = self.boxes.load();
        boxes.get(&to).is_some_and(|outbox| outbox.put(Letter::Proposal(Box::new(entry))))
    }

    /// Where messages from other nodes go. Raft is never started twice in a process.
    pub(super) fn set_raft(&self, raft: ActorRef<consensus::Msg>) {
        let _ = self.raft.set(raft);
    }

    pub(super) fn tell_raft(&self, message: consensus::Msg) {
        if let Some(raft) = self.raft.get() {
            // A raft that has ended ends the process.
            let _ = raft.cast(message);
        }
    }

    pub(super) fn set_boxes(&self, boxes: BTreeMap<NodeId, Arc<Outbox>>) {
        self.boxes.store(Arc::new(boxes));
    }

    /// A node has been heard: a link to it that waits for its next try need not wait.
    pub(super) fn came(&self, from: NodeId) {
        if let Some(outbox) = self.boxes.load().get(&from) {
            outbox.wake.notify_one();
        }
    }

    pub(super) fn beat(&self, change: impl FnOnce(&mut HeartbeatState)) {
        self.heartbeat.send_if_modified(|heartbeat| {
            let before = *heartbeat;
            change(heartbeat);
            *heartbeat != before
        });
    }

    pub(super) fn heartbeat(&self) -> watch::Receiver<HeartbeatState> {
        self.heartbeat.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_box_and_a_closed_one_take_nothing() {
        let post = Post::new();
        let (outbox, mut large) = Outbox::new();
        post.set_boxes([(NodeId(2), Arc::clone(&outbox))].into());
        let entry = || Entry { command: vec![0; 10], ..Entry::default() };
        assert!(!post.propose(NodeId(2), entry()), "its link is down");
        let mut letters = outbox.open();
        assert!(post.propose(NodeId(2), entry()) && !post.propose(NodeId(3), entry()));
        post.send(NodeId(2), Bytes::from(vec![0; limits::PEER_BYTES]), false);
        post.send(NodeId(2), Bytes::new(), false);
        assert!(outbox.told.load(Ordering::Relaxed), "it is full");
        assert!(matches!(letters.try_recv(), Ok(Letter::Proposal(_))));
        outbox.taken(limits::PEER_BYTES);
        assert!(post.propose(NodeId(2), entry()), "there is room again");
        post.send(NodeId(2), Bytes::from_static(b"state"), true);
        assert_eq!(large.try_recv().unwrap(), "state");
    }
}
