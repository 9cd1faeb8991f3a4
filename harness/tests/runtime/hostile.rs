//! Images that mean harm, and registries that don't keep to the rules: each ends with an error that
//! says what is wrong, within bounds, and nothing is left.

use super::Host;
use super::fake::{FakeRegistry, Kind, MANIFEST, tar_of};
use mill::actors::platform::image::{ImageError, RegistryConfig};
use mill::id::Digest;
use mill::node::oci::Platform;
use mill::node::oci::image::sha256;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn here() -> String {
    Platform::host().architecture
}

/// A node that loses patience soon and has little room.
async fn host() -> Host {
    let config = RegistryConfig {
        silence: Duration::from_millis(300),
        layer_max: 1 << 20,
        ..RegistryConfig::default()
    };
    Host::make(config, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_stalls_or_never_ends_is_given_up() {
    let registry = FakeRegistry::start().await;
    let host = host().await;
    let (digest, layers) = registry.image(&here(), &[&[7; 200_000], b"small"]);
    registry.tag("v1", &digest);
    let reference = registry.reference("v1");
    host.images.resolve(&reference).await.unwrap();
    let layer = layers[0].as_str();
    let begun = Instant::now();
    for (kind, temporary) in [(Kind::Stall, true), (Kind::Short, true), (Kind::Endless, false)] {
        registry.fail(layer, kind.clone(), 1000);
        let error = host.images.ensure(&reference, &digest).await.unwrap_err();
        assert_eq!(error.is_temporary(), temporary, "{kind:?}: {error:?}");
        let fits = match kind {
            Kind::Endless => matches!(error, ImageError::WrongDigest { .. }),
            _ => matches!(error, ImageError::BrokenOff { .. }),
        };
        assert!(fits, "{kind:?}: {error:?}");
        host.assert_empty();
        registry.heal();
    }
    for kind in [Kind::Stall, Kind::Endless, Kind::Short, Kind::Wrong] {
        let (other, _) = registry.image(&here(), &[format!("{kind:?}").as_bytes()]);
        registry.fail("manifests", kind.clone(), 1000);
        let error = host.images.ensure(&reference, &other).await.unwrap_err();
        let fits = match kind {
            Kind::Stall => matches!(error, ImageError::Down { .. }),
            Kind::Endless => matches!(error, ImageError::Strange { .. }),
            _ => matches!(error, ImageError::WrongDigest { .. }),
        };
        assert!(fits, "{kind:?}: {error:?}");
        registry.heal();
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
    host.images.ensure(&reference, &digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_apart_with_what_the_registry_says() {
    let registry = FakeRegistry::start().await;
    let host = host().await;
    let reference = registry.reference("v1");
    let json =
        |code: &str| format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"m\\n1\"}}]}}");
    let says = |status, header: &str, body: String| Kind::Says(status, header.to_owned(), body);
    let plain = "Content-Type: text/plain";
    let cases = [
        (says(429, "Retry-After: 7", String::new()), "next try in 7s"),
        (says(429, plain, json("TOOMANYREQUESTS")), "next try in 30s"),
        (says(403, plain, json("DENIED")), "refuses"),
        (says(400, plain, json("NAME_UNKNOWN")), "not found (404)"),
        (says(404, plain, "<html>".to_owned()), "not found (404)"),
        (says(502, plain, "<html>secret".to_owned()), "failed with 502"),
        (says(500, plain, json("UNKNOWN")), "failed with 500: m1"),
        (says(401, "WWW-Authenticate: Negotiate", String::new()), "without credentials"),
    ];
    for (kind, said) in cases {
        registry.fail("manifests", kind.clone(), 1000);
        let error = host.images.resolve(&reference).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said) && !text.contains("secret"), "{kind:?}: {text}");
        if said.contains("7s") {
            assert_eq!(error.wait(), Some(Duration::from_secs(7)));
        }
        registry.heal();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_none_or_huge_are_refused() {
    let registry = FakeRegistry::start().await;
    let host = host().await;
    let layer = registry.put("x", b"layer".to_vec());
    let manifest = |config: &Digest, size: u64, layers: usize| {
        let layer = serde_json::json!({"mediaType": TAR, "digest": layer, "size": 5});
        let text = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "c", "digest": config, "size": size},
            "layers": vec![layer; layers],
        });
        registry.put(MANIFEST, text.to_string().into_bytes())
    };
    let config = registry.put("x", b"{}".to_vec());
    let huge = registry.put(MANIFEST, vec![b' '; 5 << 20]);
    let deep = registry.put(MANIFEST, [b"[".repeat(100_000), b"]".repeat(100_000)].concat());
    let cases = [
        manifest(&config, 2, 1),
        manifest(&config, u64::MAX, 1),
        manifest(&"sha256:../../etc".into(), 2, 1),
        manifest(&config, 2, 1000),
        huge,
        deep,
        registry.put(MANIFEST, b"{\"schemaVersion\":1}".to_vec()),
    ];
    for digest in cases {
        registry.tag("v1", &digest);
        let error = host.images.resolve(&registry.reference("v1")).await.unwrap_err();
        assert!(!error.is_temporary(), "{error:?}");
    }
    host.assert_empty();
}

/// A layer of one entry, whose name may be anything.
fn entry(kind: tar::EntryType, name: &str, link: Option<&str>, device: Option<u32>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o666);
    header.set_size(if kind == tar::EntryType::Regular { 4 } else { 0 });
    let field = &mut header.as_gnu_mut().unwrap().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    if let Some(link) = link {
        header.set_link_name_literal(link).unwrap();
    }
    if let Some(number) = device {
        header.set_device_major(1).unwrap();
        header.set_device_minor(number).unwrap();
    }
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    let data: &[u8] = if kind == tar::EntryType::Regular { b"evil" } else { b"" };
    tar.append(&header, data).unwrap();
    tar.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_outside_of_an_image() {
    let outside = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start().await;
    let host = host().await;
    let target = outside.path().join("evil");
    let path = target.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(20), path.trim_start_matches('/'));
    let folder = outside.path().to_str().unwrap();
    use tar::EntryType as E;
    let attacks: Vec<Vec<Vec<u8>>> = vec![
        vec![entry(E::Regular, path, None, None)],
        vec![entry(E::Regular, &up, None, None)],
        vec![
            entry(E::Symlink, "way", Some(folder), None),
            entry(E::Regular, "way/evil", None, None),
        ],
        vec![
            entry(E::Symlink, "way", Some(&format!("{}{folder}", "../".repeat(20))), None),
            entry(E::Regular, "way/evil", None, None),
        ],
        vec![
            entry(E::Link, "way", Some("/etc/passwd"), None),
            entry(E::Regular, "way", None, None),
        ],
        vec![entry(E::Link, "way", Some(&format!("{}etc/passwd", "../".repeat(20))), None)],
        vec![entry(E::Char, &format!("{}/evil", folder), None, Some(5))],
    ];
    let before = std::fs::read("/etc/passwd").unwrap();
    for (number, layers) in attacks.into_iter().enumerate() {
        let layers = layers.into_iter().map(|tar| (tar.clone(), TAR.to_owned(), sha256(&tar)));
        let (digest, _) = registry.image_of(&here(), layers.collect());
        registry.tag("v1", &digest);
        // Whether it is refused or kept inside is containerd's; both are right.
        if let Err(error) = host.images.ensure(&registry.reference("v1"), &digest).await {
            assert!(!error.is_temporary(), "{number}: {error:?}");
        }
        assert!(std::fs::symlink_metadata(&target).is_err(), "{number}: it got out");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{number}");
    }
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), before);
    for image in host.images.list().await.unwrap() {
        host.images.remove(&image.reference).await.unwrap();
    }
    host.assert_empty();
}

/// A layer of zeros that unpacks to so many megabytes.
fn bomb(megabytes: usize) -> (Vec<u8>, String, Digest) {
    let tar = tar_of("zeros", &vec![0; megabytes << 20]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    (gzip.finish().unwrap(), GZIP.to_owned(), sha256(&tar))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_is_stopped_before_it_fills_the_disk() {
    let registry = FakeRegistry::start().await;
    let config = RegistryConfig { layer_max: 20 << 20, ..RegistryConfig::default() };
    let host = Host::make(config, None).await;
    let layer = bomb(1200);
    assert!(layer.0.len() < 2 << 20, "{}", layer.0.len());
    let (digest, _) = registry.image_of(&here(), vec![layer]);
    registry.tag("v1", &digest);
    let places = host.places.root.clone();
    let most = tokio::spawn(async move {
        let mut most = 0;
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            most = most.max(size(&places));
            if tokio::fs::metadata(places.join("done")).await.is_ok() {
                return most;
            }
            pause.tick().await;
        }
    });
    let error = host.images.ensure(&registry.reference("v1"), &digest).await.unwrap_err();
    std::fs::write(host.places.root.join("done"), "").unwrap();
    assert!(matches!(error, ImageError::BadManifest { .. }), "{error:?}");
    assert!(error.to_string().contains("unpacks to more than"), "{error}");
    let most = most.await.unwrap();
    assert!(most < 1150 << 20, "it was stopped on its way: {most}");
    host.assert_empty();
    let (digest, _) = registry.image_of(&here(), vec![bomb(10)]);
    host.images.ensure(&registry.reference("v1"), &digest).await.unwrap();
}

/// Bytes on the disk below a folder.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut sum = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => sum += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    sum
}
