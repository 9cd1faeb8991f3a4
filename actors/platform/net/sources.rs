//! Which address each container may send from, as the kernel was told.
//!
//! Owns the record of it, made anew from the namespaces when a process begins. Never decides which
//! address a container has.

use super::{Net, NetError, firewall, link, netns, teardown};
use crate::id::AllocId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// Cables, by the name of the host's end, with the address at the other.
#[derive(Default)]
pub(super) struct Sources {
    wanted: Mutex<Wanted>,
    /// The version that the kernel has.
    told: tokio::sync::Mutex<u64>,
}

#[derive(Default)]
struct Wanted {
    cables: BTreeMap<String, Ipv4Addr>,
    version: u64,
}

impl Sources {
    pub(super) fn all(&self) -> BTreeMap<String, Ipv4Addr> {
        self.wanted.lock().cables.clone()
    }

    /// Takes one away; its address, if it was known. The kernel may keep it: no other cable is ever
    /// called so.
    pub fn drop(&self, cable: &str) -> Option<Ipv4Addr> {
        self.wanted.lock().cables.remove(cable)
    }

    pub(super) fn clear(&self) {
        let mut wanted = self.wanted.lock();
        wanted.cables.clear();
        wanted.version += 1;
    }

    /// Adds one; the version that has it, if it is new.
    fn add(&self, cable: &str, address: Ipv4Addr) -> Option<u64> {
        let mut wanted = self.wanted.lock();
        if wanted.cables.insert(cable.to_owned(), address) == Some(address) {
            return None;
        }
        wanted.version += 1;
        Some(wanted.version)
    }
}

impl Net {
    /// Lets a cable send from that address and no other. Several at once are told in one go.
    pub(super) async fn allow_source(
        &self,
        cable: &str,
        address: Ipv4Addr,
    ) -> Result<(), NetError> {
        let Some(version) = self.sources.add(cable, address) else { return Ok(()) };
        let mut told = self.sources.told.lock().await;
        if *told >= version {
            return Ok(());
        }
        let (cables, newest) = {
            let wanted = self.sources.wanted.lock();
            (wanted.cables.clone(), wanted.version)
        };
        if let Err(error) = self.tell(&firewall::sources(&self.config, &cables)).await {
            // So that it is told once more.
            self.sources.drop(cable);
            return Err(error);
        }
        *told = newest;
        Ok(())
    }

    /// Finds the cables that an earlier process plugged in: what they send is dropped otherwise.
    pub(super) async fn find_sources(&self) -> Result<(), NetError> {
        let found = teardown::listed(&self.config)?;
        let mounted = found.into_iter().filter(|(_, path)| netns::is_mounted(path));
        let looks = mounted.map(|(name, path)| async move {
            let cable = self.config.cable(&AllocId::from(name));
            match address_in(&path).await {
                Ok(Some(address)) => drop(self.sources.add(&cable, address)),
                Ok(None) => {}
                // It is repaired, or removed, with its allocation.
                Err(error) => tracing::warn!(%error, "a container's address can't be seen"),
            }
        });
        futures_util::future::join_all(looks).await;
        Ok(())
    }
}

/// The address of the container whose namespace is mounted there.
async fn address_in(path: &Path) -> Result<Option<Ipv4Addr>, NetError> {
    let inside = netns::ensure(path).await?;
    let own = inside.links.find(link::INSIDE).await?.map(|link| link.index);
    let addresses = inside.links.addresses().await?;
    let found = addresses.into_iter().find(|(index, ..)| Some(*index) == own);
    Ok(found.map(|(_, address, _)| address))
}
