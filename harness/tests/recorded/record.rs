//! Writes the recording of the version that runs this: `make record`.
//!
//! Owns the script: every command once at least, on the real root over the real log. Never runs
//! with the other tests.

use crate::real_root::RealRoot;
use flate2::Compression;
use flate2::write::GzEncoder;
use mill::actors::raft::{self, Event, Raft};
use mill::actors::root::RaftEvent;
use mill::fsm::command::{
    Action, Deploy, Join, Members, Register, Report, RunAction, Spawn, Spawned, Steps,
};
use mill::fsm::keys::{Resealed, Rotate};
use mill::fsm::model::{
    AllocationStatus, DeployKind, Desired, Exit, ExitReason, Health, Phase, Role, WorkloadSpec,
};
use mill::fsm::{Command, Entry, State};
use mill::id::{AllocId, Attempt, BootId, Index, NodeId, WorkloadName};
use mill::scheduler::plan::{self, Scope, plan};
use mill::secret::Sealed;
use mill::spec;
use mill::units::{Bytes, MilliCpu, Millis};
use ractor::Actor;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use tokio::sync::mpsc;

/// The entries of a log up to an index, as a build of a level reads them.
pub(super) async fn entries(dir: &Path, level: u32, until: u64) -> Vec<(Index, Option<Entry>)> {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(|one| one.unwrap().path()) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink: raft::Sink = std::sync::Arc::new(move |event: Event| {
        let _ = sender.send(RaftEvent::decode(event, level));
    });
    let args = raft::Args { node: NodeId(1), dir: copy.path().to_owned(), sink };
    let (actor, ended) = Raft::spawn(None, Raft, args).await.unwrap();
    let mut all = Vec::new();
    while all.last().is_none_or(|(index, _): &(Index, _)| index.0 < until) {
        match events.recv().await.unwrap() {
            Some(RaftEvent::Committed(entries)) => {
                all.extend(entries.into_iter().map(|one| (one.index, one.entry)));
                let last = all.last().unwrap().0;
                let _ = actor.cast(raft::Msg::Applied(last));
            }
            Some(RaftEvent::Fatal(why)) => panic!("{why}"),
            _ => {}
        }
    }
    let _ = actor.cast(raft::Msg::Stop);
    ended.await.unwrap();
    all.retain(|(index, _)| index.0 <= until);
    all
}

/// The app in its first version.
const FILE: &str = r#"
app "shop"
service "web" {
    image "registry.example.com/web:v1"
    command "/bin/server" "--port" "3000"
    user "1000:1000"
    port 3000
    port 9001 name="admin"
    replicas 2
    cpu 0.25
    memory "128M"
    env { MODE "a"; API "http://${service.api.address}" }
    health "/healthz" interval="5s" timeout="2s" grace="30s"
    route "app.example.com" path="/"
    volume "scratch" path="/tmp/cache" ephemeral=#true
    update max-parallel=1 order="start-first" healthy-deadline="60s"
    before-deploy "migrate"
    after-deploy "warm"
    stop signal="SIGTERM" grace="10s"
}
service "api" {
    image "registry.example.com/api:v4"
    port 4000
    publish 14000
    cpu 0.1
    memory "64M"
    health exec="true"
    update order="stop-first"
    constraint "zone" "eu-1"
}
task "migrate" { image "registry.example.com/web:v1"; timeout "5m"; cpu 0.1; memory "32M" }
task "warm" { image "registry.example.com/web:v1"; cpu 0.1; memory "32M" }
task "report" { image "example.com/report:v3"; schedule "0 3 * * *"; cpu 0.1; memory "32M" }
"#;

struct Script {
    real: RealRoot,
    seq: u64,
    made: u64,
}

fn exit(code: i32, reason: ExitReason) -> Option<Exit> {
    Some(Exit { code: Some(code), reason, message: Some("the last line".to_owned()) })
}

impl Script {
    fn state(&self) -> std::sync::Arc<State> {
        self.real.view().state
    }

    async fn change(&self, command: Command) {
        let done = self.real.propose(&command).await;
        let done = done.unwrap_or_else(|error| panic!("{error}: {command:?}"));
        self.real.until("it is applied", |view| view.index >= done.index).await;
    }

    async fn act(&self, action: Action) {
        let actions = vec![action];
        self.change(Command::Steps(Steps { planned: BTreeMap::new(), actions })).await;
    }

    async fn deploy(&self, file: &str, kind: DeployKind) {
        let parsed = spec::parse("file", file).unwrap();
        let services = parsed.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        let tasks = parsed.tasks.into_iter().map(|(n, t)| (n, WorkloadSpec::Task(t)));
        self.change(Command::Deploy(Deploy {
            app: parsed.app,
            kind,
            base: None,
            services: services.collect(),
            tasks: tasks.collect(),
            file: file.to_owned(),
            replace: true,
            plan: None,
        }))
        .await;
    }

    /// Carries out what the planner finds until there is nothing; nodes have settled everything.
    async fn settle(&mut self) {
        for _ in 0..200 {
            let state = self.state();
            let settled = state.nodes.keys().map(|id| (*id, state.index)).collect();
            let seen = plan::SettledIndexes { settled, ..plan::SettledIndexes::default() };
            // Past every delay that a drain has.
            let now = state.time.plus(Millis::secs(3));
            let commands = plan(&state, &seen, now, state.index.0, &Scope::All).commands;
            if commands.is_empty() {
                return;
            }
            for command in commands {
                // One may make the next one stale: what is left is found again.
                let _ = self.real.propose(&command).await;
            }
        }
        panic!("it never comes to rest");
    }

    async fn report(&mut self, id: &AllocId, phase: Phase, health: Health, exit: Option<Exit>) {
        let state = self.state();
        let one = &state.allocations[id];
        self.seq += 1;
        let address = Some([10, 77, 0, 9].into());
        let attempt = one.observed.attempt.max(one.attempt).max(Attempt(1));
        let seen = AllocationStatus {
            attempt,
            phase,
            health,
            exit,
            address,
            ..AllocationStatus::default()
        };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        let (node, boot) = (one.node, state.nodes[&one.node].boot);
        self.change(Command::Report(Report { node, boot, seq: self.seq, allocations })).await;
    }

    /// What should run does so, what should end has ended; what is of that image can't be started.
    async fn well(&mut self, broken: &str) {
        let state = self.state();
        for one in state.allocations.values().filter(|a| a.is_live()) {
            let is_task = one.replica().is_none();
            let is_running = one.is_routable();
            let image = state.spec(&one.spec).map(|stored| stored.spec.run().image.clone());
            let is_broken = !broken.is_empty() && image.is_some_and(|i| i.contains(broken));
            match one.desired {
                Desired::Run if is_task => {
                    let exit = exit(0, ExitReason::Completed);
                    self.report(&one.id, Phase::Running, Health::None, None).await;
                    self.report(&one.id, Phase::Stopped, Health::None, exit).await;
                }
                Desired::Run if is_running => {}
                Desired::Run if is_broken => {
                    let exit = exit(1, ExitReason::StartFailed);
                    self.report(&one.id, Phase::Failed, Health::None, exit).await;
                }
                Desired::Run => {
                    self.report(&one.id, Phase::Pulling, Health::None, None).await;
                    self.report(&one.id, Phase::Running, Health::Healthy, None).await;
                }
                Desired::Stop => self.report(&one.id, Phase::Stopped, Health::None, None).await,
                Desired::Draining { .. } => {}
            }
        }
    }

    /// Until nothing is left to do.
    async fn rest(&mut self, broken: &str) {
        for _ in 0..30 {
            let before = self.state().index;
            self.settle().await;
            self.well(broken).await;
            if self.state().index == before {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.state().deployments.get_max());
    }

    /// A run of an image, by its id.
    async fn spawn(&mut self) -> AllocId {
        self.made += 1;
        let id = AllocId::from(format!("once-{:04}", self.made).as_str());
        let text = "task \"once\" { image \"once:1\"; cpu 0.1; memory \"32M\" }\n";
        let tasks = spec::parse("file", text).unwrap().tasks;
        let spec = Box::new(tasks.into_values().next().unwrap());
        let what = Spawned::Image { name: "once".into(), spec };
        self.change(Command::Spawn(Spawn { id: id.clone(), what })).await;
        id
    }

    /// Any replica of a service that runs.
    fn replica(&self, name: &str) -> AllocId {
        let state = self.state();
        let name = WorkloadName::from(name);
        state.allocations_of(&name).find(|a| a.is_routable()).unwrap().id.clone()
    }
}

fn sealed(key: &str, text: &str) -> Sealed {
    Sealed { key: key.to_owned(), text: text.to_owned() }
}

impl Script {
    async fn secrets(&mut self) {
        for id in ["t1", "t2"] {
            let (role, hash) = (Role::Deploy, "00".repeat(32));
            let command = Command::CreateToken { id: id.into(), role, hash, expires_at: None };
            self.change(command).await;
        }
        self.change(Command::RevokeToken { id: "t2".into() }).await;
        for registry in ["r.example.com", "s.example.com"] {
            let (registry, user) = (registry.to_owned(), "ann".to_owned());
            let password = sealed("k1", &registry);
            self.change(Command::SetLogin { registry, user, password }).await;
        }
        self.change(Command::RemoveLogin { registry: "s.example.com".to_owned() }).await;
    }

    async fn nodes(&mut self) {
        for n in [2, 3] {
            self.change(Command::Join(Join {
                name: format!("n{n}"),
                address: format!("192.0.2.{n}"),
                peer_port: 4401,
                labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
                public_key: format!("public {n}"),
                keyring: format!("ring {n}"),
                keyring_id: "k1".to_owned(),
                version: "0.1.0".to_owned(),
                feature_level: 1,
                token: None,
            }))
            .await;
            self.register(n, n, None).await;
        }
        for n in [1, 2, 3] {
            let labels = BTreeMap::from([("zone".to_owned(), Some("eu-1".to_owned()))]);
            self.change(Command::Label { node: NodeId(n), labels }).await;
        }
        let (voters, learners) = (BTreeSet::from([NodeId(1)]), [2, 3].map(NodeId).into());
        self.change(Command::Members(Members { voters, learners })).await;
        let state = self.state();
        let anew = |(_, from): (String, &Sealed)| Resealed {
            from: from.clone(),
            to: sealed("k2", &from.text),
        };
        let keyrings = state.nodes.keys().map(|id| (*id, format!("second ring {id}"))).collect();
        let sealed = state.sealed().into_iter().map(anew).collect();
        self.change(Command::Rotate(Rotate { keyrings, sealed })).await;
        // Refused, and written all the same: nobody knows a higher level.
        self.real.propose(&Command::Raise { level: 1 }).await.unwrap_err();
    }

    async fn register(&self, node: u64, boot: u64, after: Option<u64>) {
        self.change(Command::Register(Register {
            node: NodeId(node),
            boot: BootId(boot),
            cpu: MilliCpu(2_000),
            memory: Bytes(2 << 30),
            version: "0.1.0".to_owned(),
            after: after.map(BootId),
            reach: None,
            feature_level: 1,
        }))
        .await;
    }

    async fn deployments(&mut self) {
        self.deploy(FILE, DeployKind::Up).await;
        self.rest("").await;
        // One that can't be started, and one that fits nowhere.
        let api = FILE.replace("api:v4", "api:v5").replace("\"128M\"", "\"900G\"");
        self.deploy(&api, DeployKind::Up).await;
        self.rest("api:v5").await;
        // One that comes in between.
        self.deploy(&FILE.replace("MODE \"a\"", "MODE \"b\""), DeployKind::Up).await;
        self.settle().await;
        self.deploy(&FILE.replace("MODE \"a\"", "MODE \"c\""), DeployKind::Up).await;
        self.rest("").await;
        self.deploy(&FILE.replace("replicas 2", "replicas 3"), DeployKind::Scale).await;
        self.rest("").await;
        self.deploy(FILE, DeployKind::Rollback).await;
        self.rest("").await;
        self.change(Command::RestartService { service: "web".into() }).await;
        self.rest("").await;
        self.change(Command::RestartAllocation { allocation: self.replica("api") }).await;
        self.rest("").await;
        let other =
            "app \"other\"\nservice \"lone\" { image \"lone:1\"; cpu 0.1; memory \"32M\" }\n";
        self.deploy(other, DeployKind::Up).await;
        self.rest("").await;
        self.deploy("app \"other\"\n", DeployKind::Down).await;
        self.rest("").await;
        let ended = |a: &&std::sync::Arc<mill::fsm::model::Allocation>| {
            a.replica().is_some() && !a.is_live() && a.desired == Desired::Stop
        };
        let gone = self.state().allocations.values().find(ended).unwrap().id.clone();
        self.act(Action::Forget { allocation: gone }).await;
    }

    async fn runs(&mut self) {
        let (name, env) = ("warm".into(), BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        let what = Spawned::Task { name, env };
        self.change(Command::Spawn(Spawn { id: "warm-9999".into(), what })).await;
        self.rest("").await;
        let killed = self.spawn().await;
        self.settle().await;
        self.change(Command::Kill { run: killed }).await;
        self.rest("").await;
        let again = self.spawn().await;
        self.settle().await;
        self.act(Action::Run(RunAction::Kill { run: again.clone() })).await;
        self.rest("").await;
        self.act(Action::Run(RunAction::Forget { run: again })).await;
        let failed = self.spawn().await;
        let why = exit(1, ExitReason::StartFailed).unwrap();
        self.act(Action::Run(RunAction::Fail { run: failed, exit: why })).await;
        let (task, run) = (WorkloadName::from("report"), AllocId::from("report-0001"));
        let due = self.state().schedules[&task].due.unwrap();
        self.act(Action::Run(RunAction::Fire { task, due, run: Some(run) })).await;
        self.rest("").await;
    }

    /// They drain, fall silent, come back, and go for good.
    async fn farewell(&mut self) {
        self.change(Command::Drain { node: NodeId(3), deadline: None }).await;
        self.change(Command::Undrain { node: NodeId(3) }).await;
        self.change(Command::NodeDown { node: NodeId(2), boot: BootId(2) }).await;
        self.settle().await;
        self.register(2, 20, Some(2)).await;
        self.rest("").await;
        for n in [2, 3] {
            let deadline = Some(self.state().time.plus(Millis::secs(60)));
            self.change(Command::Drain { node: NodeId(n), deadline }).await;
            self.rest("").await;
            self.change(Command::Remove { node: NodeId(n) }).await;
        }
    }
}

fn pack(bytes: &[u8], to: &Path) {
    let mut packed = GzEncoder::new(std::fs::File::create(to).unwrap(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording into the source tree: make record"]
async fn record() {
    let to = super::recorded().join(env!("CARGO_PKG_VERSION"));
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script { real: RealRoot::start(dir.path(), 1).await, seq: 0, made: 0 };
    script.secrets().await;
    script.nodes().await;
    script.deployments().await;
    script.runs().await;
    script.farewell().await;
    let state = script.state().encode().unwrap();
    script.real.stop().await;
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    pack(&state, &to.join("state.json.gz"));
    for file in std::fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("log-") {
            pack(&std::fs::read(&file).unwrap(), &to.join(format!("{name}.gz")));
        }
    }
}
