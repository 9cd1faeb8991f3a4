//! The forms that an image comes in, and that nothing of it comes twice.

use super::Host;
use super::fake::{FakeRegistry, Kind, tar_of};
use crate::registry::Registry;
use mill::actors::platform::image::{ImageError, RegistryConfig};
use mill::id::Digest;
use mill::node::oci::Platform;
use mill::node::oci::image::sha256;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

fn here() -> String {
    Platform::host().architecture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_of_docker_and_of_oci_are_the_same_image() {
    let registry = Registry::start();
    let host = Host::start().await;
    let forms = [
        ("docker", ["--format", "v2s2"], "vnd.docker.distribution.manifest.v2+json"),
        ("oci", ["--format", "oci"], "vnd.oci.image.manifest.v1+json"),
    ];
    let mut chains = Vec::new();
    for (name, form, kind) in forms {
        let image = format!("{name}:v1");
        registry.push_as("multi:v1", &image, &form);
        let raw = registry.raw(&image);
        assert!(raw.contains(kind), "{name}: {raw}");
        let reference = registry.image(&image);
        let image = host.pull(&reference).await;
        assert_eq!(image.config.user, "app:extra", "{name}");
        chains.push(image.chain_id.clone());
        // Only then is each form unpacked for itself.
        host.images.remove(&reference).await.unwrap();
        host.assert_empty();
    }
    assert!(chains[0].is_some() && chains.windows(2).all(|pair| pair[0] == pair[1]), "{chains:?}");
}

/// A frame of zstd (RFC 8878) whose blocks are as they are.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    let mut blocks = bytes.chunks(100_000).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let head = last | u32::try_from(block.len()).unwrap() << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_plain_or_packed_by_gzip_or_zstd() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let tar = tar_of("file0", &[7; 300_000]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let oci = "application/vnd.oci.image.layer.v1.tar";
    let forms = [
        (tar.clone(), oci.to_owned()),
        (gzip.finish().unwrap(), format!("{oci}+gzip")),
        (zstd(&tar), format!("{oci}+zstd")),
    ];
    let docker = (forms[1].0.clone(), docker.to_owned());
    for (blob, kind) in forms.into_iter().chain([docker]) {
        let (digest, _) = registry.image_of(&here(), vec![(blob, kind.clone(), sha256(&tar))]);
        let reference = registry.reference("v1");
        let image = host.images.ensure(&reference, &digest).await;
        assert_eq!(image.expect(&kind).chain_id, Some(sha256(&tar)));
        host.images.remove(&reference).await.unwrap();
        host.assert_empty();
    }
}

/// An archive as `docker save` writes it, of one layer.
pub(super) fn saved(name: &str, layer: &[u8], diff_id: &Digest) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": here(), "os": "linux", "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": ["layer"]}
    ]);
    let mut tar = tar::Builder::new(Vec::new());
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let files = [
        ("config.json", config.as_bytes()),
        ("layer", layer),
        ("manifest.json", manifest.as_bytes()),
    ];
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archives_layers_may_be_packed_by_zstd() {
    let host = Host::start().await;
    let tar = tar_of("file0", &[7; 300_000]);
    let archive = saved("packed:v1", &zstd(&tar), &sha256(&tar));
    let loaded = host.images.load(std::io::Cursor::new(archive), None).await.unwrap();
    let image = host.images.ensure("packed:v1", &loaded[0].digest).await.unwrap();
    assert_eq!(image.chain_id, Some(sha256(&tar)));
    host.images.remove("packed:v1").await.unwrap();
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_is_a_reference_too_and_goes_before_the_tag() {
    let registry = Registry::start();
    let host = Host::start().await;
    let v1 = host.images.resolve(&registry.image("hello:v1")).await.unwrap();
    let by_digest = format!("{}@{v1}", registry.image("hello"));
    let both = format!("{}@{v1}", registry.image("hello:v2"));
    for reference in [by_digest, both] {
        assert_eq!(host.images.resolve(&reference).await.unwrap(), v1, "{reference}");
        assert_eq!(host.pull(&reference).await.digest, v1);
    }
    let missing = format!("{}@sha256:{}", registry.image("hello"), "0".repeat(64));
    let error = host.images.resolve(&missing).await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_share_layers_fetch_each_once() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let (shared, own): (&[u8], &[u8]) = (&[1; 300_000], b"own");
    let (one, layers) = registry.image(&here(), &[shared, b"one"]);
    let (two, _) = registry.image(&here(), &[shared, b"two"]);
    let (twice, _) = registry.image(&here(), &[shared, shared, own]);
    let names = ["one", "two", "twice"].map(|name| registry.reference(name));
    let pulls = names.iter().zip([&one, &two, &twice]);
    let pulls = pulls.map(|(name, digest)| host.images.ensure(name, digest));
    futures_util::future::try_join_all(pulls).await.unwrap();
    assert_eq!(registry.gets(layers[0].as_str()), 1, "{:?}", registry.asked());
    assert_eq!(host.snapshots(), 1 + 1 + 1 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replicas_wait_for_one_pull() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let (digest, layers) = registry.image(&here(), &[&[1; 300_000], b"top"]);
    let name = registry.reference("v1");
    let pulls = (0..50).map(|_| host.images.ensure(&name, &digest));
    let all = futures_util::future::try_join_all(pulls).await.unwrap();
    assert!(all.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    for layer in &layers {
        assert_eq!(registry.gets(layer.as_str()), 1);
    }
    assert_eq!(registry.gets("/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 9)).to_le_bytes()[0]).collect();
    let (digest, layers) = registry.image(&here(), &[&big]);
    let size = tar_of("file0", &big).len();
    registry.fail(layers[0].as_str(), Kind::BreakOff, 1);
    host.images.ensure(&registry.reference("v1"), &digest).await.unwrap();
    let asked = registry.asked();
    let blob: Vec<_> = asked.iter().filter(|one| one.path.contains(layers[0].as_str())).collect();
    assert_eq!(blob.len(), 2, "{blob:?}");
    assert_eq!(blob[0].from, 0);
    assert!(blob[1].from > 0 && blob[1].from <= size / 2, "{} of {size}", blob[1].from);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_blobs_come_at_once() {
    let registry = FakeRegistry::start().await;
    let host = Host::make(RegistryConfig::default(), None).await;
    let layers: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 1000]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let (digest, blobs) = registry.image(&here(), &layers);
    blobs.iter().for_each(|blob| registry.fail(blob.as_str(), Kind::Stall, 100));
    let reference = registry.reference("v1");
    // Those that have begun keep their places, since none of them ends: counted before the pull is
    // given up, which would make room.
    let mut pull = std::pin::pin!(host.images.ensure(&reference, &digest));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut pull).await.is_err(), "all stall");
    let begun = blobs.iter().filter(|blob| registry.gets(blob.as_str()) > 0).count();
    assert!((1..=mill::limits::PULLS_PARALLEL).contains(&begun), "{begun} of 20 at once");
}
