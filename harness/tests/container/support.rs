//! A node with real containers and a scripted root: the state is the real one, its log a counter.
//!
//! Owns a data directory, a private containerd and a registry; all of it is gone when it is
//! dropped, also after a failure.

use super::parts::platform;
use super::proxy::Proxy;
use crate::poll::poll_async;
use crate::registry::{Registry, run};
use mill::actors::container::{self, Args, Container};
use mill::actors::platform::Platform;
use mill::actors::platform::containerd::TaskState;
use mill::actors::platform::private_containerd::Daemon;
use mill::actors::root::{Done, Msg, NodeUsage, RootRef, Supervised, View};
use mill::fsm::command::{Action, Deploy, Init, Place, Register, Steps};
use mill::fsm::model::{Allocation, AllocationStatus, DeployKind, Phase, WorkloadSpec};
use mill::fsm::{self, Command, Entry, SessionStep, Touched};
use mill::id::{AllocId, BootId, ContainerId, Incarnation, Index, NodeId, SpecHash};
use mill::spec::model::{
    HealthProbe, HealthSpec, PortSpec, RunSpec, ServiceSpec, StopSpec, UpdateOrder, UpdateSpec,
};
use mill::units::{Bytes, MilliCpu, Millis, Timestamp};
use nix::fcntl::{Flock, FlockArg};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// A node.
pub struct Node {
    pub registry: Registry,
    pub platform: Arc<Platform>,
    root: RootRef,
    script: Arc<Mutex<Script>>,
    private: Option<Daemon>,
    folder: PathBuf,
    /// Stands for the API's port.
    pub not_for_containers: TcpListener,
    _lock: Flock<File>,
}

/// What the scripted root keeps, in the test's hand.
#[derive(Default)]
pub struct Script {
    pub state: fsm::State,
    pub current: bool,
    pub removed: bool,
    pub settled: Index,
    handle: Option<Supervised<container::Msg>>,
    busy: bool,
    behind: bool,
    touched: Touched,
    boot: BootId,
}

struct Root;

impl Actor for Root {
    type Msg = Msg;
    type State = Arc<Mutex<Script>>;
    type Arguments = Arc<Mutex<Script>>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        script: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(script)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        script: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut script = script.lock().unwrap();
        match message {
            Msg::Propose(proposal) => {
                let result =
                    script.apply(serde_json::from_slice(&proposal.command.unwrap()).unwrap());
                let _ = proposal.reply.send(result.map_err(Into::into));
            }
            Msg::Settled { index, .. } => {
                script.settled = script.settled.max(index);
                script.busy = false;
                script.show();
            }
            _ => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Msg>,
        event: ractor::SupervisionEvent,
        _script: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        println!("root hears: {event:?}");
        Ok(())
    }
}

impl Script {
    fn apply(&mut self, command: Command) -> Result<Done, fsm::Rejection> {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let time = Timestamp(u64::try_from(wall.as_millis()).unwrap());
        let index = Index(self.state.index.0 + 1);
        let session = SessionStep::default();
        let entry = Entry { time, session, idempotency_key: None, command };
        let applied = fsm::apply(&mut self.state, index, entry);
        self.touched.merge(&applied.touched);
        self.behind = true;
        self.show();
        applied.outcome.map(|outcome| Done { index, outcome })
    }

    fn show(&mut self) {
        let Some(handle) = self.handle.as_ref().filter(|_| self.behind && !self.busy) else {
            return;
        };
        self.behind = false;
        self.busy = true;
        handle.tell(container::Msg::View(View {
            index: self.state.index,
            state: Arc::new(self.state.clone()),
            touched: Arc::new(std::mem::take(&mut self.touched)),
            current: self.current,
            leader: Some(NodeId(1)),
            node: NodeId(1),
            time: None,
            boot: self.boot,
            removed: self.removed,
        }));
    }
}

/// A free subnet for a test, a /21 of 10.101.0.0/16.
fn claim() -> (Flock<File>, Ipv4Addr, PathBuf) {
    let base = std::env::temp_dir().join("mill-container");
    std::fs::create_dir_all(&base).unwrap();
    for number in 0..32u8 {
        let file = File::create(base.join(format!("{number}.lock"))).unwrap();
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            let folder = base.join(number.to_string());
            return (lock, Ipv4Addr::new(10, 101, number * 8, 0), folder);
        }
    }
    panic!("a free subnet");
}

impl Node {
    pub async fn start() -> Self {
        Self::behind(None).await
    }

    /// One that reaches containerd through a proxy.
    pub async fn start_behind(proxy: &mut Proxy) -> Self {
        Self::behind(Some(proxy)).await
    }

    async fn behind(proxy: Option<&mut Proxy>) -> Self {
        // Somebody else may have done so: once for a process is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (lock, first, folder) = claim();
        sweep(&folder);
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let not_for_containers = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = not_for_containers.local_addr().unwrap().port();
        let (platform, private) = platform(&data, first, port, proxy).await;
        let platform = Arc::new(platform);
        let script = Script { current: true, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let (root, _) = Root::spawn(None, Root, Arc::clone(&script)).await.unwrap();
        let registry = tokio::task::spawn_blocking(Registry::start).await.unwrap();
        let private = Some(private);
        let node = Self {
            registry,
            platform,
            root,
            script,
            private,
            folder,
            not_for_containers,
            _lock: lock,
        };
        node.command(Command::Init(Init {
            cluster: "test".into(),
            cluster_id: "c0ffee".into(),
            incarnation: Incarnation(1),
            subnet: Ipv4Addr::new(10, 101, 0, 0),
            prefix: 16,
            node_name: "n1".into(),
            address: "127.0.0.1".into(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        }));
        node.begin_life(1).await;
        node
    }

    /// Starts the container actor in a new life of the node.
    pub async fn begin_life(&self, boot: u64) {
        self.script().boot = BootId(boot);
        self.command(Command::Register(Register {
            after: None,
            reach: None,
            node: NodeId(1),
            boot: BootId(boot),
            cpu: MilliCpu(64_000),
            memory: Bytes(64_000_000_000),
            version: "test".into(),
            feature_level: 1,
        }));
        let args = Args { root: self.root.clone(), platform: Arc::clone(&self.platform) };
        let handle = Supervised::start(Container, args, &self.root).await.unwrap();
        let mut script = self.script();
        script.handle = Some(handle);
        script.busy = false;
        script.behind = true;
        script.touched = Touched::everything();
        script.show();
    }

    /// Ends the container actor without a word, as a crash does.
    pub async fn crash(&self) {
        let allocs = self.allocs();
        let handle = self.script().handle.take().unwrap();
        handle.cell.kill();
        // All of them, as a process ends: one that is still there would go on with what it was at.
        let has_ended =
            |cell: &ractor::ActorCell| cell.get_status() == ractor::ActorStatus::Stopped;
        let ended = || has_ended(&handle.cell) && allocs.iter().all(has_ended);
        poll_async(async || ended()).expect_async("the actors' end").await;
    }

    /// The cells of the allocations' actors.
    pub fn allocs(&self) -> Vec<ractor::ActorCell> {
        self.script().handle.as_ref().unwrap().cell.get_children()
    }

    /// Tells the container actor something.
    pub fn tell(&self, message: container::Msg) {
        self.script().handle.as_ref().unwrap().tell(message);
    }

    /// The root of a running container's files, through its process.
    pub async fn files(&self, id: &AllocId) -> PathBuf {
        let containers = self.containers().await;
        let (_, process) = containers.iter().find(|(of, _)| of.parts().unwrap().0 == *id).unwrap();
        PathBuf::from(format!("/proc/{}/root", process.unwrap()))
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Hands out a view although nothing changed.
    pub fn show(&self) {
        let mut script = self.script();
        script.behind = true;
        script.show();
    }

    #[track_caller]
    pub fn command(&self, command: Command) {
        self.script().apply(command).unwrap();
    }

    /// Another member says that the node was removed.
    pub fn remove(&self) {
        let mut script = self.script();
        (script.removed, script.behind) = (true, true);
        script.show();
    }

    /// A service of one of the small images.
    pub async fn service(&self, image: &str) -> ServiceSpec {
        let reference = self.registry.image(image);
        let digest = self.platform.images.resolve(&reference).await.unwrap();
        let run =
            RunSpec { digest: Some(digest), memory: Bytes(64_000_000), ..RunSpec::of(reference) };
        ServiceSpec {
            run,
            ports: Vec::new(),
            replicas: 1,
            health: HealthSpec {
                explicit: false,
                probe: HealthProbe::Uptime,
                interval: Millis(200),
                timeout: Millis::secs(2),
                grace: Millis::secs(30),
                host: None,
            },
            routes: Vec::new(),
            publish: Vec::new(),
            update: UpdateSpec {
                max_parallel: 1,
                order: UpdateOrder::StartFirst,
                healthy_deadline: Millis::secs(60),
                canary: None,
            },
            before_deploy: Vec::new(),
            after_deploy: Vec::new(),
            stop: StopSpec { signal: None, grace: Millis::secs(10) },
        }
    }

    /// The web server of the small images, probed by HTTP.
    pub async fn hello(&self) -> ServiceSpec {
        let mut service = self.service("hello:v1").await;
        service.ports = vec![PortSpec { port: 8080, name: None }];
        service.health.probe = HealthProbe::Http("/".into());
        service
    }

    pub fn deploy(&self, name: &str, service: ServiceSpec) -> SpecHash {
        let spec = WorkloadSpec::Service(service);
        self.command(Command::Deploy(Deploy {
            app: name.into(),
            kind: DeployKind::Up,
            base: None,
            services: BTreeMap::from([(name.into(), spec.clone())]),
            tasks: BTreeMap::new(),
            file: String::new(),
            replace: true,
            plan: None,
        }));
        spec.store().0
    }

    fn act(&self, actions: Vec<Action>) {
        self.command(Command::Steps(Steps { planned: BTreeMap::new(), actions }));
    }

    /// Places replicas; the ids are `NAME-N-test`.
    pub fn place(&self, name: &str, spec: &SpecHash, count: u32) -> Vec<AllocId> {
        let id = |replica| AllocId::from(format!("{name}-{replica}-test"));
        let place = |replica| {
            let (workload, node, spec) = (name.into(), NodeId(1), spec.clone());
            Action::Place(Place { id: id(replica), workload, replica, node, spec, replaces: None })
        };
        self.act((0..count).map(place).collect());
        (0..count).map(id).collect()
    }

    /// Deploys a service and places one replica.
    pub fn run(&self, name: &str, service: ServiceSpec) -> AllocId {
        let spec = self.deploy(name, service);
        self.place(name, &spec, 1).remove(0)
    }

    /// Drains and stops an allocation.
    pub fn stop(&self, id: &AllocId) {
        self.act(vec![Action::Drain { allocation: id.clone() }]);
        self.act(vec![Action::Stop { allocation: id.clone() }]);
    }

    pub fn allocation(&self, id: &AllocId) -> Arc<Allocation> {
        Arc::clone(&self.script().state.allocations[id])
    }

    pub fn seen(&self, id: &AllocId) -> AllocationStatus {
        self.allocation(id).observed.clone()
    }

    /// Waits until what is seen of an allocation is so.
    #[track_caller]
    pub fn until(
        &self,
        id: &AllocId,
        what: &str,
        holds: impl Fn(&AllocationStatus) -> bool,
    ) -> impl Future<Output = AllocationStatus> {
        poll_async(move || {
            let seen = self.seen(id);
            std::future::ready(if holds(&seen) { Ok(seen) } else { Err(seen) })
        })
        .secs(30)
        .expect_async(what)
    }

    #[track_caller]
    pub fn healthy(&self, id: &AllocId) -> impl Future<Output = AllocationStatus> {
        let is = |seen: &AllocationStatus| seen.health == mill::fsm::model::Health::Healthy;
        self.until(id, "it to be healthy", is)
    }

    #[track_caller]
    pub fn phase(&self, id: &AllocId, phase: Phase) -> impl Future<Output = AllocationStatus> {
        self.until(id, "the phase", move |seen| seen.phase == phase)
    }

    /// The containers that exist, with the process id of those that run.
    pub async fn containers(&self) -> BTreeMap<ContainerId, Option<u32>> {
        let found = self.platform.containerd.list().await.unwrap();
        let pid = |task| match task {
            TaskState::Running { pid } => Some(pid),
            _ => None,
        };
        found.into_iter().map(|found| (found.id, pid(found.task))).collect()
    }

    pub async fn usage(&self) -> NodeUsage {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.tell(container::Msg::Usage(sender.into()));
        receiver.await.unwrap()
    }

    /// Whether nothing is left of the node on this machine but for its data directory.
    pub fn nothing_left(&self) -> Result<(), String> {
        let left = self.left();
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    pub fn left(&self) -> String {
        let instance = &self.platform.places.instance;
        let links = run(Process::new("ip").args(["-o", "link"]));
        let rules = run(Process::new("nft").args(["list", "tables"]));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = links.lines().chain(rules.lines()).chain(mounts.lines());
        lines.filter(|line| line.contains(instance)).map(|line| format!("{line}\n")).collect()
    }
}

fn sweep(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/sweep");
    run(Process::new(script).arg(folder.join("data")));
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(handle) = self.script.lock().unwrap_or_else(|e| e.into_inner()).handle.take() {
            handle.cell.kill();
        }
        // Nobody may start it again while it is swept away.
        drop(self.private.take());
        sweep(&self.folder);
    }
}
