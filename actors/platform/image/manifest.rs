//! What the documents of an image say: its parts, its layers, and why it isn't to be had.
//!
//! Owns what is checked of them before anything is fetched. Never fetches or stores anything.

use super::error::ImageError;
use crate::id::Digest;
use crate::node::oci::image::{Descriptor, INDEX_TYPES, MANIFEST_TYPES};
use crate::node::oci::{ImageFile, Manifest, Platform, Search, Unfound};
use crate::spec::image::Reference;
use bytes::Bytes;

/// The documents of an image for this machine.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// What the reference leads to: index or manifest.
    pub top: Digest,
    /// The indexes that lead to the manifest, the outermost first.
    pub indexes: Vec<(Digest, Bytes)>,
    /// The manifest's digest and text.
    pub manifest_text: (Digest, Bytes),
    pub manifest: Manifest,
    pub config_text: Bytes,
    pub file: ImageFile,
}

impl Resolved {
    /// What the image record points at.
    pub fn target(&self) -> (Digest, &'static str, u64) {
        let (text, kind) = match self.indexes.first() {
            Some((_, text)) => (text, INDEX_TYPES[0]),
            None => (&self.manifest_text.1, MANIFEST_TYPES[0]),
        };
        (self.top.clone(), media_type(text).unwrap_or(kind), text.len() as u64)
    }

    /// The layers with the digests of their content.
    pub fn layers(&self) -> Vec<Layer> {
        let blobs = self.manifest.layers.iter().cloned();
        let chain = (1..).map(|count| self.file.chain_id(count));
        blobs
            .zip(&self.file.diff_ids)
            .zip(chain)
            .filter_map(|((blob, diff_id), chain_id)| {
                Some(Layer { blob, diff_id: diff_id.clone(), chain_id: chain_id? })
            })
            .collect()
    }

    /// The snapshot of all layers.
    pub fn chain_id(&self) -> Option<Digest> {
        self.file.chain_id(self.file.diff_ids.len())
    }
}

/// The media type that a document gives itself, if it is one of the known.
fn media_type(text: &[u8]) -> Option<&'static str> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
    }
    let named = serde_json::from_slice::<Probe>(text).ok()?.media_type?;
    INDEX_TYPES.into_iter().chain(MANIFEST_TYPES).find(|known| *known == named)
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// As it is fetched.
    pub blob: Descriptor,
    /// Digest of its content, uncompressed.
    pub diff_id: Digest,
    /// Name of the snapshot of this layer and all below.
    pub chain_id: Digest,
}

/// Why an image isn't to be had, though it is there.
pub(super) fn unfound(image: &Reference, search: Search) -> ImageError {
    let reference = image.to_string();
    match search.unfound() {
        Unfound::Platforms(have) => {
            let (host, mut want) = (Platform::host(), Platform::host());
            want.variant = None;
            // The variant matters only where all else fits.
            let want = if have.contains(&want.to_string()) { host } else { want };
            ImageError::WrongArchitecture { reference, have, want }
        }
        Unfound::Artifact(kind) => ImageError::Artifact { reference, kind },
        Unfound::Deep => bad_manifest(image, "indexes within indexes, and no image in them"),
    }
}

pub(super) fn check(
    image: &Reference,
    file: &ImageFile,
    manifest: &Manifest,
) -> Result<(), ImageError> {
    if file.diff_ids.len() != manifest.layers.len() {
        return Err(bad_manifest(image, "manifest and configuration differ in their layers"));
    }
    Ok(())
}

pub(super) fn bad_manifest(image: &Reference, reason: &str) -> ImageError {
    ImageError::BadManifest { reference: image.to_string(), reason: reason.to_owned() }
}

pub(super) fn wrong_digest(image: &Reference, digest: &Digest) -> ImageError {
    ImageError::WrongDigest { reference: image.to_string(), digest: digest.clone() }
}

/// A full disk is told with the image's name, wherever it was met.
pub(super) fn named(image: &Reference, error: ImageError) -> ImageError {
    use crate::actors::platform::containerd::Error;
    match error {
        ImageError::Containerd(inner) if matches!(*inner, Error::DiskFull) => {
            ImageError::DiskFull { reference: image.to_string() }
        }
        ImageError::DiskFull { .. } => ImageError::DiskFull { reference: image.to_string() },
        other => other,
    }
}
