//! Archives of images, as `docker save` and OCI tools write them, into containerd.
//!
//! Owns the reading of both forms. Streams: nothing is kept on a disk of our own, and only small
//! files in memory. Never trusts a name for what it holds.

mod entries;

use super::error::ImageError;
use super::manifest::{self, Resolved};
use super::records::From;
use super::store::{self, Labels, Lease, Writer};
use super::{Inner, unpack};
use crate::fsm::loaded::Pin;
use crate::id::Digest;
use crate::limits;
use crate::node::oci::image::{Descriptor, Document, MANIFEST_TYPES, document, sha256};
use crate::node::oci::{Candidate, ImageFile, Index, Platform, Search};
use crate::spec::image::Reference;
use bytes::Bytes;
use entries::Part;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// How a file of gzip begins (RFC 1952), and one of zstd (RFC 8878).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Names that an OCI layout gives an image, the full one first.
const NAME_KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// A file of the archive, in the store; its text too if it is small.
#[derive(Clone, Debug)]
struct Stored {
    digest: Digest,
    size: u64,
    /// Its media type if it is a layer, by how it begins.
    layer: &'static str,
    text: Option<Bytes>,
}

type Files = HashMap<String, Stored>;

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// How the leases of loads begin.
const LEASE: &str = "load-";

/// Takes an archive; returns what it has.
pub(super) async fn load(
    inner: &Arc<Inner>,
    archive: impl AsyncRead + Send + Unpin + 'static,
    from: &From,
) -> Result<Vec<Pin>, ImageError> {
    let name = format!("{LEASE}{:016x}", rand::random::<u64>());
    let lease = Lease::make(&inner.containerd, &name).await?;
    let loaded = load_leased(inner, archive, from, &lease).await;
    lease.end(&inner.containerd, loaded.is_err()).await;
    loaded
}

/// Gives up what a load left that an earlier process of this node had begun.
pub(super) async fn clear(inner: &Inner) -> Result<(), ImageError> {
    for lease in store::leases(&inner.containerd, LEASE).await? {
        lease.end(&inner.containerd, true).await;
    }
    Ok(())
}

async fn load_leased(
    inner: &Arc<Inner>,
    archive: impl AsyncRead + Send + Unpin + 'static,
    from: &From,
    lease: &Lease,
) -> Result<Vec<Pin>, ImageError> {
    let files = store_files(inner, archive, lease).await?;
    let images = match (text_of(&files, "manifest.json"), text_of(&files, "index.json")) {
        (Some(text), _) => docker(&files, &text)?,
        (None, Some(text)) => oci(&files, &text)?,
        (None, None) => return Err(bad("it has neither manifest.json nor index.json")),
    };
    if images.len() > limits::LOADED_MAX {
        return Err(bad("it has too many images"));
    }
    if images.is_empty() {
        return Err(bad("no image in it has a name; save it by NAME:TAG"));
    }
    for (image, resolved) in &images {
        let layers = resolved.layers();
        let have = unpack::unpacked(&inner.containerd, lease, &layers).await?;
        for index in have..layers.len() {
            unpack::apply(inner, image, lease, &layers, index).await?;
        }
    }
    // All of it or nothing: what can fail has been done.
    let pin = |(image, resolved): &(Reference, Resolved)| Pin {
        reference: image.plain(),
        digest: resolved.top.clone(),
    };
    let loaded: Vec<Pin> = images.iter().map(pin).collect();
    if from.is_shared() {
        inner.cluster.announce(&loaded);
    }
    for (image, resolved) in &images {
        inner.record(image, resolved, lease, from).await?;
    }
    Ok(loaded)
}

/// Puts every file of the archive into the store.
async fn store_files(
    inner: &Inner,
    archive: impl AsyncRead + Send + Unpin + 'static,
    lease: &Lease,
) -> Result<Files, ImageError> {
    let (mut parts, reader) = entries::read(archive);
    let mut files = Files::new();
    let mut texts = 0;
    let mut links = Vec::new();
    while let Some(part) = parts.recv().await {
        match part {
            Part::File(path, size) => {
                let stored = store_file(inner, lease, &path, size, &mut parts).await?;
                texts += stored.text.as_ref().map_or(0, Bytes::len);
                if texts > limits::ARCHIVE_TEXTS {
                    return Err(bad("its documents are too large in all"));
                }
                files.insert(path, stored);
            }
            Part::Link(path, target) => links.push((path, target)),
            // Only after a file.
            Part::Data(_) | Part::End => {}
        }
    }
    reader.await.map_err(|_| bad("reading it was given up"))??;
    for (path, target) in links {
        if let Some(stored) = files.get(&target).cloned() {
            files.insert(path, stored);
        }
    }
    Ok(files)
}

async fn store_file(
    inner: &Inner,
    lease: &Lease,
    path: &str,
    size: u64,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Stored, ImageError> {
    let small = size <= limits::MANIFEST_MAX;
    let mut kept = Vec::new();
    let mut head = Vec::new();
    let name = format!("{}-{path}", lease.id);
    let mut writer = None;
    let mut offset = 0;
    while let Some(Part::Data(data)) = parts.recv().await {
        if head.len() < ZSTD.len() {
            head.extend(data.iter().take(ZSTD.len()));
        }
        if small {
            kept.extend_from_slice(&data);
            continue;
        }
        if writer.is_none() {
            writer = Writer::open(&inner.containerd, lease, &name, None).await?;
        }
        if let Some(writer) = &mut writer {
            let length = data.len() as u64;
            let written = writer.write(offset, data).await;
            written.map_err(|status| writer.told("the archive", status))?;
            offset += length;
        }
    }
    let layer = match head {
        head if head.starts_with(&GZIP) => LAYER_GZIP,
        head if head.starts_with(&ZSTD) => LAYER_ZSTD,
        _ => LAYER,
    };
    if let Some(mut writer) = writer {
        if offset != size {
            return Err(bad("it ends in the middle of a file"));
        }
        let digest = writer.commit(Labels::new()).await;
        let digest = digest.map_err(|status| writer.told("the archive", status))?;
        return Ok(Stored { digest, size, layer, text: None });
    }
    if kept.len() as u64 != size {
        return Err(bad("it ends in the middle of a file"));
    }
    let text = Bytes::from(kept);
    let digest = sha256(&text);
    if !text.is_empty() {
        store::put(&inner.containerd, lease, &digest, text.clone(), &Labels::new()).await?;
    }
    // Only a document is read again.
    let is_document = matches!(text.first(), Some(b'{' | b'['));
    Ok(Stored { digest, size, layer, text: is_document.then_some(text) })
}

fn text_of(files: &Files, path: &str) -> Option<Bytes> {
    files.get(path)?.text.clone()
}

/// The images that `docker save` wrote.
fn docker(files: &Files, text: &[u8]) -> Result<Vec<(Reference, Resolved)>, ImageError> {
    let saved: Vec<Saved> = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
    let mut images = Vec::new();
    for image in saved {
        let config = get(files, &image.config)?;
        let layers = image.layers.iter().map(|path| get(files, path).map(layer));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let resolved = assemble(config, layers)?;
        for tag in image.repo_tags.unwrap_or_default() {
            let reference = reference(&tag)?;
            check(&reference, &resolved)?;
            if images.len() > limits::LOADED_MAX {
                return Err(bad("it has too many names"));
            }
            images.push((reference, resolved.clone()));
        }
    }
    Ok(images)
}

fn layer(stored: &Stored) -> Descriptor {
    Descriptor {
        media_type: stored.layer.to_owned(),
        digest: stored.digest.clone(),
        size: stored.size,
        artifact_type: None,
        platform: None,
        annotations: None,
    }
}

/// An image of which only configuration and layers are known.
fn assemble(config: &Stored, layers: Vec<Descriptor>) -> Result<Resolved, ImageError> {
    let config_text = config.text.clone().ok_or_else(|| bad("a configuration is too large"))?;
    let file = ImageFile::parse(&config_text).map_err(|e| bad(&e.to_string()))?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.size,
        },
        "layers": layers,
    });
    let text = Bytes::from(manifest.to_string());
    let Ok(Document::Image(manifest)) = document(&text) else {
        return Err(bad("its parts make no manifest"));
    };
    let top = sha256(&text);
    Ok(Resolved {
        top: top.clone(),
        indexes: Vec::new(),
        manifest_text: (top, text),
        manifest,
        config_text,
        file,
    })
}

/// The images of an OCI layout.
fn oci(files: &Files, text: &[u8]) -> Result<Vec<(Reference, Resolved)>, ImageError> {
    let index: Index = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
    let mut images = Vec::new();
    for entry in &index.manifests {
        let names = entry.annotations.as_ref();
        let name = NAME_KEYS.iter().find_map(|key| names?.get(*key));
        if let Some(name) = name {
            let reference = reference(name)?;
            let resolved = layout(files, &reference, entry)?;
            check(&reference, &resolved)?;
            images.push((reference, resolved));
        }
    }
    Ok(images)
}

fn layout(files: &Files, image: &Reference, entry: &Descriptor) -> Result<Resolved, ImageError> {
    let wrong = |error: serde_json::Error| bad(&error.to_string());
    let mut search = Search::new(Platform::host(), entry.digest.clone());
    loop {
        let Some(at) = search.next_candidate() else {
            return Err(manifest::unfound(image, search));
        };
        // An archive may have one platform only, and name others.
        let text = match blob_text(files, &at.digest) {
            Err(_) if !at.indexes.is_empty() => continue,
            text => text?,
        };
        let manifest = match document(&text).map_err(wrong)? {
            Document::Index(index) => {
                search.enter(at, text, &index);
                continue;
            }
            Document::Image(manifest) => manifest,
        };
        if !search.is_image(&manifest) {
            continue;
        }
        let config_text = blob_text(files, &manifest.config.digest)?;
        let file = ImageFile::parse(&config_text).map_err(wrong)?;
        if !search.runs(&file.platform) {
            continue;
        }
        for layer in &manifest.layers {
            blob(files, &layer.digest)?;
        }
        let (top, Candidate { digest, indexes }) = (entry.digest.clone(), at);
        let manifest_text = (digest, text);
        return Ok(Resolved { top, indexes, manifest_text, manifest, config_text, file });
    }
}

fn check(image: &Reference, resolved: &Resolved) -> Result<(), ImageError> {
    let want = Platform::host();
    if resolved.file.platform.runs_on(&want) {
        return manifest::check(image, &resolved.file, &resolved.manifest);
    }
    let (reference, have) = (image.to_string(), resolved.file.platform.to_string());
    Err(ImageError::WrongArchitecture { reference, have, want })
}

fn blob<'a>(files: &'a Files, digest: &Digest) -> Result<&'a Stored, ImageError> {
    let stored = get(files, &format!("blobs/{}", digest.as_str().replace(':', "/")))?;
    if stored.digest != *digest {
        let reference = "the archive".to_owned();
        return Err(ImageError::WrongDigest { reference, digest: digest.clone() });
    }
    Ok(stored)
}

fn blob_text(files: &Files, digest: &Digest) -> Result<Bytes, ImageError> {
    blob(files, digest)?.text.clone().ok_or_else(|| bad("a manifest is too large"))
}

fn get<'a>(files: &'a Files, path: &str) -> Result<&'a Stored, ImageError> {
    files.get(path).ok_or_else(|| bad(&format!("{path} is missing")))
}

fn reference(name: &str) -> Result<Reference, ImageError> {
    let parsed = super::parse(name)?;
    // What it is pinned to is decided here, not by the archive.
    Ok(Reference { digest: None, ..parsed })
}

fn bad(reason: &str) -> ImageError {
    ImageError::BadArchive { reason: reason.to_owned() }
}
