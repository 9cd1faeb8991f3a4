//! Which images go by themselves, and when.
//!
//! Owns the rule: what the state pins stays, what was loaded stays, the rest goes after a day, or
//! at once where the disk is full. Never removes what a pull has just been asked for.

use super::{Images, Inner, Listed, lock};
use crate::actors::platform::disk;
use crate::actors::platform::image::ImageError;
use crate::fsm::model::StoredSpec;
use crate::id::{Digest, SpecHash};
use crate::limits;
use crate::units::{Millis, Timestamp};
use imbl::OrdMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The specifications of the state, by their hashes.
pub type Specs = OrdMap<SpecHash, Arc<StoredSpec>>;

impl Images {
    /// What these specifications pin is needed, and only that: to run, or to roll back to.
    pub fn use_specs(&self, specs: &Specs) {
        let mut used = lock(&self.inner.specs);
        if !used.as_ref().is_some_and(|used| used.ptr_eq(specs)) {
            *used = Some(specs.clone());
        }
    }

    /// Removes what nothing needs and nobody has used for a day; where the disk is nearly full also
    /// what was used today. Nothing before the needs are known.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn collect(&self) -> Result<Vec<Listed>, ImageError> {
        let full = self.inner.is_full().await;
        self.inner.collect(if full { Duration::ZERO } else { limits::IMAGE_KEPT }).await
    }

    /// Where the disk is nearly full, removes what nothing needs.
    pub async fn relieve(&self) {
        self.inner.relieve().await;
    }
}

impl Inner {
    /// Somebody wants an image: it isn't removed for a while.
    pub(super) fn touch(&self, digest: &Digest) {
        let mut used = lock(&self.used);
        used.retain(|_, at| at.elapsed() < limits::IMAGE_KEPT);
        used.insert(digest.clone(), Instant::now());
    }

    /// Removes images that came from a registry, that nothing needs and nobody used for so long.
    pub(super) async fn collect(
        self: &Arc<Self>,
        kept: Duration,
    ) -> Result<Vec<Listed>, ImageError> {
        let Some(specs) = lock(&self.specs).clone() else { return Ok(Vec::new()) };
        let digest = |stored: &Arc<StoredSpec>| stored.spec.run().digest.clone();
        let needed: BTreeSet<Digest> = specs.values().filter_map(digest).collect();
        let now = now();
        let rests = |image: &Listed| {
            let age = Duration::from_millis(now.since(image.created_at).0);
            !image.loaded && !needed.contains(&image.digest) && age >= kept
        };
        let idle = kept.max(limits::IMAGE_TOUCHED);
        let images = Images { inner: Arc::clone(self) };
        let gone = images.remove_all(rests, Some(idle)).await?;
        for image in &gone {
            let (reference, digest) = (&image.reference, &image.digest);
            tracing::info!(%reference, %digest, "removed an image that nothing needs");
        }
        Ok(gone)
    }

    /// Whether the disk that holds images is nearly full.
    async fn is_full(&self) -> bool {
        let Some(folder) = self.disk.clone() else { return false };
        tokio::task::spawn_blocking(move || disk::is_full(&folder)).await.unwrap_or(false)
    }

    /// Where the disk is nearly full: makes room before a pull needs it.
    pub(super) async fn relieve(self: &Arc<Self>) {
        if self.is_full().await
            && let Err(error) = self.collect(Duration::ZERO).await
        {
            tracing::warn!(%error, "images that nothing needs can't be removed");
        }
    }

    /// Whether an image was wanted lately.
    pub(super) fn is_touched(&self, digest: &Digest, idle: Duration) -> bool {
        lock(&self.used).get(digest).is_some_and(|at| at.elapsed() < idle)
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(Millis::from(since.unwrap_or_default()).0)
}
