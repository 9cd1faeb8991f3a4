//! What a registry hands out: index, manifest, image configuration.
//!
//! Owns their decoding and the choice of a platform. Never fetches anything.

use crate::id::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

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

/// Processor architecture and operating system, in the names of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, …
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Whether something for `self` runs on `host`.
    #[must_use]
    pub fn runs_on(&self, host: &Self) -> bool {
        self.os == host.os && self.architecture == host.architecture
    }
}

/// A reference to content by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
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
    /// The entry for `host`; the first that matches.
    #[must_use]
    pub fn choose(&self, host: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|m| m.platform.as_ref().is_some_and(|p| p.runs_on(host)))
    }

    /// The platforms of its entries, without those that are no images (attestations).
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        let known = |p: &&Platform| p.architecture != "unknown";
        self.manifests.iter().filter_map(|m| m.platform.as_ref()).filter(known).cloned().collect()
    }
}

/// The parts of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configuration's blob.
    pub config: Descriptor,
    /// The layers' blobs, the lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Compressed size of all layers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Either kind of document that a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
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
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
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
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::from(format!("sha256:{hex}"))
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
