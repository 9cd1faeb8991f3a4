//! Images from real registries and archives.

use super::{Host, run, sh};
use crate::registry::{Registry, docker_archive, oci_archive};
use mill::actors::platform::image::{ImageError, RegistryConfig};
use mill::units::Bytes;
use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_pulled_once_and_needs_no_registry_then() {
    let mut registry = Registry::start();
    let host = Host::start().await;
    let reference = registry.image("multi:v1");
    let digest = host.images.resolve(&reference).await.unwrap();
    let figures = host.images.pulls();
    let pulls = (0..8).map(|_| host.images.ensure(&reference, &digest));
    let pulled = futures_util::future::try_join_all(pulls).await.unwrap();
    assert!(pulled.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])), "one pull for all");
    let last = figures.borrow().get(&digest).unwrap().clone();
    assert!(last.done && last.layers.len() > 1, "{last:?}");
    assert!(last.bytes() > 0 && last.bytes() == last.total(), "{last:?}");
    assert_eq!(pulled[0].config.user, "app:extra");
    assert!(pulled[0].passwd.contains("app:x:1000") && pulled[0].group.contains("extra"));

    registry.stop();
    let fresh = mill::actors::platform::image::Images::new(
        host.containerd.clone(),
        RegistryConfig::default(),
    );
    let again = fresh.ensure(&reference, &digest).await.unwrap();
    assert_eq!(again, pulled[0], "another mill finds it");
    let error = fresh.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Down { .. }) && error.is_temporary(), "{error}");

    let listed = host.images.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].reference, &listed[0].digest), (&reference, &digest));
    assert!(
        !listed[0].loaded && listed[0].size == Bytes(last.total()) && listed[0].created_at.0 > 0
    );
    assert_eq!(host.images.remove(&reference).await.unwrap(), 1);
    host.assert_empty();
    assert_eq!(host.images.remove(&reference).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containerd_collects_is_not_what_is_needed() {
    let registry = Registry::start();
    let host = Host::start().await;
    let first = host.pull(&registry.image("hello:v1")).await;
    let second = host.pull(&registry.image("hello:v2")).await;
    assert_ne!(first.chain_id, second.chain_id);
    // Collects everything that nothing refers to, here the compressed layers.
    assert_eq!(host.images.remove(&registry.image("hello:v1")).await.unwrap(), 1);
    let again = host.images.ensure("x/hello:v2", &second.digest).await.unwrap();
    assert_eq!(again, second);
    host.start_container("b.1", &second, &run("busybox", &["sleep", "60"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comes_over_tls_from_whom_it_trusts() {
    let registry = Registry::start_tls();
    let loopback = Host::start().await;
    loopback.pull(&registry.image("busybox:v1")).await;

    let _address = Address::add("10.102.0.1");
    let outside = outside("10.102.0.1", &registry).await;
    let reference = format!("{outside}/busybox:v1");
    let error = loopback.images.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Tls { .. }) && !error.is_temporary(), "{error:?}");

    let ca = Some(registry.ca().to_owned());
    let trusting = RegistryConfig { ca, ..RegistryConfig::default() };
    let images = mill::actors::platform::image::Images::new(loopback.containerd.clone(), trusting);
    let digest = images.resolve(&reference).await.unwrap();
    images.ensure(&reference, &digest).await.unwrap();

    let insecure =
        RegistryConfig { insecure: vec![outside.to_string()], ..RegistryConfig::default() };
    let images = mill::actors::platform::image::Images::new(loopback.containerd.clone(), insecure);
    assert_eq!(images.resolve(&reference).await.unwrap(), digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_apart() {
    let mut registry = Registry::start();
    let host = Host::start().await;
    let resolve = |name: String| {
        let images = host.images.clone();
        async move { images.resolve(&name).await.unwrap_err() }
    };
    for name in ["nothing:v1", "hello:v9"] {
        let reference = registry.image(name);
        let error = resolve(reference.clone()).await;
        assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
        let start = format!("{reference} not found (404). Pushed?");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    let error = resolve(registry.image("alien:v1")).await;
    assert!(matches!(error, ImageError::WrongArchitecture { .. }), "{error:?}");
    let error = resolve("Not An Image".to_owned()).await;
    assert!(matches!(error, ImageError::Reference { .. }), "{error:?}");
    registry.stop();
    let error = resolve(registry.image("hello:v1")).await;
    assert!(matches!(error, ImageError::Down { .. }) && error.is_temporary(), "{error:?}");
    registry.restart();
    host.pull(&registry.image("hello:v1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_are_loaded_and_win() {
    let registry = Registry::start();
    let host = Host::start().await;
    let folder = tempfile::tempdir().unwrap();
    let [docker, oci] = ["docker.tar", "oci.tar"].map(|name| folder.path().join(name));
    docker_archive("multi:v1", &docker);
    oci_archive("hello:v1", &oci);
    sh(Command::new("gzip").arg(&oci));
    let oci = folder.path().join("oci.tar.gz");

    let load = |path: std::path::PathBuf| async {
        host.images.load(tokio::fs::File::open(path).await.unwrap(), None).await
    };
    let loaded = load(docker.clone()).await.unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference, "docker.io/library/multi:v1");
    assert!(loaded[0].loaded && loaded[0].size > Bytes(0));
    assert_eq!(load(docker).await.unwrap(), loaded, "again is the same");
    let hello = load(oci).await.unwrap();

    // Neither asks the registry that these names stand for.
    assert_eq!(host.images.resolve("multi:v1").await.unwrap(), loaded[0].digest);
    assert_eq!(host.images.resolve("hello:v1").await.unwrap(), hello[0].digest);
    let multi = host.pull("multi:v1").await;
    assert_eq!(multi.config.user, "app:extra");
    let id = host.start_container("l.1", &multi, &run("multi", &["true"])).await;
    assert_eq!(host.containerd.wait(&id).await.unwrap().unwrap().code, 0);
    host.containerd.delete(&id).await.unwrap();

    let pulled = host.pull(&registry.image("multi:v1")).await;
    assert_eq!(pulled.chain_id, multi.chain_id, "the same layers are the same snapshot");
    assert_eq!(host.images.list().await.unwrap().len(), 3);
    assert_eq!(host.images.remove("multi:v1").await.unwrap(), 1);
    assert_eq!(host.images.remove("hello:v1").await.unwrap(), 1);
    assert_eq!(host.images.remove(&registry.image("multi:v1")).await.unwrap(), 1);
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_archive_is_told() {
    let host = Host::start().await;
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.tar");
    docker_archive("hello:v1", &whole);
    let whole = std::fs::read(whole).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let no_tar = vec![7; 4096];
    let zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0];
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(0).take(8 << 20), &mut bomb).unwrap();
    let bomb = bomb.finish().unwrap();
    // Documents that are small each, and too much in memory together.
    let mut texts = tar::Builder::new(Vec::new());
    for n in 0..6 {
        let mut header = tar::Header::new_gnu();
        let text = vec![b'['; 3 << 20];
        header.set_size(text.len() as u64);
        texts.append_data(&mut header, format!("{n}.json"), &*text).unwrap();
    }
    let texts = texts.into_inner().unwrap();
    let error = host.images.load(std::io::Cursor::new(texts), None).await.unwrap_err();
    assert!(error.to_string().contains("documents are too large"), "{error}");
    for bytes in [cut, no_tar, zstd, bomb, Vec::new(), vec![0; 1024]] {
        let error = host.images.load(std::io::Cursor::new(bytes), None).await.unwrap_err();
        assert!(matches!(error, ImageError::BadArchive { .. }), "{error:?}");
    }
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_nothing_is_left() {
    let registry = Registry::start();
    let host = Host::with_small_disk(2600).await;
    let reference = registry.image("multi:v1");
    let digest = host.images.resolve(&reference).await.unwrap();
    let error = host.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(matches!(error, ImageError::DiskFull { .. }) && error.is_temporary(), "{error:?}");
    assert!(error.to_string().contains(&reference), "{error}");
    host.assert_empty();

    sh(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&host.places.root));
    host.images.ensure(&reference, &digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_tls_is_said_with_its_remedy() {
    let host = Host::start().await;
    let _addresses = ["10.125.0.1", "10.125.0.2"].map(Address::add);
    let (good, expired) = (Registry::start_tls(), Registry::start_expired());
    let plain = Registry::start();
    let trusting = |registry: &Registry| {
        let ca = Some(registry.ca().to_owned());
        let config = RegistryConfig { ca, ..RegistryConfig::default() };
        mill::actors::platform::image::Images::new(host.containerd.clone(), config)
    };
    let cases = [
        (host.images.clone(), &good, "10.125.0.1", "signed by no authority that this host trusts"),
        (trusting(&expired), &expired, "10.125.0.1", "has expired"),
        (trusting(&good), &good, "10.125.0.2", "for another name"),
        (host.images.clone(), &plain, "10.125.0.1", "speaks no TLS but plain HTTP"),
    ];
    for (images, registry, address, said) in cases {
        let outside = outside(address, registry).await;
        let error = images.resolve(&format!("{outside}/hello:v1")).await.unwrap_err();
        assert!(matches!(error, ImageError::Tls { .. }) && !error.is_temporary(), "{error:?}");
        let text = error.to_string();
        let remedy = format!("--insecure-registry {outside}");
        assert!(text.contains(said) && text.contains(&remedy), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_on_loopback_may_change_between_plain_and_tls() {
    let mut registry = Registry::start();
    let host = Host::start().await;
    let reference = registry.image("hello:v1");
    let digest = host.images.resolve(&reference).await.unwrap();
    registry.speak_tls();
    assert_eq!(host.images.resolve(&reference).await.unwrap(), digest);
}

/// A way to a registry from an address that isn't loopback.
async fn outside(address: &str, registry: &Registry) -> std::net::SocketAddr {
    let to = registry.address();
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let outside = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut inbound, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut outbound = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
            });
        }
    });
    outside
}

/// An address of this machine that isn't loopback; gone on drop.
struct Address(String);

impl Address {
    fn add(address: &str) -> Self {
        let full = format!("{address}/32");
        let _ = Command::new("ip").args(["address", "add", &full, "dev", "lo"]).output();
        Self(full)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["address", "del", &self.0, "dev", "lo"]).output();
    }
}
