//! The node's published ports, the services' stable addresses, and when a view is settled.
//!
//! Owns the order: a view is settled only once both are in the kernel. Never decides where they
//! lead.

use super::Msg;
use crate::actors::converge::{Converge, Made, Target};
use crate::actors::platform::Platform;
use crate::actors::platform::net::{NetError, Taken, Virtuals};
use crate::actors::root::View;
use crate::id::Index;
use crate::node::project::{self, PublishMap};
use ractor::ActorRef;
use std::sync::Arc;

/// What leads to containers.
type Ways = (PublishMap, Virtuals);

/// What is published and led, and the view that waits for it.
pub(super) struct Publishing {
    ways: Converge<Ways>,
    /// The view's index that is not settled yet.
    unsettled: Option<Index>,
}

impl Publishing {
    /// Nothing yet; the actor is told by [`Msg::Published`].
    pub(super) fn new(platform: Arc<Platform>, myself: ActorRef<Msg>) -> Self {
        // The actor has ended, and the attempts with it.
        let told = move || drop(myself.cast(Msg::Published));
        Self { ways: Converge::start(Kernel(platform), told), unsettled: None }
    }

    /// Wants what leads to containers in the view. Answers what is settled now.
    pub(super) fn want(&mut self, view: &View) -> Option<Index> {
        if !view.current && !view.removed {
            // Nothing of an old state is made true; root wants an answer to each view.
            return Some(Index(0));
        }
        self.unsettled = Some(view.index);
        let ways = match view.removed {
            true => Ways::default(),
            false => {
                let state = &view.state;
                (project::publish_map(state, view.node), project::virtuals(state))
            }
        };
        let is_made = self.ways.want(ways);
        self.unsettled.take_if(|_| is_made)
    }

    /// They have come into the kernel. Answers what is settled now.
    pub(super) fn made(&mut self) -> Option<Index> {
        // It may have been said of an earlier view's.
        let is_made = self.ways.is_made();
        self.unsettled.take_if(|_| is_made)
    }
}

/// The kernel's side.
struct Kernel(Arc<Platform>);

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("published ports are not open: {}", list(.0))]
    Taken(Vec<Taken>),
    #[error("what leads to containers can't be changed")]
    Net(#[from] NetError),
}

fn list(taken: &[Taken]) -> String {
    taken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Target for Kernel {
    type Wanted = Ways;
    type Error = PublishError;

    async fn make(&mut self, (ports, virtuals): Ways) -> Made<PublishError> {
        let made = async {
            let taken = self.0.net.publish(ports).await?;
            self.0.net.lead(virtuals).await?;
            Ok::<_, NetError>(taken)
        };
        match made.await {
            Ok(taken) if taken.is_empty() => Made::Whole,
            Ok(taken) => Made::Partly(PublishError::Taken(taken)),
            Err(error) => Made::Not(error.into()),
        }
    }
}
