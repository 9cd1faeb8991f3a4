//! Loaded images: what this node has of them is brought in line with what the cluster knows.
//!
//! Owns that only one round of it is made at a time, and one image fetched. Never decides what is
//! to be done: that is `copies`.

use super::{Msg, State};
use crate::actors::platform::image::{ImageError, Images};
use crate::actors::root::{self, RootRef, View};
use crate::consensus::propose::ProposeError;
use crate::fsm::Command;
use crate::fsm::loaded::{ImageChange, LoadedImages, Pin};
use crate::limits;
use crate::node::image_replication::{self, Duties, Standing};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::time::Instant;

/// What is under way.
#[derive(Default)]
pub(super) struct Keeping {
    /// What the last round was made for, if it was made whole.
    seen: Option<(LoadedImages, Vec<Standing>)>,
    busy: bool,
    /// Something has changed during the round.
    again: bool,
    fetching: Option<Pin>,
    /// What could not be fetched, and when.
    failed: BTreeMap<Pin, Instant>,
}

impl State {
    /// Whether loaded images or nodes are otherwise than in the last round.
    pub(super) fn keep_if_changed(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = &self.view else { return };
        let is_same = self.keeping.seen.as_ref().is_some_and(|(images, nodes)| {
            images.ptr_eq(&view.state.loaded) && *nodes == image_replication::standings(&view.state)
        });
        if !is_same {
            self.keep(myself);
        }
    }

    /// Makes a round, or one more if one is under way.
    pub(super) fn keep(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = &self.view else { return };
        if !view.current || !view.is_let_in() || !view.state.shares_images() {
            return;
        }
        if self.keeping.busy {
            self.keeping.again = true;
            return;
        }
        self.keeping.busy = true;
        self.keeping.again = false;
        let standings = image_replication::standings(&view.state);
        self.keeping.seen = Some((view.state.loaded.clone(), standings));
        let (images, root, view) = (self.platform.images.clone(), self.root.clone(), view.clone());
        let myself = myself.clone();
        self.work.spawn(async move {
            let made = round(&images, &root, &view).await;
            let (fetch, whole) = made.unwrap_or_else(|error| {
                tracing::warn!(%error, "loaded images can't be looked after");
                (Vec::new(), false)
            });
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Kept { fetch, whole });
        });
    }

    /// A round has ended; these images should be fetched. One that was not made whole is made again
    /// with the next view.
    pub(super) fn on_kept(&mut self, fetch: Vec<Pin>, whole: bool, myself: &ActorRef<Msg>) {
        self.keeping.busy = false;
        self.keeping.seen.take_if(|_| !whole);
        if self.keeping.again {
            self.keep(myself);
        }
        let keeping = &mut self.keeping;
        keeping.failed.retain(|pin, at| fetch.contains(pin) && at.elapsed() < limits::COPY_AGAIN);
        let next = fetch.into_iter().find(|pin| !keeping.failed.contains_key(pin));
        let Some(pin) = next.filter(|_| keeping.fetching.is_none()) else { return };
        keeping.fetching = Some(pin.clone());
        let (images, myself) = (self.platform.images.clone(), myself.clone());
        self.work.spawn(async move {
            let held = images.hold(&pin).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Fetched(pin, held));
        });
    }

    /// A loaded image was fetched, or not.
    pub(super) fn on_fetched(
        &mut self,
        pin: Pin,
        held: Result<(), ImageError>,
        myself: &ActorRef<Msg>,
    ) {
        self.keeping.fetching = None;
        if let Err(error) = held {
            tracing::info!(image = pin.reference, %error, "no copy of a loaded image was made");
            self.keeping.failed.insert(pin, Instant::now());
        }
        self.keep(myself);
    }
}

/// Does everything that takes no longer than a moment. Answers what is to be fetched, and whether
/// the cluster was told all.
async fn round(
    images: &Images,
    root: &RootRef,
    view: &View,
) -> Result<(Vec<Pin>, bool), ImageError> {
    let held = images.held().await?;
    let Duties { drop, mark, tell, has, lacks, fetch } =
        image_replication::duties(&view.state, view.node, &held);
    images.forget(drop, view.index).await?;
    if let Some(cluster) = &view.state.cluster {
        images.mark(&mark, &cluster.id).await?;
    }
    let (node, mut whole) = (view.node, true);
    if !tell.is_empty() {
        whole &= propose(root, ImageChange::Load { node, images: tell, late: true }).await;
    }
    if !has.is_empty() || !lacks.is_empty() {
        whole &= propose(root, ImageChange::Hold { node, has, lacks }).await;
    }
    Ok((fetch, whole))
}

/// Changes the state. If that fails the next round will tell it again; what was refused is not
/// worth a round of its own.
async fn propose(root: &RootRef, change: ImageChange) -> bool {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let proposal = root::Proposal::new(&Command::Images(change), None, sender.into());
    // Root outlives its children.
    let _ = root.cast(root::Msg::Propose(proposal));
    let answer = receiver.await;
    if let Ok(Err(error)) = &answer {
        tracing::info!(%error, "the cluster was not told what this node has of loaded images");
    }
    matches!(answer, Ok(Ok(_) | Err(ProposeError::Rejected(_))))
}
