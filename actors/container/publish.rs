//! The node's published ports: what the view wants, what the kernel has, and when it is settled.
//!
//! Owns the order: a view is settled only once its ports are in the kernel. Never decides which
//! ports there are.

use super::{Msg, State};
use crate::actors::root::{self, Child};
use crate::id::Index;
use crate::limits;
use crate::node::project::{self, PublishMap};
use ractor::ActorRef;
use std::sync::Arc;

/// What is published and what is on its way.
#[derive(Default)]
pub(super) struct Publishing {
    /// What the kernel has; absent if it is not known, or not all of it could be had.
    active: Option<PublishMap>,
    busy: bool,
    /// The view's index that is not settled yet.
    unsettled: Option<Index>,
}

impl State {
    /// Makes the view's ports true, or settles it at once if they are.
    pub(super) fn publish(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = &self.view else { return };
        if !view.current {
            // Nothing of an old state is made true; root wants an answer to each view.
            return self.settle(Index(0));
        }
        self.publishing.unsettled = Some(view.index);
        if self.publishing.busy {
            return;
        }
        let map = project::publish_map(&view.state, view.node);
        if self.publishing.active.as_ref() == Some(&map) {
            let index = view.index;
            return self.settle(index);
        }
        self.publishing.busy = true;
        let (platform, myself) = (Arc::clone(&self.platform), myself.clone());
        self.work.spawn(async move {
            let result = platform.net.publish(map.clone()).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Published(map, result));
        });
    }

    pub(super) fn on_published(
        &mut self,
        map: PublishMap,
        result: Result<
            Vec<crate::actors::platform::net::Taken>,
            crate::actors::platform::net::NetError,
        >,
        myself: &ActorRef<Msg>,
    ) {
        self.publishing.busy = false;
        match result {
            Ok(taken) => {
                for port in &taken {
                    tracing::warn!("a published port is not open: {port}");
                }
                let complete = taken.is_empty();
                self.publishing.active = complete.then_some(map);
                if let Some(index) = self.publishing.unsettled {
                    self.settle(index);
                }
                self.rest();
            }
            Err(error) => {
                tracing::error!(%error, "the published ports can't be changed");
                self.publishing.active = None;
                myself.send_after(limits::PUBLISH_RETRY, || Msg::Republish);
            }
        }
    }

    fn settle(&mut self, index: Index) {
        self.publishing.unsettled = None;
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Settled { child: Child::Container, index });
    }
}
