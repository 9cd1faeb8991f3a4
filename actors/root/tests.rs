//! Tests of root with a real raft and scripted children.

use super::*;
use crate::actors::{api, container, raft, scheduler};
use crate::bugs::{Bug, switch};
use crate::fsm::command::Report;
use crate::fsm::loaded::ImageChange;
use crate::fsm::model::Role;
use crate::fsm::{Command, Touched};
use crate::id::Incarnation;
use ractor::{ActorProcessingErr, SpawnErr};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);

/// What a scripted child is told.
enum Script {
    View(View),
    /// Settle nothing more, until told.
    Hold,
    Release,
    Panic,
}

/// A child that settles every view at once and panics when it is told to.
struct Scripted;

struct ScriptArgs {
    child: Child,
    /// How often it had been started before.
    life: u32,
    root: RootRef,
    views: Views,
    is_held: bool,
    /// The newest view's index, if it isn't settled.
    unsettled: Option<Index>,
}

impl ScriptArgs {
    fn settle(&mut self) {
        if let Some(index) = self.unsettled.take_if(|_| !self.is_held) {
            self.root.cast(Msg::Settled { child: self.child, index }).unwrap();
        }
    }
}

impl Actor for Scripted {
    type Msg = Script;
    type State = ScriptArgs;
    type Arguments = ScriptArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Script>,
        args: ScriptArgs,
    ) -> Result<ScriptArgs, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Script>,
        message: Script,
        state: &mut ScriptArgs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Script::Panic => panic!("as the script says"),
            Script::Hold => state.is_held = true,
            Script::Release => {
                state.is_held = false;
                state.settle();
            }
            Script::View(view) => {
                state.unsettled = Some(view.index);
                state.views.send((state.child, state.life, view)).unwrap();
                state.settle();
            }
        }
        Ok(())
    }
}

type Views = mpsc::UnboundedSender<(Child, u32, View)>;

/// What the scripted children share.
#[derive(Clone, Default)]
struct Scripts {
    actors: Arc<Mutex<BTreeMap<Child, ActorRef<Script>>>>,
    starts: Arc<AtomicU32>,
}

impl Scripts {
    /// Starts a child in the place of one whose messages are `M`.
    fn factory<M: 'static>(
        &self,
        child: Child,
        views: &Views,
        view: impl Fn(M) -> Option<View> + Clone + Send + 'static,
    ) -> Option<Factory<M>> {
        let (scripts, views, lives) = (self.clone(), views.clone(), AtomicU32::new(0));
        Some(Factory::new(move |root: RootRef| {
            let life = lives.fetch_add(1, Ordering::SeqCst);
            let (root_of, views) = (root.clone(), views.clone());
            let args =
                ScriptArgs { child, life, root: root_of, views, is_held: false, unsettled: None };
            let (scripts, view) = (scripts.clone(), view.clone());
            async move {
                let cell = root.get_cell();
                let (actor, _) = Scripted::spawn_linked(None, Scripted, args, cell).await?;
                scripts.actors.lock().unwrap().insert(child, actor.clone());
                scripts.starts.fetch_add(1, Ordering::SeqCst);
                Ok(Supervised::new(actor.get_cell(), move |message| {
                    if let Some(view) = view(message) {
                        let _ = actor.cast(Script::View(view));
                    }
                }))
            }
        }))
    }
}

/// A member with a real raft in a directory of its own.
struct Tree {
    root: RootRef,
    fatal: mpsc::UnboundedReceiver<String>,
    views: mpsc::UnboundedReceiver<(Child, u32, View)>,
    /// How often a child was told to panic.
    panics: BTreeMap<Child, u32>,
    scripts: Scripts,
    /// What the scheduler is told to be settled here.
    settled: mpsc::UnboundedReceiver<Index>,
    _dir: tempfile::TempDir,
}

impl Tree {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (views_to, views) = mpsc::unbounded_channel();
        let (settled_to, settled) = mpsc::unbounded_channel();
        let scripts = Scripts::default();
        let path = dir.path().to_owned();
        let factories = Factories {
            api: scripts
                .factory(Child::Api, &views_to, |message| match message {
                    api::Msg::View(view) => Some(view),
                    _ => None,
                })
                .map(Factory::leading_traffic),
            container: scripts
                .factory(Child::Container, &views_to, |message| match message {
                    container::Msg::View(view) => Some(view),
                    _ => None,
                })
                .map(Factory::leading_traffic),
            scheduler: scripts.factory(Child::Scheduler, &views_to, move |message| match message {
                scheduler::Msg::View(view) => Some(view),
                scheduler::Msg::Settled(_, index) => {
                    settled_to.send(index).unwrap();
                    None
                }
                _ => None,
            }),
            raft: Some(Factory::new(move |root| raft_child(root, path.clone()))),
            ..Factories::default()
        };
        let (fatal_to, fatal) = mpsc::unbounded_channel();
        let args = Args { boot: BootId(7), factories, fatal: fatal_to };
        let (root, _) = Root::spawn(None, Root, args).await.unwrap();
        Self { root, fatal, views, panics: BTreeMap::new(), scripts, settled, _dir: dir }
    }

    fn begin(&self) {
        let node = NodeId(1);
        let init = Init {
            cluster: "t".into(),
            cluster_id: "0".into(),
            incarnation: Incarnation(1),
            subnet: Ipv4Addr::new(10, 99, 0, 0),
            prefix: 16,
            node_name: "n1".into(),
            address: "127.0.0.1".into(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        };
        let register = Register {
            after: None,
            reach: None,
            node,
            boot: BootId(7),
            cpu: MilliCpu(2_000),
            memory: Bytes(1_000_000_000),
            version: "0".into(),
            feature_level: 1,
        };
        let member = Member { node, init: Some(init), register };
        self.root.cast(Msg::Begin(Box::new(member))).unwrap();
    }

    /// The first view of a child that is as wanted; what it was shown before it panicked doesn't
    /// count.
    async fn view(&mut self, of: Child, is_wanted: impl Fn(&View) -> bool) -> View {
        let wait = async {
            loop {
                let (child, life, view) = self.views.recv().await.unwrap();
                let panics = self.panics.get(&of).copied().unwrap_or_default();
                if child == of && life >= panics && is_wanted(&view) {
                    return view;
                }
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("such a view")
    }

    fn panic(&mut self, child: Child) {
        *self.panics.entry(child).or_default() += 1;
        self.say(child, Script::Panic);
    }

    fn say(&self, child: Child, what: Script) {
        self.scripts.actors.lock().unwrap()[&child].cast(what).unwrap();
    }

    /// Waits until the scheduler is told that this is settled.
    async fn settled(&mut self, index: Index) {
        let wait = async { while self.settled.recv().await.unwrap() < index {} };
        tokio::time::timeout(DEADLINE, wait).await.expect("it is settled");
    }

    async fn propose(&self, command: Command) -> Result<Done, ProposeError> {
        let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
        self.root.call(ask, Some(DEADLINE)).await.unwrap().unwrap()
    }

    async fn stop(self) {
        self.root.call(Msg::Stop, Some(DEADLINE)).await.unwrap().unwrap();
    }
}

async fn raft_child(
    root: RootRef,
    dir: std::path::PathBuf,
) -> Result<Supervised<raft::Msg>, SpawnErr> {
    let to = root.clone();
    let sink: raft::Sink = Arc::new(move |event| {
        if let Some(event) = RaftEvent::decode(event, 1) {
            let _ = to.cast(Msg::Raft(event));
        }
    });
    let args = raft::Args { node: NodeId(1), dir, sink };
    Supervised::start(raft::Raft, args, &root).await
}

fn token(id: &str) -> Command {
    let (id, hash) = (id.into(), String::new());
    Command::CreateToken { id, role: Role::Read, hash, expires_at: None }
}

#[tokio::test]
async fn a_new_member_begins_its_cluster_and_registers() {
    let mut tree = Tree::new().await;
    tree.begin();
    let is_registered =
        |view: &View| view.state.nodes.get(&NodeId(1)).is_some_and(|n| n.boot == BootId(7));
    let view = tree.view(Child::Api, is_registered).await;
    assert!(view.current);
    assert_eq!(view.leader, Some(NodeId(1)));
    assert_eq!(view.state.cluster.as_ref().unwrap().name, "t");
    tree.stop().await;
}

#[tokio::test]
async fn a_change_takes_one_lap_and_reaches_every_child() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.current).await;
    let done = tree.propose(token("t1")).await.unwrap();
    for child in [Child::Container, Child::Scheduler] {
        let view = tree.view(child, |view| view.index >= done.index).await;
        assert!(view.state.tokens.contains_key(&crate::id::TokenId::from("t1")));
    }
    let refused = tree.propose(Command::RevokeToken { id: "none".into() }).await.unwrap_err();
    assert_eq!(refused.to_string(), "no token none");
    tree.stop().await;
}

#[yare::parameterized(
    api = { Child::Api },
    container = { Child::Container },
    scheduler = { Child::Scheduler },
)]
#[test_macro(tokio::test)]
async fn a_panicked_child_is_started_again_and_shown_everything(child: Child) {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(child, |view| view.current).await;
    tree.panic(child);
    let view = tree.view(child, |view| view.touched.all).await;
    assert_eq!(*view.touched, Touched { allocations: [].into(), ..Touched::everything() });
    let done = tree.propose(token("after")).await.unwrap();
    tree.view(child, |view| view.index >= done.index).await;
    assert_eq!(tree.scripts.starts.load(Ordering::SeqCst), 4);
    tree.stop().await;
}

#[tokio::test]
async fn a_node_has_settled_what_each_child_that_leads_traffic_has() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.current).await;
    let first = tree.propose(token("t1")).await.unwrap().index;
    tree.settled(first).await;
    tree.say(Child::Api, Script::Hold);
    let second = tree.propose(token("t2")).await.unwrap().index;
    // One that is shown the third has settled the second, and root knows it.
    let third = tree.propose(token("t3")).await.unwrap().index;
    tree.view(Child::Container, |view| view.index >= third).await;
    while let Ok(index) = tree.settled.try_recv() {
        assert!(index < second, "{index} is settled by one of two");
    }
    tree.say(Child::Api, Script::Release);
    tree.settled(third).await;
    tree.stop().await;
}

#[tokio::test]
async fn too_many_panics_end_the_process() {
    let mut tree = Tree::new().await;
    tree.begin();
    for _ in 0..=limits::RESTARTS_PER_WINDOW {
        tree.view(Child::Scheduler, |view| view.touched.all).await;
        tree.panic(Child::Scheduler);
    }
    let reason = tokio::time::timeout(DEADLINE, tree.fatal.recv()).await.unwrap().unwrap();
    assert!(reason.starts_with("Scheduler failed too often"), "{reason}");
    tree.stop().await;
}

#[tokio::test]
async fn a_failed_raft_ends_the_process_at_once() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.current).await;
    let fatal = raft::Event::Fatal(raft::RaftError::WriterGone.into());
    tree.root.cast(Msg::Raft(RaftEvent::decode(fatal, 1).unwrap())).unwrap();
    let reason = tokio::time::timeout(DEADLINE, tree.fatal.recv()).await.unwrap().unwrap();
    assert!(reason.contains("log"), "{reason}");
    tree.stop().await;
}

#[tokio::test]
async fn an_entry_that_panics_is_refused_and_leaves_nothing_behind() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.state.nodes.values().any(|n| n.boot == BootId(7))).await;
    switch(Some(Bug::PanicInReport(13)));
    let (node, boot) = (NodeId(1), BootId(7));
    let report = |seq| Command::Report(Report { node, boot, seq, allocations: BTreeMap::new() });
    // Together, so that they come in few batches.
    let (first, refused, again, last) = tokio::join!(
        tree.propose(token("t1")),
        tree.propose(report(13)),
        tree.propose(report(13)),
        tree.propose(report(5)),
    );
    for refused in [refused, again] {
        let text = refused.unwrap_err().to_string();
        assert!(text.ends_with("inside: a report that can't be applied"), "{text}");
    }
    first.unwrap();
    let index = last.unwrap().index;
    let view = tree.view(Child::Api, |view| view.index >= index).await;
    assert_eq!(view.state.reports.get(&node), Some(&5));
    assert_eq!(view.state.tokens.len(), 1);
    switch(None);
    tree.stop().await;
}

/// What is no command is an entry already, by an earlier version's leader.
#[tokio::test]
async fn an_entry_that_holds_no_command_is_refused_and_the_next_one_is_taken() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.state.nodes.values().any(|n| n.boot == BootId(7))).await;
    for command in [b"not json".to_vec(), Vec::new(), br#"{"evaporate": {}}"#.to_vec()] {
        let ask = |reply| {
            let (command, idempotency_key) = (Ok(command), None);
            Msg::Propose(Proposal { command, needs: 1, idempotency_key, reply })
        };
        let refused = tree.root.call(ask, Some(DEADLINE)).await.unwrap().unwrap();
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, "the entry holds no command of this version");
    }
    let done = tree.propose(token("after")).await.unwrap();
    tree.view(Child::Api, |view| view.index >= done.index).await;
    assert_eq!(tree.fatal.try_recv().ok(), None);
    tree.stop().await;
}

#[tokio::test]
async fn what_not_every_node_knows_is_refused() {
    let mut tree = Tree::new().await;
    tree.begin();
    tree.view(Child::Api, |view| view.state.nodes.values().any(|n| n.boot == BootId(7))).await;
    let change = ImageChange::Remove { reference: "r".to_owned(), digest: None };
    let refused = tree.propose(Command::Images(change)).await.unwrap_err().to_string();
    assert!(refused.starts_with("not every node has the version"), "{refused}");
    tree.stop().await;
}

#[tokio::test]
async fn before_it_is_a_member_a_node_refuses_changes() {
    let tree = Tree::new().await;
    assert!(matches!(tree.propose(token("t")).await, Err(ProposeError::NoLeader)));
    tree.stop().await;
}
