//! What stands in for the peer actor on a node without a peer port: it settles every view.
//!
//! Never opens anything.

use crate::actors::root::{self, Child, RootRef, ToChild};
use crate::id::Index;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};

struct Alone;

impl Actor for Alone {
    type Msg = Index;
    type State = RootRef;
    type Arguments = RootRef;

    async fn pre_start(
        &self,
        _myself: ActorRef<Index>,
        root: RootRef,
    ) -> Result<RootRef, ActorProcessingErr> {
        Ok(root)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Index>,
        index: Index,
        root: &mut RootRef,
    ) -> Result<(), ActorProcessingErr> {
        // Root outlives its children.
        let _ = root.cast(root::Msg::Settled { child: Child::Peer, index });
        Ok(())
    }
}

/// Starts it under root.
///
/// # Errors
/// If the actor can't be spawned.
pub async fn start_alone(root: RootRef) -> Result<root::Handle, SpawnErr> {
    let (actor, _) = Alone::spawn_linked(None, Alone, root.clone(), root.get_cell()).await?;
    let cell = actor.get_cell();
    let tell = Box::new(move |what| {
        if let ToChild::View(view) = what {
            // One that has ended is started anew.
            let _ = actor.cast(view.index);
        }
    });
    Ok(root::Handle { cell, tell, raft: None })
}
