//! What a registry hands out: index, manifest, image configuration.
//!
//! Owns their decoding, and which entries of an index come into question. Never fetches anything.

use super::Platform;
use crate::id::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Media types of an index: OCI's and Docker's.
pub const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media types of a manifest: OCI's and Docker's.
pub const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Media types of an image's configuration: OCI's and Docker's.
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A reference to content by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact it is, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// In an index: the platform it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names given by the archive that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Manifests of several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// One entry a platform.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entries that may hold an image for `host`, the best first: the nearest variant that it
    /// can run, then those that say nothing of their platform.
    #[must_use]
    pub fn ranked(&self, host: &Platform) -> Vec<&Descriptor> {
        let fits = |one: &&Descriptor| match &one.platform {
            Some(platform) if platform.is_told() => platform.runs_on(host),
            Some(platform) => !platform.is_unknown(),
            None => one.artifact_type.is_none(),
        };
        let mut all: Vec<&Descriptor> = self.manifests.iter().filter(fits).collect();
        let rank = |one: &Descriptor| match &one.platform {
            Some(platform) if platform.is_told() => (0, std::cmp::Reverse(platform.level())),
            _ => (1, std::cmp::Reverse((0, 0))),
        };
        // Equal ones keep their order.
        all.sort_by_key(|one| rank(one));
        all
    }

    /// The platforms of its entries, without those that are no images (attestations).
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        let all = self.manifests.iter().filter_map(|m| m.platform.as_ref());
        all.filter(|platform| platform.is_told()).cloned().collect()
    }
}

/// The parts of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What kind of artifact it is, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration's blob.
    pub config: Descriptor,
    /// The layers' blobs, the lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// What it is, if it is no image: a chart, a signature, a list of parts, a model.
    #[must_use]
    pub fn other_kind(&self) -> Option<&str> {
        let config = self.config.media_type.as_str();
        // What old registries say of any configuration tells nothing.
        let is_image =
            matches!(config, "" | "application/octet-stream") || CONFIG_TYPES.contains(&config);
        (!is_image).then(|| self.artifact_type.as_deref().unwrap_or(config))
    }

    /// Compressed size of all layers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Either kind of document that a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Image(Manifest),
    /// Several platforms.
    Index(Index),
}

/// Decodes what a reference leads to, telling an index by its content: media types may be absent.
///
/// # Errors
/// The text is neither.
pub fn document(json: &[u8]) -> Result<Document, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(json)?;
    let named = probe.media_type.is_some_and(|t| INDEX_TYPES.contains(&t.as_str()));
    if named || probe.manifests.is_some() {
        return serde_json::from_slice(json).map(Document::Index);
    }
    serde_json::from_slice(json).map(Document::Image)
}

/// The part of an image's configuration that says how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// ENV, as `NAME=value`.
    pub env: Vec<String>,
    /// USER as written; empty: root.
    pub user: String,
    /// WORKDIR; empty: `/`.
    pub workdir: String,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
}

/// A whole image configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// What it was built for.
    pub platform: Platform,
    /// How to run it.
    pub config: ImageConfig,
    /// Digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

impl ImageFile {
    /// Decodes the configuration blob.
    ///
    /// # Errors
    /// The text is no image configuration.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: RawFile = serde_json::from_slice(json)?;
        let run = raw.config.unwrap_or_default();
        Ok(Self {
            platform: raw.platform,
            diff_ids: raw.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default(),
            config: ImageConfig {
                entrypoint: run.entrypoint.unwrap_or_default(),
                cmd: run.cmd.unwrap_or_default(),
                env: run.env.unwrap_or_default(),
                user: run.user.unwrap_or_default(),
                workdir: run.working_dir.unwrap_or_default(),
                stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            },
        })
    }

    /// The chain id of the first `count` layers: the name of the snapshot that holds them.
    ///
    /// As in the OCI image specification, "Layer ChainID". `None` for no layers.
    #[must_use]
    pub fn chain_id(&self, count: usize) -> Option<Digest> {
        let join = |chain: Digest, next: &Digest| sha256(format!("{chain} {next}").as_bytes());
        let mut layers = self.diff_ids.iter().take(count);
        let first = layers.next()?.clone();
        Some(layers.fold(first, join))
    }
}

/// The SHA-256 digest of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from(format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes))))
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(flatten)]
    platform: Platform,
    config: Option<RawConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}
