//! Pulls from a registry that misbehaves.

use super::Host;
use super::fake::{FakeRegistry, Kind};
use mill::actors::platform::image::ImageError;
use mill::node::oci::Platform;
use std::sync::atomic::Ordering;

fn noise(length: usize) -> Vec<u8> {
    // Not compressible and not equal anywhere: a small generator is enough.
    let mut state = 0x2545_f491_u32;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_off_is_taken_up_and_at_last_told() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let big = noise(3 << 20);
    let (digest, layers) = registry.image(&Platform::host().architecture, &[b"small", &big]);
    registry.tag("v1", &digest);
    let reference = format!("{}/app:v1", registry.address);
    assert_eq!(host.images.resolve(&reference).await.unwrap(), digest);

    registry.fail(layers[1].as_str(), Kind::BreakOff, 100);
    let error = host.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(
        matches!(&error, ImageError::BrokenOff { digest, .. } if *digest == layers[1]),
        "{error:?}"
    );
    assert!(error.is_temporary());
    host.assert_empty();
    assert_eq!(host.ctr(&["content", "active"]).lines().count(), 1, "no transfer is left open");

    registry.heal();
    registry.fail(layers[0].as_str(), Kind::BreakOff, 1);
    registry.fail(layers[1].as_str(), Kind::BreakOff, 1);
    let image = host.images.ensure(&reference, &digest).await.unwrap();
    assert_eq!(image.config.cmd, ["/x"]);
    let on = |layer: &mill::id::Digest| {
        let asked = registry.asked().into_iter();
        asked.filter(|one| one.path.contains(layer.as_str())).any(|one| one.from > 0)
    };
    assert!(layers.iter().all(on), "also what came of a small one isn't fetched again");
    assert_eq!(host.snapshots(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let (digest, layers) = registry.image(&Platform::host().architecture, &[b"one", b"two"]);
    registry.tag("v1", &digest);
    let reference = format!("{}/app:v1", registry.address);
    registry.fail(layers[1].as_str(), Kind::Wrong, 100);
    let error = host.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(
        matches!(&error, ImageError::WrongDigest { digest, .. } if *digest == layers[1]),
        "{error:?}"
    );
    assert!(!error.is_temporary());
    host.assert_empty();
    registry.heal();
    host.images.ensure(&reference, &digest).await.unwrap();

    registry.fail("manifests", Kind::Wrong, 100);
    let (other, _) = registry.image(&Platform::host().architecture, &[b"three"]);
    let error = host.images.ensure(&reference, &other).await.unwrap_err();
    assert!(matches!(&error, ImageError::WrongDigest { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_are_told_apart() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let (digest, _) = registry.image(&Platform::host().architecture, &[b"one"]);
    registry.tag("v1", &digest);
    let reference = format!("{}/app:v1", registry.address);
    for (status, temporary) in [(401, false), (403, false), (404, false), (429, true), (503, true)]
    {
        registry.fail("manifests", Kind::Status(status), 100);
        let error = host.images.resolve(&reference).await.unwrap_err();
        let fits = match status {
            401 | 403 => matches!(error, ImageError::Unauthorized { .. }),
            404 => matches!(error, ImageError::NotFound { .. }),
            429 => error.wait().is_some(),
            _ => matches!(error, ImageError::Server { code: 503, .. }),
        };
        assert!(fits, "{status}: {error:?}");
        assert_eq!(error.is_temporary(), temporary, "{status}");
        registry.heal();
    }
    let nonsense = registry.put("application/vnd.oci.image.manifest.v1+json", b"nonsense".to_vec());
    registry.tag("v2", &nonsense);
    let reference = format!("{}/app:v2", registry.address);
    let error = host.images.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::BadManifest { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_gives_the_image_for_this_machine() {
    let registry = FakeRegistry::start().await;
    let host = Host::start().await;
    let index = |entries: &[(&str, &mill::id::Digest)]| {
        let manifests: Vec<_> = entries
            .iter()
            .map(|(architecture, digest)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest, "size": 1,
                    "platform": {"architecture": architecture, "os": "linux"},
                })
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let text = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        registry.put(kind, text.to_string().into_bytes())
    };
    let own = Platform::host().architecture;
    let (here, _) = registry.image(&own, &[b"here"]);
    let (there, _) = registry.image("s390x", &[b"there"]);
    let both = index(&[("s390x", &there), (&own, &here)]);
    registry.tag("v1", &both);
    let reference = format!("{}/app:v1", registry.address);
    assert_eq!(host.images.resolve(&reference).await.unwrap(), both, "the index is pinned");
    let image = host.images.ensure(&reference, &both).await.unwrap();
    let direct = host.images.ensure(&reference, &here).await.unwrap();
    assert_eq!(image.chain_id, direct.chain_id);
    let before = registry.requests.load(Ordering::Relaxed);
    host.images.ensure(&reference, &both).await.unwrap();
    assert_eq!(registry.requests.load(Ordering::Relaxed), before, "what is there isn't asked for");

    // An index within an index, as buildx makes them.
    let nested = index(&[("s390x", &there), (&own, &both)]);
    registry.tag("v3", &nested);
    let image = host.images.ensure(&reference, &nested).await.unwrap();
    assert_eq!((&image.chain_id, &image.digest), (&direct.chain_id, &nested));

    registry.tag("v2", &index(&[("s390x", &there)]));
    let error = host.images.resolve(&format!("{}/app:v2", registry.address)).await.unwrap_err();
    assert!(matches!(&error, ImageError::WrongArchitecture { have, .. } if have == "linux/s390x"));
}
