//! The ways to the other nodes' containers: what the view wants.
//!
//! Owns when routes are changed. Never decides where a node is.

use super::{Msg, State};
use crate::limits;
use crate::node::network::Subnet;
use crate::node::project;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What is routed and what is on its way.
#[derive(Default)]
pub(super) struct Ways {
    /// What the kernel was last told.
    told: Option<BTreeMap<Subnet, Ipv4Addr>>,
    busy: bool,
    /// Another try is due.
    again: bool,
}

impl State {
    /// Makes the view's routes true. Nothing waits for it: traffic finds its way a moment later.
    pub(super) fn route(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.as_ref().filter(|view| view.current) else { return };
        let wanted = project::routes(&view.state, view.node);
        if self.ways.busy || self.ways.told.as_ref() == Some(&wanted) {
            return;
        }
        self.ways.busy = true;
        self.ways.told = Some(wanted.clone());
        let (platform, myself) = (Arc::clone(&self.platform), myself.clone());
        self.work.spawn(async move {
            let done = platform.net.route(wanted).await;
            let failed = done.unwrap_or_else(|error| vec![error]);
            for error in &failed {
                let reason = error as &dyn std::error::Error;
                tracing::warn!(reason, "containers of another node can't be reached");
            }
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Routed(failed.is_empty()));
        });
    }

    pub(super) fn on_routed(&mut self, complete: bool, myself: &ActorRef<Msg>) {
        self.ways.busy = false;
        if complete {
            return self.route(myself);
        }
        if !std::mem::replace(&mut self.ways.again, true) {
            myself.send_after(limits::ROUTE_RETRY, || Msg::Reroute);
        }
    }

    /// Tries again what the kernel did not take.
    pub(super) fn reroute(&mut self, myself: &ActorRef<Msg>) {
        (self.ways.told, self.ways.again) = (None, false);
        self.route(myself);
    }
}
