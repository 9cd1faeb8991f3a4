//! Another keyring for the cluster when a node is gone that had it: the leader's task.
//!
//! Owns making it and proposing it, until the state has it. Never shows a key to anybody for whom
//! it isn't sealed.

use super::credentials::Credentials;
use crate::actors::root::{Msg, Proposal, RootRef, View};
use crate::fsm::Command;
use crate::limits;
use ractor::rpc::CallResult;
use std::sync::Arc;
use tokio::sync::watch;

/// What it takes to change the keyring.
pub(super) struct Rotation {
    pub(super) credentials: Arc<Credentials>,
    pub(super) root: RootRef,
    pub(super) views: watch::Receiver<Option<View>>,
}

impl Rotation {
    /// Changes the keyring whenever it is due and this node leads, for ever.
    pub(super) async fn keep(mut self) {
        loop {
            let due = self.views.wait_for(|view| view.as_ref().is_some_and(is_due)).await;
            let Some(view) = due.ok().and_then(|view| view.clone()) else { return };
            match self.rotate(view).await {
                Ok(()) => tracing::info!("the cluster has another keyring: a node is gone"),
                Err(why) => {
                    tracing::warn!(why, "the keyring was not changed; trying again");
                    tokio::time::sleep(limits::ROTATE_AGAIN).await;
                }
            }
        }
    }

    async fn rotate(&mut self, view: View) -> Result<(), String> {
        let credentials = Arc::clone(&self.credentials);
        let made = tokio::task::spawn_blocking(move || credentials.rotate(&view.state)).await;
        let rotate = made.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let command = Command::Rotate(rotate);
        let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
        let done = match self.root.call(ask, Some(limits::API_PROPOSE)).await {
            Ok(CallResult::Success(done)) => done.map_err(|error| error.to_string())?,
            _ => return Err("no answer".to_owned()),
        };
        let there = |view: &Option<View>| view.as_ref().is_some_and(|v| v.index >= done.index);
        self.views.wait_for(there).await.map(drop).map_err(|error| error.to_string())
    }
}

fn is_due(view: &View) -> bool {
    view.state.keyring_due && view.current && view.leader == Some(view.node)
}
