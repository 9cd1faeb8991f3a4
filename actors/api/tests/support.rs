//! A root that applies every change at once, stores that are scripted, and an HTTP client.
//!
//! Never a test itself.

mod client;
mod fakes;

pub use client::{Client, Sse};

use crate::actors::api::listener::{Listening, LocalSocket};
use crate::actors::api::{self, Api, Args, Bounds, MemberListener, Membership, Ports};
use crate::actors::dns_queries::DnsQueries;
use crate::actors::root::{Done, Msg, NodeUsage, ProposeError, RootRef, Supervised, View};
use crate::cluster::token;
use crate::fsm::command::{Init, Register};
use crate::fsm::model::{AllocationStatus, DeployStatus, Health, Phase, Role};
use crate::fsm::{self, Command, Entry, Outcome, SessionStep};
use crate::id::{AllocId, BootId, Incarnation, Index, NodeId, Revision};
use crate::secret::{Keyring, OwnKey, SealKey};
use crate::units::{Bytes, MilliCpu, Timestamp};
use client::Target;
use fakes::{FakeClaims, FakeImages, FakeLogs, FakeNeighbours};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longer than anything in these tests takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake root shares with a test.
#[derive(Default)]
pub struct Shared {
    pub state: fsm::State,
    handle: Option<Supervised<api::Msg>>,
    /// It is not shown to the API.
    hidden: bool,
    /// Which node this is; the first unless told.
    pub me: Option<NodeId>,
    /// Nobody confirms a reading.
    pub unconfirmed: bool,
    /// What somebody else changes right before the next proposal.
    pub race: Vec<Command>,
    /// Every proposal is refused so.
    pub refuse: Option<ProposeError>,
    /// Changes are carried out, and nobody is told.
    pub silent: bool,
}

impl Shared {
    fn show(&self) {
        if self.hidden {
            return;
        }
        let view = View {
            index: self.state.index,
            state: Arc::new(self.state.clone()),
            touched: Arc::new(fsm::Touched::everything()),
            current: true,
            leader: Some(NodeId(1)),
            node: self.me.unwrap_or(NodeId(1)),
            time: None,
            boot: BootId(1),
            removed: false,
        };
        if let Some(handle) = &self.handle {
            handle.tell(api::Msg::View(view));
        }
    }

    fn apply(&mut self, command: Command, key: Option<String>) -> Result<Done, ProposeError> {
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        let index = Index(self.state.index.0 + 1);
        let entry = Entry {
            time: Timestamp(self.state.time.0 + 1_000),
            session: SessionStep::default(),
            idempotency_key: key,
            command,
        };
        let applied = fsm::apply(&mut self.state, index, entry);
        self.show();
        Ok(applied.outcome.map(|outcome| Done { index, outcome })?)
    }
}

pub struct FakeRoot;

impl Actor for FakeRoot {
    type Msg = Msg;
    type State = Arc<Mutex<Shared>>;
    type Arguments = Arc<Mutex<Shared>>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        shared: Arc<Mutex<Shared>>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(shared)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        shared: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut shared = shared.lock().unwrap();
        match message {
            Msg::Propose(proposal) => {
                for faster in std::mem::take(&mut shared.race) {
                    shared.apply(faster, None).unwrap();
                }
                let result = {
                    let command = serde_json::from_slice(&proposal.command.unwrap()).unwrap();
                    shared.apply(command, proposal.idempotency_key)
                };
                if !shared.silent {
                    let _ = proposal.reply.send(result);
                }
            }
            Msg::Usage(reply) => {
                let mut usage =
                    NodeUsage { node: (MilliCpu(700), Bytes(42)), ..Default::default() };
                for id in shared.state.allocations.keys() {
                    usage.allocations.insert(id.clone(), (MilliCpu(120), Bytes(91_000_000)));
                }
                let _ = reply.send(usage);
            }
            Msg::ReadIndex(reply) if !shared.unconfirmed => {
                let _ = reply.send(Some(shared.state.index));
            }
            _ => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Msg>,
        _event: SupervisionEvent,
        _shared: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A running API over a fake root.
pub struct Node {
    pub shared: Arc<Mutex<Shared>>,
    pub root: RootRef,
    pub images: Arc<FakeImages>,
    pub logs: Arc<FakeLogs>,
    pub neighbours: Arc<FakeNeighbours>,
    pub tcp: std::net::SocketAddr,
    pub args: Args,
    pub membership: watch::Sender<Membership>,
    pub directory: tempfile::TempDir,
    listener: Arc<TcpListener>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.root.kill();
    }
}

impl Node {
    /// A member with a cluster named `prod` and one node.
    pub async fn start() -> Self {
        Self::with(Bounds::default()).await
    }

    pub async fn with(bounds: Bounds) -> Self {
        Self::claimed(Self::unclaimed(bounds).await).await
    }

    /// As `mill dev` starts it.
    pub async fn dev() -> Self {
        let mut node = Self::unclaimed(Bounds::default()).await;
        node.cell().stop_and_wait(None, Some(PATIENCE)).await.unwrap();
        node.args.dev = true;
        node.boot().await;
        Self::claimed(node).await
    }

    async fn claimed(node: Self) -> Self {
        node.claim();
        node.apply(Command::Init(init())).unwrap();
        node.apply(Command::Register(Register {
            after: None,
            reach: None,
            node: NodeId(1),
            boot: BootId(1),
            cpu: MilliCpu(4_000),
            memory: Bytes(8_000_000_000),
            version: "0.1.0".to_owned(),
            feature_level: crate::fsm::FEATURE_LEVEL,
        }))
        .unwrap();
        node.until(|view| view.is_some()).await;
        node
    }

    pub async fn unclaimed(bounds: Bounds) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (root, _) = FakeRoot::spawn(None, FakeRoot, Arc::clone(&shared)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let local = LocalSocket::open(&directory.path().join("mill.sock")).unwrap();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let images = Arc::new(FakeImages::default());
        images.know("nginx:1", "sha256:aa");
        let logs = Arc::new(FakeLogs { more: watch::Sender::new(0) });
        let (membership, seen) = watch::channel(Membership::Unclaimed);
        let neighbours = Arc::new(FakeNeighbours::default());
        let keyring = keyring();
        let ports = Ports {
            keyring: Arc::new(move || Some(keyring.clone())),
            images: Arc::clone(&images) as _,
            logs: Arc::clone(&logs) as _,
            execs: Arc::new(|| None),
            volumes: Arc::new(|| None),
            claims: Arc::new(FakeClaims),
            neighbours: Arc::clone(&neighbours) as _,
            members: MemberListener::new(),
            traffic: Arc::default(),
        };
        let local = Arc::new(local);
        let queries = DnsQueries::default();
        let (root_of, standing_of) = (root.clone(), seen);
        let args = Args {
            root: root_of,
            local,
            membership: standing_of,
            ports,
            dev: false,
            bounds,
            queries,
        };
        let tcp = listener.local_addr().unwrap();
        let node = Self {
            shared,
            root,
            images,
            logs,
            neighbours,
            tcp,
            args,
            membership,
            directory,
            listener,
        };
        node.boot().await;
        node
    }

    /// Starts the API, or starts it again.
    pub async fn boot(&self) {
        let handle = Supervised::start(Api, self.args.clone(), &self.args.root).await.unwrap();
        let mut shared = self.shared.lock().unwrap();
        shared.handle = Some(handle);
        if shared.state.cluster.is_some() {
            shared.show();
        }
    }

    pub fn claim(&self) {
        let tcp = Arc::clone(&self.listener);
        let tcp = vec![Listening { tcp, plain: true, tls: None }];
        self.membership.send_replace(Membership::Member { tcp });
    }

    /// The running API actor.
    pub fn cell(&self) -> ractor::ActorCell {
        self.shared.lock().unwrap().handle.as_ref().unwrap().cell.clone()
    }

    /// Changes the state, as root would.
    pub fn apply(&self, command: Command) -> Result<Outcome, ProposeError> {
        Ok(self.shared.lock().unwrap().apply(command, None)?.outcome)
    }

    pub fn state(&self) -> fsm::State {
        self.shared.lock().unwrap().state.clone()
    }

    async fn until(&self, there: impl Fn(Option<()>) -> bool) {
        let ready = async {
            loop {
                let health = self.local().get("/v1/health").await;
                if there((health.status == 200).then_some(())) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the API is ready");
    }

    /// A new token of a role.
    pub fn token(&self, role: Role) -> String {
        let minted = token::mint(rand::random(), rand::random(), None);
        let (id, hash) = (minted.id, minted.hash);
        self.apply(Command::CreateToken { id, role, hash, expires_at: None }).unwrap();
        minted.text
    }

    /// A client of the UNIX socket.
    pub fn local(&self) -> Client {
        Client { target: Target::Local(self.directory.path().join("mill.sock")), headers: vec![] }
    }

    /// A client over TCP.
    pub fn network(&self) -> Client {
        Client { target: Target::Network(self.tcp), headers: vec![] }
    }

    /// Ends the deployment that is on its way.
    pub fn finish(&self, revision: u64, status: DeployStatus) {
        self.steps(fsm::command::Action::Finish {
            revision: Revision(revision),
            status,
            degraded: Vec::new(),
        });
    }

    /// Takes a step, as the scheduler would.
    pub fn steps(&self, action: fsm::command::Action) {
        let steps = fsm::command::Steps { planned: BTreeMap::new(), actions: vec![action] };
        self.apply(Command::Steps(steps)).unwrap();
    }

    /// Gives a replica of a service a place, and lets it be healthy.
    pub fn place(&self, service: &str, replica: u32) -> AllocId {
        let id = self.place_on(NodeId(1), service, replica);
        self.report(&id, Phase::Running, Health::Healthy);
        id
    }

    /// Gives a replica of a service a place on a node.
    pub fn place_on(&self, node: NodeId, service: &str, replica: u32) -> AllocId {
        let state = self.state();
        let name = service.into();
        let target = state.owner(&name).unwrap().services[&name].target.clone().unwrap();
        let id = AllocId::service(&name, replica, rand::random());
        self.steps(fsm::command::Action::Place(fsm::command::Place {
            id: id.clone(),
            workload: name,
            replica,
            node,
            spec: target,
            replaces: None,
        }));
        id
    }

    /// Becomes another node of the same cluster.
    pub fn become_node(&self, me: NodeId, state: fsm::State) {
        let mut shared = self.shared.lock().unwrap();
        (shared.me, shared.state) = (Some(me), state);
        shared.show();
    }

    /// Reports on an allocation, as its node would.
    pub fn report(&self, id: &AllocId, phase: Phase, health: Health) {
        let seen = AllocationStatus {
            attempt: crate::id::Attempt(1),
            phase,
            health,
            address: Some([10, 104, 0, 2].into()),
            started_at: Some(Timestamp(1_000)),
            ..Default::default()
        };
        self.observe(id, seen);
    }

    pub fn observe(&self, id: &AllocId, seen: AllocationStatus) {
        let seq = self.state().reports.get(&NodeId(1)).map_or(1, |last| last + 1);
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let report = fsm::command::Report { node: NodeId(1), boot: BootId(1), seq, allocations };
        self.apply(Command::Report(report)).unwrap();
    }
}

pub fn init() -> Init {
    Init {
        cluster: "prod".to_owned(),
        cluster_id: "c1".to_owned(),
        incarnation: Incarnation(1),
        subnet: [10, 104, 0, 0].into(),
        prefix: 16,
        node_name: "n1".to_owned(),
        address: "127.0.0.1".to_owned(),
        labels: BTreeMap::new(),
        peer_port: 0,
        public_key: String::new(),
        keyring: String::new(),
        ca: String::new(),
        ca_key: None,
    }
}

/// A keyring that has been opened.
fn keyring() -> Keyring {
    let own = OwnKey::new([9; 32]);
    let sealed = SealKey::new([3; 32]).for_node(&own.public(), &mut crypto_box::aead::OsRng);
    let keyring = Keyring::new(own);
    keyring.take_up(&sealed.unwrap()).unwrap();
    keyring
}
