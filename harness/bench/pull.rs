//! The figure of a pull: an image of 200 MB in ten layers, beside `ctr image pull`.
//!
//! Owns that image. Each side has a containerd of its own (`side.rs`).

use crate::registry::{self, Registry};
use crate::report::{Row, median, ms};
use crate::side::Side;
use mill::actors::platform::containerd::{Config, Containerd};
use mill::actors::platform::image::{Images, RegistryConfig};
use mill::node::oci::Platform;
use mill::node::oci::image::sha256;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- An image of ten layers, each 26 MB of letters and 20 MB packed by gzip, from a registry on
  loopback into a containerd of its own for each side, until it is unpacked. Medians of five.
";

const LAYERS: usize = 10;
/// Files of a layer, and their size: packed about 20 MB.
const FILES: (usize, usize) = (52, 512 << 10);
const RUNS: usize = 5;

/// Letters with six bits of chance each, as programs and their texts have about.
fn text(length: usize, seed: &mut u64) -> Vec<u8> {
    let letter = |_| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        b' ' + seed.to_le_bytes()[3] % 64
    };
    (0..length).map(letter).collect()
}

/// The image as an OCI layout.
fn layout(folder: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(digest.as_str().trim_start_matches("sha256:")), bytes).unwrap();
        digest
    };
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in 0..LAYERS {
        let mut tar = tar::Builder::new(Vec::new());
        for file in 0..FILES.0 {
            let content = text(FILES.1, &mut seed);
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let name = format!("usr/lib/layer{layer}/file{file}");
            tar.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        diff_ids.push(sha256(&tar));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let packed = gzip.finish().unwrap();
        layers.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": put(&packed), "size": packed.len(),
        }));
    }
    let config = serde_json::json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": put(&config), "size": config.len()},
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": put(&manifest), "size": manifest.len(),
                       "annotations": {"org.opencontainers.image.ref.name": "v1"}}],
    });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
}

/// One pull by mill.
async fn ours(side: &Side, image: &str) -> Duration {
    let config = Config {
        socket: side.socket(),
        namespace: "bench".to_owned(),
        runc: "runc".into(),
        runc_root: side.folder().join("runc"),
    };
    let containerd = Containerd::connect(config).await.unwrap();
    let images = Images::new(containerd, RegistryConfig::default());
    let start = Instant::now();
    let digest = images.resolve(image).await.unwrap();
    images.ensure(image, &digest).await.unwrap();
    let took = start.elapsed();
    images.remove(image).await.unwrap();
    took
}

/// One pull by containerd's own client.
fn theirs(side: &Side, image: &str) -> Duration {
    let start = Instant::now();
    side.ctr(&["images", "pull", "--plain-http", image]);
    let took = start.elapsed();
    side.ctr(&["images", "rm", "--sync", image]);
    took
}

/// The pull.
pub fn figures() -> Vec<Row> {
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let from = format!("oci:{}:v1", folder.path().display());
    let image = registry.image("bench:v1");
    let mut push = Command::new("skopeo");
    push.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &from]);
    registry::run(push.arg(format!("docker://{image}")));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut mill, mut ctr) = (Vec::new(), Vec::new());
    let sides = (Side::start(), Side::start());
    for _ in 0..RUNS {
        mill.push(runtime.block_on(ours(&sides.0, &image)));
        ctr.push(theirs(&sides.1, &image));
    }
    let (mill, ctr) = (median(&mut mill), median(&mut ctr));
    vec![Row {
        figure: "pull of 200 MB in ten layers from loopback",
        mill: ms(mill),
        peer: format!("`ctr image pull` {}", ms(ctr)),
        aim: "at most 1.2 ×",
        met: Some(mill.as_secs_f64() <= 1.2 * ctr.as_secs_f64()),
    }]
}
