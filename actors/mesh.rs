//! The mesh actor: the interface to the other nodes, and the ways to their containers.
//!
//! Owns the node's key of the mesh and what the kernel has of it, kept as the view wants it. Never
//! decides which nodes there are, and leaves the interface as it is when it ends: traffic goes on
//! where the kernel carries it.

mod identity;
mod interface;

use crate::actors::converge::Converge;
use crate::actors::mailbox::Stamp;
use crate::actors::platform::Platform;
use crate::actors::platform::mesh::{Mesh as Wires, path};
use crate::actors::root::{self, Child, ChildMessage, RootRef, View};
use crate::fsm::mesh::MeshKey;
use crate::id::{Index, NodeId};
use crate::limits;
use crate::node::mesh::{self, Figures};
use crate::node::project;
use identity::Identity;
use interface::{Interface, Wanted};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio_util::task::AbortOnDropHandle;

/// What the mesh actor is told and asked.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// How are the other nodes heard?
    Figures(RpcReplyPort<BTreeMap<NodeId, Figures>>),
    /// The cluster was told where this node is in the mesh, or not.
    Told,
    /// Look at the paths' MTU.
    Look,
    /// The interface carries nothing any more.
    Broken,
    /// Make it again.
    Mend,
}

impl ChildMessage for Msg {
    fn view(view: View) -> Option<Self> {
        Some(Self::View(view))
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamped(stamp)
    }
}

/// What it starts with.
pub struct Args {
    /// Where proposals go.
    pub root: RootRef,
    /// What containers stand on.
    pub platform: Arc<Platform>,
    /// The UDP port; none where there is no mesh.
    pub port: Option<u16>,
}

/// The actor.
pub struct Mesh;

/// What it keeps.
pub struct State {
    root: RootRef,
    /// Who this node is in the mesh.
    identity: Option<Identity>,
    view: Option<View>,
    /// The interface, while there is one.
    wires: Arc<Mutex<Option<Wires>>>,
    interface: Converge<Wanted>,
    /// Since when each peer is one, by this node's key.
    known: BTreeMap<MeshKey, Instant>,
    /// Raised where the interface has to be made true again, though nothing else is wanted.
    again: u64,
    telling: Option<AbortOnDropHandle<()>>,
}

impl Actor for Mesh {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let Args { root, platform, port } = args;
        let identity = match port {
            Some(port) => Some(Identity::read(platform.places.data.clone(), port).await?),
            None => None,
        };
        myself.send_after(limits::MESH_PATH_LOOK, || Msg::Look);
        let wires = Arc::default();
        let broken = Arc::new(move || {
            // An actor that has ended leaves the interface to the next one.
            let _ = myself.cast(Msg::Broken);
        });
        let interface = Interface { platform, wires: Arc::clone(&wires), broken };
        Ok(State {
            root,
            identity,
            view: None,
            wires,
            interface: Converge::start(interface, || ()),
            known: BTreeMap::new(),
            again: 0,
            telling: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::View(view) => state.on_view(view, &myself).await,
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::Figures(reply) => state.figures(reply),
            Msg::Told => {
                state.telling = None;
                state.tell(&myself);
            }
            Msg::Look => {
                state.want();
                myself.send_after(limits::MESH_PATH_LOOK, || Msg::Look);
            }
            Msg::Broken => {
                // Whoever removed it may go on.
                myself.send_after(limits::NET_CALM, || Msg::Mend);
            }
            Msg::Mend => {
                state.again += 1;
                state.want();
            }
        }
        Ok(())
    }
}

impl State {
    async fn on_view(&mut self, view: View, myself: &ActorRef<Msg>) {
        let index = if view.current { view.index } else { Index(0) };
        let mut is_news = view.touched.nodes || view.touched.all || self.view.is_none();
        if let Some(identity) = &mut self.identity
            && identity.follow(&view).await
        {
            self.known.clear();
            is_news = true;
        }
        self.view = Some(view);
        if is_news {
            self.want();
        }
        self.tell(myself);
        // Nothing waits for it: traffic finds its way a moment later.
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Settled { child: Child::Mesh, index });
    }

    /// Makes the view's peers and ways true. After a start the peers of before are taken up at
    /// once, so that connections go on; all else waits until the state is known to be current.
    fn want(&mut self) {
        let is_known = |view: &&View| view.current || view.state.meshed;
        let Some(view) = self.view.as_ref().filter(is_known) else { return };
        let peers = mesh::peers(&view.state, view.node);
        self.known.retain(|key, _| peers.contains_key(key));
        for key in peers.keys() {
            self.known.entry(*key).or_insert_with(Instant::now);
        }
        let paths = peers.values().filter_map(|peer| path::mtu_to(peer.endpoint?));
        self.interface.want(Wanted {
            own: self.identity.as_ref().map(Identity::own),
            mtu: mesh::mtu_over(paths.min().unwrap_or(limits::LINK_MTU)),
            ways: view.current.then(|| {
                let neighbours = project::neighbours(&view.state, view.node);
                (neighbours, mesh::ways(&view.state, view.node))
            }),
            peers,
            again: self.again,
        });
    }

    /// Says where this node is, as long as the state does not show it.
    fn tell(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.as_ref().filter(|view| view.current) else { return };
        let identity = self.identity.as_ref().filter(|_| self.telling.is_none());
        let Some(told) = identity.map(Identity::told) else { return };
        let Some(command) = mesh::place(&view.state, view.node, view.boot, told) else { return };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let proposal = root::Proposal::new(&command, None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Propose(proposal));
        let myself = myself.clone();
        self.telling = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Ok(Err(error)) = receiver.await {
                tracing::info!(%error, "the cluster was not told this node's key of the mesh");
            }
            tokio::time::sleep(limits::MESH_RETRY).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Told);
        })));
    }

    /// Reads the interface beside the actor: the kernel may take its time.
    fn figures(&self, reply: RpcReplyPort<BTreeMap<NodeId, Figures>>) {
        let peers = self.view.as_ref().map(|view| mesh::peers(&view.state, view.node));
        let (peers, known) = (peers.unwrap_or_default(), self.known.clone());
        let wires = Arc::clone(&self.wires);
        tokio::task::spawn_blocking(move || {
            let read = wires.lock().as_ref().map(Wires::figures);
            let all = match read {
                Some(Ok(all)) => all,
                Some(Err(error)) => {
                    tracing::debug!(%error, "no figures of the mesh");
                    BTreeMap::new()
                }
                None => BTreeMap::new(),
            };
            let now = SystemTime::now();
            let each = all.into_iter().filter_map(|(key, seen)| {
                let node = peers.get(&key)?.node;
                let age = seen.handshake.map(|at| now.duration_since(at).unwrap_or_default());
                let known = known.get(&key).map(|at| at.elapsed().as_secs());
                let figures = Figures {
                    handshake: age.map(|age| age.as_secs()),
                    known: known.unwrap_or_default(),
                    sent: seen.sent,
                    received: seen.received,
                    dropped: seen.dropped,
                };
                Some((node, figures))
            });
            // Who asked may have gone.
            let _ = reply.send(each.collect());
        });
    }
}
