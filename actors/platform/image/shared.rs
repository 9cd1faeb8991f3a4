//! Loaded images that the cluster knows of: what this node has of them, lends, and borrows.
//!
//! Owns that what is being loaded is not taken for what was removed. Never decides which of them a
//! node should have.

use super::error::ImageError;
use super::{Images, flight, lock, parse, records, store};
use crate::actors::view::View;
use crate::fsm::loaded::Pin;
use crate::id::{Digest, Index, NodeId, VolumeName};
use crate::node::image_replication::Held;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// A blob that another has, as it comes.
pub type Lent = BoxStream<'static, io::Result<Bytes>>;

/// The other members of the cluster.
pub trait Members: Send + Sync {
    /// Asks a node for a blob from an offset on.
    fn blob(
        &self,
        view: &View,
        node: NodeId,
        digest: &Digest,
        from: u64,
    ) -> BoxFuture<'static, Result<Lent, LendError>>;

    /// Asks a node for the data of a volume of its own that is moved here: an archive with its
    /// checksum.
    fn volume(
        &self,
        view: &View,
        node: NodeId,
        name: &VolumeName,
    ) -> BoxFuture<'static, Result<Lent, LendError>> {
        let reason = format!("there is no way to volume {name} on node {node} of {}", view.index);
        Box::pin(async move { Err(LendError { reason }) })
    }
}

/// Why a node didn't lend a blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LendError {
    /// What it said, or what went wrong on the way.
    pub reason: String,
}

/// What is known of the cluster.
#[derive(Default)]
pub(super) struct Cluster {
    view: std::sync::Mutex<Option<View>>,
    members: std::sync::OnceLock<Arc<dyn Members>>,
    /// Images whose load the state may not know yet, with the index where it does.
    pending: std::sync::Mutex<std::collections::BTreeMap<Pin, Option<Index>>>,
    changes: watch::Sender<u64>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn view(&self) -> Option<View> {
        lock(&self.view).clone()
    }

    pub(super) fn members(&self) -> Option<Arc<dyn Members>> {
        self.members.get().cloned()
    }

    /// What this node has has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// These are about to be told to the cluster.
    pub fn announce(&self, pins: &[Pin]) {
        lock(&self.pending).extend(pins.iter().map(|pin| (pin.clone(), None)));
    }
}

impl Images {
    /// From now on this counts as what the cluster is.
    pub fn use_view(&self, view: &View) {
        *lock(&self.inner.cluster.view) = Some(view.clone());
    }

    /// The data of another node's volume that is moved here.
    ///
    /// # Errors
    /// The node can't be reached, or refuses.
    pub async fn volume(
        &self,
        view: &View,
        node: NodeId,
        name: &VolumeName,
    ) -> Result<Lent, LendError> {
        let none = || LendError { reason: "other members are not reached yet".to_owned() };
        let members = self.inner.cluster.members().ok_or_else(none)?;
        members.volume(view, node, name).await
    }

    /// Other members are reached so.
    pub fn use_members(&self, members: Arc<dyn Members>) {
        // Set once: a node begins its life once.
        let _ = self.inner.cluster.members.set(members);
    }

    /// Counts the changes of what this node has of loaded images.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.cluster.changes.subscribe()
    }

    /// The loaded images that this node has.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn held(&self) -> Result<Vec<Held>, ImageError> {
        let loaded = self.list().await?.into_iter().filter(|image| image.loaded);
        Ok(loaded
            .map(|image| Held {
                pin: Pin { reference: image.reference, digest: image.digest },
                size: image.size,
                cluster: image.cluster,
            })
            .collect())
    }

    /// What was loaded is known to the cluster as of that index; absent: it won't be.
    pub fn settle(&self, pins: &[Pin], index: Option<Index>) {
        let mut pending = lock(&self.inner.cluster.pending);
        for pin in pins {
            match index {
                Some(_) => drop(pending.insert(pin.clone(), index)),
                None => drop(pending.remove(pin)),
            }
        }
        drop(pending);
        self.inner.cluster.changed();
    }

    /// Forgets images that the cluster, as of that index, doesn't know.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn forget(&self, mut pins: Vec<Pin>, seen: Index) -> Result<(), ImageError> {
        {
            let mut pending = lock(&self.inner.cluster.pending);
            pending.retain(|_, index| index.is_none_or(|index| index > seen));
            pins.retain(|pin| !pending.contains_key(pin));
        }
        if pins.is_empty() {
            return Ok(());
        }
        let is_meant = |image: &super::Listed| {
            let is_it = |pin: &Pin| pin.reference == image.reference && pin.digest == image.digest;
            image.loaded && pins.iter().any(is_it)
        };
        for gone in self.remove_all(is_meant, None).await? {
            let (reference, digest) = (&gone.reference, &gone.digest);
            tracing::info!(%reference, %digest, "removed an image that the cluster doesn't know");
        }
        Ok(())
    }

    /// Remembers that the cluster knows images that were loaded before it knew of such.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn mark(&self, pins: &[Pin], cluster: &str) -> Result<(), ImageError> {
        for Pin { reference, digest } in pins {
            records::mark(&self.inner.containerd, (reference, digest), cluster).await?;
        }
        Ok(())
    }

    /// Fetches all of a loaded image from whoever has it, so that this node can lend it.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn hold(&self, pin: &Pin) -> Result<(), ImageError> {
        let image = parse(&pin.reference)?;
        flight::join(&self.inner, &image, &pin.digest).await.map(drop)
    }

    /// A blob of this node from an offset on, and its size; `None` if it doesn't have it.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn lend(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<Option<(u64, Lent)>, ImageError> {
        let containerd = &self.inner.containerd;
        let Some(size) = store::size(containerd, digest).await? else { return Ok(None) };
        if from >= size {
            return Ok(Some((size, Box::pin(stream::empty()))));
        }
        let opened = store::stream(containerd, digest, from).await?;
        let pieces = stream::try_unfold(opened, |mut opened| async move {
            let piece = opened.message().await.map_err(io::Error::other)?;
            Ok(piece.map(|piece| (Bytes::from(piece.data), opened)))
        });
        Ok(Some((size, Box::pin(pieces))))
    }

    /// Gives up what a load left that an earlier process of this node had begun. Before any other.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn clear_loads(&self) -> Result<(), ImageError> {
        super::archive::clear(&self.inner).await
    }
}
