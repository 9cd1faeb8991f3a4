//! Where the parts of an image come from: its registry, or members of the cluster that have it.
//!
//! Owns in which order they are asked, and what is said when none of them has it. Never stores what
//! it fetches.

use super::error::ImageError;
use super::manifest::{bad_manifest, wrong_digest};
use super::records::From;
use super::registry::{self, broken_off};
use super::shared::{Lent, Members};
use super::{Inner, lock, store};
use crate::actors::view::View;
use crate::id::{Digest, NodeId};
use crate::limits;
use crate::node::image_replication::{self, Lenders};
use crate::node::oci::Manifest;
use crate::node::oci::image::sha256;
use crate::spec::image::Reference;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(super) const SLOW: &str = "it sends too slowly";

/// Where the parts of one image come from.
pub(super) struct Origin {
    /// Members that may be asked; absent: the cluster doesn't know it as loaded.
    lending: Option<Lending>,
    /// Members that run it, to be asked where the registry can't be reached.
    running: Option<Lending>,
    /// The registry couldn't be reached: it isn't waited for with each part anew.
    is_out: AtomicBool,
    /// What its record says in the end.
    pub from: From,
}

struct Lending {
    view: View,
    members: Option<Arc<dyn Members>>,
    lenders: Lenders,
    asked: Mutex<Asked>,
}

/// Who is asked, and what came of it.
#[derive(Default)]
struct Asked {
    /// The next one first: each in turn, so that no one of them has all the work.
    nodes: Vec<NodeId>,
    /// What those said that had nothing to give.
    refused: BTreeMap<NodeId, String>,
}

impl Lending {
    /// A blob of whoever has it and answers.
    async fn open(&self, digest: &Digest, offset: u64) -> Option<Blob> {
        let members = self.members.as_ref()?;
        for _ in 0..self.lenders.nodes.len() {
            let node = {
                let mut asked = lock(&self.asked);
                asked.nodes.rotate_left(1);
                *asked.nodes.last()?
            };
            match members.blob(&self.view, node, digest, offset).await {
                Ok(lent) => {
                    lock(&self.asked).refused.remove(&node);
                    let known = self.view.state.nodes.get(&node);
                    let name = known.map_or_else(|| node.to_string(), |node| node.name.clone());
                    return Some(Blob::Member(lent, name));
                }
                Err(error) => {
                    tracing::debug!(%node, %digest, %error, "a node doesn't lend a blob");
                    lock(&self.asked).refused.insert(node, error.to_string());
                }
            }
        }
        None
    }

    /// Why nobody lends it.
    fn reason(&self) -> String {
        let refused = lock(&self.asked).refused.values().cloned().collect::<Vec<_>>().join("; ");
        if refused.is_empty() {
            self.lenders.reason.clone()
        } else {
            format!("can't be had: {refused}")
        }
    }
}

/// A blob on its way.
pub(super) enum Blob {
    /// Out of a registry.
    Registry(registry::Blob),
    /// From another member.
    Member(Lent, String),
}

impl Blob {
    /// Whether it begins where it was asked to; if not, it comes from its beginning.
    pub fn kept(&self) -> bool {
        match self {
            Self::Registry(blob) => blob.kept,
            Self::Member(..) => true,
        }
    }

    /// The next piece; none at the end.
    pub async fn next(
        &mut self,
        image: &Reference,
        digest: &Digest,
    ) -> Result<Option<Bytes>, ImageError> {
        let (lent, name) = match self {
            Self::Registry(blob) => return blob.next(image, digest).await,
            Self::Member(lent, name) => (lent, name),
        };
        let broken = |reason: String| ImageError::BrokenOff {
            registry: name.clone(),
            digest: digest.clone(),
            reason,
        };
        match tokio::time::timeout(limits::LENT_SILENCE, lent.next()).await {
            Ok(piece) => piece.transpose().map_err(|error| broken(error.to_string())),
            Err(_) => Err(broken("nothing more came".to_owned())),
        }
    }
}

impl Inner {
    /// Where an image comes from, as far as the cluster is known.
    pub(super) fn origin(&self, image: &Reference, top: &Digest) -> Origin {
        let is_out = AtomicBool::new(false);
        let of_registry = |running| Origin {
            lending: None,
            running,
            is_out: AtomicBool::new(false),
            from: From::Registry,
        };
        let Some(view) = self.cluster.view() else { return of_registry(None) };
        let Some(lenders) = image_replication::lenders(&view.state, Some(view.node), top) else {
            let nodes = image_replication::running(&view.state, view.node, top);
            let members = self.cluster.members();
            let asked = Mutex::new(Asked { nodes: nodes.clone(), ..Asked::default() });
            let lenders = Lenders { nodes, reason: String::new(), may_return: true };
            return of_registry(Some(Lending { view, members, lenders, asked }));
        };
        let known = view.state.loaded.get(&image.plain());
        let is_known = known.is_some_and(|image| image.copies.contains_key(top));
        let from = match &view.state.cluster {
            Some(cluster) if is_known => From::Cluster(cluster.id.clone()),
            _ => From::Registry,
        };
        let members = self.cluster.members();
        let asked = Mutex::new(Asked { nodes: lenders.nodes.clone(), ..Asked::default() });
        let lending = Some(Lending { view, members, lenders, asked });
        Origin { lending, running: None, is_out, from }
    }
}

impl Origin {
    /// A blob from an offset on, of whoever has it.
    pub(super) async fn blob(
        &self,
        inner: &Inner,
        image: &Reference,
        digest: &Digest,
        offset: u64,
    ) -> Result<Blob, ImageError> {
        if let Some(lending) = &self.lending
            && let Some(lent) = lending.open(digest, offset).await
        {
            return Ok(lent);
        }
        if let Some(lent) = self.instead(digest, offset).await {
            return Ok(lent);
        }
        let blob = inner.registries.blob(image, digest, offset).await;
        match blob {
            Ok(blob) => Ok(Blob::Registry(blob)),
            Err(error) => {
                let lent = self.after(&error, image, digest, offset).await;
                lent.ok_or_else(|| self.told(image, error))
            }
        }
    }

    /// Of a member that runs it, where the registry was out of reach before.
    async fn instead(&self, digest: &Digest, offset: u64) -> Option<Blob> {
        let running = self.running.as_ref().filter(|_| self.is_out.load(Ordering::Relaxed))?;
        running.open(digest, offset).await
    }

    /// The same right after the registry failed, if another node may do better.
    async fn after(
        &self,
        error: &ImageError,
        image: &Reference,
        digest: &Digest,
        offset: u64,
    ) -> Option<Blob> {
        let is_out = matches!(
            error,
            ImageError::Down { .. }
                | ImageError::BrokenOff { .. }
                | ImageError::Tls { .. }
                | ImageError::RateLimited { .. }
                | ImageError::Server { .. }
        );
        let running = self.running.as_ref().filter(|_| is_out)?;
        let lent = running.open(digest, offset).await?;
        if !self.is_out.swap(true, Ordering::Relaxed) {
            tracing::warn!(%image, %error, "its registry is out of reach: other nodes lend it");
        }
        Some(lent)
    }

    /// A manifest or index, from the store or whoever has it.
    pub(super) async fn document(
        &self,
        inner: &Inner,
        image: &Reference,
        digest: &Digest,
    ) -> Result<Bytes, ImageError> {
        if let Some(bytes) = store::read(&inner.containerd, digest).await? {
            return Ok(bytes);
        }
        if let Some(lending) = &self.lending
            && let Some(mut lent) = lending.open(digest, 0).await
        {
            return whole(&mut lent, image, digest, limits::MANIFEST_MAX).await;
        }
        let mut lent = self.instead(digest, 0).await;
        if lent.is_none() {
            match inner.registries.document(image, digest).await {
                Ok(document) => return Ok(document),
                Err(error) => {
                    lent = self.after(&error, image, digest, 0).await;
                    if lent.is_none() {
                        return Err(self.told(image, error));
                    }
                }
            }
        }
        let mut lent = lent.ok_or_else(|| wrong_digest(image, digest))?;
        whole(&mut lent, image, digest, limits::MANIFEST_MAX).await
    }

    /// The configuration of an image, from the store or whoever has it.
    pub(super) async fn config(
        &self,
        inner: &Inner,
        image: &Reference,
        manifest: &Manifest,
    ) -> Result<Bytes, ImageError> {
        let blob = &manifest.config;
        if blob.size > limits::MANIFEST_MAX {
            return Err(bad_manifest(image, "its configuration is too large"));
        }
        if let Some(bytes) = store::read(&inner.containerd, &blob.digest).await? {
            return Ok(bytes);
        }
        let mut answer = self.blob(inner, image, &blob.digest, 0).await?;
        whole(&mut answer, image, &blob.digest, blob.size).await
    }

    /// Of what the cluster knows as loaded, a registry's answer is not what matters.
    fn told(&self, image: &Reference, error: ImageError) -> ImageError {
        let Some(lending) = &self.lending else { return error };
        tracing::debug!(%image, %error, "no node lends it, and its registry doesn't have it");
        let (reason, temporary) = (lending.reason(), lending.lenders.may_return);
        ImageError::Lost { reference: image.to_string(), reason, temporary }
    }
}

/// All of a small blob, which must be what its digest says.
async fn whole(
    blob: &mut Blob,
    image: &Reference,
    digest: &Digest,
    max: u64,
) -> Result<Bytes, ImageError> {
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(piece) = blob.next(image, digest).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > max {
                return Err(wrong_digest(image, digest));
            }
        }
        Ok(bytes.freeze())
    };
    let read = tokio::time::timeout(limits::REGISTRY_DOCUMENT, read).await;
    let bytes = read.map_err(|_| broken_off(image, digest, SLOW))??;
    if sha256(&bytes) == *digest { Ok(bytes) } else { Err(wrong_digest(image, digest)) }
}
