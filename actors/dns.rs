//! The dns actor: answers questions about the cluster's names on the node's bridge, and hands
//! others to the host's resolvers.
//!
//! Owns the zone that is answered from, and the listeners. Never decides where a name leads: that
//! is the core's `dns`.

mod forward;
mod serve;
mod shared;
mod tcp;

#[cfg(test)]
mod tests;

use crate::actors::converge::Converge;
use crate::actors::dns_queries::DnsQueries;
use crate::actors::mailbox::Stamp;
use crate::actors::root::{self, Child, ChildMessage, RootRef, View};
use crate::id::Index;
use crate::network::Subnet;
use crate::node::dns::Zone;
use forward::Forwarder;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serve::Listeners;
use shared::Shared;
use std::net::SocketAddr;
use std::sync::Arc;

pub use forward::ReadResolvers;

/// What the dns actor is told.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
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
#[derive(Clone)]
pub struct Args {
    /// Where settled views go.
    pub root: RootRef,
    /// Where it listens, over UDP and TCP. An address that the host doesn't have yet will do.
    pub listen: Vec<SocketAddr>,
    /// Containers, which get the host's resolvers as well.
    pub cluster: Subnet,
    /// The host's resolvers.
    pub resolvers: ReadResolvers,
    /// What is counted.
    pub queries: DnsQueries,
}

/// The actor.
pub struct Dns;

/// What it keeps.
pub struct State {
    root: RootRef,
    shared: Arc<Shared>,
    /// They end with the actor.
    _listeners: Converge<Vec<SocketAddr>>,
}

impl Actor for Dns {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let own = args.listen.iter().filter(|at| at.port() == 53).map(SocketAddr::ip).collect();
        let forwarder = Forwarder::new(args.resolvers, own);
        let shared = Arc::new(Shared::new(args.cluster, forwarder, args.queries));
        let listeners = Converge::start(Listeners::new(Arc::clone(&shared)), || ());
        listeners.want(args.listen);
        Ok(State { root: args.root, shared, _listeners: listeners })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::View(view) => state.on_view(&view),
            Msg::Stamped(stamp) => stamp.arrived(),
        }
        Ok(())
    }
}

impl State {
    /// An old state is answered from as long as there is no newer one, but it settles nothing.
    fn on_view(&self, view: &View) {
        let touched = &view.touched;
        let concerns = touched.all
            || touched.nodes
            || !touched.apps.is_empty()
            || !touched.allocations.is_empty();
        if concerns {
            self.shared.zone.store(Arc::new(Zone::of(&view.state, view.node)));
        }
        let index = if view.current { view.index } else { Index(0) };
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Settled { child: Child::Dns, index });
    }
}
