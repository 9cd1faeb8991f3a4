//! The proxy actor: requests from outside → healthy containers of all nodes.
//!
//! Owns the table of routes that the threads use, and is settled once they use it. Never touches a
//! connection: that is the engine, on threads of its own.

mod access;
mod acme;
pub mod certs;
mod connection;
pub mod engine;
mod exchange;
mod fast;
mod gate;
mod gauge;
mod io;
pub mod listen;
pub mod local_ca;
mod proxied;
mod service;
pub mod shared;
mod timer;

#[cfg(test)]
mod tests;

pub use access::AccessLog;
pub use acme::OrderSettings;

use crate::actors::mailbox::Stamp;
use crate::actors::root::{self, Child, ChildMessage, RootRef, View};
use crate::id::Index;
use crate::limits::INGRESS_HELD;
use crate::secret::Keyring;
use acme::Orders;
use certs::Opener;
use engine::Threads;
use listen::Addresses;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use shared::Shared;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What the proxy actor is told.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// Clients have waited long enough for a table.
    Serve,
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
    /// Where it says what it has made true.
    pub root: RootRef,
    /// Where it is reached.
    pub addresses: Arc<Addresses>,
    /// What its threads share, over its restarts: those of a failed actor see the newest table,
    /// too.
    pub shared: Arc<Shared>,
    /// What opens and seals certificates, and opens the secrets of routes with `auth`.
    pub keyring: Keyring,
    /// How they are ordered.
    pub orders: OrderSettings,
}

/// The actor.
pub struct Proxy;

/// What it keeps.
pub struct State {
    args: Args,
    /// None until there is a table: connections wait to be accepted.
    threads: Option<Threads>,
    /// A current view has been shown.
    shown: bool,
    opener: Opener,
    /// What those see that order certificates.
    views: watch::Sender<Option<View>>,
    /// They end with the actor.
    _orders: AbortOnDropHandle<()>,
}

impl Actor for Proxy {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let (views, watched) = watch::channel(None);
        let opener = Opener::new(args.keyring.clone());
        let (keyring, settings) = (args.keyring.clone(), args.orders.clone());
        let orders = Orders::new(args.root.clone(), watched, keyring, settings);
        let mut state = State {
            args,
            threads: None,
            shown: false,
            opener,
            views,
            _orders: AbortOnDropHandle::new(tokio::spawn(orders.keep())),
        };
        if state.args.shared.is_known() {
            state.serve()?;
        } else {
            myself.send_after(INGRESS_HELD, || Msg::Serve);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::View(view) => state.on_view(&view)?,
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::Serve => state.serve()?,
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(threads) = state.threads.take() {
            threads.stop().await;
        }
        Ok(())
    }
}

impl State {
    /// Until the view is known to be current, what was true before the restart is not shown: the
    /// log is replayed through old states.
    fn on_view(&mut self, view: &View) -> std::io::Result<()> {
        let touched = &view.touched;
        let first = touched.all || !self.shown;
        let routes = first
            || touched.routes
            || touched.secrets
            || !touched.apps.is_empty()
            || !touched.allocations.is_empty();
        let shared = &self.args.shared;
        if view.current && routes {
            self.open_gates(view);
            shared.show(&view.state, view.node);
        }
        let by_local_ca = routes && shared.settings.local_ca.is_some();
        if view.current && (first || by_local_ca || !touched.certificates.is_empty()) {
            let keyring = view.state.nodes.get(&view.node).map(|node| node.keyring.as_str());
            shared.serve_by(self.opener.open(&view.state, keyring));
            shared.show_answers(&view.state);
        }
        if view.current {
            self.shown = true;
            self.serve()?;
        }
        self.views.send_replace(Some(view.clone()));
        let index = if view.current { view.index } else { Index(0) };
        // Root outlives its children.
        let _ = self.args.root.cast(root::Msg::Settled { child: Child::Proxy, index });
        Ok(())
    }

    /// Accepts connections from now on.
    fn serve(&mut self) -> std::io::Result<()> {
        if self.threads.is_none() {
            let listeners = self.args.addresses.pairs()?;
            self.threads = Some(Threads::start(&self.args.shared, listeners)?);
        }
        Ok(())
    }

    fn open_gates(&self, view: &View) {
        let Some(node) = view.state.nodes.get(&view.node) else { return };
        let keyring = &self.args.keyring;
        self.args.shared.gate.show(&view.state, || {
            if let Err(error) = keyring.take_up(&node.keyring) {
                tracing::warn!(%error, "this node can't open the cluster's keyring");
            }
            keyring.clone()
        });
    }
}
