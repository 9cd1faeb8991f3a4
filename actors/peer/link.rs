//! The link to one other member: kept up, fed from its outbox, and the way for what is large.
//!
//! Owns trying again. Never keeps what was on its way when a link broke: raft and root send again.

use super::credentials::Credentials;
use super::dial::{Dial, DialError, dial};
use super::outbox::{HeartbeatState, Letter, Outbox, Post};
use super::refusal_of;
use super::wire::peer_client::PeerClient;
use super::wire::{Frame, Heard, Heartbeat, Piece};
use crate::actors::raft as consensus;
use crate::actors::root::{Msg, PeerEvent, RootRef};
use crate::backoff::Backoff;
use crate::id::{BootId, Incarnation, NodeId};
use crate::limits;
use crate::units::Millis;
use bytes::Bytes;
use futures_util::{Stream, stream};
use prost::Message as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// What a link is made with.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) root: RootRef,
    pub(super) post: Arc<Post>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) dial: Dial,
    pub(super) incarnation: Incarnation,
    /// Where this node is itself, `HOST:PORT`.
    pub(super) here: Option<String>,
    /// The other end.
    pub(super) to: NodeId,
    pub(super) address: String,
    pub(super) outbox: Arc<Outbox>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{}", .0.message())]
    Status(#[from] Box<Status>),
    #[error("the other end closed the link")]
    Closed,
    #[error("no answer in {}s", limits::PEER_CONNECT.as_secs())]
    Late,
}

impl Link {
    /// Keeps the link up, for ever.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(limits::PEER_RETRY);
        // Said once, not with each try.
        let mut refused = None;
        loop {
            let mut least = Duration::ZERO;
            let begun = Instant::now();
            let ended = self.session().await;
            self.outbox.close();
            // Root outlives its children, here and below.
            let _ = self.root.cast(Msg::Peer(PeerEvent::Lost(self.to)));
            let (to, address) = (self.to, &self.address);
            match ended {
                Err(LinkError::Status(status)) if status.code() == Code::PermissionDenied => {
                    let reason = Some(status.message().to_owned());
                    if refused != reason {
                        tracing::warn!(%to, %address, reason, "a member refuses");
                        refused = reason;
                    }
                    least = limits::PEER_RETRY[1];
                    if let Some(why) = super::gone::expelled(&status) {
                        let _ = self.root.cast(Msg::Peer(PeerEvent::Expelled(why)));
                        least = limits::PEER_EXPELLED;
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(%to, %address, error, "no link to a member");
                }
                Ok(()) => {}
            }
            if begun.elapsed() > limits::PEER_SETTLED {
                backoff.reset();
            }
            // Not all nodes at once.
            let pause = backoff.pause().max(least).mul_f64(rand::random_range(0.5..1.0));
            let knocked = self.outbox.wake.notified();
            // Either way it is tried again.
            let _ = tokio::time::timeout(pause, knocked).await;
        }
    }

    async fn client(&self) -> Result<PeerClient<Channel>, DialError> {
        let channel = dial(&self.dial, self.credentials.trust(), self.to, &self.address).await?;
        Ok(PeerClient::new(channel).max_encoding_message_size(limits::PEER_FRAME_MAX))
    }

    /// Where this node is itself.
    fn here(&self) -> Option<MetadataValue<Ascii>> {
        self.here.as_ref()?.parse().ok()
    }

    /// Until the connection breaks.
    async fn session(&self) -> Result<(), LinkError> {
        let mut client = self.client().await?;
        let letters = self.outbox.open();
        let beats = Beats::new(self.to, Arc::clone(&self.post));
        let frames = frames(letters, beats, Arc::clone(&self.outbox));
        let mut call = super::call(frames, self.incarnation);
        if let Some(here) = self.here() {
            call.metadata_mut().insert(super::PLACE, here);
        }
        let call = client.link(call);
        let answer = tokio::time::timeout(limits::PEER_CONNECT, call).await;
        let answer = answer.map_err(|_| LinkError::Late)?.map_err(Box::new)?;
        let mut heard = answer.into_inner();
        tracing::debug!(to = %self.to, "linked");
        let _ = self.root.cast(Msg::Peer(PeerEvent::Reached(self.to)));
        while let Some(heard) = heard.message().await.map_err(Box::new)? {
            self.on_heard(heard);
        }
        Err(LinkError::Closed)
    }

    fn on_heard(&self, heard: Heard) {
        for refused in heard.refused {
            let what = vec![(refused.seq, refusal_of(refused.refusal()))];
            let event = PeerEvent::Refused(BootId(refused.boot), what);
            let _ = self.root.cast(Msg::Peer(event));
        }
    }

    /// Sends what is large, each over a connection of its own, and tells raft what became of it.
    pub(super) async fn run_bulk(self, mut large: mpsc::Receiver<Bytes>) {
        while let Some(bytes) = large.recv().await {
            let size = bytes.len();
            let mut told = Told { post: &self.post, to: self.to, ok: false };
            let sent = self.send_large(bytes).await;
            if let Err(error) = &sent {
                let error = error as &dyn std::error::Error;
                tracing::warn!(to = %self.to, error, size, "a snapshot did not arrive");
            }
            told.ok = sent.is_ok();
        }
    }

    async fn send_large(&self, bytes: Bytes) -> Result<(), LinkError> {
        let mut client = self.client().await?;
        let count = bytes.len().div_ceil(limits::PEER_PIECE).max(1);
        let pieces = (0..count).map(move |n| {
            let from = n * limits::PEER_PIECE;
            let to = (from + limits::PEER_PIECE).min(bytes.len());
            Piece { bytes: bytes.slice(from..to) }
        });
        let call = client.snapshot(super::call(stream::iter(pieces), self.incarnation));
        let sent = tokio::time::timeout(limits::PEER_BULK, call).await;
        sent.map_err(|_| LinkError::Late)?.map_err(Box::new)?;
        Ok(())
    }
}

/// Tells raft what became of a snapshot, also where the link is dropped in the middle of it.
struct Told<'a> {
    post: &'a Post,
    to: NodeId,
    ok: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.post.tell_raft(consensus::Msg::SnapshotSent { to: self.to, ok: self.ok });
    }
}

/// The frames of a link: what waits goes together, up to a bound.
fn frames(
    letters: mpsc::Receiver<Letter>,
    beats: Beats,
    outbox: Arc<Outbox>,
) -> impl Stream<Item = Frame> + Send + 'static {
    stream::unfold((letters, beats, outbox), |(mut letters, mut beats, outbox)| async move {
        let frame = tokio::select! {
            biased;
            // Seldom, and must not wait behind letters: who isn't heard counts as lost.
            beat = beats.next() => Frame { heartbeat: Some(beat?), ..Frame::default() },
            first = letters.recv() => {
                let frame = gather(first?, &mut letters, &outbox);
                Frame { heartbeat: beats.sooner(), ..frame }
            }
        };
        Some((frame, (letters, beats, outbox)))
    })
}

fn gather(first: Letter, letters: &mut mpsc::Receiver<Letter>, outbox: &Outbox) -> Frame {
    let mut frame = Frame::default();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(letter) = next {
        bytes += letter.size();
        match letter {
            Letter::Raft(message) => frame.raft.push(message),
            Letter::Proposal(entry) => frame.proposals.push(entry.encode_to_vec().into()),
        }
        next = if bytes < limits::PEER_FRAME { letters.try_recv().ok() } else { None };
    }
    outbox.taken(bytes);
    frame
}

/// When a heartbeat is due on a link.
struct Beats {
    to: NodeId,
    post: Arc<Post>,
    heartbeat: watch::Receiver<HeartbeatState>,
    last: Option<Instant>,
    told: HeartbeatState,
}

impl Beats {
    fn new(to: NodeId, post: Arc<Post>) -> Self {
        let heartbeat = post.heartbeat();
        Self { to, post, heartbeat, last: None, told: HeartbeatState::default() }
    }

    /// The next one, while the other end leads: at an interval, and soon when something new is
    /// settled. None when the node stops.
    async fn next(&mut self) -> Option<Heartbeat> {
        loop {
            let heartbeat = *self.heartbeat.borrow_and_update();
            let due = match heartbeat.leader {
                Some(leader) if leader == self.to => Some(self.due(heartbeat)),
                _ => None,
            };
            let changed = self.heartbeat.changed();
            let waited = match due {
                Some(at) => tokio::time::timeout_at(at, changed).await,
                None => Ok(changed.await),
            };
            match waited {
                Ok(changed) => changed.ok()?,
                Err(_) => return Some(self.beat(heartbeat)),
            }
        }
    }

    fn due(&self, heartbeat: HeartbeatState) -> Instant {
        let Some(last) = self.last else { return Instant::now() };
        let is_news = heartbeat != self.told;
        last + if is_news { limits::HEARTBEAT_MIN } else { limits::HEARTBEAT }
    }

    /// The next one, if it is due so soon that it may go with something else.
    fn sooner(&mut self) -> Option<Heartbeat> {
        let heartbeat = *self.heartbeat.borrow();
        let is_due = self.due(heartbeat) <= Instant::now() + limits::HEARTBEAT_SOONER;
        (heartbeat.leader == Some(self.to) && is_due).then(|| self.beat(heartbeat))
    }

    fn beat(&mut self, heartbeat: HeartbeatState) -> Heartbeat {
        self.last = Some(Instant::now());
        self.told = heartbeat;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time_ms = Millis::from(since_epoch.unwrap_or_default()).0;
        let counted = self.post.counted();
        Heartbeat { boot: heartbeat.boot.0, settled: heartbeat.settled.0, time_ms, counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Index;
    use std::time::Duration;

    #[tokio::test]
    async fn only_the_leader_is_sent_heartbeats_and_what_is_settled_soon() {
        let post = Post::new();
        let mut beats = Beats::new(NodeId(2), Arc::clone(&post));
        let none = tokio::time::timeout(Duration::from_millis(20), beats.next()).await;
        assert!(none.is_err(), "it doesn't lead");
        post.beat(|heartbeat| heartbeat.leader = Some(NodeId(2)));
        let begun = Instant::now();
        assert_eq!(beats.next().await.unwrap().settled, 0);
        assert!(begun.elapsed() < limits::HEARTBEAT);
        assert_eq!(beats.next().await.unwrap().settled, 0);
        assert!(begun.elapsed() >= limits::HEARTBEAT);
        assert!(beats.sooner().is_none(), "it has just gone");
        beats.last = beats.last.map(|last| last - limits::HEARTBEAT + limits::HEARTBEAT_SOONER);
        assert!(beats.sooner().is_some() && beats.sooner().is_none());
        post.beat(|heartbeat| heartbeat.settled = Index(7));
        let begun = Instant::now();
        assert_eq!(beats.next().await.unwrap().settled, 7);
        assert!(begun.elapsed() < limits::HEARTBEAT / 2);
    }
}
