//! Images that go by themselves, and those that never do.

use super::Host;
use super::fake::FakeRegistry;
use crate::poll::poll_async;
use crate::registry::{Registry, docker_archive};
use mill::actors::platform::image::{Images, RegistryConfig, Specs};
use mill::fsm::model::WorkloadSpec;
use mill::id::Digest;
use mill::node::oci::Platform;
use mill::spec;
use std::sync::Arc;

/// A state in which one revision pins this digest.
fn pinning(digest: &Digest) -> Specs {
    let mut parsed = spec::parse("x.mill", "service \"web\" {\n image \"x\"\n}\n").unwrap();
    let mut service = parsed.services.remove(&"web".into()).unwrap();
    service.run.digest = Some(digest.clone());
    let (hash, stored) = WorkloadSpec::Service(service).store();
    Specs::unit(hash, Arc::new(stored))
}

/// The images as the next process knows them: nobody has wanted one yet.
fn after_a_restart(host: &Host) -> Images {
    let disk = Some(host.places.root.clone());
    Images::new(host.containerd.clone(), RegistryConfig { disk, ..RegistryConfig::default() })
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_needs_goes_and_the_rest_stays() {
    let registry = Registry::start();
    let host = Host::with_small_disk(40_000).await;
    let pinned = host.pull(&registry.image("hello:v1")).await;
    let unpinned = host.pull(&registry.image("hello:v2")).await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("multi.tar");
    docker_archive("multi:v1", &archive);
    host.images.load(tokio::fs::File::open(archive).await.unwrap(), None).await.unwrap();
    let names = |all: Vec<mill::actors::platform::image::Listed>| {
        all.into_iter().map(|image| image.digest).collect::<Vec<_>>()
    };
    let all = names(host.images.list().await.unwrap());
    assert_eq!(all.len(), 3);

    let root = &host.places.root;
    let images = after_a_restart(&host);
    let ballast = root.join("ballast");
    assert_eq!(names(images.collect().await.unwrap()), [], "nothing is known of what is needed");
    images.use_specs(&pinning(&pinned.digest));
    assert_eq!(names(images.collect().await.unwrap()), [], "there is room, and they are new");

    let disk = nix::sys::statvfs::statvfs(root).unwrap();
    // A tenth stays free.
    let blocks = disk.blocks_available() - disk.blocks() / 10;
    let size = usize::try_from(blocks * disk.fragment_size()).unwrap();
    std::fs::write(&ballast, vec![1; size]).unwrap();
    images.ensure(&registry.image("hello:v2"), &unpinned.digest).await.unwrap();
    assert_eq!(names(images.collect().await.unwrap()), [], "it was wanted just now");
    let images = after_a_restart(&host);
    images.use_specs(&pinning(&pinned.digest));
    assert_eq!(names(images.collect().await.unwrap()), std::slice::from_ref(&unpinned.digest));
    assert_eq!(images.list().await.unwrap().len(), 2, "what is pinned and what was loaded");
    // A pull that leaves the disk nearly full makes room by itself.
    let other = host.pull(&registry.image("hello:v2")).await;
    let busybox = registry.image("busybox:v1");
    let digest = images.resolve(&busybox).await.unwrap();
    images.ensure(&busybox, &digest).await.unwrap();
    poll_async(|| async {
        let left = names(images.list().await.unwrap());
        (!left.contains(&other.digest) && left.contains(&digest)).then_some(())
    })
    .secs(20)
    .expect_async("the unneeded image to go")
    .await;
    std::fs::remove_file(ballast).unwrap();
    drop(registry);
    images.ensure("x/hello:v1", &pinned.digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_makes_room_for_itself() {
    let registry = FakeRegistry::start().await;
    let host = Host::with_small_disk(11_000).await;
    let image = |seed| registry.image(&Platform::host().architecture, &[&noise(4 << 20, seed)]).0;
    let (old, new) = (image(1), image(2));
    host.images.ensure(&registry.reference("old"), &old).await.unwrap();
    let images = after_a_restart(&host);
    images.use_specs(&pinning(&old));
    let error = images.ensure(&registry.reference("new"), &new).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("no space left"), "{error}");
    images.use_specs(&Specs::new());
    images.ensure(&registry.reference("new"), &new).await.unwrap();
    let left: Vec<Digest> = images.list().await.unwrap().into_iter().map(|i| i.digest).collect();
    assert_eq!(left, [new]);
}
