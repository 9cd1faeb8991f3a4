//! The real root over the real log, with one child that only looks on.
//!
//! Owns what the daemon does for them. Never a container, a socket or a scheduler.

use mill::actors::api;
use mill::actors::raft::{self, Raft};
use mill::actors::root::{
    Args, Child, Done, Factories, Factory, Member, Msg, Proposal, ProposeError, RaftEvent, Root,
    RootRef, Supervised, View,
};
use mill::fsm::command::{Init, Register};
use mill::fsm::model::{Allocation, Desired, Role};
use mill::fsm::{Command, FEATURE_LEVEL};
use mill::id::{BootId, Incarnation, NodeId};
use mill::secret::Sealed;
use mill::units::{Bytes, MilliCpu};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A child that keeps the newest view and has settled it at once.
struct Onlooker;

/// While it is set, an onlooker settles no view in which something drains.
pub type Late = watch::Receiver<bool>;

/// Settles every view at once.
#[must_use]
pub fn in_time() -> Late {
    watch::channel(false).1
}

type Seen = watch::Sender<Option<View>>;

impl Actor for Onlooker {
    type Msg = View;
    type State = (RootRef, Seen, Late);
    type Arguments = (RootRef, Seen, Late);

    async fn pre_start(
        &self,
        _myself: ActorRef<View>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<View>,
        view: View,
        (root, seen, late): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let index = view.index;
        let drains = |one: &Arc<Allocation>| matches!(one.desired, Desired::Draining { .. });
        let waits = view.state.allocations.values().any(drains);
        seen.send_replace(Some(view));
        let (root, mut late) = (root.clone(), late.clone());
        let settle = async move {
            // Without anybody to release it, it has never been held.
            let _ = late.wait_for(|late| !late || !waits).await;
            let _ = root.cast(Msg::Settled { child: Child::Api, index });
        };
        tokio::spawn(settle);
        Ok(())
    }
}

async fn start_raft(
    dir: PathBuf,
    level: u32,
    root: RootRef,
) -> Result<Supervised<raft::Msg>, SpawnErr> {
    let to = root.clone();
    let sink: raft::Sink = Arc::new(move |event| {
        if let Some(event) = RaftEvent::decode(event, level) {
            let _ = to.cast(Msg::Raft(event));
        }
    });
    let args = raft::Args { node: NodeId(1), dir, sink };
    Supervised::start(Raft, args, &root).await
}

/// Starts an onlooker in the place of the API.
pub async fn start_onlooker(
    root: RootRef,
    seen: Seen,
    late: Late,
) -> Result<Supervised<api::Msg>, SpawnErr> {
    let cell = root.get_cell();
    let (actor, _) = Onlooker::spawn_linked(None, Onlooker, (root, seen, late), cell).await?;
    Ok(Supervised::new(actor.get_cell(), move |message| {
        if let api::Msg::View(view) = message {
            let _ = actor.cast(view);
        }
    }))
}

/// A running root.
pub struct RealRoot {
    root: RootRef,
    view: watch::Receiver<Option<View>>,
    fatal: mpsc::UnboundedReceiver<String>,
}

impl RealRoot {
    /// Starts node 1 of a cluster of its own, with its log in `dir`, and waits until it is current.
    pub async fn start(dir: &Path, boot: u64) -> Self {
        Self::start_at(dir, boot, FEATURE_LEVEL).await
    }

    /// The same with a build that knows this feature level.
    pub async fn start_at(dir: &Path, boot: u64, level: u32) -> Self {
        let real = Self::begin(dir, boot, level).await;
        let boot = BootId(boot);
        real.until("registered and current", |v| {
            v.current && v.state.nodes.values().any(|n| n.boot == boot)
        })
        .await;
        real
    }

    /// Why a build that knows this feature level ends by itself.
    pub async fn refusal(dir: &Path, boot: u64, level: u32) -> String {
        let mut real = Self::begin(dir, boot, level).await;
        let why = tokio::time::timeout(Duration::from_secs(20), real.fatal.recv()).await;
        let why = why.expect("it ends in 20 s").expect("root lives");
        real.stop().await;
        why
    }

    async fn begin(dir: &Path, boot: u64, level: u32) -> Self {
        let (seen, view) = watch::channel(None);
        let (told, fatal) = mpsc::unbounded_channel();
        let dir = dir.to_owned();
        let factories = Factories {
            raft: Some(Factory::new(move |root| start_raft(dir.clone(), level, root))),
            api: Some(Factory::new(move |root| start_onlooker(root, seen.clone(), in_time()))),
            ..Factories::default()
        };
        let boot = BootId(boot);
        let args = Args { boot, factories, fatal: told };
        let (root, _) = Root::spawn(None, Root, args).await.expect("root starts");
        let init = Init {
            cluster: "bench".to_owned(),
            cluster_id: "00".to_owned(),
            incarnation: Incarnation(1),
            subnet: [10, 77, 0, 0].into(),
            prefix: 16,
            node_name: "n1".to_owned(),
            address: "127.0.0.1".to_owned(),
            labels: Default::default(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: Some(Sealed { key: "k1".to_owned(), text: "the authority's".to_owned() }),
        };
        let register = Register {
            after: None,
            reach: None,
            node: NodeId(1),
            boot,
            cpu: MilliCpu(1000),
            memory: Bytes(1 << 30),
            version: "test".to_owned(),
            feature_level: level,
        };
        let member = Member { node: NodeId(1), init: Some(init), register };
        root.cast(Msg::Begin(Box::new(member))).expect("root lives");
        Self { root, view, fatal }
    }

    /// The newest view.
    pub fn view(&self) -> View {
        self.view.borrow().clone().expect("a view")
    }

    /// Waits for a view; fails after 20 s.
    pub async fn until(&self, what: &str, mut is: impl FnMut(&View) -> bool) -> View {
        let mut view = self.view.clone();
        let wait = view.wait_for(|v| v.as_ref().is_some_and(&mut is));
        let seen = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let seen = seen.unwrap_or_else(|_| panic!("not in 20 s: {what}; {:?}", self.view.borrow()));
        seen.expect("the onlooker lives").clone().expect("a view")
    }

    /// Lets a token in, its hash so long that the entry has `size` bytes or a few more.
    pub async fn token(&self, id: &str, size: usize) -> Result<Done, ProposeError> {
        let hash = "0".repeat(size.saturating_sub(120));
        let command =
            Command::CreateToken { id: id.into(), role: Role::Read, hash, expires_at: None };
        self.propose(&command).await
    }

    /// Proposes, and waits for the outcome.
    pub async fn propose(&self, command: &Command) -> Result<Done, ProposeError> {
        let proposal = |reply| Msg::Propose(Proposal::new(command, None, reply));
        let answer = self.root.call(proposal, None).await.expect("root lives");
        answer.success_or(ProposeError::Stopping)?
    }

    /// Why it would have ended the process, if it did.
    pub fn failed(&mut self) -> Option<String> {
        self.fatal.try_recv().ok()
    }

    /// Stops all.
    pub async fn stop(self) {
        let _ = self.root.call(Msg::Stop, Some(Duration::from_secs(20))).await;
    }
}
