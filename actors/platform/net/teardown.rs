//! The end of a container's network: all of it, or one container's part.
//!
//! Never removes what doesn't carry the instance's name.

use super::{
    Net, NetConfig, NetError, Published, connect, firewall, forwarding, link::Links, netns, nft,
    routes, watch,
};
use crate::id::AllocId;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

impl Net {
    /// Removes all of it if no allocation has a namespace, and no other node is routed to or about
    /// to be; tells whether it did. The next `attach` or `publish` makes it again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn rest(&self) -> Result<bool, NetError> {
        let mut published = self.published.lock().await;
        let mut bridge = self.bridge.write().await;
        let targets = published.active.as_ref().is_some_and(|map| !map.is_empty());
        let needed = targets || self.routed.load(Ordering::SeqCst);
        if bridge.is_none() || needed || !self.attached()?.is_empty() || self.has_mesh().await? {
            return Ok(false);
        }
        remove(&self.links, &self.config).await?;
        *bridge = None;
        *published = Published::default();
        self.sources.clear();
        *self.rules.lock().await = watch::Rules::default();
        Ok(true)
    }

    /// Removes all of it: table, namespaces, interfaces, mounts. The next `attach` or `publish`
    /// makes it again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn close(&self) -> Result<(), NetError> {
        let mut published = self.published.lock().await;
        let mut bridge = self.bridge.write().await;
        routes::remove(&self.links, &self.config).await?;
        if bridge.is_none() {
            return Ok(());
        }
        remove(&self.links, &self.config).await?;
        *bridge = None;
        *published = Published::default();
        self.sources.clear();
        *self.rules.lock().await = watch::Rules::default();
        Ok(())
    }

    /// Removes what an earlier process left of this instance, without opening it first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn clear(config: &NetConfig) -> Result<(), NetError> {
        let links = connect(&config.run_dir)?;
        routes::remove(&links, config).await?;
        remove(&links, config).await
    }
}

pub(super) fn listed(config: &NetConfig) -> Result<Vec<(String, PathBuf)>, NetError> {
    match netns::list(&config.run_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            other.map_err(|source| NetError::Namespace { path: config.run_dir.clone(), source })
        }
    }
}

pub(super) async fn detach(
    links: &Links,
    config: &NetConfig,
    id: &AllocId,
) -> Result<(), NetError> {
    links.remove(&config.cable(id)).await?;
    netns::remove(&config.namespace(id)).await
}

async fn remove(links: &Links, config: &NetConfig) -> Result<(), NetError> {
    nft::apply(&firewall::remove(config)).await?;
    for (name, _) in listed(config)? {
        detach(links, config, &AllocId::from(name)).await?;
    }
    links.remove(&config.mesh()).await?;
    let bridge = config.bridge();
    if let Some(found) = links.find(&bridge).await? {
        let ports = links.all().await?.into_iter().filter(|l| l.controller == Some(found.index));
        for port in ports {
            links.remove(&port.name).await?;
        }
        links.remove(&bridge).await?;
    }
    let prefix = firewall::OURS.trim_end_matches('*');
    if !links.all().await?.iter().any(|link| link.name.starts_with(prefix)) {
        forwarding::turn_off(&config.forwarding).await;
    }
    match std::fs::remove_dir(&config.run_dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NetError::Write { path: config.run_dir.clone(), source })
        }
        _ => Ok(()),
    }
}
