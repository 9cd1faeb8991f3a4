//! The network's part of the mesh: its interface as the kernel has it, and the containers' way to
//! the other nodes.
//!
//! Owns the interface's MTU and the containers' route to the cluster. Never makes the interface,
//! and knows no peer.

use super::link::Links;
use super::switches::without_ipv6;
use super::{Net, NetError, forwarding, netns};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

impl Net {
    /// The addresses that the host has.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>, NetError> {
        let all = self.links.addresses().await?;
        Ok(all.into_iter().map(|(_, address, _)| address).collect())
    }

    /// The name of the mesh's interface.
    #[must_use]
    pub fn mesh_name(&self) -> String {
        self.config.mesh()
    }

    /// Has the mesh's interface made, and brings it up with that MTU. Meanwhile the network stays:
    /// `rest` waits, and then sees that the interface is there.
    ///
    /// # Errors
    /// It can't be made, or the kernel refuses.
    pub async fn open_mesh<E: From<NetError>>(
        &self,
        mtu: u32,
        make: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let (_, _guard) = self.awake().await?;
        make.await?;
        let name = self.config.mesh();
        let missing = || NetError::InterfaceGone { name: name.clone() };
        let link = self.links.find(&name).await?.ok_or_else(missing)?;
        // It carries IPv4 only.
        without_ipv6(&name).await?;
        self.links.up_with(link.index, mtu).await?;
        // One that was made again does not pass anything on yet.
        forwarding::turn_on(&self.config.forwarding).await?;
        Ok(())
    }

    /// Whether there is an interface of the mesh.
    pub(super) async fn has_mesh(&self) -> Result<bool, NetError> {
        Ok(self.links.find(&self.config.mesh()).await?.is_some())
    }

    /// Takes the mesh's interface away, with the routes through it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn close_mesh(&self) -> Result<(), NetError> {
        self.links.remove(&self.config.mesh()).await
    }

    /// From now on containers send packets to other nodes' containers that are at most so large.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn limit_far(&self, mtu: u32) -> Result<(), NetError> {
        if self.far_mtu.swap(mtu, Ordering::SeqCst) == mtu {
            return Ok(());
        }
        let widened = self.widen_all().await;
        if widened.is_err() {
            // The next try begins anew.
            self.far_mtu.store(0, Ordering::SeqCst);
        }
        widened
    }

    async fn widen_all(&self) -> Result<(), NetError> {
        for id in self.attached()? {
            let inside = netns::ensure(&self.config.namespace(&id)).await?;
            self.widen(&inside.links).await?;
        }
        Ok(())
    }

    /// Gives a container its route to the rest of the cluster, if that has an MTU of its own.
    pub(super) async fn widen(&self, inside: &Links) -> Result<(), NetError> {
        let mtu = self.far_mtu.load(Ordering::SeqCst);
        let cluster = self.config.cluster_subnet;
        if mtu == 0 || cluster.prefix() >= self.config.subnet.prefix() {
            return Ok(());
        }
        inside.route_far(cluster, self.gateway(), mtu).await
    }
}
