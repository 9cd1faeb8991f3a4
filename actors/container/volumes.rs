//! Volumes that were given up: their data goes, and the cluster is told.
//!
//! Owns which removals are under way. Never decides that one is given up.

use super::{Msg, State};
use crate::actors::platform::volumes::VolumeStore;
use crate::actors::root::{self, Proposal};
use crate::fsm::Command;
use crate::fsm::volumes::VolumeChange;
use crate::id::VolumeName;
use crate::limits;
use crate::units::Bytes;
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// The removals under way, also those that wait for their next try.
pub(super) type Removals = BTreeSet<VolumeName>;

/// What volumes take, measured now and then when somebody asks.
#[derive(Clone, Default)]
pub(super) struct Measured(Arc<Mutex<Option<Figures>>>);

/// When volumes were measured, and what each takes.
type Figures = (Instant, BTreeMap<VolumeName, Bytes>);

impl Measured {
    /// The last figures, or new ones if they are old. Blocks while it measures.
    pub(super) fn of(&self, store: &VolumeStore) -> BTreeMap<VolumeName, Bytes> {
        let mut last = self.0.lock();
        match &*last {
            Some((at, figures))
                if at.elapsed() < limits::VOLUME_MEASURE && store.is_of(figures) =>
            {
                figures.clone()
            }
            _ => {
                let figures = store.used();
                *last = Some((Instant::now(), figures.clone()));
                figures
            }
        }
    }
}

impl State {
    /// Removes the data of what this node has and nobody wants.
    pub(super) fn remove_volumes(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.as_ref().filter(|view| view.current) else { return };
        let all = view.state.volumes.iter();
        let ours = all.filter(|(_, volume)| volume.deleting && volume.node == view.node);
        let due: Vec<VolumeName> = ours.map(|(name, _)| name.clone()).collect();
        let node = view.node;
        for name in due {
            if !self.removals.insert(name.clone()) {
                continue;
            }
            let (store, root) = (self.platform.volumes.clone(), self.root.clone());
            let myself = myself.clone();
            self.work.spawn(async move {
                let gone = name.clone();
                let removed = tokio::task::spawn_blocking(move || store.remove(&gone)).await;
                match removed.unwrap_or_else(|lost| Err(std::io::Error::other(lost))) {
                    Ok(()) => {
                        let change = VolumeChange::Gone { name: name.clone(), node };
                        let (sender, told) = tokio::sync::oneshot::channel();
                        let command = Command::Volumes(change);
                        let proposal = Proposal::new(&command, None, sender.into());
                        // Root outlives its children.
                        let _ = root.cast(root::Msg::Propose(proposal));
                        // What did not get through is told again after the pause.
                        let _ = told.await;
                    }
                    Err(error) => tracing::warn!(volume = %name, %error, "its data is not removed"),
                }
                tokio::time::sleep(limits::VOLUME_AGAIN).await;
                // The actor has ended, and this task with it.
                let _ = myself.cast(Msg::VolumeRemoved(name));
            });
        }
    }

    /// A removal is over; where it failed it is tried again.
    pub(super) fn on_volume_removed(&mut self, name: &VolumeName, myself: &ActorRef<Msg>) {
        self.removals.remove(name);
        self.remove_volumes(myself);
    }
}
