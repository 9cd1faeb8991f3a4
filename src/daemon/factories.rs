//! How each of root's children is started.
//!
//! Owns which parts of the node a child is given, and which thread it runs on. Never keeps one.

use super::express::start_on;
use super::{DaemonError, LOG, Shared};
use crate::actors::platform::Places;
use crate::actors::root::{self, Child, Factories, Factory, RootRef};
use crate::actors::{api, container, peer, raft, scheduler};
use crate::config::Mode;
use crate::fsm::FEATURE_LEVEL;
use ractor::Actor as _;
use std::sync::Arc;
use tokio::runtime::Handle;

/// All of a node. What isn't on the express thread runs where this is called.
pub(super) fn all(shared: &Arc<Shared>) -> Factories {
    let (here, express) = (Handle::current(), shared.express.handle());
    let mut all = Factories::new();
    let with = Arc::clone(shared);
    all.insert(Child::Api, factory(&here, move |root| start_api(Arc::clone(&with), root)));
    let with = Arc::clone(shared);
    all.insert(Child::Raft, factory(&express, move |root| start_raft(Arc::clone(&with), root)));
    let with = Arc::clone(shared);
    all.insert(Child::Peer, factory(&express, move |root| start_peer(Arc::clone(&with), root)));
    let with = Arc::clone(shared);
    let start = move |root| start_container(Arc::clone(&with), root);
    all.insert(Child::Container, factory(&here, start));
    all.insert(Child::Scheduler, factory(&here, scheduler::start));
    all
}

fn factory<F, R>(thread: &Handle, start: F) -> Factory
where
    F: Fn(RootRef) -> R + Send + Sync + 'static,
    R: Future<Output = Result<root::Handle, ractor::SpawnErr>> + Send + 'static,
{
    let thread = thread.clone();
    Arc::new(move |root| Box::pin(start_on(thread.clone(), start(root))))
}

async fn start_container(
    shared: Arc<Shared>,
    root: RootRef,
) -> Result<root::Handle, ractor::SpawnErr> {
    let missing = || ractor::SpawnErr::StartupFailed("the node is no member yet".into());
    let platform = shared.platform.get().ok_or_else(missing)?;
    container::start(Arc::clone(platform), root).await
}

async fn start_api(shared: Arc<Shared>, root: RootRef) -> Result<root::Handle, ractor::SpawnErr> {
    let doors = super::doors::open(&shared, &root).map_err(DaemonError::Watch);
    let doors = doors.map_err(|error| ractor::SpawnErr::StartupFailed(error.into()))?;
    let args = api::Args {
        root,
        local: Arc::clone(&shared.local),
        standing: shared.standing.subscribe(),
        doors,
        dev: shared.config.mode == Mode::Dev,
        bounds: api::Bounds::default(),
    };
    api::start(args).await
}

async fn start_peer(shared: Arc<Shared>, root: RootRef) -> Result<root::Handle, ractor::SpawnErr> {
    let missing = || ractor::SpawnErr::StartupFailed("the node is no member yet".into());
    let who = shared.identity.get().ok_or_else(missing)?;
    let equipment = shared.equipment.get().ok_or_else(missing)?;
    let Some(listener) = &equipment.peer else { return peer::start_alone(root).await };
    let args = peer::Args {
        root,
        node: who.node,
        incarnation: who.cluster.incarnation,
        credentials: Arc::clone(&equipment.credentials),
        listener: Arc::clone(listener),
        known: who.members.clone(),
        post: Arc::clone(&shared.post),
        dial: peer::tcp(),
        hall: Arc::clone(&shared.hall),
    };
    peer::start(args).await
}

async fn start_raft(shared: Arc<Shared>, root: RootRef) -> Result<root::Handle, ractor::SpawnErr> {
    let missing = || ractor::SpawnErr::StartupFailed("the node is no member yet".into());
    let who = shared.identity.get().ok_or_else(missing)?;
    let sink = root::sink(root.clone(), Arc::clone(&shared.post), FEATURE_LEVEL);
    let dir = Places::of(&shared.config.data_dir).data.join(LOG);
    let args = raft::Args { node: who.node, dir, sink };
    let (actor, _) = raft::Raft::spawn_linked(None, raft::Raft, args, root.get_cell()).await?;
    let (cell, raft) = (actor.get_cell(), Some(actor.clone()));
    let tell = Box::new(move |what| {
        if let root::ToChild::Raft(message) = what {
            // A raft that has ended ends the process: root is told by its supervision.
            let _ = actor.cast(message);
        }
    });
    Ok(root::Handle { cell, tell, raft })
}
