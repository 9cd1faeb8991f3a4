//! How each of root's children is started.
//!
//! Owns which parts of the node a child is given, and which thread it runs on. Never keeps one.

use super::consensus_thread::start_on;
use super::{DaemonError, LOG, Shared};
use crate::actors::api::{self, Api};
use crate::actors::container::{self, Container};
use crate::actors::dns::{self, Dns};
use crate::actors::mesh::{self, Mesh};
use crate::actors::peer::{self, Alone, place_of};
use crate::actors::platform::{Places, resolvers};
use crate::actors::provider::{self, Provider};
use crate::actors::proxy::{self, Proxy};
use crate::actors::raft::{self, Raft};
use crate::actors::root::{self, Factories, Factory, RootRef, Supervised};
use crate::actors::scheduler::{self, Scheduler};
use crate::config::Mode;
use crate::fsm::FEATURE_LEVEL;
use crate::limits::DNS_PORT;
use crate::network::Subnet;
use ractor::SpawnErr;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

type Started<M> = Result<Supervised<M>, SpawnErr>;

/// All of a node. What isn't on the consensus thread runs where this is called.
pub(super) fn all(shared: &Arc<Shared>) -> Factories {
    let (here, consensus) = (Handle::current(), shared.consensus_thread.handle());
    Factories {
        raft: Some(factory(shared, &consensus, start_raft)),
        peer: Some(factory(shared, &consensus, start_peer)),
        mesh: Some(factory(shared, &here, start_mesh)),
        container: Some(factory(shared, &here, start_container).leading_traffic()),
        proxy: Some(factory(shared, &here, start_proxy).leading_traffic()),
        dns: Some(factory(shared, &here, start_dns).leading_traffic()),
        scheduler: Some(factory(shared, &here, start_scheduler)),
        provider: Some(factory(shared, &here, start_provider)),
        api: Some(factory(shared, &here, start_api)),
    }
}

fn factory<M, F, R>(shared: &Arc<Shared>, thread: &Handle, start: F) -> Factory<M>
where
    M: 'static,
    F: Fn(Arc<Shared>, RootRef) -> R + Send + 'static,
    R: Future<Output = Started<M>> + Send + 'static,
{
    let (shared, thread) = (Arc::clone(shared), thread.clone());
    Factory::new(move |root| start_on(thread.clone(), start(Arc::clone(&shared), root)))
}

fn no_member() -> SpawnErr {
    SpawnErr::StartupFailed("the node is no member yet".into())
}

async fn start_scheduler(shared: Arc<Shared>, root: RootRef) -> Started<scheduler::Msg> {
    let args = scheduler::Args { root: root.clone(), traffic: Arc::clone(&shared.ingress.traffic) };
    Supervised::start(Scheduler, args, &root).await
}

async fn start_container(shared: Arc<Shared>, root: RootRef) -> Started<container::Msg> {
    let platform = Arc::clone(shared.platform.get().ok_or_else(no_member)?);
    let args = container::Args { root: root.clone(), platform };
    Supervised::start(Container, args, &root).await
}

async fn start_proxy(shared: Arc<Shared>, root: RootRef) -> Started<proxy::Msg> {
    let equipment = shared.equipment.get().ok_or_else(no_member)?;
    let addresses = Arc::clone(&equipment.ingress);
    let orders = proxy::OrderSettings {
        ca: shared.config.acme_ca.clone(),
        resolver: shared.config.acme_resolver,
        trial: shared.config.acme_trial.clone(),
    };
    let (keyring, shared) = (equipment.keyring.clone(), Arc::clone(&shared.ingress));
    let args = proxy::Args { root: root.clone(), addresses, shared, keyring, orders };
    Supervised::start(Proxy, args, &root).await
}

async fn start_provider(shared: Arc<Shared>, root: RootRef) -> Started<provider::Msg> {
    let keyring = shared.equipment.get().ok_or_else(no_member)?.keyring.clone();
    Supervised::start(Provider, provider::Args { root: root.clone(), keyring }, &root).await
}

async fn start_mesh(shared: Arc<Shared>, root: RootRef) -> Started<mesh::Msg> {
    let platform = Arc::clone(shared.platform.get().ok_or_else(no_member)?);
    let args = mesh::Args { root: root.clone(), platform, port: shared.config.mesh_port };
    Supervised::start(Mesh, args, &root).await
}

async fn start_dns(shared: Arc<Shared>, root: RootRef) -> Started<dns::Msg> {
    let platform = shared.platform.get().ok_or_else(no_member)?;
    let who = shared.identity.get().ok_or_else(no_member)?;
    let bridge = SocketAddr::from((platform.net.gateway(), DNS_PORT));
    let args = dns::Args {
        root: root.clone(),
        listen: [bridge].into_iter().chain(shared.config.dns).collect(),
        cluster: Subnet::of(who.cluster.subnet, who.cluster.prefix),
        resolvers: Arc::new(resolvers::of_host),
        queries: shared.queries.clone(),
    };
    Supervised::start(Dns, args, &root).await
}

async fn start_api(shared: Arc<Shared>, root: RootRef) -> Started<api::Msg> {
    let ports = super::ports::open(&shared, &root).map_err(DaemonError::Watch);
    let ports = ports.map_err(|error| SpawnErr::StartupFailed(error.into()))?;
    let args = api::Args {
        root: root.clone(),
        local: Arc::clone(&shared.local),
        membership: shared.membership.subscribe(),
        ports,
        dev: shared.config.mode == Mode::Dev,
        bounds: api::Bounds::default(),
        queries: shared.queries.clone(),
    };
    Supervised::start(Api, args, &root).await
}

async fn start_peer(shared: Arc<Shared>, root: RootRef) -> Started<peer::Notice> {
    let who = shared.identity.get().ok_or_else(no_member)?;
    let equipment = shared.equipment.get().ok_or_else(no_member)?;
    shared.post.set_traffic(Arc::clone(&shared.ingress.traffic));
    let Some(listener) = &equipment.peer else {
        return Supervised::start(Alone, root.clone(), &root).await;
    };
    let args = peer::Args {
        root,
        node: who.node,
        incarnation: who.cluster.incarnation,
        credentials: Arc::clone(&equipment.credentials),
        listener: Arc::clone(listener),
        here: equipment.peer_port().map(|port| place_of(&who.address, port)),
        known: who.members.clone(),
        hints: shared.hints.clone(),
        post: Arc::clone(&shared.post),
        dial: peer::tcp(),
        members: Arc::clone(&shared.members),
    };
    peer::start(args).await
}

async fn start_raft(shared: Arc<Shared>, root: RootRef) -> Started<raft::Msg> {
    let who = shared.identity.get().ok_or_else(no_member)?;
    let (sink, fatal) =
        (root::sink(root.clone(), Arc::clone(&shared.post), FEATURE_LEVEL), shared.fatal.clone());
    let sink: raft::Sink = Arc::new(move |event| match event {
        // Root may be on the thread that waits for the disk.
        raft::Event::Stuck(reason) => drop(fatal.send(reason)),
        event => sink(event),
    });
    let dir = Places::of(&shared.config.data_dir).data.join(LOG);
    let args = raft::Args { node: who.node, dir, sink };
    Supervised::start(Raft, args, &root).await
}
