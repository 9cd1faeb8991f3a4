//! What stands in for the peer actor on a node without a peer port: it settles every view.
//!
//! Never opens anything.

use super::Notice;
use crate::actors::root::{self, Child, RootRef};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// The actor.
pub struct Alone;

impl Actor for Alone {
    type Msg = Notice;
    type State = RootRef;
    type Arguments = RootRef;

    async fn pre_start(
        &self,
        _myself: ActorRef<Notice>,
        root: RootRef,
    ) -> Result<RootRef, ActorProcessingErr> {
        Ok(root)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Notice>,
        notice: Notice,
        root: &mut RootRef,
    ) -> Result<(), ActorProcessingErr> {
        match notice {
            Notice::View(view) => {
                // Root outlives its children.
                let _ = root.cast(root::Msg::Settled { child: Child::Peer, index: view.index });
            }
            Notice::Stamp(stamp) => stamp.arrived(),
            // There is no other node.
            Notice::Consensus(_)
            | Notice::Settled(_)
            | Notice::Forward(..)
            | Notice::Refused { .. } => {}
        }
        Ok(())
    }
}
