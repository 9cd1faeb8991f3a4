//! The API actor: HTTP on the UNIX socket and on TCP.
//!
//! Owns the listeners' tasks and the newest view that handlers see. Never blocks in a handler of
//! its own: every request runs in its connection's task, and asks root by message.

mod allocations;
mod apps;
pub mod backup;
mod caller;
mod canaries;
pub mod certificates;
mod claims;
mod context;
mod deploy;
mod deployments;
mod dispatch;
mod error;
mod exec;
mod explain;
mod failures;
mod figures;
mod files;
mod forward;
mod hand_over;
mod images;
mod leave;
mod lend;
pub mod listener;
mod logins;
mod logs;
mod mesh;
mod metrics;
mod nodes;
mod observed;
pub mod openapi;
mod pauses;
mod plans;
mod ports;
pub mod provider;
mod reach;
mod read;
mod rebalance;
mod request;
mod routes;
mod secrets;
mod serve;
mod services;
mod stall;
mod stream;
mod submit;
mod tally;
mod tasks;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod volume_data;
mod volumes;

pub use crate::actors::member_listener::{MemberConnection, MemberListener, Socket};
pub use error::ApiError;
pub use lend::Lenders;
pub use ports::{Claims, ImageStore, Lines, LogSource, Neighbours, Ports, StoreError};
pub use serve::Bounds;

use crate::actors::dns_queries::DnsQueries;
use crate::actors::mailbox::Stamp;
use crate::actors::root::{self, Child, ChildMessage, RootRef, View};
use crate::limits;
use context::Context;
use listener::{Listening, LocalSocket};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the API is told.
pub enum Msg {
    /// The state has changed; answered to root by `Settled`.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// A listener's task ended though nobody stopped it.
    ListenerEnded,
}

impl ChildMessage for Msg {
    fn view(view: View) -> Option<Self> {
        Some(Self::View(view))
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamped(stamp)
    }
}

/// Whether the node belongs to a cluster.
#[derive(Clone, Debug, Default)]
pub enum Membership {
    /// It doesn't: only the UNIX socket is open, and `init` is what it takes.
    #[default]
    Unclaimed,
    /// It does, and is reached over TCP too. Never turns back within a process.
    Member {
        /// The open TCP listeners.
        tcp: Vec<Listening>,
    },
}

/// What the API starts with; a restarted one starts with the same.
#[derive(Clone)]
pub struct Args {
    /// The way to root.
    pub root: RootRef,
    /// The UNIX socket; open for the whole life of the process.
    pub local: Arc<LocalSocket>,
    /// Whether the node belongs to a cluster; changes once, after `init`.
    pub membership: watch::Receiver<Membership>,
    /// The node's stores.
    pub ports: Ports,
    /// `mill dev`: `cluster` and `constraint` of a file are ignored.
    pub dev: bool,
    /// Numbers and times; [`Bounds::default`] but in tests.
    pub bounds: Bounds,
    /// What is counted of names.
    pub queries: DnsQueries,
}

/// The actor.
pub struct Api;

/// What the API keeps.
pub struct State {
    root: RootRef,
    views: watch::Sender<Option<View>>,
    tally: tally::Tally,
    stopping: CancellationToken,
    listeners: JoinHandle<()>,
    _guard: DropGuard,
}

impl Drop for State {
    fn drop(&mut self) {
        // After an orderly stop they have ended already.
        self.listeners.abort();
    }
}

impl Actor for Api {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let (views, seen) = watch::channel(None);
        let stopping = CancellationToken::new();
        let tally = tally::Tally::default();
        let context = Arc::new(Context {
            root: args.root.clone(),
            views: seen,
            membership: args.membership.clone(),
            ports: args.ports.clone(),
            dev: args.dev,
            plans: plans::Plans::default(),
            tally: tally.clone(),
            queries: args.queries.clone(),
            streams: caller::Streams::new(args.bounds.streams),
            archives: Arc::new(Semaphore::new(limits::ARCHIVES_AT_ONCE)),
            failures: failures::Failures::default(),
            connections: usage::Connections::default(),
            stopping: stopping.clone(),
        });
        let root = args.root.clone();
        let all = tokio::spawn(listen(args, context, stopping.clone()));
        let listeners = tokio::spawn(async move {
            // Cancelled tasks and ended ones alike: nobody is served any more.
            let _ = AbortOnDrop(all).await;
            // The actor may have stopped, which is when this is expected.
            let _ = myself.cast(Msg::ListenerEnded);
        });
        let guard = stopping.clone().drop_guard();
        Ok(State { root, views, tally, stopping, listeners, _guard: guard })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::View(view) => {
                let index = view.index;
                // What is replayed at boot was counted by an earlier life.
                if let Some(before) = state.views.borrow().as_ref().filter(|view| view.current) {
                    state.tally.count(before, &view);
                }
                state.views.send_replace(Some(view));
                // Root may be about to stop.
                let _ = state.root.cast(root::Msg::Settled { child: Child::Api, index });
                Ok(())
            }
            Msg::Stamped(stamp) => {
                stamp.arrived();
                Ok(())
            }
            Msg::ListenerEnded => Err("the API's listeners ended".into()),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.stopping.cancel();
        // They bound their own wait for what is going on. A panic there has been logged.
        let _ = (&mut state.listeners).await;
        Ok(())
    }
}

/// Serves all listeners: the UNIX socket at once, TCP as soon as the node is a member.
async fn listen(args: Args, context: Arc<Context>, stopping: CancellationToken) {
    let Args { local, mut membership, bounds, ports, .. } = args;
    let entrance = |entrance| dispatch::filter(Arc::clone(&context), entrance);
    let local_routes = entrance(request::Entrance::Local);
    let network_routes = entrance(request::Entrance::Network);
    let member_routes = entrance(request::Entrance::Member);
    let stop = stopping.clone();
    let on_socket = serve::run(local, local_routes, bounds.local, bounds, stop);
    let on_network = async {
        let member = membership.wait_for(|now| matches!(now, Membership::Member { .. }));
        let tcp = tokio::select! {
            member = member => match member.as_deref() {
                Ok(Membership::Member { tcp }) => tcp.clone(),
                _ => Vec::new(),
            },
            () = stopping.cancelled() => return,
        };
        let each = tcp.into_iter().map(|listener| {
            let (routes, stop) = (network_routes.clone(), stopping.clone());
            serve::run(listener, routes, bounds.network, bounds, stop)
        });
        futures_util::future::join_all(each).await;
    };
    let stop = stopping.clone();
    let from_members = serve::run(ports.members, member_routes, bounds.members, bounds, stop);
    tokio::join!(on_socket, on_network, from_members);
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Future for AbortOnDrop {
    type Output = Result<(), tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}
