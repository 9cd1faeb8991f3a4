//! Loaded images: what this node has of them is brought in line with what the cluster knows.
//!
//! Owns that one image is fetched at a time. Never decides what is to be done: that is the core's
//! `image_replication`.

use super::Msg;
use crate::actors::converge::{Converge, Made, Target};
use crate::actors::platform::Platform;
use crate::actors::platform::image::{ImageError, Images};
use crate::actors::root::{self, RootRef, View};
use crate::consensus::propose::ProposeError;
use crate::fsm::Command;
use crate::fsm::loaded::{ImageChange, LoadedImages, Pin};
use crate::limits;
use crate::node::image_replication::{self, CopyEligibility, Duties};
use arc_swap::ArcSwapOption;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// What is under way.
pub(super) struct ImageReplication {
    platform: Arc<Platform>,
    myself: ActorRef<Msg>,
    rounds: Converge<Round>,
    /// What a round looks at.
    view: Arc<ArcSwapOption<View>>,
    /// How often a round was asked for whatever the view says.
    asked: u64,
    fetching: Option<(Pin, AbortOnDropHandle<()>)>,
    /// What could not be fetched, and when.
    failed: BTreeMap<Pin, Instant>,
}

/// What calls for a round.
#[derive(Clone)]
struct Round {
    asked: u64,
    images: LoadedImages,
    nodes: Vec<CopyEligibility>,
}

impl PartialEq for Round {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked && self.images.ptr_eq(&other.images) && self.nodes == other.nodes
    }
}

impl ImageReplication {
    /// Nothing yet; the actor is told by [`Msg::Kept`] and [`Msg::Fetched`].
    pub(super) fn new(platform: &Arc<Platform>, root: RootRef, myself: ActorRef<Msg>) -> Self {
        let view = Arc::new(ArcSwapOption::empty());
        let rounds = Rounds {
            images: platform.images.clone(),
            root,
            view: Arc::clone(&view),
            myself: myself.clone(),
        };
        Self {
            platform: Arc::clone(platform),
            myself,
            rounds: Converge::start(rounds, || ()),
            view,
            asked: 0,
            fetching: None,
            failed: BTreeMap::new(),
        }
    }

    /// Makes a round if loaded images or nodes are otherwise than in the last one.
    pub(super) fn show(&mut self, view: &View) {
        if view.current && view.is_let_in() && view.state.shares_images() {
            self.view.store(Some(Arc::new(view.clone())));
            self.round();
        }
    }

    /// Makes a round in any case.
    pub(super) fn ask(&mut self) {
        self.asked += 1;
        self.round();
    }

    fn round(&self) {
        let Some(view) = self.view.load_full() else { return };
        let (images, nodes) =
            (view.state.loaded.clone(), image_replication::standings(&view.state));
        self.rounds.want(Round { asked: self.asked, images, nodes });
    }

    /// A round has ended; these images should be fetched.
    pub(super) fn on_kept(&mut self, fetch: Vec<Pin>) {
        self.failed.retain(|pin, at| fetch.contains(pin) && at.elapsed() < limits::COPY_AGAIN);
        let next = fetch.into_iter().find(|pin| !self.failed.contains_key(pin));
        let Some(pin) = next.filter(|_| self.fetching.is_none()) else { return };
        let (images, myself) = (self.platform.images.clone(), self.myself.clone());
        let wanted = pin.clone();
        let fetching = tokio::spawn(async move {
            let held = images.hold(&wanted).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Fetched(held));
        });
        self.fetching = Some((pin, AbortOnDropHandle::new(fetching)));
    }

    /// The loaded image was fetched, or not.
    pub(super) fn on_fetched(&mut self, held: Result<(), ImageError>) {
        let Some((pin, _)) = self.fetching.take() else { return };
        if let Err(error) = held {
            tracing::info!(image = pin.reference, %error, "no copy of a loaded image was made");
            self.failed.insert(pin, Instant::now());
        }
        self.ask();
    }
}

/// Makes rounds.
struct Rounds {
    images: Images,
    root: RootRef,
    view: Arc<ArcSwapOption<View>>,
    myself: ActorRef<Msg>,
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("loaded images can't be looked after")]
    Image(#[from] ImageError),
    #[error("the cluster was not told what this node has of loaded images")]
    NotTold,
}

impl Target for Rounds {
    type Wanted = Round;
    type Error = RoundError;

    async fn make(&mut self, _round: Round) -> Made<RoundError> {
        let Some(view) = self.view.load_full() else { return Made::Whole };
        match self.round(&view).await {
            Ok((fetch, whole)) => {
                // The actor has ended, and this task with it.
                let _ = self.myself.cast(Msg::Kept(fetch));
                if whole { Made::Whole } else { Made::Partly(RoundError::NotTold) }
            }
            Err(error) => Made::Not(error.into()),
        }
    }
}

impl Rounds {
    /// Does everything that takes no longer than a moment. Answers what is to be fetched, and
    /// whether the cluster was told all.
    async fn round(&self, view: &View) -> Result<(Vec<Pin>, bool), ImageError> {
        let held = self.images.held().await?;
        let Duties { drop, mark, tell, has, lacks, fetch } =
            image_replication::duties(&view.state, view.node, &held);
        self.images.forget(drop, view.index).await?;
        if let Some(cluster) = &view.state.cluster {
            self.images.mark(&mark, &cluster.id).await?;
        }
        let (node, mut whole) = (view.node, true);
        if !tell.is_empty() {
            whole &= self.propose(ImageChange::Load { node, images: tell, late: true }).await;
        }
        if !has.is_empty() || !lacks.is_empty() {
            whole &= self.propose(ImageChange::Hold { node, has, lacks }).await;
        }
        Ok((fetch, whole))
    }

    /// Changes the state. If that fails the next round will tell it again; what was refused is not
    /// worth a round of its own.
    async fn propose(&self, change: ImageChange) -> bool {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let proposal = root::Proposal::new(&Command::Images(change), None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Propose(proposal));
        let answer = receiver.await;
        if let Ok(Err(error)) = &answer {
            tracing::info!(%error, "the cluster was not told what this node has of loaded images");
        }
        matches!(answer, Ok(Ok(_) | Err(ProposeError::Rejected(_))))
    }
}
