//! A root that applies every change at once, stores that are scripted, and an HTTP client.
//!
//! Never a test itself.

use crate::actors::api::listener::LocalSocket;
use crate::actors::api::{self, ApiError, Args, Bounds, Doors, ImageStore, Lines, LogSource};
use crate::actors::api::{Standing, StoreError};
use crate::actors::container::logs::{Event, LogLine, LogTime, Query, Stream};
use crate::actors::root::{Done, Handle, Msg, NodeUsage, ProposeError, RootRef, ToChild, View};
use crate::fsm::command::{Init, Register};
use crate::fsm::model::{DeployStatus, Health, Observed, Phase, Role};
use crate::fsm::{self, Command, Entry, Outcome, SessionStep};
use crate::id::{AllocId, BootId, Digest, Incarnation, Index, NodeId, Revision};
use crate::revise::ResolveError;
use crate::token;
use crate::units::{Bytes, MilliCpu, Timestamp};
use crate::wire::{ErrorDocument, ImageView, InitView};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Longer than anything in these tests takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake root shares with a test.
#[derive(Default)]
pub struct Shared {
    pub state: fsm::State,
    handle: Option<Handle>,
    /// It is not shown to the API.
    hidden: bool,
    /// Nobody confirms a reading.
    pub unconfirmed: bool,
    /// Every proposal is refused so.
    pub refuse: Option<ProposeError>,
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
            node: NodeId(1),
            boot: BootId(1),
        };
        if let Some(handle) = &self.handle {
            (handle.tell)(ToChild::View(view));
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
                let result = shared.apply(proposal.command, proposal.idempotency_key);
                let _ = proposal.reply.send(result);
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

/// Images by reference; what isn't there isn't found.
#[derive(Default)]
pub struct FakeImages {
    pub known: Mutex<BTreeMap<String, Result<Digest, ResolveError>>>,
    pub loaded: Mutex<Vec<u8>>,
}

impl FakeImages {
    pub fn know(&self, reference: &str, digest: &str) {
        let digest = Digest::from(digest);
        self.known.lock().unwrap().insert(reference.to_owned(), Ok(digest));
    }

    pub fn outage(&self) {
        for (reference, known) in self.known.lock().unwrap().iter_mut() {
            let (reference, reason) = (reference.clone(), "connection refused".to_owned());
            *known = Err(ResolveError::Unreachable { reference, reason });
        }
    }
}

impl ImageStore for FakeImages {
    fn resolve(&self, reference: String) -> BoxFuture<'_, Result<Digest, ResolveError>> {
        assert_ne!(reference, "panic", "a panic in a handler");
        let found = self.known.lock().unwrap().get(&reference).cloned();
        let not_found = Err(ResolveError::NotFound { reference });
        Box::pin(async move { found.unwrap_or(not_found) })
    }

    fn load(
        &self,
        mut archive: Pin<Box<dyn AsyncRead + Send>>,
    ) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            let read = archive.read_to_end(&mut bytes).await;
            read.map_err(|error| StoreError::Input { reason: error.to_string() })?;
            if bytes.starts_with(b"bad") {
                return Err(StoreError::Input { reason: "not an archive".to_owned() });
            }
            *self.loaded.lock().unwrap() = bytes;
            self.list().await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        let known = self.known.lock().unwrap();
        let images = known.iter().filter_map(|(reference, digest)| {
            Some(ImageView {
                reference: reference.clone(),
                digest: digest.as_ref().ok()?.0.clone(),
                size: 10,
                loaded: true,
                used: false,
            })
        });
        let images: Vec<ImageView> = images.collect();
        Box::pin(async move { Ok(images) })
    }

    fn remove(&self, reference: String) -> BoxFuture<'_, Result<bool, StoreError>> {
        let removed = self.known.lock().unwrap().remove(&reference).is_some();
        Box::pin(async move { Ok(removed) })
    }
}

/// Logs of which each allocation has the same three lines, and more when told.
pub struct FakeLogs {
    pub more: watch::Sender<u64>,
}

impl LogSource for FakeLogs {
    fn read(&self, allocation: &AllocId, query: Query) -> std::io::Result<Lines> {
        let line = |n: u64, allocation: AllocId| {
            let (ts, stream) = (LogTime(n * 1_000_000), Stream::Stdout);
            Event::Line(LogLine { ts, stream, line: format!("line {n}"), allocation })
        };
        let id = allocation.clone();
        let own = id.0.bytes().map(u64::from).sum::<u64>() % 100;
        let numbers = (1..=3)
            .map(|n| n * 1000 + own)
            .filter(|n| query.since.is_none_or(|since| LogTime(n * 1_000_000) >= since));
        let mut events: Vec<Event> = numbers.map(|n| line(n, id.clone())).collect();
        events.push(Event::CaughtUp);
        let history = futures_util::stream::iter(events);
        if !query.follow {
            return Ok(Box::pin(history));
        }
        let more = futures_util::stream::unfold(self.more.subscribe(), move |mut more| {
            let id = id.clone();
            async move {
                more.changed().await.ok()?;
                let n = *more.borrow_and_update();
                Some((line(n, id), more))
            }
        });
        Ok(Box::pin(futures_util::StreamExt::chain(history, more)))
    }
}

/// A running API over a fake root.
pub struct Node {
    pub shared: Arc<Mutex<Shared>>,
    pub root: RootRef,
    pub images: Arc<FakeImages>,
    pub logs: Arc<FakeLogs>,
    pub tcp: std::net::SocketAddr,
    pub args: Args,
    pub standing: watch::Sender<Standing>,
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
        let node = Self::unclaimed(bounds).await;
        node.claim();
        node.apply(Command::Init(init())).unwrap();
        node.apply(Command::Register(Register {
            node: NodeId(1),
            boot: BootId(1),
            cpu: MilliCpu(4_000),
            memory: Bytes(8_000_000_000),
            version: "0.1.0".to_owned(),
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
        let (standing, seen) = watch::channel(Standing::Unclaimed);
        let init = Arc::new(|request: crate::wire::InitRequest| {
            let answer = InitView {
                cluster: request.cluster.unwrap_or_default(),
                node: "n1".to_owned(),
                token: "t".to_owned(),
                join: "mill join".to_owned(),
            };
            Box::pin(async move { Ok::<_, ApiError>(answer) }) as BoxFuture<'static, _>
        });
        let doors = Doors { images: Arc::clone(&images) as _, logs: Arc::clone(&logs) as _, init };
        let local = Arc::new(local);
        let args = Args { root: root.clone(), local, standing: seen, doors, dev: false, bounds };
        let tcp = listener.local_addr().unwrap();
        let node = Self { shared, root, images, logs, tcp, args, standing, directory, listener };
        node.boot().await;
        node
    }

    /// Starts the API, or starts it again.
    pub async fn boot(&self) {
        let handle = api::start(self.args.clone()).await.unwrap();
        let mut shared = self.shared.lock().unwrap();
        shared.handle = Some(handle);
        if shared.state.cluster.is_some() {
            shared.show();
        }
    }

    pub fn claim(&self) {
        let tcp = vec![Arc::clone(&self.listener)];
        self.standing.send_replace(Standing::Member { tcp });
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
        let minted = token::mint(rand::random(), rand::random());
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
        let state = self.state();
        let name = service.into();
        let target = state.owner(&name).unwrap().services[&name].target.clone().unwrap();
        let id = AllocId::service(&name, replica, rand::random());
        self.steps(fsm::command::Action::Place(fsm::command::Place {
            id: id.clone(),
            workload: name,
            replica,
            node: NodeId(1),
            spec: target,
            replaces: None,
        }));
        self.report(&id, Phase::Running, Health::Healthy);
        id
    }

    /// Reports on an allocation, as its node would.
    pub fn report(&self, id: &AllocId, phase: Phase, health: Health) {
        let seq = self.state().nodes[&NodeId(1)].report_seq + 1;
        let seen = Observed {
            attempt: crate::id::Attempt(1),
            phase,
            health,
            address: Some([10, 104, 0, 2].into()),
            started_at: Some(Timestamp(1_000)),
            ..Default::default()
        };
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
    }
}

enum Target {
    Local(std::path::PathBuf),
    Network(std::net::SocketAddr),
}

/// A client that opens a connection for each request.
pub struct Client {
    target: Target,
    headers: Vec<(&'static str, String)>,
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of the error document.
    pub fn code(&self) -> String {
        self.json::<ErrorDocument>().error.code
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub async fn send(&self, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
        let body = http_body_util::Full::new(body.into());
        let all = async {
            let response = self.open(method, path, body).await;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            Answer { status, headers, body }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("an answer")
    }

    /// Opens a stream of events.
    pub async fn events(&self, method: &str, path: &str, body: &str) -> Events {
        let body = http_body_util::Full::new(bytes::Bytes::from(body.to_owned()));
        let response = self.open(method, path, body).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    pub async fn open<B>(
        &self,
        method: &str,
        path: &str,
        body: B,
    ) -> hyper::Response<hyper::body::Incoming>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", "mill");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).unwrap();
        match &self.target {
            Target::Local(path) => send(UnixStream::connect(path).await.unwrap(), request).await,
            Target::Network(at) => send(TcpStream::connect(at).await.unwrap(), request).await,
        }
    }
}

async fn send<I, B>(io: I, request: hyper::Request<B>) -> hyper::Response<hyper::body::Incoming>
where
    I: AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// Events as they come.
pub struct Events {
    body: hyper::body::Incoming,
    text: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sse {
    pub name: String,
    pub id: String,
    pub data: serde_json::Value,
}

impl Events {
    /// The next event, or nothing at the end of the stream.
    pub async fn next(&mut self) -> Option<Sse> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event or the end")
    }

    async fn read(&mut self) -> Option<Sse> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    let line = event.lines().find_map(|line| line.strip_prefix(&prefix));
                    line.unwrap_or_default().to_owned()
                };
                let (name, id, data) = (field("event"), field("id"), field("data"));
                self.text = rest.to_owned();
                if data.is_empty() {
                    continue;
                }
                return Some(Sse { name, id, data: serde_json::from_str(&data).unwrap() });
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// Waits until the stream ends or breaks off.
    pub async fn broken(&mut self) {
        let end = async { while let Some(Ok(_)) = self.body.frame().await {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the stream breaks off");
    }

    /// All events up to the end.
    pub async fn rest(mut self) -> Vec<Sse> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}
