//! The work of one allocation: pulling, starting, probing, ending, each from start to end.
//!
//! Owns the order of the steps. Never decides when.

use super::error::Failed;
use super::files::{self, leftover};
use super::given;
use crate::actors::container::health;
use crate::actors::platform::Platform;
use crate::actors::platform::containerd::{Exit, NewContainer, TaskState};
use crate::actors::platform::image::Image;
use crate::actors::platform::logs;
use crate::allocation::Ended;
use crate::fsm::model::{AllocKind, StoredSpec, WorkloadSpec};
use crate::id::{AllocId, Attempt, ContainerId, Digest, SecretName, SpecHash, WorkloadName};
use crate::limits;
use crate::network::Protocol;
use crate::node::oci::{
    Account, BindMount, CgroupVersion, Context, resolve_user, runtime_spec, stop_signal,
};
use crate::spec::model::{HealthProbe, HealthSpec};
use crate::units::{Millis, Timestamp};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet};
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

impl Job {
    fn container(&self, attempt: Attempt) -> ContainerId {
        ContainerId::new(&self.id, attempt)
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
        Ok(self.platform.images.ensure(&run.image, digest).await?)
    }

    /// How much of each of the image's layers is there, while it is fetched.
    #[must_use]
    pub fn pulled_so_far(&self) -> Vec<(Digest, u64)> {
        let pulls = self.platform.images.pulls();
        let pulls = pulls.borrow();
        let digest = self.spec.spec.run().digest.as_ref();
        let layers = digest.and_then(|digest| pulls.get(digest)).map(|pull| &pull.layers);
        layers.into_iter().flatten().map(|layer| (layer.digest.clone(), layer.bytes)).collect()
    }

    /// Makes the container and starts its program.
    /// Answers with the versions of the secrets that it was given.
    pub(super) async fn start(
        &self,
        attempt: Attempt,
        image: &Image,
    ) -> Result<BTreeMap<SecretName, u64>, Failed> {
        let platform = &self.platform;
        self.remove_surplus().await?;
        let taken = platform.net.reserve(&self.published()).await?;
        if !taken.is_empty() {
            return Err(Failed::Taken(taken));
        }
        let netns = platform.net.attach(&self.id, self.address).await?;
        let mut mounts = files::write(&self.platform, &self.id, self.address).await?;
        let run = self.spec.spec.run();
        let user = run.user.as_deref().unwrap_or(&image.config.user);
        let account = resolve_user(user, &image.passwd, &image.group)?;
        let owner = [account.uid, account.gid];
        mounts.extend(files::volumes(platform, &self.id, &run.volumes, owner, image).await?);
        mounts.extend(files::persistent(platform, &self.id, run, owner).await?);
        let id = self.container(attempt);
        let given = given::give(platform, &self.id, &id, run, &account).await?;
        mounts.extend(given.mounts);
        let context = self.context(account, &id, netns, (given.env, mounts));
        let spec = runtime_spec(run, &image.config, &context)?;
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
            self.forget(&id);
            return Err(error.into());
        }
        Ok(given.versions)
    }

    /// What is in memory for a container that is gone.
    fn forget(&self, id: &ContainerId) {
        self.platform.execs.forget(id);
        if let Err(error) = self.platform.secrets.forget(id) {
            tracing::warn!(alloc = %self.id, %error, "the container's secrets stay in memory");
        }
    }

    async fn remove_surplus(&self) -> Result<(), Failed> {
        for container in &self.surplus {
            self.platform.containerd.delete(container).await?;
            self.forget(container);
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
        account: Account,
        id: &ContainerId,
        netns: PathBuf,
        (env, mounts): (BTreeMap<String, String>, Vec<BindMount>),
    ) -> Context {
        let (kind, replica) = match self.kind {
            AllocKind::Service { replica } => ("service", replica),
            AllocKind::Task => ("task", 0),
        };
        let port = self.main_port();
        let name = self.workload.as_str();
        Context {
            alloc: self.id.clone(),
            account,
            env,
            own_env: Context::own_env(&self.id, kind, name, &self.node, replica, port),
            netns: Some(netns),
            cgroup: Path::new(&self.platform.places.cgroup()).join(id.as_str()),
            cgroup_version: self.cgroups,
            mounts,
            open_files: open_files(),
        }
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

    /// Probes once.
    pub(super) async fn probe(&self, attempt: Attempt) -> Result<(), String> {
        let Some(health) = self.health() else { return Ok(()) };
        if let HealthProbe::Exec(argv) = &health.probe {
            let (execs, id) = (&self.platform.execs, self.container(attempt));
            return health::exec(execs, &id, argv, health.timeout.duration()).await;
        }
        let host = self.probed_host(health);
        health::probe(health, &host, self.address, self.main_port()).await
    }

    /// The name that an HTTP probe asks for: the file's, the first route's, or the service's.
    fn probed_host(&self, health: &HealthSpec) -> String {
        let routes = self.spec.spec.service().map(|service| service.routes.as_slice());
        let mut hosts = routes.unwrap_or_default().iter().map(|route| &route.host);
        let routed = hosts.find(|host| !host.starts_with('*'));
        health.host.as_ref().or(routed).cloned().unwrap_or_else(|| self.workload.to_string())
    }

    /// Makes sure that a container which was adopted still has its network, and none of the
    /// processes that an earlier life of the daemon held.
    pub(super) async fn repair(&self, attempt: Attempt) {
        self.platform.execs.repair(&self.container(attempt)).await;
        if let Err(error) = self.platform.net.attach(&self.id, self.address).await {
            tracing::warn!(alloc = %self.id, %error, "the container's network can't be repaired");
        }
    }

    /// How many processes of that container the kernel has killed for want of memory; absent: it
    /// has no control group any more. containerd's event is missing where that happened right after
    /// the start, and comes twice where the kernel tells it twice.
    pub(super) fn out_of_memory(&self, attempt: Attempt) -> Option<u32> {
        let group = format!("{}/{}", self.platform.places.cgroup(), self.container(attempt));
        let file = match self.cgroups {
            CgroupVersion::V1 => format!("/sys/fs/cgroup/memory{group}/memory.oom_control"),
            CgroupVersion::V2 => format!("/sys/fs/cgroup{group}/memory.events"),
        };
        let counts = std::fs::read_to_string(file).ok()?;
        let kills = counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        kills.trim().parse().ok()
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
            let signal = signal.unwrap_or(crate::node::oci::DEFAULT_STOP_SIGNAL);
            let grace = self.spec.spec.stop().grace.duration();
            containerd.kill(&id, signal).await?;
            // When the grace is over, removing the container kills it.
            if let Ok(waited) = tokio::time::timeout(grace, containerd.wait(&id)).await {
                waited?;
            }
        }
        if let TaskState::Stopped(exit) = containerd.task(&id).await? {
            files::remember(&self.platform, &self.id, attempt, ended(exit)).await?;
        }
        let exit = containerd.delete(&id).await?;
        self.forget(&id);
        let ended = exit.map(ended);
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

/// How a process ended, for its life.
pub fn ended(exit: Exit) -> Ended {
    Ended { code: i32::try_from(exit.code).unwrap_or(i32::MAX), at: exit.at }
}

/// The most open files that this process could have, which is what it may give.
fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard)
}

/// What a workload's life needs to know of its specification.
pub fn terms(spec: &WorkloadSpec) -> crate::allocation::Terms {
    match spec {
        WorkloadSpec::Service(service) => crate::allocation::Terms {
            health: service.health.clone(),
            restarts: true,
            timeout: None,
        },
        WorkloadSpec::Task(task) => crate::allocation::Terms {
            health: HealthSpec {
                explicit: false,
                probe: HealthProbe::Uptime,
                interval: Millis::secs(10),
                timeout: Millis::secs(2),
                grace: Millis(0),
                host: None,
            },
            restarts: false,
            timeout: Some(task.timeout),
        },
    }
}
