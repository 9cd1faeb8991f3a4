//! What stands in for the peer actor on a node without a peer port: it settles every view.
//!
//! Never opens anything.

use crate::actors::mailbox::Stamp;
use crate::actors::root::{self, Child, RootRef, ToChild};
use crate::id::Index;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};

struct Alone;

enum Msg {
    /// The state has changed.
    Seen(Index),
    /// How long does a message wait here?
    Stamped(Stamp),
}

impl Actor for Alone {
    type Msg = Msg;
    type State = RootRef;
    type Arguments = RootRef;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        root: RootRef,
    ) -> Result<RootRef, ActorProcessingErr> {
        Ok(root)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        root: &mut RootRef,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Seen(index) => {
                // Root outlives its children.
                let _ = root.cast(root::Msg::Settled { child: Child::Peer, index });
            }
            Msg::Stamped(stamp) => stamp.arrived(),
        }
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
        let message = match what {
            ToChild::View(view) => Msg::Seen(view.index),
            ToChild::Stamp(stamp) => Msg::Stamped(stamp),
            _ => return,
        };
        // One that has ended is started anew.
        let _ = actor.cast(message);
    });
    Ok(root::Handle { cell, tell, raft: None })
}
