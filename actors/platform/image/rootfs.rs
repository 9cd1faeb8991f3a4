//! Files of an image read without a mount: who its users are.
//!
//! Owns the search through the layers of an overlay. Never writes, never follows a link out of the
//! image.

use crate::actors::platform::containerd::client::allow;
use crate::actors::platform::containerd::{Containerd, Error, SNAPSHOTTER};
use crate::id::Digest;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tonic::Code;

/// The most that is read of one file.
const FILE_MAX: u64 = 1 << 20;

/// The text of `/etc/passwd` and `/etc/group` of a snapshot, empty where there is none.
pub(super) async fn users(
    containerd: &Containerd,
    chain: &Digest,
) -> Result<(String, String), Error> {
    let key = format!("mill-view-{:016x}", rand::random::<u64>());
    let failed = |status| containerd.error("read files of", chain.as_str(), status);
    let message = api::snapshots::ViewSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.clone(),
        parent: chain.to_string(),
        ..api::snapshots::ViewSnapshotRequest::default()
    };
    let viewed = containerd.snapshots().view(containerd.request(message)).await;
    let Some(viewed) = allow(viewed, &[Code::NotFound]).map_err(failed)? else {
        return Ok((String::new(), String::new()));
    };
    let layers = layers(&viewed.into_inner().mounts);
    let read = move || (text(&layers, "etc/passwd"), text(&layers, "etc/group"));
    let found = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    containerd.remove_snapshot(&key).await?;
    Ok(found)
}

/// The folders of a snapshot's layers, the highest first.
fn layers(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(mount) = mounts.first() else { return Vec::new() };
    let option = |name: &str| {
        mount.options.iter().find_map(|o| o.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    if mount.r#type != "overlay" {
        return vec![PathBuf::from(&mount.source)];
    }
    let upper = option("upperdir=");
    let lower = option("lowerdir=");
    let all = std::iter::once(upper.as_str()).chain(lower.split(':'));
    all.filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

/// A file as the highest layer that says something about it has it.
fn text(layers: &[PathBuf], path: &str) -> String {
    for layer in layers {
        let file = layer.join(path);
        if let Ok(meta) = fs::symlink_metadata(&file) {
            return if meta.is_file() { read(&file) } else { String::new() };
        }
        if hides_lower(layer, Path::new(path)) {
            break;
        }
    }
    String::new()
}

/// Whether a layer removed or replaced a folder on the way to a file.
fn hides_lower(layer: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).any(|folder| {
        fs::symlink_metadata(layer.join(folder)).is_ok_and(|meta| {
            let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            whiteout || !meta.is_dir()
        })
    })
}

fn read(file: &Path) -> String {
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_layer_wins() {
        let folder = tempfile::tempdir().unwrap();
        let [high, low] = ["high", "low"].map(|name| folder.path().join(name));
        fs::create_dir_all(low.join("etc")).unwrap();
        fs::create_dir_all(high.join("etc")).unwrap();
        fs::write(low.join("etc/passwd"), "low").unwrap();
        fs::write(low.join("etc/group"), "low").unwrap();
        fs::write(high.join("etc/passwd"), "high").unwrap();
        let mount = Mount {
            r#type: "overlay".to_owned(),
            options: vec![format!("lowerdir={}:{}", high.display(), low.display())],
            ..Mount::default()
        };
        let layers = layers(&[mount]);
        assert_eq!(text(&layers, "etc/passwd"), "high");
        assert_eq!(text(&layers, "etc/group"), "low");
        assert_eq!(text(&layers, "etc/none"), "");
        std::os::unix::fs::symlink("/etc/passwd", high.join("etc/group")).unwrap();
        assert_eq!(text(&layers, "etc/group"), "");
    }
}
