//! The decoded file: what a person asked for, with every default filled in.
//!
//! Owns the types that the file decodes to and that the replicated state keeps. Never knows KDL and
//! never resolves anything: image references are as written until they are pinned.

use crate::id::WorkloadName;
use crate::id::{AppName, Digest, SecretName, SpecHash, VolumeName};
use crate::units::{Bytes, MilliCpu, Millis};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};

mod bounds;
mod route;

pub use route::{RateLimit, RouteOptions, RouteSpec};

/// A whole file: everything one app consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Another cluster than this refuses the file.
    pub cluster: Option<String>,
    /// What the file owns; `default` if the file does not say.
    pub app: AppName,
    /// Services by name.
    pub services: BTreeMap<WorkloadName, ServiceSpec>,
    /// Tasks by name.
    pub tasks: BTreeMap<WorkloadName, TaskSpec>,
}

/// What runs in a container, shared by services and tasks. A change here replaces what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The image as written in the file or given by `--image`.
    pub image: String,
    /// The manifest digest that the reference was resolved to; absent until it is pinned.
    pub digest: Option<Digest>,
    /// Replaces ENTRYPOINT and CMD. Empty: the image's.
    pub command: Vec<String>,
    /// Replaces CMD only. Empty: the image's.
    pub args: Vec<String>,
    /// `uid`, `uid:gid`, `name` or `name:group`; absent: the image's.
    pub user: Option<String>,
    /// Reserved, and the ceiling too; absent: 0.25 cores reserved, no ceiling.
    pub cpu: Option<MilliCpu>,
    /// Reserved and the ceiling.
    pub memory: Bytes,
    /// Variables by name.
    pub env: BTreeMap<String, EnvValue>,
    /// Volumes in the order of the file.
    pub volumes: Vec<VolumeSpec>,
    /// Secrets as files.
    pub secret_files: Vec<SecretFileSpec>,
    /// Label values that a node must have.
    pub constraints: BTreeMap<String, String>,
    /// Config files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
}

/// A long-running workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The container.
    pub run: RunSpec,
    /// Ports; the main one has no name and comes first where there is one.
    pub ports: Vec<PortSpec>,
    /// How many run.
    pub replicas: u32,
    /// How a replica shows that it works.
    pub health: HealthSpec,
    /// Hosts and paths that lead here.
    pub routes: Vec<RouteSpec>,
    /// Host ports that lead here.
    pub publish: Vec<PublishSpec>,
    /// How a new version replaces the old one.
    pub update: UpdateSpec,
    /// Tasks that must succeed before the rollout starts.
    pub before_deploy: Vec<WorkloadName>,
    /// Tasks that run after the rollout.
    pub after_deploy: Vec<WorkloadName>,
    /// How a container is asked to end.
    pub stop: StopSpec,
}

/// A workload that runs to completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The container.
    pub run: RunSpec,
    /// After this long it is killed.
    pub timeout: Millis,
    /// Cron expression in UTC; absent: it runs only when spawned.
    pub schedule: Option<String>,
    /// How a container is asked to end.
    pub stop: StopSpec,
}

/// A port in the container's own network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// 1 to 65535.
    pub port: u16,
    /// Absent: the main port.
    pub name: Option<String>,
}

/// A part of an environment variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvPart {
    /// Text as it stands.
    Text(String),
    /// `${service.NAME.address}`: `NAME.mill:PORT`.
    Service(WorkloadName),
    /// `${secret(NAME)}`: the secret's value at container start.
    Secret(SecretName),
}

/// The value of an environment variable, in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvValue(pub Vec<EnvPart>);

/// A volume mounted into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Unique in the cluster.
    pub name: String,
    /// Absolute path in the container.
    pub path: String,
    /// Lost when the allocation goes; needs no size.
    pub ephemeral: bool,
    /// Size of a persistent volume.
    pub size: Option<Bytes>,
}

/// A secret as a file on a tmpfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFileSpec {
    pub secret: SecretName,
    /// Absolute path in the container.
    pub path: String,
}

/// A config file, read-only in the container and owned by its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute path in the container.
    pub path: String,
    /// What is in it.
    pub content: EnvValue,
    /// Its permissions, such as 0444.
    pub mode: u32,
}

/// How health is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthProbe {
    /// Without `health` and without a port: up for 2 s.
    Uptime,
    /// TCP connect on the main port.
    Tcp,
    /// HTTP GET of this path on the main port; 200 to 399 is healthy.
    Http(String),
    /// A command in the container; exit code 0 is healthy.
    Exec(Vec<String>),
}

/// A health check with its timing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// Whether the file says so, or it is the default.
    pub explicit: bool,
    /// What is done.
    pub probe: HealthProbe,
    /// Time between probes after the first success; default 10 s.
    pub interval: Millis,
    /// A probe that takes longer has failed; default 2 s.
    pub timeout: Millis,
    /// Failures in this time after the start do not count; default 30 s.
    pub grace: Millis,
    /// The name that HTTP asks for; absent: the first route's host, else the service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A host port that every node running a replica opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    pub host_port: u16,
    /// Named container port; absent: the main port.
    pub port: Option<String>,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// Order of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new replica is healthy before the old one stops.
    StartFirst,
    /// The old replica is gone before the new one starts.
    StopFirst,
}

/// How a new version replaces the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSpec {
    /// Replicas replaced at a time; default 1.
    pub max_parallel: u32,
    /// Default start-first; stop-first with a persistent volume.
    pub order: UpdateOrder,
    /// From container start to healthy; default 60 s.
    pub healthy_deadline: Millis,
    /// Replicas that get the new version first, and how they are judged.
    pub canary: Option<CanarySpec>,
}

/// A canary phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanarySpec {
    /// How many replicas.
    pub count: u32,
    /// For how long they are watched.
    pub duration: Millis,
    /// Share of failed requests that is still good, in thousandths of a percent.
    pub max_error_rate: Option<u32>,
    /// How many times as long as the old ones they may take to answer, in thousandths; absent: that
    /// isn't looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ratio: Option<u32>,
    /// With fewer requests nothing is decided by them; default 100.
    #[serde(default = "CanarySpec::min_requests")]
    pub min_requests: u32,
}

impl CanarySpec {
    /// Requests without which nothing is decided, where the file doesn't say.
    #[must_use]
    pub fn min_requests() -> u32 {
        100
    }
}

/// How a container is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSpec {
    /// Signal name such as `SIGTERM`; absent: the image's STOPSIGNAL, else SIGTERM.
    pub signal: Option<String>,
    /// Then SIGKILL; default 10 s.
    pub grace: Millis,
}

impl ServiceSpec {
    /// The main port: the one without a name.
    #[must_use]
    pub fn main_port(&self) -> Option<u16> {
        self.ports.iter().find(|p| p.name.is_none()).map(|p| p.port)
    }

    /// The port of that name, or the main one without a name.
    #[must_use]
    pub fn port(&self, name: Option<&str>) -> Option<u16> {
        self.ports.iter().find(|p| p.name.as_deref() == name).map(|p| p.port)
    }

    /// The secrets that say who may pass its routes.
    pub fn auth(&self) -> impl Iterator<Item = &SecretName> {
        self.routes.iter().filter_map(|route| route.options.auth.as_ref())
    }
}

impl RunSpec {
    /// What is set aside for it on a node when the file gives no `cpu`.
    pub const DEFAULT_CPU: MilliCpu = MilliCpu(250);
    /// Reserved memory when the file gives none.
    pub const DEFAULT_MEMORY: Bytes = Bytes(256_000_000);

    /// An image with nothing else said of it.
    #[must_use]
    pub fn of(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            digest: None,
            command: Vec::new(),
            args: Vec::new(),
            user: None,
            cpu: None,
            memory: Self::DEFAULT_MEMORY,
            env: BTreeMap::new(),
            volumes: Vec::new(),
            secret_files: Vec::new(),
            constraints: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// The secrets that its variables, files and secret files need.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        let contents = self.files.iter().map(|file| &file.content);
        let parts = self.env.values().chain(contents).flat_map(|value| &value.0);
        let named = parts.filter_map(|part| match part {
            EnvPart::Secret(name) => Some(name),
            EnvPart::Text(_) | EnvPart::Service(_) => None,
        });
        named.chain(self.secret_files.iter().map(|file| &file.secret)).collect()
    }

    /// Its persistent volumes, each with its size.
    pub fn persistent(&self) -> impl Iterator<Item = (VolumeName, Bytes)> {
        let own = self.volumes.iter().filter(|volume| !volume.ephemeral);
        own.map(|one| (VolumeName::from(one.name.as_str()), one.size.unwrap_or(Bytes(0))))
    }

    /// Processor time reserved on a node.
    #[must_use]
    pub fn reserved_cpu(&self) -> MilliCpu {
        self.cpu.unwrap_or(Self::DEFAULT_CPU)
    }
}

/// The hash of anything that serialises: SHA-256 of its JSON, first 16 bytes, hexadecimal.
///
/// Equal values have equal hashes since all maps are ordered.
#[must_use]
pub fn hash_of<T: Serialize>(value: &T) -> SpecHash {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let digest = sha2::Sha256::digest(&json);
    hex::encode(&digest[..16]).into()
}
