//! A node of a test cluster: the real tree, with made-up containers and an onlooker for an API.
//!
//! Owns starting and ending it, as the daemon does.

use super::containers::{Fakes, Script};
use super::keys::{Founder, Joiner, LIFE};
use super::links::Links;
use crate::real_root::start_onlooker;
use mill::actors::peer::ca::{self, certificate_to_pem};
use mill::actors::peer::credentials::Credentials;
use mill::actors::peer::keys::NodeKeys;
use mill::actors::peer::{self, Post};
use mill::actors::raft::{self, Raft};
use mill::actors::root::{
    Args, Done, Factories, Factory, Member, Msg, Proposal, ProposeError, Root, RootRef, Supervised,
    View, Vitals, sink,
};
use mill::actors::scheduler;
use mill::cluster::trust::Fingerprint;
use mill::fsm::command::{Init, Reach, Register};
use mill::fsm::{Command, FEATURE_LEVEL};
use mill::id::{BootId, Incarnation, NodeId};
use mill::units::{Bytes, MilliCpu};
use ractor::{Actor, SpawnErr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// What a node keeps while it is ended.
#[derive(Clone)]
struct Kept {
    node: NodeId,
    dir: PathBuf,
    port: u16,
    init: Option<Init>,
    incarnation: Incarnation,
    credentials: Arc<Credentials>,
    keys: NodeKeys,
    known: BTreeMap<NodeId, String>,
    hints: BTreeMap<NodeId, String>,
    links: Links,
    script: Script,
    /// Its onlooker, which leads traffic, settles no draining.
    late: watch::Sender<bool>,
    level: u32,
}

/// A node.
pub struct TestNode {
    /// Its id.
    pub id: NodeId,
    kept: Kept,
    running: Option<Running>,
    _dir: TempDir,
}

struct Running {
    root: RootRef,
    view: watch::Receiver<Option<View>>,
    fatal: mpsc::UnboundedReceiver<String>,
}

async fn start_raft(
    kept: Kept,
    post: Arc<Post>,
    root: RootRef,
) -> Result<Supervised<raft::Msg>, SpawnErr> {
    let sink = sink(root.clone(), post, kept.level);
    let args = raft::Args { node: kept.node, dir: kept.dir, sink };
    Supervised::start(Raft, args, &root).await
}

impl Running {
    async fn new(kept: &Kept, listener: TcpListener) -> Self {
        let (seen, view) = watch::channel(None);
        let (told, fatal) = mpsc::unbounded_channel();
        let boot = BootId(rand::random());
        let post = Post::new();
        let listener = Arc::new(listener);
        let (with, to) = (kept.clone(), Arc::clone(&post));
        let raft = move |root| start_raft(with.clone(), Arc::clone(&to), root);
        let with = kept.clone();
        let peer = move |root| {
            peer::start(peer::Args {
                root,
                node: with.node,
                incarnation: with.incarnation,
                credentials: Arc::clone(&with.credentials),
                listener: Arc::clone(&listener),
                here: Some(format!("127.0.0.1:{}", with.port)),
                known: with.known.clone(),
                hints: with.hints.clone(),
                post: Arc::clone(&post),
                dial: with.links.dial(with.node.0),
                members: mill::actors::api::MemberListener::new(),
            })
        };
        let (script, late) = (kept.script.clone(), kept.late.subscribe());
        let fakes = move |root| Fakes::start(root, script.clone());
        let factories = Factories {
            raft: Some(Factory::new(raft)),
            peer: Some(Factory::new(peer)),
            container: Some(Factory::new(fakes).leading_traffic()),
            proxy: None,
            dns: None,
            scheduler: Some(Factory::new(async |root: RootRef| {
                let args = scheduler::Args { root: root.clone(), traffic: Arc::default() };
                Supervised::start(scheduler::Scheduler, args, &root).await
            })),
            api: Some(
                Factory::new(move |root| start_onlooker(root, seen.clone(), late.clone()))
                    .leading_traffic(),
            ),
            // The nodes of one process have no network, and no provider.
            mesh: None,
            provider: None,
        };
        let args = Args { boot, factories, fatal: told };
        let (root, _) = Root::spawn(None, Root, args).await.expect("root starts");
        let register = Register {
            after: None,
            reach: None,
            node: kept.node,
            boot,
            cpu: MilliCpu(2_000),
            memory: Bytes(4 << 30),
            version: "test".to_owned(),
            feature_level: kept.level,
        };
        let reach = Reach { address: "127.0.0.1".to_owned(), peer_port: kept.port };
        let register = Register { reach: Some(reach), ..register };
        let member = Member { node: kept.node, init: kept.init.clone(), register };
        root.cast(Msg::Begin(Box::new(member))).expect("root lives");
        Self { root, view, fatal }
    }
}

/// What a node has in memory of its keys; nothing is written.
fn credentials(keys: &NodeKeys, life: Duration) -> Arc<Credentials> {
    Arc::new(Credentials::new(keys, Path::new("/"), life).expect("credentials"))
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).await.expect("a port")
}

impl TestNode {
    /// The first of a cluster.
    pub(super) async fn found(founder: Founder, links: Links) -> Self {
        let listener = listen(0).await;
        let port = listener.local_addr().expect("an address").port();
        let init = Init { peer_port: port, ..founder.init };
        let kept = Kept {
            node: NodeId(1),
            dir: PathBuf::new(),
            port,
            incarnation: init.incarnation,
            init: Some(init),
            credentials: credentials(&founder.keys, LIFE),
            keys: founder.keys,
            known: BTreeMap::new(),
            hints: BTreeMap::new(),
            links,
            script: Script::default(),
            late: watch::channel(false).0,
            level: FEATURE_LEVEL,
        };
        Self::begin(kept, listener).await
    }

    /// One that joins by a member's door.
    pub(super) async fn join(
        name: &str,
        door: u16,
        token: &str,
        ca: Fingerprint,
        links: Links,
    ) -> Self {
        let listener = listen(0).await;
        let port = listener.local_addr().expect("an address").port();
        let joiner = Joiner::new(name, door, port, token, ca).await;
        let kept = Kept {
            node: joiner.node,
            dir: PathBuf::new(),
            port,
            init: None,
            incarnation: joiner.incarnation,
            credentials: credentials(&joiner.keys, LIFE),
            keys: joiner.keys,
            known: joiner.known,
            hints: BTreeMap::new(),
            links,
            script: Script::default(),
            late: watch::channel(false).0,
            level: FEATURE_LEVEL,
        };
        Self::begin(kept, listener).await
    }

    async fn begin(mut kept: Kept, listener: TcpListener) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        kept.dir = dir.path().to_owned();
        let running = Some(Running::new(&kept, listener).await);
        Self { id: kept.node, kept, running, _dir: dir }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the node runs")
    }

    /// Its peer port.
    pub fn port(&self) -> u16 {
        self.kept.port
    }

    /// Root.
    pub fn root(&self) -> &RootRef {
        &self.running().root
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What root has counted.
    pub async fn vitals(&self) -> Vitals {
        let answer = self.root().call(Msg::Vitals, None).await.expect("root lives");
        answer.success_or("gone").expect("an answer")
    }

    /// The newest view.
    pub fn view(&self) -> View {
        self.running().view.borrow().clone().expect("a view")
    }

    /// Waits for a view; fails after 20 s.
    pub async fn until(&self, what: &str, mut is: impl FnMut(&View) -> bool) -> View {
        let mut view = self.running().view.clone();
        let wait = view.wait_for(|view| view.as_ref().is_some_and(&mut is));
        let seen = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let id = self.id;
        let seen = seen.unwrap_or_else(|_| {
            let view = self.running().view.borrow();
            let view = view.as_ref().map(|v| (v.index, v.current, v.leader, &v.state.nodes));
            panic!("node {id}: not in 20 s: {what}; {view:#?}")
        });
        seen.expect("the onlooker lives").clone().expect("a view")
    }

    /// Waits until it is current and registered.
    pub async fn ready(&self) {
        let me = self.id;
        let is_ready = |view: &View| {
            let node = view.state.nodes.get(&me);
            view.current && node.is_some_and(|node| node.boot == view.boot && node.is_up())
        };
        self.until("it is ready", is_ready).await;
    }

    /// Proposes, and waits for the outcome.
    pub async fn propose(&self, command: &Command) -> Result<Done, ProposeError> {
        let ask = |reply| Msg::Propose(Proposal::new(command, None, reply));
        let answer = self.root().call(ask, None).await.expect("root lives");
        answer.success_or(ProposeError::Stopping)?
    }

    /// Whether its onlooker, which leads traffic, is late to settle a draining.
    pub fn be_late(&self, late: bool) {
        self.kept.late.send_replace(late);
    }

    /// Nobody hears it any more, though it hears the others.
    pub fn stop_heartbeats(&self) {
        self.mute(true);
    }

    /// It is heard again.
    pub fn resume_heartbeats(&self) {
        self.mute(false);
    }

    fn mute(&self, is_mute: bool) {
        let others: Vec<NodeId> = self.view().state.nodes.keys().copied().collect();
        for other in others.into_iter().filter(|id| *id != self.id) {
            self.kept.links.cut(self.id.0, other.0, is_mute);
        }
    }

    /// The next container that it is to run fails, for that reason.
    #[allow(dead_code, reason = "for tests to come")]
    pub fn fail_next_run(&self, reason: &str) {
        self.kept.script.fail_next(reason);
    }

    pub(super) async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let _ = running.root.call(Msg::Stop, Some(Duration::from_secs(20))).await;
        assert_eq!(running.fatal.try_recv().ok(), None, "node {} failed", self.id);
    }

    /// From the next start on it has a certificate that is good for a second from now.
    pub(super) fn certify_for_a_second(&mut self) {
        let state = self.view().state;
        let signer = credentials(&self.kept.keys, Duration::from_secs(1));
        let request = signer.request().expect("a request");
        let signed = signer.sign(&state, self.id, &request).expect("a certificate");
        self.kept.keys.certificate = certificate_to_pem(&signed);
        self.kept.credentials = credentials(&self.kept.keys, LIFE);
    }

    /// Whether its certificate is good now.
    pub fn is_certified(&self) -> bool {
        let shown = self.kept.credentials.trust().certificate();
        mill::cluster::trust::validity(&shown).expect("one").holds_at(ca::now())
    }

    /// Keeps a copy of its log, or puts that one back in its place.
    pub(super) fn copy_log(&self, copy: &Path, back: bool) {
        let (from, to) = if back { (copy, &*self.kept.dir) } else { (&*self.kept.dir, copy) };
        for file in std::fs::read_dir(to).expect("a folder") {
            std::fs::remove_file(file.expect("a file").path()).expect("it to go");
        }
        for file in std::fs::read_dir(from).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }

    /// From the next start on it listens elsewhere, and knows of others that do.
    pub(super) async fn move_away(&mut self, hints: BTreeMap<NodeId, String>) -> String {
        self.kept.port = listen(0).await.local_addr().expect("an address").port();
        self.kept.hints = hints;
        format!("127.0.0.1:{}", self.kept.port)
    }

    /// It is told where others are.
    pub(super) fn hint(&mut self, hints: BTreeMap<NodeId, String>) {
        self.kept.hints = hints;
    }

    /// Another version of the program is installed: from the next start on it knows this level.
    pub(super) fn install(&mut self, level: u32) {
        self.kept.level = level;
    }

    /// From the next start on it is of that life of the cluster; the one before.
    pub(super) fn reincarnate(&mut self, incarnation: Incarnation) -> Incarnation {
        std::mem::replace(&mut self.kept.incarnation, incarnation)
    }

    /// Waits until the process would end of itself, ends it, and says why.
    pub async fn failed(&mut self) -> String {
        let mut running = self.running.take().expect("the node runs");
        let why = running.fatal.recv().await.expect("root lives");
        let _ = running.root.call(Msg::Stop, Some(Duration::from_secs(20))).await;
        why
    }

    pub(super) async fn start(&mut self) {
        assert!(self.running.is_none(), "node {} runs", self.id);
        let port = self.kept.port;
        let bind = async || TcpListener::bind(("127.0.0.1", port)).await;
        let listener = crate::poll::poll_async(bind).expect_async("its port").await;
        self.running = Some(Running::new(&self.kept, listener).await);
    }
}
