//! What the node's containers stand on: containerd, images, the network, the kept binary.
//!
//! Owns where an instance keeps its things and opens them once for all actors. Never starts a
//! container.

pub mod apparmor;
pub mod backup;
pub mod block_storage;
pub mod containerd;
pub mod disk;
pub mod exec;
pub mod handover;
pub mod image;
pub mod logs;
pub mod mesh;
pub mod net;
pub mod permissions;
pub mod private_containerd;
pub mod resolvers;
pub mod runc_shim;
pub mod secrets;
pub mod transfer;
pub mod trash;
pub mod tree;
pub mod usage;
pub mod volumes;
pub mod written;

use self::containerd::Containerd;
use self::exec::Execs;
use self::image::{Images, RegistryConfig};
use self::net::{Net, NetConfig, NetError, PublishOn};
use self::secrets::SecretStore;
use self::trash::Trash;
use self::volumes::VolumeStore;
use self::volumes::attached::Attached;
use crate::config::{ContainerdChoice, DaemonConfig, Mode};
use crate::network::Subnet;
use crate::secret::Keyring;
use crate::units::{Millis, Timestamp};
use private_containerd as private;
use sha2::Digest as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The time by this host's clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(Millis::from(since).0)
}

/// The machine's own containerd, used if it answers.
pub const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// Where an instance keeps its things; several instances share a host.
#[derive(Clone, Debug)]
pub struct Places {
    /// Eight hexadecimal digits made from the data directory.
    pub instance: String,
    /// What must survive a reboot.
    pub data: PathBuf,
    /// What concerns running processes only.
    pub run: PathBuf,
}

/// Why containers can't be run here.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The private containerd.
    #[error(transparent)]
    Private(#[from] private::Error),
    /// containerd does not answer as expected.
    #[error("containerd at {socket}", socket = socket.display())]
    Containerd {
        socket: PathBuf,
        #[source]
        source: containerd::Error,
    },
    /// The containers' network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The kept binary.
    #[error(transparent)]
    Keep(#[from] logs::KeepError),
    /// The reader of logs.
    #[error("watching the logs: {source}; raise fs.inotify.max_user_instances")]
    Logs { source: std::io::Error },
    /// The folders of what runs.
    #[error("can't make {path}", path = path.display())]
    Run {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Opening was broken off inside.
    #[error("keeping a copy of the mill binary was broken off")]
    Aborted(#[source] tokio::task::JoinError),
}

/// What the node's containers stand on.
pub struct Platform {
    /// Where everything is.
    pub places: Places,
    /// The client.
    pub containerd: Containerd,
    /// Images in it.
    pub images: Images,
    /// Further processes in containers.
    pub execs: Execs,
    /// The containers' network.
    pub net: Net,
    /// Where goes what containers have left.
    pub trash: Trash,
    /// The kept binary that logs.
    pub logger: PathBuf,
    /// Reads the containers' logs.
    pub logs: logs::LogReader,
    /// What containers are given in secret.
    pub secrets: SecretStore,
    /// Persistent volumes.
    pub volumes: VolumeStore,
    /// The private containerd, if it is one.
    pub private: Option<private::Daemon>,
}

impl Places {
    /// The places of the instance with that data directory, an absolute path.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        let hash = sha2::Sha256::digest(data.as_os_str().as_encoded_bytes());
        let instance = hex::encode(&hash[..4]);
        let run = Path::new("/run/mill").join(&instance);
        Self { instance, data: data.to_owned(), run }
    }

    /// Where containerd keeps images: the private one, or the machine's where it does by default.
    #[must_use]
    pub fn images(&self, private: bool) -> PathBuf {
        if private { self.private().root } else { PathBuf::from("/var/lib/containerd") }
    }

    /// The private containerd's configuration.
    #[must_use]
    pub fn private(&self) -> private::Config {
        let state = self.run.join("containerd");
        private::Config { root: self.data.join("containerd"), state, binary: None }
    }

    /// The network's configuration, given the node's and the cluster's subnets.
    #[must_use]
    pub fn net(&self, node: Ipv4Addr, cluster: Subnet, publish_on: PublishOn) -> NetConfig {
        NetConfig {
            instance: self.instance.clone(),
            subnet: Subnet::node(node),
            cluster_subnet: cluster,
            publish_on,
            run_dir: self.run.join("netns"),
            private_ports: Vec::new(),
            open_ports: Vec::new(),
            forwarding: PathBuf::from("/run/mill/forwarding"),
        }
    }

    /// The name of the containers' bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        net::bridge(&self.instance)
    }

    /// containerd's configuration for this instance.
    #[must_use]
    pub fn containerd(&self, socket: PathBuf, runc: PathBuf) -> containerd::Config {
        containerd::Config {
            socket,
            namespace: self.namespace(),
            runc,
            runc_root: self.runc_root(),
        }
    }

    /// containerd's namespace of this instance.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("mill-{}", self.instance)
    }

    /// Where runc keeps its own state.
    #[must_use]
    pub fn runc_root(&self) -> PathBuf {
        Path::new("/run/mill").join(format!("{}{}", runc_shim::PREFIX, self.instance))
    }

    /// Where the pipes of further processes in containers are.
    #[must_use]
    pub fn execs(&self) -> PathBuf {
        self.run.join("exec")
    }

    /// Where containers' secrets are, in memory. The runc wrapper finds it by runc's root.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.run.join(runc_shim::SECRETS)
    }

    /// The parent of the containers' control groups.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/mill-{}", self.instance)
    }
}

impl Platform {
    /// Opens everything; what an earlier process left is taken up again.
    ///
    /// # Errors
    /// The first thing that is missing, with its remedy.
    pub async fn open(
        config: &DaemonConfig,
        node: Ipv4Addr,
        cluster: Subnet,
        keyring: Keyring,
    ) -> Result<Self, PlatformError> {
        let places = Places::of(&config.data_dir);
        let publish_on = match config.mode {
            Mode::Daemon => PublishOn::All,
            Mode::Dev => PublishOn::Loopback,
        };
        for folder in [&places.run, &places.runc_root()] {
            let failed = |source| PlatformError::Run { path: folder.clone(), source };
            permissions::make(folder).map_err(failed)?;
        }
        let data = places.data.clone();
        let keep = tokio::task::spawn_blocking(move || {
            apparmor::load();
            logs::install_logger(&data)
        });
        let mut net = places.net(node, cluster, publish_on);
        net.private_ports =
            std::iter::once(config.api).chain(config.peer).map(|a| a.port()).collect();
        net.private_ports.dedup();
        net.open_ports = vec![config.http.port(), config.https.port()];
        let net = Net::open(net);
        let (net, runtime, logger) = tokio::join!(net, start(config, &places), keep);
        let (socket, private) = runtime?;
        let logger = logger.map_err(PlatformError::Aborted)??;
        let runc = logs::wrapper_of(&logger);
        let client = Containerd::connect(places.containerd(socket.clone(), runc)).await;
        let containerd = client.map_err(|source| PlatformError::Containerd { socket, source })?;
        let registries = RegistryConfig {
            insecure: config.insecure_registries.clone(),
            docker_config: Some(config.docker_config.clone()),
            key: Some(keyring.clone()),
            disk: Some(places.images(private.is_some())),
            ..RegistryConfig::default()
        };
        let images = Images::new(containerd.clone(), registries);
        if let Err(error) = images.clear_loads().await {
            tracing::warn!(%error, "the rest of a load that was broken off stays for two days");
        }
        let reader = logs::LogReader::new(&places.data);
        let logs = reader.map_err(|source| PlatformError::Logs { source })?;
        let execs = Execs::new(containerd.clone(), places.execs());
        let secrets = SecretStore::new(places.secrets(), keyring);
        let trash = Trash::open(&places.data);
        let net = net?;
        let attached = Attached::new(places.data.join("attached"), config.volume_devices.clone());
        let volumes = VolumeStore::new(places.data.join("volumes"), attached);
        Ok(Self {
            places,
            containerd,
            images,
            execs,
            net,
            trash,
            logger,
            logs,
            secrets,
            volumes,
            private,
        })
    }
}

/// The socket of the containerd to use, and the private one if it was started.
async fn start(
    config: &DaemonConfig,
    places: &Places,
) -> Result<(PathBuf, Option<private::Daemon>), private::Error> {
    match &config.containerd {
        ContainerdChoice::Given(socket) => return Ok((socket.clone(), None)),
        ContainerdChoice::Auto => {
            let socket = PathBuf::from(SYSTEM_SOCKET);
            if private::answers(&socket).await {
                return Ok((socket, None));
            }
        }
        ContainerdChoice::Private => {}
    }
    let daemon = private::Daemon::start(places.private()).await?;
    Ok((daemon.socket(), Some(daemon)))
}
