//! The door of the peer port: who is no member yet asks here to become one.
//!
//! Owns what a joiner is told. Never makes a member itself: that is a command like any other.

use super::ca::now;
use super::caller::Unknown;
use super::credentials::{Credentials, SignError};
use super::wire;
use crate::actors::root::{Msg, Proposal, ProposeError, RootRef, View};
use crate::cluster::join::{self, JoinRefusal, Wish};
use crate::cluster::token;
use crate::fsm::command::Join;
use crate::fsm::{Command, FEATURE_LEVEL, Outcome, Rejection};
use crate::id::{Index, NodeId};
use crate::limits;
use crate::units::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ractor::rpc::CallResult;
use sha2::{Digest as _, Sha256};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

/// The metadata of a refusal that says what to do next.
pub const HINT: &str = "mill-hint-bin";

/// The door.
pub struct JoinService {
    credentials: Arc<Credentials>,
    root: RootRef,
    views: watch::Receiver<Option<View>>,
    /// Joins at once; what comes on top is sent away.
    places: Semaphore,
}

impl JoinService {
    /// A door that shows what `views` has and proposes through root.
    #[must_use]
    pub fn new(
        credentials: Arc<Credentials>,
        root: RootRef,
        views: watch::Receiver<Option<View>>,
    ) -> Self {
        Self { credentials, root, views, places: Semaphore::new(limits::JOINS_AT_ONCE) }
    }

    /// The newest view that a leader confirmed: a token that was just made must count.
    async fn current(&self) -> Result<View, Status> {
        let late = || refuse(Code::Unavailable, "the cluster has no leader now", "try again");
        let ask = self.root.call(Msg::ReadIndex, Some(limits::READ_CONFIRM)).await;
        let Ok(CallResult::Success(Some(index))) = ask else { return Err(late()) };
        self.reach(index).await.ok_or_else(late)
    }

    /// Who shows no token that this member knows costs the cluster nothing. One that was just made
    /// elsewhere arrives here in a moment.
    async fn has_token(&self, token: &str) -> Result<(), Status> {
        let mut views = self.views.clone();
        let knows = |view: &Option<View>| {
            view.as_ref().is_some_and(|view| token::find(&view.state, token, now()).is_ok())
        };
        if tokio::time::timeout(limits::JOIN_TOKEN_WAIT, views.wait_for(knows)).await.is_ok() {
            return Ok(());
        }
        let view = self.views.borrow().clone();
        let Some(view) = view else {
            return Err(refuse(Code::Unavailable, "this member is starting", "try again"));
        };
        match token::find(&view.state, token, now()) {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(&JoinRefusal::from(error))),
        }
    }

    async fn reach(&self, index: Index) -> Option<View> {
        let mut views = self.views.clone();
        let there = |view: &Option<View>| view.as_ref().is_some_and(|view| view.index >= index);
        let reached = tokio::time::timeout(limits::API_VIEW, views.wait_for(there)).await;
        reached.ok()?.ok()?.clone()
    }

    async fn propose(&self, join: Join) -> Result<(NodeId, Ipv4Addr, Index), Status> {
        let name = join.name.clone();
        let command = Command::Join(join);
        let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
        let done = match self.root.call(ask, Some(limits::API_PROPOSE)).await {
            Ok(CallResult::Success(done)) => done,
            _ => return Err(refuse(Code::Unavailable, "the join was not confirmed", "try again")),
        };
        match done.map(|done| (done.index, done.outcome)) {
            Ok((index, Outcome::Node { id, subnet })) => Ok((id, subnet, index)),
            Ok(_) => Err(broken("a join had another outcome")),
            Err(ProposeError::Rejected(rejection)) => Err(rejected(&rejection, &name)),
            Err(error) => Err(refuse(Code::Unavailable, &error.to_string(), "try again")),
        }
    }
}

#[tonic::async_trait]
impl wire::door_server::Door for JoinService {
    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::Joined>, Status> {
        let stranger = request.extensions().get::<Unknown>().cloned();
        let asked = request.into_inner();
        self.has_token(&asked.token).await?;
        if stranger.is_some_and(|Unknown(stranger)| !stranger.admit()) {
            return Err(refuse(Code::ResourceExhausted, "too many are connected", "try again"));
        }
        let busy = |_| refuse(Code::ResourceExhausted, "too many nodes join at once", "try again");
        let _place = self.places.try_acquire().map_err(busy)?;
        let view = self.current().await?;
        let wish = wish_of(&asked);
        let levels = (view.state.level(), FEATURE_LEVEL);
        join::check(&view.state, &wish, now(), levels).map_err(|no| refused(&no))?;
        call_back(&asked, &name_of(&view)).await?;
        let keyring = self.credentials.keyring(&view.state).map_err(|no| unable(&no))?;
        let public_key = STANDARD.encode(&asked.public_key);
        let sealed = keyring.for_node(&public_key, &mut crypto_box::aead::OsRng);
        let bad_key = |_| broken("the node's public key is none");
        let labels = asked.labels.into_iter().collect();
        let join = Join {
            name: asked.node,
            address: asked.address,
            peer_port: u16::try_from(asked.port).unwrap_or_default(),
            labels,
            public_key,
            keyring: sealed.map_err(bad_key)?,
            keyring_id: keyring.id().to_owned(),
            version: asked.version.chars().take(limits::NAME_MAX).collect(),
            feature_level: asked.feature_level,
            token: token::find(&view.state, &asked.token, now())
                .ok()
                .filter(|_| view.state.is_next())
                .map(|token| token.id.clone()),
        };
        let (node, subnet, index) = self.propose(join).await?;
        let late = || refuse(Code::Unavailable, "this member is behind", "try again");
        let view = self.reach(index).await.ok_or_else(late)?;
        tracing::info!(%node, "a node joins");
        let credentials = Arc::clone(&self.credentials);
        let answer = tokio::task::spawn_blocking(move || {
            let certificate = credentials.sign(&view.state, node, &asked.csr);
            certificate.map(|certificate| (certificate, view))
        });
        let aborted = |_| broken("signing was broken off");
        let (certificate, view) = answer.await.map_err(aborted)?.map_err(|no| unable(&no))?;
        let cluster = serde_json::to_vec(&view.state.cluster);
        Ok(Response::new(wire::Joined {
            node: node.0,
            subnet: subnet.to_string(),
            cluster: cluster.map_err(|_| broken("the answer can't be written"))?.into(),
            certificate: certificate.to_vec().into(),
            ca: self.credentials.trust().ca().to_vec().into(),
            members: members(&view, node),
        }))
    }
}

/// What a joiner shows whoever calls it, so that nobody else is taken for it.
#[must_use]
pub fn proof(csr: &[u8]) -> [u8; 32] {
    Sha256::digest(csr).into()
}

/// Shows that to all who call, for ever.
pub async fn answer_back(port: Arc<TcpListener>, proof: [u8; 32]) {
    while let Ok((mut caller, _)) = port.accept().await {
        let shown = async {
            caller.write_all(&proof).await?;
            caller.shutdown().await
        };
        // Whoever has gone, or takes nothing, calls again.
        let _ = tokio::time::timeout(limits::DIAL_BACK, shown).await;
    }
}

/// Calls the joiner where it says that others reach it.
async fn call_back(asked: &wire::JoinRequest, from: &str) -> Result<(), Status> {
    let port = u16::try_from(asked.port).unwrap_or_default();
    let place = super::place_of(&asked.address, port);
    let unreached = |why: String| {
        let hint = "pass --advertise with an address of this host that the members reach, and \
                    let its peer port through; behind a translated address: --advertise-nat";
        let message = format!("{from} does not reach this node at {place}: {why}");
        refuse(Code::FailedPrecondition, &message, hint)
    };
    let call = async {
        let mut stream = TcpStream::connect(&*place).await?;
        let mut shown = [0; 32];
        if asked.answers {
            stream.read_exact(&mut shown).await?;
        }
        Ok::<_, std::io::Error>(shown)
    };
    match tokio::time::timeout(limits::DIAL_BACK, call).await {
        Ok(Ok(shown)) if asked.answers && shown != proof(&asked.csr) => {
            Err(unreached("something else answers there".to_owned()))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreached(error.to_string())),
        Err(_) => Err(unreached(format!("no answer in {}s", limits::DIAL_BACK.as_secs()))),
    }
}

fn name_of(view: &View) -> String {
    let node = view.state.nodes.get(&view.node);
    node.map_or_else(|| view.node.to_string(), |node| node.name.clone())
}

/// Where the other members are, as far as they can be reached.
fn members(view: &View, joiner: NodeId) -> Vec<wire::Member> {
    let others = view.state.nodes.values().filter(|node| node.id != joiner);
    let member = |node: &Arc<crate::fsm::model::Node>| {
        Some(wire::Member { node: node.id.0, address: super::place(node)? })
    };
    others.filter_map(member).collect()
}

/// `Peer.Renew`: a new certificate for a member's key. The caller was verified by its old one.
///
/// # Errors
/// The request is none, or this node can't sign.
pub async fn renew(
    credentials: Arc<Credentials>,
    view: View,
    caller: NodeId,
    request: wire::CertificateRequest,
) -> Result<wire::Certificate, Status> {
    let ca = credentials.trust().ca().to_vec().into();
    let signed =
        tokio::task::spawn_blocking(move || credentials.sign(&view.state, caller, &request.csr));
    let aborted = |_| broken("signing was broken off");
    let certificate = signed.await.map_err(aborted)?.map_err(|no| unable(&no))?;
    Ok(wire::Certificate { certificate: certificate.to_vec().into(), ca })
}

fn wish_of(asked: &wire::JoinRequest) -> Wish<'_> {
    Wish {
        token: &asked.token,
        node: &asked.node,
        address: &asked.address,
        port: asked.port,
        labels: asked.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        version: &asked.version,
        feature_level: asked.feature_level,
        time: Timestamp(asked.time_ms),
    }
}

/// A refusal with what to do next.
fn refuse(code: Code, message: &str, hint: &str) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert_bin(HINT, MetadataValue::from_bytes(hint.as_bytes()));
    status
}

fn broken(what: &str) -> Status {
    refuse(Code::Internal, what, "try again, or ask another member")
}

fn refused(no: &JoinRefusal) -> Status {
    let code = if no.is_denied() { Code::PermissionDenied } else { Code::FailedPrecondition };
    refuse(code, &no.to_string(), &no.hint())
}

fn rejected(rejection: &Rejection, name: &str) -> Status {
    let hint = match rejection {
        Rejection::NodeNameTaken { .. } => {
            format!("pass --node NAME; or, if {name} is gone for good: mill remove {name}")
        }
        Rejection::NodeNameHeld { .. } => {
            "pass --node NAME; a name is free again a minute after a join that failed".to_owned()
        }
        Rejection::NoSubnet { .. } => "remove nodes that are gone: mill remove NODE".to_owned(),
        _ => "look at the cluster: mill status".to_owned(),
    };
    refuse(Code::FailedPrecondition, &rejection.to_string(), &hint)
}

fn unable(error: &SignError) -> Status {
    tracing::warn!(error = error as &dyn std::error::Error, "no certificate was signed");
    refuse(Code::Internal, &error.to_string(), "ask another member")
}
