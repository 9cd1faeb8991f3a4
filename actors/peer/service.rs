//! What a member answers to other members: links, snapshots, renewed certificates.
//!
//! Owns the check of every call: a certificate of this cluster, its incarnation, not removed. Never
//! looks inside a raft message or a command.

use super::caller::Caller;
use super::credentials::Credentials;
use super::outbox::Post;
use super::wire::peer_server::Peer;
use super::wire::{self, Frame, Heard, Piece, Taken};
use super::{INCARNATION, PLACE, RECOVERED, REMOVED, join_service, wire_refusal};
use crate::actors::raft as consensus;
use crate::actors::root::{Msg, PeerEvent, Refusal, RootRef, View};
use crate::consensus::propose;
use crate::consensus::raft::Entry;
use crate::consensus::raft::consensus::check_snapshot;
use crate::fsm::FEATURE_LEVEL;
use crate::id::{BootId, Incarnation, Index, NodeId};
use crate::limits;
use crate::scheduler::canary::Counted;
use crate::units::Timestamp;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Answers = mpsc::Sender<Result<Heard, Status>>;

/// Where proposals that were not taken are told, by the node whose they are.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<BTreeMap<NodeId, Answers>>>);

impl Desk {
    /// Tells a node of one; if its link is gone or slow, it hands the proposal over again anyway.
    pub fn refuse(&self, node: NodeId, boot: BootId, seq: u64, refusal: Refusal) {
        let Ok(desk) = self.0.lock() else { return };
        let refusal = wire_refusal(refusal).into();
        let refused = vec![wire::Refused { boot: boot.0, seq, refusal }];
        if let Some(answers) = desk.get(&node) {
            let _ = answers.try_send(Ok(Heard { refused }));
        }
    }

    fn open(&self, node: NodeId) -> (Answers, mpsc::Receiver<Result<Heard, Status>>) {
        let (answers, heard) = mpsc::channel(limits::PEER_ANSWERS);
        if let Ok(mut desk) = self.0.lock() {
            desk.insert(node, answers.clone());
        }
        (answers, heard)
    }
}

/// What answers.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) root: RootRef,
    pub(super) post: Arc<Post>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) incarnation: Incarnation,
    pub(super) views: watch::Receiver<Option<View>>,
    pub(super) desk: Desk,
    pub(super) peer: ActorRef<super::Msg>,
}

impl Service {
    /// Who calls, if that is a member with a certificate that is good.
    fn caller<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let (node, expired) = self.anybody(request)?;
        if expired {
            return Err(Status::unauthenticated("this certificate has expired: renew it"));
        }
        Ok(node)
    }

    /// Who calls, if that is a member, and whether its certificate has expired.
    fn anybody<T>(&self, request: &Request<T>) -> Result<(NodeId, bool), Status> {
        let caller = request.extensions().get::<Caller>();
        let caller =
            caller.ok_or_else(|| Status::unauthenticated("show a member's certificate"))?;
        let told = request.metadata().get(INCARNATION).and_then(|told| told.to_str().ok());
        if told != Some(self.incarnation.0.to_string().as_str()) {
            return Err(Status::permission_denied(RECOVERED));
        }
        let node = caller.peer.node;
        if self.is_removed(node) {
            return Err(Status::permission_denied(REMOVED));
        }
        Ok((node, caller.expired))
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.views.borrow().as_ref().is_some_and(|view| view.state.removed.contains(&node))
    }

    /// Takes a frame in.
    fn take(&self, from: NodeId, frame: Frame) -> Result<(), Status> {
        if self.is_removed(from) {
            return Err(Status::permission_denied(REMOVED));
        }
        if !frame.raft.is_empty() {
            self.post.tell_raft(consensus::Msg::Step { from, messages: frame.raft });
        }
        if !frame.proposals.is_empty() {
            let entries = frame.proposals.into_iter().map(|bytes| proposal(bytes, from));
            let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
            entries.retain(|entry| self.is_readable(from, entry));
            // Root outlives its children, here and below.
            let _ = self.root.cast(Msg::Peer(PeerEvent::Proposed { from, entries }));
        }
        if let Some(beat) = frame.heartbeat {
            let clock = Some(Timestamp(beat.time_ms)).filter(|time| time.0 > 0);
            let heard = PeerEvent::Heard { node: from, settled: Index(beat.settled), clock };
            let _ = self.root.cast(Msg::Peer(heard));
            if let Some(counted) = counted(&beat.counted) {
                let counted = PeerEvent::Counted { node: from, boot: BootId(beat.boot), counted };
                let _ = self.root.cast(Msg::Peer(counted));
            }
        }
        Ok(())
    }

    /// Whether a proposal may become an entry: what is none for one node would be none for all.
    fn is_readable(&self, from: NodeId, entry: &Entry) -> bool {
        let Err(error) = propose::check(entry, FEATURE_LEVEL) else { return true };
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%from, error, "a member's proposal is refused");
        self.desk.refuse(from, BootId(entry.boot), entry.seq, Refusal::Unreadable);
        false
    }

    async fn read(&self, from: NodeId, mut frames: Streaming<Frame>, answers: Answers) {
        loop {
            let taken = match frames.message().await {
                Ok(Some(frame)) => self.take(from, frame),
                Ok(None) | Err(_) => return,
            };
            if let Err(status) = taken {
                // The link ends with it.
                let _ = answers.send(Err(status)).await;
                return;
            }
            if answers.is_closed() {
                return;
            }
        }
    }
}

/// What a member has counted of canaries. What another version says otherwise is left out.
fn counted(bytes: &[u8]) -> Option<Vec<Counted>> {
    let fits = !bytes.is_empty() && bytes.len() <= limits::CANARY_REPORT_MAX;
    fits.then(|| serde_json::from_slice(bytes).ok())?
}

fn proposal(bytes: Bytes, from: NodeId) -> Result<Entry, Status> {
    let entry = Entry::decode(bytes).map_err(|_| Status::invalid_argument("no entry"))?;
    if entry.node != from.0 {
        return Err(Status::permission_denied("a proposal of another node"));
    }
    Ok(entry)
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = ReceiverStream<Result<Heard, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let from = self.caller(&request)?;
        if let Some(Ok(place)) = request.metadata().get(PLACE).map(|place| place.to_str()) {
            // An actor that has stopped serves nobody.
            let _ = self.peer.cast(super::Msg::Called(from, place.to_owned()));
        }
        let (answers, heard) = self.desk.open(from);
        self.post.came(from);
        let service = self.clone();
        let frames = request.into_inner();
        // Ends with the connection, whose end the stream of frames tells.
        tokio::spawn(async move {
            service.read(from, frames, answers).await;
            service.post.tell_raft(consensus::Msg::Unheard(from));
        });
        Ok(Response::new(ReceiverStream::new(heard)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Piece>>,
    ) -> Result<Response<Taken>, Status> {
        let from = self.caller(&request)?;
        let mut pieces = request.into_inner();
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.message().await? {
            if whole.len() + piece.bytes.len() > limits::PEER_SNAPSHOT_MAX {
                return Err(Status::out_of_range("the snapshot is too large"));
            }
            whole.extend_from_slice(&piece.bytes);
        }
        let whole = whole.freeze();
        let shown = whole.clone();
        // What raft takes over is kept: nobody could read it again.
        let checked =
            tokio::task::spawn_blocking(move || check_snapshot(shown, FEATURE_LEVEL)).await;
        let broken = |_| Status::internal("reading the snapshot was broken off");
        if let Err(error) = checked.map_err(broken)? {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%from, error, "a member's snapshot is refused");
            return Err(Status::invalid_argument("the snapshot can't be read"));
        }
        self.post.tell_raft(consensus::Msg::Step { from, messages: vec![whole] });
        Ok(Response::new(Taken {}))
    }

    async fn renew(
        &self,
        request: Request<wire::CertificateRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let (caller, expired) = self.anybody(&request)?;
        let view = self.views.borrow().clone();
        let view = view.ok_or_else(|| Status::unavailable("the node has no state yet"))?;
        // An old state may have a node that was removed since: that its certificate expires is
        // then all that keeps it out.
        if expired && !view.current {
            return Err(Status::unavailable("the node's state is not known to be current"));
        }
        let credentials = Arc::clone(&self.credentials);
        let renewed = join_service::renew(credentials, view, caller, request.into_inner()).await?;
        Ok(Response::new(renewed))
    }
}
