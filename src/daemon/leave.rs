//! A node that is no member any more: what it has of the cluster is wiped, and it begins anew.
//!
//! Owns what is wiped and in which order: the identity first, so that a crash in between leaves an
//! unclaimed node. Never wipes images.

use super::identity::Identity;
use super::{DaemonError, LOG, Node, Shared};
use crate::actors::peer;
use crate::actors::peer::keys::NodeKeys;
use crate::actors::platform::Places;
use crate::actors::platform::net::{Net, PublishOn};
use crate::actors::platform::{trash, tree};
use crate::id::NodeId;
use crate::network::Subnet;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What else of the cluster is in the data directory.
const REMAINS: [&str; 5] = [LOG, "logs", "alloc", trash::FOLDER, super::address::HINTS];

impl Node {
    /// Stops a node that was removed, wipes what it has of its cluster, and begins an unclaimed
    /// node's life in the same process, with the socket open all the while.
    ///
    /// # Errors
    /// It can't be wiped.
    pub async fn leave(self) -> Result<Self, DaemonError> {
        let (config, local) = (Arc::clone(&self.config), Arc::clone(&self.shared.local));
        let who = self.shared.identity.get().cloned();
        let Self { shared, root, lock, .. } = self;
        super::stop(&root).await;
        if let Some(equipment) = shared.equipment.get() {
            equipment.close();
        }
        drop(shared);
        let data = config.data_dir.clone();
        let wiped = tokio::task::spawn_blocking(move || wipe(&data)).await;
        wiped.map_err(|error| DaemonError::Fatal(error.to_string()))??;
        if let Some(who) = who {
            let cluster = Subnet::of(who.cluster.subnet, who.cluster.prefix);
            let net = Places::of(&config.data_dir).net(who.subnet, cluster, PublishOn::All);
            if let Err(error) = Net::clear(&net).await {
                tracing::warn!(%error, "the containers' network is not gone");
            }
        }
        tracing::info!("this node has left its cluster and is unclaimed");
        Self::live(config, lock, local).await
    }
}

fn wipe(data: &Path) -> Result<(), DaemonError> {
    let unusable = |source| DaemonError::DataDir { path: data.to_owned(), source };
    Identity::wipe(data)?;
    NodeKeys::wipe(data).map_err(|error| unusable(io::Error::other(error)))?;
    for name in REMAINS {
        let path = data.join(name);
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => tree::remove(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(unusable)?;
    }
    Ok(())
}

/// Whether another member says that this node is none any more.
pub(super) async fn is_removed(shared: &Shared, places: BTreeMap<NodeId, String>) -> bool {
    let (Some(who), Some(equipment)) = (shared.identity.get(), shared.equipment.get()) else {
        return false;
    };
    peer::says_removed(&equipment.credentials, who.cluster.incarnation, places).await
}
