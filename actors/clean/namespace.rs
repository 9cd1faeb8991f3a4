//! Emptying a namespace of containerd and removing it.
//!
//! Owns the order: what is used goes after what uses it. Never touches another namespace.

use crate::actors::platform::containerd::{Containerd, Error, SNAPSHOTTER};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots::{ListSnapshotsRequest, RemoveSnapshotRequest};
use tonic::{Code, Status};

/// Removes containers, images, leases, snapshots and content, then the namespace. Returns how many
/// containers there were.
///
/// # Errors
/// containerd doesn't answer or refuses.
pub(super) async fn wipe(client: &Containerd) -> Result<usize, Error> {
    let containers = client.list().await?;
    for container in &containers {
        client.delete(&container.id).await?;
    }
    let name = client.config().namespace.clone();
    let failed = |status| client.error("empty namespace", &name, status);
    images(client).await.map_err(failed)?;
    leases(client).await.map_err(failed)?;
    snapshots(client).await.map_err(failed)?;
    content(client).await.map_err(failed)?;
    let request = api::DeleteNamespaceRequest { name: name.clone() };
    absent(client.namespaces().delete(client.request(request)).await)
        .map_err(|status| client.error("remove namespace", &name, status))?;
    Ok(containers.len())
}

/// What isn't there is removed.
fn absent<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code() != Code::NotFound => Err(status),
        _ => Ok(()),
    }
}

async fn images(client: &Containerd) -> Result<(), Status> {
    let request = client.request(api::ListImagesRequest::default());
    for image in client.images().list(request).await?.into_inner().images {
        let request = api::DeleteImageRequest { name: image.name, ..Default::default() };
        absent(client.images().delete(client.request(request)).await)?;
    }
    Ok(())
}

async fn leases(client: &Containerd) -> Result<(), Status> {
    let request = client.request(api::ListRequest::default());
    for lease in client.leases().list(request).await?.into_inner().leases {
        let request = api::DeleteRequest { id: lease.id, ..Default::default() };
        absent(client.leases().delete(client.request(request)).await)?;
    }
    Ok(())
}

/// Removes snapshots from the leaves on: one that others stand on can't go before them.
async fn snapshots(client: &Containerd) -> Result<(), Status> {
    let snapshotter = SNAPSHOTTER.to_owned();
    loop {
        let request =
            ListSnapshotsRequest { snapshotter: snapshotter.clone(), ..Default::default() };
        let mut list = client.snapshots().list(client.request(request)).await?.into_inner();
        let mut found = Vec::new();
        while let Some(page) = list.message().await? {
            found.extend(page.info);
        }
        let leaves = found.iter().filter(|one| !found.iter().any(|two| two.parent == one.name));
        let mut removed = 0;
        for leaf in leaves {
            let (snapshotter, key) = (snapshotter.clone(), leaf.name.clone());
            let request = client.request(RemoveSnapshotRequest { snapshotter, key });
            absent(client.snapshots().remove(request).await)?;
            removed += 1;
        }
        if removed == 0 {
            return Ok(());
        }
    }
}

async fn content(client: &Containerd) -> Result<(), Status> {
    let request = client.request(api::ListContentRequest::default());
    let mut list = client.content().list(request).await?.into_inner();
    let mut digests = Vec::new();
    while let Some(page) = list.message().await? {
        digests.extend(page.info.into_iter().map(|info| info.digest));
    }
    for digest in digests {
        let request = client.request(api::DeleteContentRequest { digest });
        absent(client.content().delete(request).await)?;
    }
    Ok(())
}
