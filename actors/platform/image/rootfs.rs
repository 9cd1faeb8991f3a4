//! Files of an image read without a mount: who its users are, and whose a folder is.
//!
//! Owns the search through the layers of an overlay. Never writes, never follows a link out of the
//! image.

use crate::actors::platform::containerd::client::allow;
use crate::actors::platform::containerd::{Containerd, Error, SNAPSHOTTER};
use crate::id::Digest;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use tonic::Code;

/// The most that is read of one file.
const FILE_MAX: u64 = 1 << 20;
/// The most links on the way to one file, as in Linux.
const LINKS_MAX: usize = 40;
/// What overlayfs marks a folder with that hides those below.
const OPAQUE: &str = "trusted.overlay.opaque";

/// Whose a folder is, and what may be done in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions, with the bits above them.
    pub mode: u32,
}

/// The text of `/etc/passwd` and `/etc/group` of a snapshot, empty where there is none.
pub(super) async fn users(
    containerd: &Containerd,
    chain: &Digest,
) -> Result<(String, String), Error> {
    view(containerd, chain, |layers| (text(layers, "etc/passwd"), text(layers, "etc/group"))).await
}

/// The owners of those of a snapshot's folders that there are.
pub(super) async fn owners(
    containerd: &Containerd,
    chain: &Digest,
    folders: Vec<PathBuf>,
) -> Result<BTreeMap<PathBuf, Owner>, Error> {
    let of = move |layers: &[PathBuf]| {
        let owner = |path: &PathBuf| {
            let (_, meta) = find(layers, path).filter(|(_, meta)| meta.is_dir())?;
            let owner = Owner { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 };
            Some((path.clone(), owner))
        };
        folders.iter().filter_map(owner).collect()
    };
    view(containerd, chain, of).await
}

/// Looks into the layers of a snapshot; gives nothing if it isn't there.
async fn view<T: Default + Send + 'static>(
    containerd: &Containerd,
    chain: &Digest,
    look: impl FnOnce(&[PathBuf]) -> T + Send + 'static,
) -> Result<T, Error> {
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
        return Ok(T::default());
    };
    let layers = layers(&viewed.into_inner().mounts);
    let found = tokio::task::spawn_blocking(move || look(&layers)).await.unwrap_or_default();
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

/// A file of the whole, links resolved within it; empty if it isn't there.
fn text(layers: &[PathBuf], path: &str) -> String {
    let found = find(layers, Path::new(path)).filter(|(_, meta)| meta.is_file());
    found.map(|(file, _)| read(&file)).unwrap_or_default()
}

/// Where a path leads to: never outside of the layers.
fn find(layers: &[PathBuf], path: &Path) -> Option<(PathBuf, Metadata)> {
    let mut todo: Vec<OsString> = names(path);
    let (mut at, mut links) = (PathBuf::new(), 0);
    let mut found = None;
    while let Some(name) = todo.pop() {
        if name == ".." {
            // Above the root is the root.
            at.pop();
            continue;
        }
        at.push(name);
        let (file, meta) = entry(layers, &at)?;
        if meta.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            let target = fs::read_link(&file).ok()?;
            if target.is_absolute() {
                at = PathBuf::new();
            } else {
                at.pop();
            }
            todo.extend(names(&target));
            continue;
        }
        if !todo.is_empty() && !meta.is_dir() {
            return None;
        }
        found = Some((file, meta));
    }
    found
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// What the highest layer that says something about a path has there. The folders above it are no
/// links.
fn entry(layers: &[PathBuf], path: &Path) -> Option<(PathBuf, Metadata)> {
    for layer in layers {
        let file = layer.join(path);
        if let Ok(meta) = fs::symlink_metadata(&file) {
            return Some((file, meta)).filter(|(_, meta)| !is_whiteout(meta));
        }
        if hides_lower(layer, path) {
            break;
        }
    }
    None
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// Whether a layer removed or replaced a folder on the way to a file.
fn hides_lower(layer: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).any(|folder| {
        let folder = layer.join(folder);
        fs::symlink_metadata(&folder).is_ok_and(|meta| !meta.is_dir() || is_opaque(&folder))
    })
}

/// Whether a folder shows nothing of those below, as overlayfs marks it.
fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 2];
    rustix::fs::lgetxattr(folder, OPAQUE, &mut value).is_ok_and(|size| value[..size] == *b"y")
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
    }

    #[test]
    fn a_folder_has_its_owner_and_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, layers) = two();
        fs::create_dir(layers[1].join("tmp")).unwrap();
        let mode = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(layers[1].join("tmp"), mode).unwrap();
        let (_, meta) = find(&layers, Path::new("/tmp/")).unwrap();
        assert!(meta.is_dir() && meta.mode() & 0o7777 == 0o1777);
        assert!(find(&layers, Path::new("/var/tmp")).is_none());
    }

    /// Two layers, the higher first, and the folder they are in.
    fn two() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let layers = ["high", "low"].map(|name| folder.path().join(name)).to_vec();
        fs::create_dir_all(layers[0].join("etc")).unwrap();
        fs::create_dir_all(layers[1].join("etc")).unwrap();
        (folder, layers)
    }

    #[yare::parameterized(
        absolute = { "/nix/store/passwd", "users" },
        relative = { "../nix/store/passwd", "users" },
        above_the_root = { "../../../../nix/store/passwd", "users" },
        another_link = { "/link", "users" },
        a_link_on_the_way = { "/shop/passwd", "users" },
        itself = { "/etc/passwd", "" },
        nothing = { "/nowhere", "" },
        a_folder = { "/nix", "" },
        through_a_file = { "/nix/store/passwd/x", "" },
    )]
    fn links_lead_within_the_image(target: &str, expected: &str) {
        let (_folder, layers) = two();
        let [high, low] = [&layers[0], &layers[1]];
        fs::create_dir_all(low.join("nix/store")).unwrap();
        fs::write(low.join("nix/store/passwd"), "users").unwrap();
        std::os::unix::fs::symlink("nix/store/passwd", low.join("link")).unwrap();
        std::os::unix::fs::symlink("/nix/store", low.join("shop")).unwrap();
        std::os::unix::fs::symlink(target, high.join("etc/passwd")).unwrap();
        assert_eq!(text(&layers, "etc/passwd"), expected);
    }

    #[test]
    fn a_folder_may_be_a_link_and_may_hide_those_below() {
        let (_folder, layers) = two();
        let [high, low] = [&layers[0], &layers[1]];
        fs::write(low.join("etc/passwd"), "low").unwrap();
        fs::create_dir_all(low.join("real")).unwrap();
        fs::write(low.join("real/passwd"), "real").unwrap();
        fs::remove_dir(high.join("etc")).unwrap();
        std::os::unix::fs::symlink("real", high.join("etc")).unwrap();
        assert_eq!(text(&layers, "etc/passwd"), "real");
        fs::remove_file(high.join("etc")).unwrap();
        fs::create_dir(high.join("etc")).unwrap();
        assert_eq!(text(&layers, "etc/passwd"), "low");
        let flags = rustix::fs::XattrFlags::empty();
        let marked = rustix::fs::setxattr(high.join("etc"), OPAQUE, b"y", flags);
        // Only root may mark it, and not every file system keeps it.
        if marked.is_ok() {
            assert_eq!(text(&layers, "etc/passwd"), "");
        }
    }
}
