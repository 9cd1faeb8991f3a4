//! containerd's image records: what they are called and what they say.
//!
//! A record named `REFERENCE@DIGEST` keeps an image from garbage collection; one named `REFERENCE`
//! says which image stands for that reference that was loaded on this node alone. Owns both. Never
//! deletes content: that goes when nothing names it.

use super::Listed;
use super::error::ImageError;
use super::manifest::Resolved;
use crate::actors::platform::containerd::client::{allow, retry};
use crate::actors::platform::containerd::{Containerd, Error, timestamp};
use crate::id::Digest;
use crate::spec::image::Reference;
use crate::units::Bytes;
use containerd_client::services::v1 as api;
use containerd_client::types::Descriptor;
use std::collections::HashMap;
use tonic::Code;

const REFERENCE: &str = "mill/reference";
const SIZE: &str = "mill/size";
/// Of an image that was loaded: the identity of the cluster that knows it, or `true`.
const LOADED: &str = "mill/loaded";
const ALONE: &str = "true";

/// Where an image came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Registry,
    /// An archive that was loaded on this node, and that no other knows of.
    Archive,
    /// An archive that the cluster of that identity knows of.
    Cluster(String),
}

impl From {
    /// Whether it may be impossible to fetch it again.
    pub fn is_loaded(&self) -> bool {
        *self != Self::Registry
    }

    /// Whether the cluster knows of it, or is about to.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Writes the record of an image, and of the reference if it stands for it here.
pub(super) async fn write(
    containerd: &Containerd,
    image: &Reference,
    resolved: &Resolved,
    from: &From,
) -> Result<(), ImageError> {
    let reference = image.plain();
    let (digest, media_type, size) = resolved.target();
    let mut labels = HashMap::from([
        (REFERENCE.to_owned(), reference.clone()),
        (SIZE.to_owned(), resolved.manifest.size().to_string()),
    ]);
    let loaded = match from {
        From::Registry => None,
        From::Archive => Some(ALONE),
        From::Cluster(cluster) => Some(cluster.as_str()),
    };
    labels.extend(loaded.map(|by| (LOADED.to_owned(), by.to_owned())));
    let target = Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    };
    let exact = format!("{reference}@{digest}");
    let names = if *from == From::Archive { vec![exact, reference] } else { vec![exact] };
    for name in names {
        let record = api::Image {
            name,
            labels: labels.clone(),
            target: Some(target.clone()),
            ..api::Image::default()
        };
        // One that was loaded stays what it is when it is only made ready again.
        put(containerd, record, from.is_loaded()).await?;
    }
    Ok(())
}

async fn put(containerd: &Containerd, record: api::Image, replace: bool) -> Result<(), Error> {
    let name = record.name.clone();
    let failed = |status| containerd.error("record image", &name, status);
    let message = api::CreateImageRequest { image: Some(record.clone()), ..Default::default() };
    let made = containerd.images().create(containerd.request(message)).await;
    if allow(made, &[Code::AlreadyExists]).map_err(failed)?.is_some() || !replace {
        return Ok(());
    }
    let message = api::UpdateImageRequest { image: Some(record), ..Default::default() };
    let updated = containerd.images().update(containerd.request(message)).await;
    updated.map(|_| ()).map_err(failed)
}

/// The digest that was loaded under a reference on this node alone.
pub(super) async fn loaded(
    containerd: &Containerd,
    reference: &str,
) -> Result<Option<Digest>, Error> {
    let found = get(containerd, reference).await?;
    Ok(found.and_then(|image| image.target).map(|target| Digest::from(target.digest)))
}

async fn get(containerd: &Containerd, name: &str) -> Result<Option<api::Image>, Error> {
    let found = retry(|| {
        let request = containerd.request(api::GetImageRequest { name: name.to_owned() });
        let mut images = containerd.images();
        async move { images.get(request).await }
    })
    .await;
    let found = allow(found, &[Code::NotFound])
        .map_err(|status| containerd.error("look for", name, status))?;
    Ok(found.and_then(|found| found.image))
}

/// From now on an image that was loaded is known to a cluster: what its reference leads to is said
/// there.
pub(super) async fn mark(
    containerd: &Containerd,
    (reference, digest): (&str, &Digest),
    cluster: &str,
) -> Result<(), Error> {
    let name = format!("{reference}@{digest}");
    let Some(mut record) = get(containerd, &name).await? else { return Ok(()) };
    record.labels.insert(LOADED.to_owned(), cluster.to_owned());
    put(containerd, record, true).await?;
    remove(containerd, reference, false).await
}

/// All images, by reference.
pub(super) async fn list(containerd: &Containerd) -> Result<Vec<Listed>, Error> {
    let found = retry(|| {
        let request = containerd.request(api::ListImagesRequest::default());
        let mut images = containerd.images();
        async move { images.list(request).await }
    })
    .await
    .map_err(|status| containerd.error("list images of", &containerd.config().namespace, status))?;
    let mut listed: Vec<Listed> = found.images.iter().filter_map(decode).collect();
    listed.sort_by(|a, b| (&a.reference, &a.digest).cmp(&(&b.reference, &b.digest)));
    Ok(listed)
}

fn decode(record: &api::Image) -> Option<Listed> {
    // The other kind of record only repeats one of these.
    let (reference, digest) = record.name.split_once('@')?;
    let loaded = record.labels.get(LOADED);
    Some(Listed {
        reference: reference.to_owned(),
        digest: digest.into(),
        size: Bytes(record.labels.get(SIZE)?.parse().ok()?),
        loaded: loaded.is_some(),
        cluster: loaded.filter(|by| *by != ALONE).cloned(),
        created_at: timestamp(record.created_at),
    })
}

/// Removes the record of an image; at once what only it kept, if `collect`.
pub(super) async fn remove(
    containerd: &Containerd,
    name: &str,
    collect: bool,
) -> Result<(), Error> {
    let message = api::DeleteImageRequest {
        name: name.to_owned(),
        sync: collect,
        ..api::DeleteImageRequest::default()
    };
    let removed = containerd.images().delete(containerd.request(message)).await;
    allow(removed, &[Code::NotFound])
        .map(|_| ())
        .map_err(|status| containerd.error("remove image", name, status))
}
