//! One image from where it is into containerd: documents, layers, snapshots, record.
//!
//! Owns the order of a pull, so that nothing is collected before it is used and nothing is left of
//! a failed one. Never shares work between callers: that is done above.

use super::error::ImageError;
use super::manifest::{Resolved, bad_manifest, check, named, unfound, wrong_digest};
use super::origin::{Origin, SLOW};
use super::records::From;
use super::registry::broken_off;
use super::store::{self, Labels, Lease, Writer};
use super::unpack;
use super::{Inner, records};
use crate::id::Digest;
use crate::limits;
use crate::node::oci::image::{Descriptor, Document, document};
use crate::node::oci::pull::LayerPull;
use crate::node::oci::{Candidate, ImageFile, Platform, Search};
use crate::spec::image::Reference;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// How often a blob's transfer is taken up again where it broke off, without getting much further.
const RESUMES: u32 = 2;

impl Inner {
    /// Finds the documents of an image, in the store or else where it comes from, and checks that
    /// it runs here. Stores nothing.
    pub(super) async fn documents(
        &self,
        origin: &Origin,
        image: &Reference,
        top: &Digest,
    ) -> Result<Arc<Resolved>, ImageError> {
        if let Some(known) = self.resolved(top) {
            return Ok(known);
        }
        let bad = |error: serde_json::Error| bad_manifest(image, &error.to_string());
        let mut search = Search::new(Platform::host(), top.clone());
        let found = loop {
            let Some(at) = search.next_candidate() else { return Err(unfound(image, search)) };
            let text = origin.document(self, image, &at.digest).await?;
            let manifest = match document(&text).map_err(bad)? {
                Document::Index(index) => {
                    search.enter(at, text, &index);
                    continue;
                }
                Document::Image(manifest) => manifest,
            };
            if !search.is_image(&manifest) {
                continue;
            }
            let config_text = origin.config(self, image, &manifest).await?;
            let file = ImageFile::parse(&config_text).map_err(bad)?;
            if search.runs(&file.platform) {
                break (at, text, manifest, config_text, file);
            }
        };
        let (Candidate { digest, indexes }, text, manifest, config_text, file) = found;
        check(image, &file, &manifest)?;
        let manifest_text = (digest, text);
        let top = top.clone();
        let resolved =
            Arc::new(Resolved { top, indexes, manifest_text, manifest, config_text, file });
        self.remember(&resolved);
        Ok(resolved)
    }

    /// Fetches and unpacks what is missing of an image and records it.
    pub(super) async fn pull(
        self: &Arc<Self>,
        image: &Reference,
        top: &Digest,
    ) -> Result<Arc<Resolved>, ImageError> {
        let origin = Arc::new(self.origin(image, top));
        let resolved = self.documents(&origin, image, top).await?;
        let lease = Lease::make(&self.containerd, &format!("pull-{top}")).await?;
        let pulled = self.pull_leased(image, &resolved, &origin, &lease).await;
        lease.end(&self.containerd, pulled.is_err()).await;
        pulled.map(|()| resolved).map_err(|error| named(image, error))
    }

    async fn pull_leased(
        self: &Arc<Self>,
        image: &Reference,
        resolved: &Arc<Resolved>,
        origin: &Arc<Origin>,
        lease: &Lease,
    ) -> Result<(), ImageError> {
        let layers = resolved.layers();
        let unpacked = unpack::unpacked(&self.containerd, lease, &layers).await?;
        // Whoever is to have a loaded image for others has its layers packed, too.
        let have = if origin.from.is_loaded() { 0 } else { unpacked };
        let missing = &layers[have..];
        let shown = missing.iter().map(|layer| {
            let (digest, total) = (layer.blob.digest.clone(), layer.blob.size);
            LayerPull { digest, bytes: 0, total }
        });
        let shown = shown.collect();
        self.pulls.send_modify(|pulls| pulls.begin(&resolved.top, shown));
        let mut waiting = Vec::new();
        let mut downloads = JoinSet::new();
        for (number, layer) in missing.iter().enumerate() {
            let (done, ready) = tokio::sync::oneshot::channel();
            waiting.push(ready);
            let (this, image, blob) = (Arc::clone(self), image.clone(), layer.blob.clone());
            let (lease, top, origin) = (lease.clone(), resolved.top.clone(), Arc::clone(origin));
            downloads.spawn(async move {
                let tell = |bytes| this.pulls.send_modify(|p| p.advance(&top, number, bytes));
                let fetched = this.layer((&image, &origin), &lease, &blob, &tell).await;
                // The receiver is gone when the pull has failed already.
                let _ = done.send(fetched);
            });
        }
        for (index, ready) in waiting.into_iter().enumerate() {
            let given_up = || ImageError::GivenUp { reference: image.to_string() };
            ready.await.map_err(|_| given_up())??;
            unpack::apply(self, image, lease, &layers, have + index).await?;
        }
        self.record(image, resolved, lease, &origin.from).await
    }

    /// Writes the documents, with the labels that keep what they name, and the image's record.
    pub(super) async fn record(
        &self,
        image: &Reference,
        resolved: &Resolved,
        lease: &Lease,
        from: &From,
    ) -> Result<(), ImageError> {
        let containerd = &self.containerd;
        let mut config = Labels::new();
        if let Some(chain) = resolved.chain_id() {
            let snapshotter = crate::actors::platform::containerd::SNAPSHOTTER;
            config
                .insert(format!("containerd.io/gc.ref.snapshot.{snapshotter}"), chain.to_string());
        }
        let config_digest = &resolved.manifest.config.digest;
        store::put(containerd, lease, config_digest, resolved.config_text.clone(), &config).await?;
        let mut parts = Labels::from([(
            "containerd.io/gc.ref.content.config".to_owned(),
            config_digest.to_string(),
        )]);
        // What was loaded can't be fetched again, and the registry may be out of another node's
        // reach: the layers are kept too.
        let layers = resolved.manifest.layers.iter().enumerate();
        parts.extend(layers.map(|(index, layer)| {
            (format!("containerd.io/gc.ref.content.l.{index}"), layer.digest.to_string())
        }));
        let (digest, text) = &resolved.manifest_text;
        store::put(containerd, lease, digest, text.clone(), &parts).await?;
        let mut below = digest;
        for (digest, text) in resolved.indexes.iter().rev() {
            let label = "containerd.io/gc.ref.content.m.0".to_owned();
            let labels = Labels::from([(label, below.to_string())]);
            store::put(containerd, lease, digest, text.clone(), &labels).await?;
            below = digest;
        }
        records::write(containerd, image, resolved, from).await?;
        if from.is_loaded() {
            self.cluster.changed();
        }
        Ok(())
    }

    /// One layer's blob into the store.
    async fn layer(
        &self,
        source: Source<'_>,
        lease: &Lease,
        blob: &Descriptor,
        tell: Tell<'_>,
    ) -> Result<(), ImageError> {
        let (digest, size) = (&blob.digest, blob.size);
        // Two images that share a layer fetch it once.
        let _turn = self.turn(digest).await;
        let opened = Writer::open(&self.containerd, lease, digest.as_str(), Some((digest, size)));
        let Some(mut writer) = opened.await? else {
            tell(size);
            return Ok(());
        };
        let _permit = self.registries.blobs.acquire().await;
        let written = self.transfer(source, &mut writer, blob, tell).await;
        if written.is_err() {
            writer.abort().await;
        }
        written
    }

    async fn transfer(
        &self,
        source: Source<'_>,
        writer: &mut Writer,
        blob: &Descriptor,
        tell: Tell<'_>,
    ) -> Result<(), ImageError> {
        let name = source.0.to_string();
        tell(writer.offset);
        let mut resumes = 0;
        while writer.offset < blob.size {
            let before = writer.offset;
            match self.stream(source, writer, blob, tell).await {
                Ok(()) => {}
                Err(ImageError::BrokenOff { .. }) if resumes < RESUMES => {
                    let got_on = writer.offset >= before + limits::BLOB_SLOWEST.0;
                    resumes = if got_on { 0 } else { resumes + 1 };
                }
                Err(error) => return Err(error),
            }
        }
        let committed = writer.commit(Labels::new()).await;
        committed.map(|_| ()).map_err(|status| writer.told(&name, status))
    }

    /// One answer into the store, up to its end.
    async fn stream(
        &self,
        (image, origin): Source<'_>,
        writer: &mut Writer,
        blob: &Descriptor,
        tell: Tell<'_>,
    ) -> Result<(), ImageError> {
        let (digest, size) = (&blob.digest, blob.size);
        let mut answer = origin.blob(self, image, digest, writer.offset).await?;
        let mut offset = if answer.kept() { writer.offset } else { 0 };
        let mut buffer = BytesMut::new();
        let mut pace = Pace::new();
        loop {
            let mut piece = answer.next(image, digest).await;
            if let Ok(Some(bytes)) = &piece
                && pace.is_slow(bytes.len() as u64)
            {
                piece = Err(broken_off(image, digest, SLOW));
            }
            let ended = !matches!(piece, Ok(Some(_)));
            let broken = match piece {
                Ok(bytes) => {
                    buffer.extend_from_slice(&bytes.unwrap_or_default());
                    None
                }
                // What came before counts: it isn't fetched again.
                Err(error) => Some(error),
            };
            if buffer.len() >= limits::BLOB_CHUNK || (ended && !buffer.is_empty()) {
                let data = buffer.split().freeze();
                let length = data.len() as u64;
                if offset + length > size {
                    return Err(wrong_digest(image, digest));
                }
                let written = writer.write(offset, data).await;
                written.map_err(|status| writer.told(&image.to_string(), status))?;
                offset += length;
                tell(offset);
            }
            if let Some(error) = broken {
                return Err(error);
            }
            if ended {
                let short = || broken_off(image, digest, "it ended before its end");
                return if offset == size { Ok(()) } else { Err(short()) };
            }
        }
    }
}

/// Whether a transfer moves at all: silence ends it elsewhere, drops of water here.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    fn is_slow(&mut self, bytes: u64) -> bool {
        let (least, time) = limits::BLOB_SLOWEST;
        self.bytes += bytes;
        if self.bytes >= least {
            *self = Self::new();
        }
        self.since.elapsed() > time
    }
}

/// Which image, and where it comes from.
type Source<'a> = (&'a Reference, &'a Origin);

/// Tells how much of a layer is there.
type Tell<'a> = &'a (dyn Fn(u64) + Sync);
