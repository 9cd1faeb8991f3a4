//! The peer actor: what this node says to the other members and hears from them.
//!
//! Owns the peer port and the connections to other nodes. Never decides who is a member, and never
//! looks inside a raft message.

mod alone;
pub mod ca;
mod caller;
pub mod credentials;
mod dial;
mod gone;
pub mod join_client;
pub mod join_service;
pub mod keys;
mod link;
mod moved;
mod outbox;
mod renew;
mod rotate;
mod server;
mod service;
pub mod tls;
pub mod wire;

pub use alone::Alone;
pub use dial::{Dial, DialError, dial_api, tcp};
pub use gone::{ExpulsionCheck, ask_members, says_removed};
pub use outbox::Post;

use crate::actors::mailbox::Stamp;
use crate::actors::member_listener::MemberListener;
use crate::actors::raft as consensus;
use crate::actors::root::{self, Child, ChildMessage, Refusal, RootRef, Supervised, View};
use crate::consensus::raft::Entry;
use crate::fsm::model::Node;
use crate::id::{BootId, Incarnation, Index, NodeId};
use credentials::Credentials;
use link::Link;
use moved::Moved;
use outbox::Outbox;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use server::{Port, Served};
use service::{Desk, Service};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The metadata of every call: the cluster's incarnation.
const INCARNATION: &str = "mill-incarnation";

/// A call of a member: each names the cluster's incarnation.
fn call<T>(content: T, incarnation: Incarnation) -> tonic::Request<T> {
    let mut request = tonic::Request::new(content);
    request.metadata_mut().insert(INCARNATION, incarnation.0.into());
    request
}

/// The metadata of a link's call: where the caller is (`HOST:PORT`). Whoever is called may not know
/// it yet: it may have been away when the caller joined, and the caller may be the leader now.
const PLACE: &str = "mill-place";

/// What a removed node is answered.
const REMOVED: &str = "removed";
/// What a node of an earlier life of the cluster is answered.
const RECOVERED: &str = "the cluster was restored since";

/// What the peer actor is told.
pub enum Msg {
    /// The newest state: who the members are, and where.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// A member has called from there (`HOST:PORT`).
    Called(NodeId, String),
    /// The task that serves the port, or renews the certificate, has ended or panicked.
    PortEnded,
}

/// What root says about other nodes. Most of it waits for no mailbox.
pub enum Notice {
    /// The newest state.
    View(View),
    /// How long does a message wait?
    Stamp(Stamp),
    /// Where messages of other nodes' raft go.
    Consensus(ActorRef<consensus::Msg>),
    /// This node has made its view at this index true.
    Settled(Index),
    /// Proposals for the leader.
    Forward(NodeId, Vec<Entry>),
    /// A proposal of another node was not taken.
    Refused {
        /// Whose it was.
        node: NodeId,
        /// Of which of that node's processes.
        boot: BootId,
        /// Its number there.
        seq: u64,
        /// Why.
        refusal: Refusal,
    },
}

impl ChildMessage for Notice {
    fn view(view: View) -> Option<Self> {
        Some(Self::View(view))
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamp(stamp)
    }
}

/// What the peer actor starts with.
#[derive(Clone)]
pub struct Args {
    /// Where what is heard goes.
    pub root: RootRef,
    /// This node.
    pub node: NodeId,
    /// The cluster's life; who is of another is refused.
    pub incarnation: Incarnation,
    /// Who this node is to others.
    pub credentials: Arc<Credentials>,
    /// The open peer port.
    pub listener: Arc<TcpListener>,
    /// Where this node is itself, `HOST:PORT`.
    pub here: Option<String>,
    /// Where members are (`HOST:PORT`), until the state says so.
    pub known: BTreeMap<NodeId, String>,
    /// Where members are, whatever the state says, until it says something else: they have moved.
    pub hints: BTreeMap<NodeId, String>,
    /// The letterboxes, into which raft puts its messages.
    pub post: Arc<Post>,
    /// How connections are opened.
    pub dial: Dial,
    /// Where members are answered that ask for the API.
    pub members: Arc<MemberListener>,
}

/// The actor.
pub struct Peer;

/// What the actor keeps.
pub struct State {
    args: Args,
    views: watch::Sender<Option<View>>,
    links: BTreeMap<NodeId, Running>,
    /// Where the state says that members are.
    places: BTreeMap<NodeId, String>,
    /// Members that are elsewhere than the state says: they have called, or a person said so.
    moved: Moved,
    /// The port; ended with the actor.
    _server: JoinSet<()>,
}

/// Tells the actor when the task that holds it ends, in whichever way.
struct Ended(ActorRef<Msg>);

impl Drop for Ended {
    fn drop(&mut self) {
        // An actor that has stopped ends the task itself.
        let _ = self.0.cast(Msg::PortEnded);
    }
}

/// A link that is kept up; ended when it is dropped.
struct Running {
    address: String,
    outbox: Arc<Outbox>,
    _tasks: JoinSet<()>,
}

impl Actor for Peer {
    type Msg = Msg;
    type State = State;
    type Arguments = (Args, Desk);

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        (args, desk): (Args, Desk),
    ) -> Result<State, ActorProcessingErr> {
        let (views, seen) = watch::channel(None);
        let service = Service {
            root: args.root.clone(),
            post: Arc::clone(&args.post),
            credentials: Arc::clone(&args.credentials),
            incarnation: args.incarnation,
            views: seen.clone(),
            desk,
            peer: myself.clone(),
        };
        let renewal = renew::Renewal {
            credentials: Arc::clone(&args.credentials),
            incarnation: args.incarnation,
            dial: Arc::clone(&args.dial),
            views: seen.clone(),
        };
        let rotation = rotate::Rotation {
            credentials: Arc::clone(&args.credentials),
            root: args.root.clone(),
            views: seen.clone(),
        };
        let door = join_service::JoinService::new(
            Arc::clone(&args.credentials),
            args.root.clone(),
            seen.clone(),
        );
        let served = Served::new(service, door);
        let port = Port {
            listener: Arc::clone(&args.listener),
            credentials: Arc::clone(&args.credentials),
            served,
            members: Arc::clone(&args.members),
            views: seen,
        };
        let mut server = JoinSet::new();
        let (ended, also) = (Ended(myself.clone()), Ended(myself));
        server.spawn(async move {
            let _ended = ended;
            if let Err(error) = server::serve(port).await {
                tracing::error!(%error, "the peer port can't be served");
            }
        });
        server.spawn(async move {
            let _ended = also;
            tokio::join!(renewal.keep(), rotation.keep());
        });
        let links = BTreeMap::new();
        let (places, moved) = (args.known.clone(), Moved::new(args.hints.clone()));
        let mut state = State { args, views, links, places, moved, _server: server };
        state.link();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::View(view) => state.on_view(view),
            Msg::Called(node, place) => state.on_called(node, place),
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::PortEnded => {
                return Err(
                    "the peer port, the certificate or the keyring is looked after no more".into(),
                );
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.args.post.set_boxes(BTreeMap::new());
        Ok(())
    }
}

impl State {
    fn on_view(&mut self, view: View) {
        self.args.post.beat(|heartbeat| {
            heartbeat.leader = view.leader;
            heartbeat.boot = view.boot;
        });
        if view.touched.nodes || view.touched.all {
            let mut places: BTreeMap<NodeId, String> = view
                .state
                .nodes
                .values()
                .filter_map(|node| Some((node.id, place(node)?)))
                .collect();
            // The log is still on its way: what it says of itself comes last.
            if !places.contains_key(&view.node) {
                let known = self.args.known.iter().map(|(id, place)| (*id, place.clone()));
                places.extend(known.filter(|(id, _)| !view.state.removed.contains(id)));
            }
            self.places = places;
            self.moved.forget(|id| view.state.removed.contains(id));
            self.link();
        }
        if view.current && self.moved.settle(&self.places) {
            self.link();
        }
        let settled = root::Msg::Settled { child: Child::Peer, index: view.index };
        self.views.send_replace(Some(view));
        // Root outlives its children.
        let _ = self.args.root.cast(settled);
    }

    /// What raft asks can only be answered over a link of one's own.
    fn on_called(&mut self, node: NodeId, place: String) {
        let current = self.views.borrow().as_ref().is_some_and(|view| view.current);
        if self.moved.called(node, place, self.places.get(&node), current) {
            self.link();
        }
    }

    /// Keeps links to exactly the members, and to those that have called.
    fn link(&mut self) {
        let me = self.args.node;
        let mut places = self.places.clone();
        places.extend(self.moved.places());
        let old = self.links.len();
        self.links.retain(|id, running| places.get(id) == Some(&running.address));
        let mut changed = self.links.len() != old;
        for (to, address) in places.into_iter().filter(|(id, _)| *id != me) {
            if !self.links.contains_key(&to) {
                changed = true;
                self.links.insert(to, self.start(to, address));
            }
        }
        if changed {
            let boxes = self.links.iter();
            let boxes = boxes.map(|(id, running)| (*id, Arc::clone(&running.outbox)));
            self.args.post.set_boxes(boxes.collect());
        }
    }

    fn start(&self, to: NodeId, address: String) -> Running {
        let (outbox, large) = Outbox::new();
        let link = Link {
            root: self.args.root.clone(),
            post: Arc::clone(&self.args.post),
            credentials: Arc::clone(&self.args.credentials),
            dial: Arc::clone(&self.args.dial),
            incarnation: self.args.incarnation,
            here: self.args.here.clone(),
            to,
            address: address.clone(),
            outbox: Arc::clone(&outbox),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(link.clone().run());
        tasks.spawn(link.run_bulk(large));
        Running { address, outbox, _tasks: tasks }
    }
}

/// Where a node's peer port is, `HOST:PORT`, if it has one.
#[must_use]
pub fn place(node: &Node) -> Option<String> {
    if node.peer_port == 0 {
        return None;
    }
    Some(place_of(&node.address, node.peer_port))
}

/// An address with a port, `HOST:PORT`.
#[must_use]
pub fn place_of(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{address}:{port}"),
    }
}

fn wire_refusal(refusal: Refusal) -> wire::Refusal {
    match refusal {
        Refusal::NotLeader => wire::Refusal::NotLeader,
        Refusal::Overloaded => wire::Refusal::Overloaded,
        Refusal::TooLarge => wire::Refusal::TooLarge,
        Refusal::Unreadable => wire::Refusal::Unreadable,
        Refusal::DiskFull => wire::Refusal::DiskFull,
    }
}

/// One of a later version is tried again, as after a change of the leader.
fn refusal_of(refusal: wire::Refusal) -> Refusal {
    match refusal {
        wire::Refusal::Overloaded => Refusal::Overloaded,
        wire::Refusal::TooLarge => Refusal::TooLarge,
        wire::Refusal::Unreadable => Refusal::Unreadable,
        wire::Refusal::DiskFull => Refusal::DiskFull,
        wire::Refusal::Unknown | wire::Refusal::NotLeader => Refusal::NotLeader,
    }
}

/// Starts the peer actor under root.
///
/// # Errors
/// If the actor can't be spawned.
pub async fn start(args: Args) -> Result<Supervised<Notice>, SpawnErr> {
    let (root, post) = (args.root.clone(), Arc::clone(&args.post));
    let desk = Desk::default();
    let (actor, _) = Peer::spawn_linked(None, Peer, (args, desk.clone()), root.get_cell()).await?;
    Ok(Supervised::new(actor.get_cell(), move |notice| match notice {
        // One that has failed is started anew and shown everything.
        Notice::View(view) => drop(actor.cast(Msg::View(view))),
        Notice::Stamp(stamp) => drop(actor.cast(Msg::Stamped(stamp))),
        Notice::Consensus(raft) => post.set_raft(raft),
        Notice::Settled(index) => post.beat(|heartbeat| heartbeat.settled = index),
        Notice::Forward(leader, entries) => forward(&post, &root, leader, entries),
        Notice::Refused { node, boot, seq, refusal } => desk.refuse(node, boot, seq, refusal),
    }))
}

/// Sends proposals on their way. What finds no room comes back as refused; with a link that is
/// down, root hands them over again when it is up.
fn forward(post: &Post, root: &RootRef, leader: NodeId, entries: Vec<Entry>) {
    for entry in entries {
        let (boot, seq) = (BootId(entry.boot), entry.seq);
        if !post.propose(leader, entry) {
            let refused = vec![(seq, Refusal::NotLeader)];
            let _ = root.cast(root::Msg::Peer(root::PeerEvent::Refused(boot, refused)));
        }
    }
}
