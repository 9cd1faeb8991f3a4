//! Layers become snapshots, one on top of the other.
//!
//! Owns the chain of snapshots of an image. Never leaves a half-unpacked one.

use super::Inner;
use super::error::ImageError;
use super::manifest::{Layer, bad_manifest, named, wrong_digest};
use super::measure;
use super::store::Lease;
use crate::actors::platform::containerd::client::{allow, retry};
use crate::actors::platform::containerd::{Containerd, Error, SNAPSHOTTER};
use crate::id::Digest;
use crate::limits;
use crate::spec::image::Reference;
use crate::units;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use tonic::{Code, Status};

/// Whether a snapshot exists.
pub(super) async fn exists(containerd: &Containerd, chain: &Digest) -> Result<bool, Error> {
    let found = retry(|| {
        let request = containerd.request(api::snapshots::StatSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: chain.to_string(),
        });
        let mut snapshots = containerd.snapshots();
        async move { snapshots.stat(request).await }
    })
    .await;
    allow(found, &[Code::NotFound])
        .map(|found| found.is_some())
        .map_err(|status| containerd.error("look for", chain.as_str(), status))
}

/// How many of the layers, from the lowest up, are unpacked; the lease keeps them from then on.
pub(super) async fn unpacked(
    containerd: &Containerd,
    lease: &Lease,
    layers: &[Layer],
) -> Result<usize, Error> {
    for (index, layer) in layers.iter().enumerate().rev() {
        if exists(containerd, &layer.chain_id).await? {
            let kind = format!("snapshots/{SNAPSHOTTER}");
            lease.hold(containerd, &kind, layer.chain_id.as_str()).await?;
            // It may have gone just before it was held.
            if exists(containerd, &layer.chain_id).await? {
                return Ok(index + 1);
            }
        }
    }
    Ok(0)
}

/// Unpacks a layer whose blob is in the store onto those below it.
pub(super) async fn apply(
    inner: &Inner,
    image: &Reference,
    lease: &Lease,
    layers: &[Layer],
    index: usize,
) -> Result<(), ImageError> {
    let layer = &layers[index];
    let parent = index.checked_sub(1).map(|below| &layers[below].chain_id);
    let containerd = &inner.containerd;
    // Two images that share layers unpack them once.
    let _turn = inner.turn(&layer.chain_id).await;
    if exists(containerd, &layer.chain_id).await? {
        return Ok(());
    }
    let key = format!("mill-extract-{}-{:016x}", layer.chain_id, rand::random::<u64>());
    let applied = extract(inner, image, lease, layer, parent, &key).await;
    if applied.is_err() {
        // What went wrong before is what the caller wants to hear.
        let _ = containerd.remove_snapshot(&key).await;
    }
    applied.map_err(|error| named(image, error))
}

async fn extract(
    inner: &Inner,
    image: &Reference,
    lease: &Lease,
    layer: &Layer,
    parent: Option<&Digest>,
    key: &str,
) -> Result<(), ImageError> {
    let containerd = &inner.containerd;
    let refused = |status: Status| containerd.error("unpack", layer.blob.digest.as_str(), status);
    let message = api::snapshots::PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.to_owned(),
        parent: parent.map(|chain| chain.to_string()).unwrap_or_default(),
        ..api::snapshots::PrepareSnapshotRequest::default()
    };
    let request = containerd.leased(message, &lease.id);
    let prepared = containerd.snapshots().prepare(request).await.map_err(refused)?.into_inner();
    let max = measure::allowed(layer.blob.size, inner.layer_max);
    let applied = tokio::select! {
        applied = diff(containerd, lease, layer, prepared.mounts.clone()) => applied,
        // containerd ends the work when nobody waits for it.
        () = measure::exceeded(&prepared.mounts, max) => {
            let (layer, max) = (&layer.blob.digest, units::Bytes(max));
            return Err(bad_manifest(image, &format!("layer {layer} unpacks to more than {max}")));
        }
    };
    let applied = applied.map_err(|status| unpack_error(containerd, image, layer, status))?;
    if applied != layer.diff_id {
        return Err(wrong_digest(image, &layer.diff_id));
    }
    let message = api::snapshots::CommitSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        name: layer.chain_id.to_string(),
        key: key.to_owned(),
        ..api::snapshots::CommitSnapshotRequest::default()
    };
    let committed = containerd.snapshots().commit(containerd.leased(message, &lease.id)).await;
    match committed {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => {
            Ok(containerd.remove_snapshot(key).await?)
        }
        Err(status) => Err(refused(status).into()),
    }
}

/// Applies a layer to mounts and tells the digest of its content.
async fn diff(
    containerd: &Containerd,
    lease: &Lease,
    layer: &Layer,
    mounts: Vec<Mount>,
) -> Result<Digest, Status> {
    let descriptor = containerd_client::types::Descriptor {
        media_type: layer.blob.media_type.clone(),
        digest: layer.blob.digest.to_string(),
        size: i64::try_from(layer.blob.size).unwrap_or(i64::MAX),
        ..containerd_client::types::Descriptor::default()
    };
    let message =
        api::ApplyRequest { diff: Some(descriptor), mounts, ..api::ApplyRequest::default() };
    let mut request = containerd.leased(message, &lease.id);
    request.set_timeout(limits::UNPACK);
    let applied = containerd.diff().apply(request).await?.into_inner();
    Ok(Digest::from(applied.applied.map(|applied| applied.digest).unwrap_or_default()))
}

fn unpack_error(
    containerd: &Containerd,
    image: &Reference,
    layer: &Layer,
    status: Status,
) -> ImageError {
    let of_image = ["gzip: invalid", "archive/tar:", "unexpected EOF", "flate:", "not supported"];
    let unknown = status.code() == Code::Unimplemented;
    if unknown || of_image.iter().any(|text| status.message().contains(text)) {
        let reason = format!("layer {}: {}", layer.blob.digest, status.message());
        return bad_manifest(image, &reason);
    }
    containerd.error("unpack", layer.blob.digest.as_str(), status).into()
}
