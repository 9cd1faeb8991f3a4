//! How each of root's children is started.
//!
//! Owns which parts of the node a child is given, and which thread it runs on. Never keeps one.

use super::consensus_thread::start_on;
use super::{DaemonError, LOG, Shared};
use crate::actors::peer::place_of;
use crate::actors::platform::{Places, resolvers};
use crate::actors::root::{self, Factories, Factory, RootRef, Supervised};
use crate::actors::{api, container, dns, mesh, peer, provider, proxy, raft, scheduler};
use crate::config::Mode;
use crate::fsm::FEATURE_LEVEL;
use crate::limits::DNS_PORT;
use crate::network::Subnet;
use ractor::{Actor as _, SpawnErr};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// All of a node. What isn't on the consensus_thread thread runs where this is called.
pub(super) fn all(shared: &Arc<Shared>) -> Factories {
    let (here, consensus_thread) = (Handle::current(), shared.consensus_thread.handle());
    let with = |shared: &Arc<Shared>| Arc::clone(shared);
    let api = with(shared);
    let raft = with(shared);
    let peer = with(shared);
    let proxy = with(shared);
    let proxy = factory(&here, move |root| start_proxy(Arc::clone(&proxy), root));
    let mesh = with(shared);
    let traffic = with(shared);
    let container = with(shared);
    let container = factory(&here, move |root| start_container(Arc::clone(&container), root));
    let names = with(shared);
    let storage = with(shared);
    let dns = factory(&here, move |root| start_dns(Arc::clone(&names), root));
    Factories {
        dns: Some(dns.leading_traffic()),
        api: Some(factory(&here, move |root| start_api(Arc::clone(&api), root))),
        raft: Some(factory(&consensus_thread, move |root| start_raft(Arc::clone(&raft), root))),
        peer: Some(factory(&consensus_thread, move |root| start_peer(Arc::clone(&peer), root))),
        mesh: Some(factory(&here, move |root| start_mesh(Arc::clone(&mesh), root))),
        container: Some(container.leading_traffic()),
        proxy: Some(proxy.leading_traffic()),
        scheduler: Some(factory(&here, move |root| {
            scheduler::start(root, Arc::clone(&traffic.ingress.traffic))
        })),
        provider: Some(factory(&here, move |root| start_provider(Arc::clone(&storage), root))),
    }
}

fn factory<M, F, R>(thread: &Handle, start: F) -> Factory<M>
where
    M: 'static,
    F: Fn(RootRef) -> R + Send + 'static,
    R: Future<Output = Result<Supervised<M>, SpawnErr>> + Send + 'static,
{
    let thread = thread.clone();
    Factory::new(move |root| start_on(thread.clone(), start(root)))
}

async fn start_container(
    shared: Arc<Shared>,
    root: RootRef,
) -> Result<Supervised<container::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let platform = shared.platform.get().ok_or_else(missing)?;
    container::start(Arc::clone(platform), root).await
}

async fn start_proxy(
    shared: Arc<Shared>,
    root: RootRef,
) -> Result<Supervised<proxy::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let equipment = shared.equipment.get().ok_or_else(missing)?;
    let addresses = Arc::clone(&equipment.ingress);
    let orders = proxy::OrderSettings {
        ca: shared.config.acme_ca.clone(),
        resolver: shared.config.acme_resolver,
        trial: shared.config.acme_trial.clone(),
    };
    let (keyring, shared) = (equipment.keyring.clone(), Arc::clone(&shared.ingress));
    proxy::start(proxy::Args { root, addresses, shared, keyring, orders }).await
}

async fn start_provider(
    shared: Arc<Shared>,
    root: RootRef,
) -> Result<Supervised<provider::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let keyring = shared.equipment.get().ok_or_else(missing)?.keyring.clone();
    provider::start(provider::Args { root, keyring }).await
}

async fn start_mesh(shared: Arc<Shared>, root: RootRef) -> Result<Supervised<mesh::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let platform = Arc::clone(shared.platform.get().ok_or_else(missing)?);
    mesh::start(mesh::Args { root, platform, port: shared.config.mesh_port }).await
}

async fn start_dns(shared: Arc<Shared>, root: RootRef) -> Result<Supervised<dns::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let platform = shared.platform.get().ok_or_else(missing)?;
    let who = shared.identity.get().ok_or_else(missing)?;
    let bridge = SocketAddr::from((platform.net.gateway(), DNS_PORT));
    let args = dns::Args {
        root,
        listen: [bridge].into_iter().chain(shared.config.dns).collect(),
        cluster: Subnet::of(who.cluster.subnet, who.cluster.prefix),
        resolvers: Arc::new(resolvers::of_host),
        queries: shared.queries.clone(),
    };
    dns::start(args).await
}

async fn start_api(shared: Arc<Shared>, root: RootRef) -> Result<Supervised<api::Msg>, SpawnErr> {
    let ports = super::ports::open(&shared, &root).map_err(DaemonError::Watch);
    let ports = ports.map_err(|error| SpawnErr::StartupFailed(error.into()))?;
    let args = api::Args {
        root,
        local: Arc::clone(&shared.local),
        membership: shared.membership.subscribe(),
        ports,
        dev: shared.config.mode == Mode::Dev,
        bounds: api::Bounds::default(),
        queries: shared.queries.clone(),
    };
    api::start(args).await
}

async fn start_peer(
    shared: Arc<Shared>,
    root: RootRef,
) -> Result<Supervised<peer::Notice>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let who = shared.identity.get().ok_or_else(missing)?;
    let equipment = shared.equipment.get().ok_or_else(missing)?;
    shared.post.set_traffic(Arc::clone(&shared.ingress.traffic));
    let Some(listener) = &equipment.peer else { return peer::start_alone(root).await };
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

async fn start_raft(shared: Arc<Shared>, root: RootRef) -> Result<Supervised<raft::Msg>, SpawnErr> {
    let missing = || SpawnErr::StartupFailed("the node is no member yet".into());
    let who = shared.identity.get().ok_or_else(missing)?;
    let (sink, fatal) =
        (root::sink(root.clone(), Arc::clone(&shared.post), FEATURE_LEVEL), shared.fatal.clone());
    let sink: raft::Sink = Arc::new(move |event| match event {
        // Root may be on the thread that waits for the disk.
        raft::Event::Stuck(reason) => drop(fatal.send(reason)),
        event => sink(event),
    });
    let dir = Places::of(&shared.config.data_dir).data.join(LOG);
    let args = raft::Args { node: who.node, dir, sink };
    let (actor, _) = raft::Raft::spawn_linked(None, raft::Raft, args, root.get_cell()).await?;
    Ok(actor.into())
}
