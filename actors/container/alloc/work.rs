//! The work of one allocation: pulling, starting, probing, ending, each from start to end.
//!
//! Owns the order of the steps and the files that a container is given. Never decides when.

use crate::actors::container::containerd::{self, NewContainer};
use crate::actors::container::health;
use crate::actors::container::image::{Image, ImageError};
use crate::actors::container::logs;
use crate::actors::container::net::{NetError, Taken};
use crate::actors::platform::Platform;
use crate::fsm::model::{AllocKind, StoredSpec, WorkloadSpec};
use crate::id::{AllocId, Attempt, ContainerId, SpecHash, WorkloadName};
use crate::life::{Ended, Failure};
use crate::limits;
use crate::network::Protocol;
use crate::oci::{
    BindMount, CgroupVersion, Context, SpecError, UserError, plain_env, resolve_user, runtime_spec,
    stop_signal,
};
use crate::spec::model::HealthSpec;
use crate::units::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_stream::StreamExt as _;

/// Labels that containers of this program carry.
pub mod label {
    /// The cluster's identity.
    pub const CLUSTER: &str = "mill.cluster";
    /// The specification's hash.
    pub const SPEC: &str = "mill.spec";
    /// The address in the node's subnet.
    pub const ADDRESS: &str = "mill.address";
    /// The number of the signal that asks the program to end.
    pub const SIGNAL: &str = "mill.signal";
    /// The kept binary that logs.
    pub const LOGGER: &str = "mill.logger";
}

/// Who an allocation is, and what its container stands on.
pub struct Job {
    /// What containers stand on.
    pub platform: Arc<Platform>,
    /// Which allocation.
    pub id: AllocId,
    /// Of which service or task.
    pub workload: WorkloadName,
    /// Which replica.
    pub kind: AllocKind,
    /// The hash of its specification.
    pub hash: SpecHash,
    /// What runs.
    pub spec: Arc<StoredSpec>,
    /// Its address in the node's subnet.
    pub address: Ipv4Addr,
    /// The node's name.
    pub node: String,
    /// The cluster's identity.
    pub cluster: String,
    /// Which control groups the host has.
    pub cgroups: CgroupVersion,
    /// Containers of earlier attempts that are still there.
    pub surplus: Vec<ContainerId>,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The specification names no digest.
    #[error("the revision holds no digest of {image}; deploy it again: mill up")]
    Unpinned {
        /// The image as written.
        image: String,
    },
    /// It was to be started without its image.
    #[error("the image was not fetched before the start")]
    Unpulled,
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// A variable that this build can't fill in.
    #[error("env {name}: references to services and secrets aren't built yet")]
    Reference {
        /// Which.
        name: String,
    },
    /// What the runtime is told.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Host ports that other programs hold.
    #[error("{}", list(.0))]
    Taken(Vec<Taken>),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// containerd.
    #[error(transparent)]
    Containerd(#[from] containerd::Error),
    /// The container's own files.
    #[error("can't write {path}", path = path.display())]
    Files {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn list(taken: &[Taken]) -> String {
    taken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Failed {
    /// For the allocation's life.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (temporary, wait) = match self {
            Self::Image(error) => (error.is_temporary(), error.wait()),
            Self::Containerd(error) => (error.is_temporary(), None),
            Self::Files { .. } => (true, None),
            _ => (false, None),
        };
        let wait = wait.map(|wait| Millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        Failure { message: self.to_string(), temporary, wait }
    }
}

impl Job {
    fn container(&self, attempt: Attempt) -> ContainerId {
        ContainerId::new(&self.id, attempt)
    }

    /// The files that the container is given.
    fn folder(&self) -> PathBuf {
        folder(&self.platform, &self.id)
    }

    fn health(&self) -> Option<&HealthSpec> {
        self.spec.spec.service().map(|service| &service.health)
    }

    fn main_port(&self) -> Option<u16> {
        self.spec.spec.service().and_then(|service| service.main_port())
    }

    /// The signal that asks the program to end.
    #[must_use]
    pub fn signal(&self, image: &Image) -> u32 {
        stop_signal(self.spec.spec.stop(), &image.config)
    }

    /// Fetches and unpacks the image.
    pub(super) async fn pull(&self) -> Result<Arc<Image>, Failed> {
        let run = self.spec.spec.run();
        let unpinned = || Failed::Unpinned { image: run.image.clone() };
        let digest = run.digest.as_ref().ok_or_else(unpinned)?;
        Ok(self.platform.images.ensure(&run.image, digest, |_| {}).await?)
    }

    /// Makes the container and starts its program.
    pub(super) async fn start(&self, attempt: Attempt, image: &Image) -> Result<(), Failed> {
        let platform = &self.platform;
        self.remove_surplus().await?;
        let taken = platform.net.reserve(&self.published()).await?;
        if !taken.is_empty() {
            return Err(Failed::Taken(taken));
        }
        let netns = platform.net.attach(&self.id, self.address).await?;
        let mounts = self.files().await?;
        let id = self.container(attempt);
        let spec = runtime_spec(
            self.spec.spec.run(),
            &image.config,
            &self.context(image, &id, netns, mounts)?,
        )?;
        let new = NewContainer {
            image: self.spec.spec.run().image.clone(),
            chain_id: image.chain_id.clone(),
            spec,
            labels: self.labels(image),
            log: logs::uri(&platform.logger, &platform.places.data, &self.id, attempt),
            id: id.clone(),
        };
        platform.containerd.create(&new).await?;
        if let Err(error) = platform.containerd.start(&id).await {
            platform.containerd.delete(&id).await?;
            return Err(error.into());
        }
        Ok(())
    }

    async fn remove_surplus(&self) -> Result<(), Failed> {
        for container in &self.surplus {
            self.platform.containerd.delete(container).await?;
        }
        Ok(())
    }

    fn published(&self) -> BTreeSet<(u16, Protocol)> {
        let service = self.spec.spec.service();
        let publish = service.map(|service| service.publish.as_slice()).unwrap_or_default();
        let protocol = |udp| if udp { Protocol::Udp } else { Protocol::Tcp };
        publish.iter().map(|publish| (publish.host_port, protocol(publish.udp))).collect()
    }

    fn context(
        &self,
        image: &Image,
        id: &ContainerId,
        netns: PathBuf,
        mounts: Vec<BindMount>,
    ) -> Result<Context, Failed> {
        let run = self.spec.spec.run();
        let user = run.user.as_deref().unwrap_or(&image.config.user);
        let (kind, replica) = match self.kind {
            AllocKind::Service { replica } => ("service", replica),
            AllocKind::Task => ("task", 0),
        };
        let port = self.main_port();
        let name = self.workload.as_str();
        Ok(Context {
            alloc: self.id.clone(),
            account: resolve_user(user, &image.passwd, &image.group)?,
            env: plain_env(run).map_err(|name| Failed::Reference { name })?,
            own_env: Context::own_env(&self.id, kind, name, &self.node, replica, port),
            netns: Some(netns),
            cgroup: Path::new(&self.platform.places.cgroup()).join(id.as_str()),
            cgroup_version: self.cgroups,
            mounts,
        })
    }

    fn labels(&self, image: &Image) -> BTreeMap<String, String> {
        let logger = self.platform.logger.to_string_lossy().into_owned();
        BTreeMap::from([
            (label::CLUSTER.to_owned(), self.cluster.clone()),
            (label::SPEC.to_owned(), self.hash.to_string()),
            (label::ADDRESS.to_owned(), self.address.to_string()),
            (label::SIGNAL.to_owned(), self.signal(image).to_string()),
            (label::LOGGER.to_owned(), logger),
        ])
    }

    /// Writes `resolv.conf`, `hosts` and `hostname`.
    async fn files(&self) -> Result<Vec<BindMount>, Failed> {
        let folder = self.folder();
        let hosts = format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{}\t{}\n",
            self.address, self.id
        );
        let hostname = format!("{}\n", self.id);
        let at = folder.clone();
        let write = move || {
            std::fs::create_dir_all(&at)?;
            let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            std::fs::write(at.join("resolv.conf"), reachable(&resolvers))?;
            std::fs::write(at.join("hosts"), hosts)?;
            std::fs::write(at.join("hostname"), hostname)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.unwrap_or_else(|lost| Err(io::Error::other(lost)));
        written.map_err(|source| Failed::Files { path: folder.clone(), source })?;
        let mount = |name: &str| BindMount {
            source: folder.join(name),
            target: Path::new("/etc").join(name),
            read_only: false,
        };
        Ok(["resolv.conf", "hosts", "hostname"].map(mount).to_vec())
    }

    /// Probes once.
    pub(super) async fn probe(&self) -> Result<(), String> {
        match self.health() {
            Some(health) => health::probe(health, self.address, self.main_port()).await,
            None => Ok(()),
        }
    }

    /// Makes sure that a container which was adopted still has its network.
    pub(super) async fn repair(&self) {
        if let Err(error) = self.platform.net.attach(&self.id, self.address).await {
            tracing::warn!(alloc = %self.id, %error, "the container's network can't be repaired");
        }
    }

    /// Ends the program if it runs and removes the container; `gently` asks it first, with that
    /// signal. Returns how it ended and its last output. With `last` nothing but the log stays.
    pub(super) async fn clear(
        &self,
        attempt: Attempt,
        gently: Option<Option<u32>>,
        since: Option<Timestamp>,
        last: bool,
    ) -> Result<(Option<Ended>, String), Failed> {
        let containerd = &self.platform.containerd;
        let id = self.container(attempt);
        if let Some(signal) = gently {
            let signal = signal.unwrap_or(crate::oci::DEFAULT_STOP_SIGNAL);
            let grace = self.spec.spec.stop().grace.duration();
            containerd.kill(&id, signal).await?;
            // When the grace is over, removing the container kills it.
            if let Ok(waited) = tokio::time::timeout(grace, containerd.wait(&id)).await {
                waited?;
            }
        }
        let exit = containerd.delete(&id).await?;
        let ended = exit
            .map(|exit| Ended { code: i32::try_from(exit.code).unwrap_or(i32::MAX), at: exit.at });
        let output = self.output(since).await;
        if last {
            self.remove_surplus().await?;
            leftover(&self.platform, &self.id).await?;
        }
        Ok((ended, output))
    }

    /// The last lines that the program wrote since then.
    async fn output(&self, since: Option<Timestamp>) -> String {
        let since = since.map(|at| logs::LogTime(at.0.saturating_mul(1_000_000)));
        let tail = Some(limits::FAILURE_LINES);
        let query = logs::Query { tail, since, ..logs::Query::default() };
        let Ok(mut stream) = self.platform.logs.read(&self.id, query) else {
            return String::new();
        };
        let mut lines = Vec::new();
        while let Some(event) = stream.next().await {
            match event {
                logs::Event::Line(line) => lines.push(line.line),
                logs::Event::CaughtUp => break,
            }
        }
        lines.join("\n")
    }
}

fn folder(platform: &Platform, id: &AllocId) -> PathBuf {
    platform.places.data.join("alloc").join(id.as_str())
}

/// Removes what an allocation has besides its containers: network and files. Its log stays, marked
/// as ended.
///
/// # Errors
/// The kernel refuses, or the files can't be removed.
pub async fn leftover(platform: &Platform, id: &AllocId) -> Result<(), Failed> {
    platform.net.detach(id).await?;
    let folder = folder(platform, id);
    let log = logs::directory(&platform.places.data, id);
    let at = folder.clone();
    let removed = tokio::task::spawn_blocking(move || {
        logs::mark_ended(&log)?;
        match std::fs::remove_dir_all(&at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    let removed = removed.await.unwrap_or_else(|lost| Err(io::Error::other(lost)));
    removed.map_err(|source| Failed::Files { path: folder, source })
}

/// The host's resolvers without those on its own loopback, which a container can't reach.
fn reachable(resolvers: &str) -> String {
    let local = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().is_some_and(|address| address.starts_with("127.") || address == "::1")
    };
    resolvers.lines().filter(|line| !local(line)).map(|line| format!("{line}\n")).collect()
}

/// What a workload's life needs to know of its specification.
pub fn terms(spec: &WorkloadSpec) -> crate::life::Terms {
    match spec {
        WorkloadSpec::Service(service) => {
            crate::life::Terms { health: service.health.clone(), restarts: true }
        }
        WorkloadSpec::Task(_) => crate::life::Terms {
            health: HealthSpec {
                explicit: false,
                probe: crate::spec::model::HealthProbe::Uptime,
                interval: Millis::secs(10),
                timeout: Millis::secs(2),
                grace: Millis(0),
            },
            restarts: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_that_a_container_can_not_reach_are_left_out() {
        let host = "search lan\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n";
        assert_eq!(reachable(host), "search lan\nnameserver 192.0.2.1\noptions edns0\n");
    }
}
