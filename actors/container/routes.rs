//! Routes to the other nodes' containers, and what the firewall has to know of those nodes.
//!
//! Never decides where a node is.

use crate::actors::converge::{Made, Target};
use crate::actors::platform::Platform;
use crate::actors::platform::net::NetError;
use crate::node::network::Subnet;
use crate::node::project::Neighbours;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The kernel's side. Nothing waits for it: traffic finds its way a moment later.
pub(super) struct Routes(pub(super) Arc<Platform>);

/// Some nodes' containers have no route.
#[derive(Debug, thiserror::Error)]
#[error("containers of another node can't be reached")]
pub(super) struct Unrouted(#[source] NetError);

impl Target for Routes {
    type Wanted = (Neighbours, BTreeMap<Subnet, Ipv4Addr>);
    type Error = Unrouted;

    async fn make(&mut self, wanted: Self::Wanted) -> Made<Unrouted> {
        let (neighbours, routes) = wanted;
        if let Err(error) = self.0.net.neighbours(neighbours).await {
            return Made::Not(Unrouted(error));
        }
        match self.0.net.route(routes).await.map(|failed| failed.into_iter().next()) {
            Ok(None) => Made::Whole,
            Ok(Some(error)) => Made::Partly(Unrouted(error)),
            Err(error) => Made::Not(Unrouted(error)),
        }
    }
}
