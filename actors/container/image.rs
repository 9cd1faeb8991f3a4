//! Images: resolved to digests, pulled, unpacked, loaded from archives, listed, removed.
//!
//! Owns what containerd knows of images in mill's namespace. Never decides which are needed.

mod error;

pub use error::ImageError;

use super::containerd::Containerd;
use crate::id::Digest;
use crate::oci::ImageConfig;
use crate::units::{Bytes, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncRead;

/// How registries are spoken to.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// `HOST:PORT` that may speak plain HTTP or show any certificate; loopback always may.
    pub insecure: Vec<String>,
    /// A file with further authorities to trust, PEM.
    pub ca: Option<PathBuf>,
}

/// An image that is unpacked and ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest or index that the reference leads to: what a revision pins.
    pub digest: Digest,
    /// The snapshot of its layers; absent for an image without layers.
    pub chain_id: Option<Digest>,
    /// How to run it.
    pub config: ImageConfig,
    /// The text of its `/etc/passwd`, empty if it has none; for [`crate::oci::resolve_user`].
    pub passwd: String,
    /// The text of its `/etc/group`.
    pub group: String,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Fetched so far.
    pub bytes: Bytes,
    /// To be fetched in all.
    pub total: Bytes,
}

/// An image that containerd has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The canonical reference, without a digest.
    pub reference: String,
    /// Of the manifest or index.
    pub digest: Digest,
    /// Compressed size.
    pub size: Bytes,
    /// Whether it came from an archive and not from a registry.
    pub loaded: bool,
    /// When it came.
    pub created_at: Timestamp,
}

/// The images of a node; cheap to clone, all clones share what is being pulled.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    #[allow(dead_code)]
    containerd: Containerd,
    #[allow(dead_code)]
    config: RegistryConfig,
}

impl Images {
    /// Images in the given containerd.
    #[must_use]
    pub fn new(containerd: Containerd, config: RegistryConfig) -> Self {
        Self { inner: Arc::new(Inner { containerd, config }) }
    }

    /// What a reference leads to now: an image loaded under it, else what its registry says.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn resolve(&self, reference: &str) -> Result<Digest, ImageError> {
        let _ = reference;
        todo!()
    }

    /// Fetches and unpacks an image, unless it is there. Callers that want the same wait for one.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn ensure(
        &self,
        reference: &str,
        digest: &Digest,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Arc<Image>, ImageError> {
        let _ = (reference, digest, progress);
        todo!()
    }

    /// Takes the images of an archive, Docker's or OCI's, plain or compressed by gzip.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Vec<Listed>, ImageError> {
        let _ = archive;
        todo!()
    }

    /// All images, by reference.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn list(&self) -> Result<Vec<Listed>, ImageError> {
        todo!()
    }

    /// Forgets every image of a reference; containers that run it are not touched. Whether there
    /// was one.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn remove(&self, reference: &str) -> Result<bool, ImageError> {
        let _ = reference;
        todo!()
    }
}
