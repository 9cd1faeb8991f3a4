//! The one boot path of a node: data directory, identity, actors, signals.
//!
//! Owns what happens before root runs and after it ends. Never decides what a node does once it
//! runs.

mod address;
mod claim;
mod consensus_thread;
mod equipment;
mod factories;
mod identity;
mod leave;
mod ports;
mod recover;

pub use address::HintError;
pub use equipment::{EquipError, Equipment};
pub use identity::{Identity, IdentityError};
pub use recover::RecoverError;

use crate::actors::api::{self, Membership, listener};
use crate::actors::dns_queries::DnsQueries;
use crate::actors::peer;
use crate::actors::platform::net::{Net, PublishOn};
use crate::actors::platform::permissions::{self, OpenToOthers};
use crate::actors::platform::private_containerd as private;
use crate::actors::platform::{Places, Platform, PlatformError};
pub use crate::actors::proxy::local_ca::certificate_file as local_ca_file;
use crate::actors::proxy::local_ca::{LocalCa, LocalCaError};
use crate::actors::proxy::{self, shared as ingress};
use crate::actors::raft::lock::{DataLock, LockError};
use crate::actors::root::{self, Member, RootRef};
use crate::api::wire::{InitRequest, InitView};
use crate::config::{ContainerdChoice, DaemonConfig, Mode};
use crate::fsm::FEATURE_LEVEL;
use crate::fsm::command::{Reach, Register};
use crate::id::{BootId, NodeId};
use crate::limits;
use crate::network::Subnet;
use crate::secret::Keyring;
use crate::units::{Bytes, MilliCpu};
use ractor::Actor as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, OnceCell, mpsc, watch};

/// The log's folder in the data directory.
const LOG: &str = "raft";

/// Why a node can't run, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data directory can't be used.
    #[error(
        "can't write the data directory {path}; run as root or pass --data-dir DIR",
        path = path.display()
    )]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Others than root could reach it.
    #[error(transparent)]
    Open(#[from] OpenToOthers),
    /// The system has none left.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Namespaces, mounts and networks need it.
    #[error("mill needs root to run containers. Run: sudo mill daemon, or sudo mill dev")]
    NotRoot,
    /// The containerd that was named is not there.
    #[error(
        "no containerd answers at {socket}. Start it, or pass --containerd private",
        socket = socket.display()
    )]
    NoContainerd {
        /// Where it should be.
        socket: PathBuf,
    },
    /// The member's log is gone.
    #[error(
        "{path} is missing, and with it the cluster's state; restore it, or start over: mill clean",
        path = path.display()
    )]
    NoLog {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another daemon uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Who this node is can't be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It isn't known where others are that have moved.
    #[error(transparent)]
    Hint(#[from] HintError),
    /// It doesn't become a cluster of one.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// Containers can't be run here.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A listener can't be opened.
    #[error(transparent)]
    Listen(#[from] listener::ListenError),
    /// Logs can't be watched.
    #[error("watching logs; raise fs.inotify.max_user_instances")]
    Watch(#[source] std::io::Error),
    /// The authority of a developer's machine can't be used.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
    /// Its credentials can't be used, or a listener can't be opened.
    #[error(transparent)]
    Equip(#[from] EquipError),
    /// The node could not become the first of a cluster.
    #[error(transparent)]
    Init(#[from] api::ApiError),
    /// Root did not start.
    #[error("starting the supervision tree")]
    Root(#[source] ractor::SpawnErr),
    /// A part failed for good.
    #[error("{0}")]
    Fatal(String),
}

/// A node that runs in this process.
pub struct Node {
    /// Its settings.
    pub config: Arc<DaemonConfig>,
    shared: Arc<Shared>,
    root: RootRef,
    fatal: mpsc::UnboundedReceiver<String>,
    lock: DataLock,
}

/// Why a node's life is over, though nobody stopped it.
#[derive(Debug)]
pub enum Ending {
    /// A part failed for good.
    Failed(DaemonError),
    /// It is no member any more: [`Node::leave`] is next.
    Left,
}

/// What the boot path and the actors' factories share.
pub struct Shared {
    /// The settings.
    pub config: Arc<DaemonConfig>,
    /// This life of the node.
    pub boot: BootId,
    /// What containers stand on, once the node is a member.
    pub platform: OnceCell<Arc<Platform>>,
    /// Who the node is, once it is a member.
    pub identity: OnceCell<Identity>,
    /// Its credentials and listeners, once it is a member.
    pub equipment: OnceCell<Arc<Equipment>>,
    /// What is counted of names.
    pub queries: DnsQueries,
    /// Where connections wait that other members open to the API.
    pub members: Arc<api::MemberListener>,
    /// Where root, consensus and the links to other nodes run.
    consensus_thread: consensus_thread::ConsensusThread,
    /// Where raft puts what is meant for other nodes.
    pub post: Arc<peer::Post>,
    /// The same for the API, with the listeners that it then serves.
    pub membership: watch::Sender<Membership>,
    /// The API's UNIX socket.
    pub local: Arc<listener::LocalSocket>,
    /// What the proxy's threads share.
    pub ingress: Arc<ingress::Shared>,
    /// Only one claim at a time.
    pub claiming: Mutex<()>,
    /// The node was removed and is to be wiped.
    pub left: Notify,
    /// Where members are that have moved.
    pub hints: BTreeMap<NodeId, String>,
    /// Where the reason goes when the process must end.
    fatal: mpsc::UnboundedSender<String>,
}

impl Shared {
    /// What containers stand on; opened by the first who asks.
    async fn platform(
        &self,
        who: &Identity,
        keyring: &Keyring,
    ) -> Result<&Arc<Platform>, PlatformError> {
        let cluster = Subnet::of(who.cluster.subnet, who.cluster.prefix);
        let open = || async {
            Platform::open(&self.config, who.subnet, cluster, keyring.clone()).await.map(Arc::new)
        };
        self.platform.get_or_try_init(open).await
    }
}

impl Node {
    /// Starts a node: as a member if it has an identity, else unclaimed.
    ///
    /// # Errors
    /// What is missing, with its remedy.
    pub async fn start(config: DaemonConfig) -> Result<Self, DaemonError> {
        check_host(&config).await?;
        let data = config.data_dir.clone();
        let unusable = |source| DaemonError::DataDir { path: data.clone(), source };
        permissions::secure(&data).map_err(|error| match error {
            OpenToOthers::System { source, .. } => unusable(source),
            error => DaemonError::Open(error),
        })?;
        let lock = DataLock::acquire(&data)?;
        if config.recover_single {
            recover::recover(&config).await?;
        }
        let local = Arc::new(listener::LocalSocket::open(&config.socket)?);
        Self::live(Arc::new(config), lock, local).await
    }

    /// A life: begins with whatever the data directory holds.
    async fn live(
        config: Arc<DaemonConfig>,
        lock: DataLock,
        local: Arc<listener::LocalSocket>,
    ) -> Result<Self, DaemonError> {
        let data = config.data_dir.clone();
        let mut identity = Identity::read(&data)?;
        recover::finish(&data, identity.as_ref())?;
        let log = data.join(LOG);
        if let Some(who) = identity.as_mut().filter(|who| !who.begun && log.exists()) {
            // It became ready after the one who asked had gone.
            who.begun = true;
            who.write(&data)?;
        }
        if identity.as_ref().is_some_and(|who| who.begun) && !log.exists() {
            return Err(DaemonError::NoLog { path: log });
        }
        if let Some(who) = &mut identity {
            address::settle(who, &config, &data)?;
        }
        let equipment = match &identity {
            Some(who) => Some(Arc::new(equipment::of(&config, who, None)?)),
            // Not served yet, but a taken address is told now.
            None => {
                equipment::plain(&config)?;
                equipment::try_ingress(&config)?;
                None
            }
        };
        // Before the API answers: a member never says that it is none.
        let membership = match &equipment {
            Some(equipment) => Membership::Member { tcp: equipment.api.clone() },
            None => Membership::Unclaimed,
        };
        let (sender, fatal) = mpsc::unbounded_channel();
        let access =
            proxy::AccessLog::start(config.data_dir.clone()).map_err(DaemonError::Thread)?;
        let shared = Arc::new(Shared {
            config: Arc::clone(&config),
            boot: BootId(rand::random()),
            platform: OnceCell::new(),
            identity: OnceCell::new(),
            equipment: OnceCell::new(),
            consensus_thread: consensus_thread::ConsensusThread::start()
                .map_err(DaemonError::Thread)?,
            post: peer::Post::new(),
            members: api::MemberListener::new(),
            queries: DnsQueries::default(),
            membership: watch::Sender::new(membership),
            local,
            ingress: ingress(&config, access)?,
            claiming: Mutex::new(()),
            left: Notify::new(),
            hints: address::hints(&config)?,
            fatal: sender.clone(),
        });
        let args =
            root::Args { boot: shared.boot, factories: factories::all(&shared), fatal: sender };
        let start = root::Root::spawn(None, root::Root, args);
        let spawned = consensus_thread::start_on(shared.consensus_thread.handle(), start).await;
        let (root, _) = spawned.map_err(DaemonError::Root)?;
        if let (Some(identity), Some(equipment)) = (identity, equipment) {
            begin(&shared, &root, identity, equipment).await?;
        }
        Ok(Self { config, shared, root, fatal, lock })
    }

    /// Whether the node belongs to a cluster.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.shared.identity.initialized()
    }

    /// Makes the node the first of a new cluster, as `POST /v1/init` does.
    ///
    /// # Errors
    /// It is a member already, or can't run containers, or its ports are taken.
    pub async fn init(&self, request: InitRequest) -> Result<InitView, DaemonError> {
        Ok(claim::init(&self.shared, &self.root, request).await?)
    }

    /// Waits until a part fails for good.
    pub async fn failed(&mut self) -> DaemonError {
        let reason = self.fatal.recv().await;
        DaemonError::Fatal(reason.unwrap_or_else(|| "root ended".to_owned()))
    }

    /// Waits until a part fails for good, or the node is no member any more.
    pub async fn ended(&mut self) -> Ending {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            error = self.failed() => Ending::Failed(error),
            () = shared.left.notified() => Ending::Left,
        }
    }

    /// Stops the actors in order; containers run on.
    pub async fn stop(self) {
        stop(&self.root).await;
        if let Some(platform) = self.shared.platform.get() {
            platform.containerd.settle().await;
        }
        // Not left to who holds it last: that may be a task that the process's end cuts off.
        self.shared.local.remove();
    }
}

/// What the proxy's threads share, before there are routes.
fn ingress(
    config: &DaemonConfig,
    access: proxy::AccessLog,
) -> Result<Arc<ingress::Shared>, LocalCaError> {
    let is_dev = config.mode == Mode::Dev;
    let local_ca = is_dev.then(|| LocalCa::open(&config.data_dir).map(Arc::new)).transpose()?;
    let settings = ingress::Settings {
        trusted: config.trusted_proxies.clone(),
        proxy_protocol: config.proxy_protocol,
        local_names: is_dev,
        https_port: config.https.port(),
        local_ca,
        access: Some(access),
        engine_only: false,
    };
    Ok(ingress::Shared::new(settings, Arc::default()))
}

async fn stop(root: &RootRef) {
    let deadline = limits::CHILD_STOP * 5;
    if root.call(root::Msg::Stop, Some(deadline)).await.is_err() {
        tracing::warn!("root did not stop in time");
    }
}

impl Node {
    /// Stops the actors and takes the containers' network away, and a containerd of its own, of a
    /// node that runs nothing any more.
    pub async fn stop_for_good(self) {
        let shared = Arc::clone(&self.shared);
        let Some(who) = self.shared.identity.get().cloned() else { return self.stop().await };
        let places = Places::of(&self.config.data_dir);
        let cluster = Subnet::of(who.cluster.subnet, who.cluster.prefix);
        let net = places.net(who.subnet, cluster, PublishOn::Loopback);
        self.stop().await;
        if let Err(error) = Net::clear(&net).await {
            tracing::warn!(%error, "the containers' network is not gone");
        }
        let private = shared.platform.get().and_then(|platform| platform.private.as_ref());
        if let Some(private) = private
            && let Err(error) = private.stop().await
        {
            tracing::warn!(%error, "containerd runs on");
        }
    }
}

/// What would make every container fail is told before anything is begun.
async fn check_host(config: &DaemonConfig) -> Result<(), DaemonError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    match &config.containerd {
        ContainerdChoice::Given(socket) if !private::answers(socket).await => {
            Err(DaemonError::NoContainerd { socket: socket.clone() })
        }
        _ => Ok(()),
    }
}

/// Begins the life of a member: what containers stand on, then the children that need it.
async fn begin(
    shared: &Arc<Shared>,
    root: &RootRef,
    who: Identity,
    equipment: Arc<Equipment>,
) -> Result<(), DaemonError> {
    let platform = shared.platform(&who, &equipment.keyring).await?;
    platform.images.use_members(ports::members(shared));
    let member = Member {
        node: who.node,
        init: who.init.clone(),
        register: Register {
            after: None,
            reach: equipment
                .peer_port()
                .map(|peer_port| Reach { address: who.address.clone(), peer_port }),
            node: who.node,
            boot: shared.boot,
            cpu: MilliCpu(
                1000 * std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            ),
            memory: total_memory(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: FEATURE_LEVEL,
        },
    };
    // Set once: a node that is a member already does not get here.
    let _ = shared.identity.set(who);
    let _ = shared.equipment.set(equipment);
    root.cast(root::Msg::Begin(Box::new(member)))
        .map_err(|_| DaemonError::Fatal("root ended".to_owned()))
}

/// All of the machine's memory.
fn total_memory() -> Bytes {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    Bytes(kibibytes.unwrap_or(0u64) * 1024)
}
