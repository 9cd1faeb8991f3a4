//! The node's published ports, and when a view is settled.
//!
//! Owns the order: a view is settled only once its ports are in the kernel. Never decides which
//! ports there are.

use super::Msg;
use crate::actors::converge::{Converge, Made, Target};
use crate::actors::platform::Platform;
use crate::actors::platform::net::{NetError, Taken};
use crate::actors::root::View;
use crate::id::Index;
use crate::node::project::{self, PublishMap};
use ractor::ActorRef;
use std::sync::Arc;

/// What is published, and the view that waits for it.
pub(super) struct Publishing {
    ports: Converge<PublishMap>,
    /// The view's index that is not settled yet.
    unsettled: Option<Index>,
}

impl Publishing {
    /// Nothing yet; the actor is told by [`Msg::Published`].
    pub(super) fn new(platform: Arc<Platform>, myself: ActorRef<Msg>) -> Self {
        // The actor has ended, and the attempts with it.
        let told = move || drop(myself.cast(Msg::Published));
        Self { ports: Converge::start(Ports(platform), told), unsettled: None }
    }

    /// Wants the view's ports. Answers what is settled now.
    pub(super) fn want(&mut self, view: &View) -> Option<Index> {
        if !view.current && !view.removed {
            // Nothing of an old state is made true; root wants an answer to each view.
            return Some(Index(0));
        }
        self.unsettled = Some(view.index);
        let map = match view.removed {
            true => PublishMap::new(),
            false => project::publish_map(&view.state, view.node),
        };
        let is_made = self.ports.want(map);
        self.unsettled.take_if(|_| is_made)
    }

    /// Ports have come into the kernel. Answers what is settled now.
    pub(super) fn made(&mut self) -> Option<Index> {
        // It may have been said of an earlier view's.
        let is_made = self.ports.is_made();
        self.unsettled.take_if(|_| is_made)
    }
}

/// The kernel's side.
struct Ports(Arc<Platform>);

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("published ports are not open: {}", list(.0))]
    Taken(Vec<Taken>),
    #[error("the published ports can't be changed")]
    Net(#[from] NetError),
}

fn list(taken: &[Taken]) -> String {
    taken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Target for Ports {
    type Wanted = PublishMap;
    type Error = PublishError;

    async fn make(&mut self, wanted: PublishMap) -> Made<PublishError> {
        match self.0.net.publish(wanted).await {
            Ok(taken) if taken.is_empty() => Made::Whole,
            Ok(taken) => Made::Partly(PublishError::Taken(taken)),
            Err(error) => Made::Not(error.into()),
        }
    }
}
