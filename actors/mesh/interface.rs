//! The kernel's side of the mesh: interface, MTU, routes.
//!
//! Owns the order in which they come and go. Never decides what is wanted.

use crate::actors::converge::{Made, Target};
use crate::actors::platform::Platform;
use crate::actors::platform::mesh::engine::OnBroken;
use crate::actors::platform::mesh::{Mesh, MeshError};
use crate::actors::platform::net::NetError;
use crate::fsm::mesh::MeshKey;
use crate::network::Subnet;
use crate::node::mesh::{Peer, Way};
use crate::node::project::Neighbours;
use defguard_wireguard_rs::key::Key;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What is to be true.
#[derive(Clone, PartialEq)]
pub(super) struct Wanted {
    /// The private key and the port; none where there is no mesh.
    pub own: Option<(Key, u16)>,
    /// The other nodes, by their keys.
    pub peers: BTreeMap<MeshKey, Peer>,
    /// Who the other nodes are and how their containers are reached; none while that is not known:
    /// all stays as it is.
    pub ways: Option<(Neighbours, BTreeMap<Subnet, Way>)>,
    /// The largest packet of the mesh.
    pub mtu: u32,
    /// Another number: make it once more.
    pub again: u64,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub(super) enum InterfaceError {
    /// The interface.
    #[error("containers of other nodes can't be reached")]
    Mesh(#[from] MeshError),
    /// The kernel's tables.
    #[error("containers of another node can't be reached")]
    Net(#[from] NetError),
    /// It was broken off inside.
    #[error("setting up the mesh was broken off")]
    Aborted(#[from] tokio::task::JoinError),
}

/// The kernel.
pub(super) struct Interface {
    pub platform: Arc<Platform>,
    /// The interface, while there is one.
    pub wires: Arc<Mutex<Option<Mesh>>>,
    /// Called when it stops to carry packets.
    pub broken: OnBroken,
}

impl Target for Interface {
    type Wanted = Wanted;
    type Error = InterfaceError;

    async fn make(&mut self, wanted: Wanted) -> Made<InterfaceError> {
        match self.all(wanted).await {
            Ok(failed) => failed.map_or(Made::Whole, |error| Made::Partly(error.into())),
            Err(error) => Made::Not(error),
        }
    }
}

impl Interface {
    /// Answers the first of the routes that could not be had.
    async fn all(&self, wanted: Wanted) -> Result<Option<NetError>, InterfaceError> {
        let net = &self.platform.net;
        let Wanted { own, mut peers, ways, mtu, .. } = wanted;
        let here = net.own_addresses().await?;
        // Several nodes may share this host: they need no mesh among them.
        let is_here = |peer: &Peer| match peer.endpoint.map(|endpoint| endpoint.ip()) {
            Some(IpAddr::V4(address)) => here.contains(&address),
            _ => false,
        };
        peers.retain(|_, peer| !is_here(peer));
        let own = own.filter(|_| !peers.is_empty());
        let is_there = own.is_some();
        let mesh = self.mesh(own, peers, mtu, ways.is_some()).await;
        // Where there is no mesh yet, other nodes are reached without it.
        let routed = match ways {
            Some((neighbours, ways)) => {
                net.neighbours(neighbours).await?;
                let is_used = ways.values().any(|way| matches!(way, Way::Mesh(_)));
                let routed = net.route(ways).await?;
                net.mesh((is_there && is_used).then(|| net.mesh_name())).await?;
                routed
            }
            None => Vec::new(),
        };
        mesh?;
        Ok(routed.into_iter().next())
    }

    /// The interface with exactly these peers; none without any.
    async fn mesh(
        &self,
        own: Option<(Key, u16)>,
        peers: BTreeMap<MeshKey, Peer>,
        mtu: u32,
        is_current: bool,
    ) -> Result<(), InterfaceError> {
        let net = &self.platform.net;
        match own {
            None if is_current => {
                drop(self.wires.lock().take());
                return Ok(net.close_mesh().await?);
            }
            None => return Ok(()),
            Some(own) => net.open_mesh(mtu, self.set(own, peers, is_current)).await?,
        }
        Ok(net.limit_far(mtu).await?)
    }

    /// Sets the interface up, made if it is not there. Off the runtime: some of it blocks.
    async fn set(
        &self,
        (key, port): (Key, u16),
        peers: BTreeMap<MeshKey, Peer>,
        is_current: bool,
    ) -> Result<(), InterfaceError> {
        let (wires, name) = (Arc::clone(&self.wires), self.platform.net.mesh_name());
        let broken = Arc::clone(&self.broken);
        let set = tokio::task::spawn_blocking(move || {
            let mut slot = wires.lock();
            // The threads of a broken one have to be gone before it is made again.
            drop(slot.take_if(|wires| !wires.works()));
            let mut mesh = match slot.take() {
                Some(mesh) => mesh,
                None => Mesh::open(&name, port, key.clone(), broken)?,
            };
            // The kernel has gone on with its peers, of which an old state may miss some.
            let done = match mesh.is_in_kernel() && !is_current {
                true => Ok(()),
                false => mesh.set(&key, &peers),
            };
            *slot = Some(mesh);
            done
        });
        Ok(set.await??)
    }
}
