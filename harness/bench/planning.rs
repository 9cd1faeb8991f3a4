//! How fast the core is with 10,000 allocations on 1,000 nodes: planning, placing, applying,
//! snapshot and restore.
//!
//! Never a container, a socket, a file or a thread: the functions themselves.

use super::report::{Row, median, ms};
use mill::actors::platform::backup;
use mill::backup::Backup;
use mill::fsm::command::{Deploy, Init, Register, Report};
use mill::fsm::model::{AllocationStatus, DeployKind, Health, Node, Phase, RaftRole, WorkloadSpec};
use mill::fsm::{self, Command, Entry, SessionStep, State};
use mill::id::{AllocId, AppName, Attempt, BootId, Incarnation, Index, NodeId, Revision};
use mill::scheduler::plan::{self, Scope, plan};
use mill::secret::{KEY_LEN, SealKey};
use mill::units::{Bytes, MilliCpu, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- 50 services of 200 replicas in 5 apps, the functions themselves on one core: plan and apply in
  turn until all are placed; entries with one reported change each; the plan of an app after one of
  its replicas has died; the state to bytes and back, and as `mill backup` writes it but for the
  passphrase, whose work is made to take a second. Medians where repeated.
";

const NODES: u64 = 1_000;
const APPS: u64 = 5;
const SERVICES: u64 = 10;
const REPLICAS: u64 = 200;
const ROUNDS: usize = 9;
const START: u64 = 1_700_000_000_000;

/// The machine in a cluster of 1,000 nodes.
struct World {
    state: State,
    seq: u64,
    batches: BTreeMap<NodeId, u64>,
}

/// The figures of the core.
pub fn figures() -> Vec<Row> {
    let mut world = World::new();
    let all = APPS * SERVICES * REPLICAS;
    let placing = world.deploy_all();
    assert_eq!(world.state.allocations.len() as u64, all);
    let (applied, applying) = world.start_all();
    let step = world.step_after_a_change();
    let (bytes, encode, decode) = world.snapshot();
    let (file, backup) = world.backup();
    let (placed, applied) = (rate(all, placing), rate(applied, applying));
    let aim_ms = |bound| Duration::from_millis(bound);
    let peer = || "-".to_owned();
    vec![
        Row {
            figure: "placements a second, 10,000 on 1,000 nodes",
            mill: format!("{placed:.0}/s"),
            peer: peer(),
            aim: "at least 20,000/s",
            met: Some(placed >= 20_000.0),
        },
        Row {
            figure: "one plan step after one change in that state",
            mill: ms(step),
            peer: peer(),
            aim: "at most 2 ms",
            met: Some(step <= aim_ms(2)),
        },
        Row {
            figure: "commands applied a second in that state",
            mill: format!("{applied:.0}/s"),
            peer: peer(),
            aim: "at least 300,000/s",
            met: Some(applied >= 300_000.0),
        },
        Row {
            figure: "snapshot of that state",
            mill: format!("{} ({:.1} MB)", ms(encode), bytes as f64 / 1e6),
            peer: peer(),
            aim: "at most 100 ms",
            met: Some(encode <= aim_ms(100)),
        },
        Row {
            figure: "restore of that state",
            mill: ms(decode),
            peer: peer(),
            aim: "at most 100 ms",
            met: Some(decode <= aim_ms(100)),
        },
        Row {
            figure: "backup of that state, encrypted for a recipient",
            mill: format!("{} ({:.1} MB)", ms(backup), file as f64 / 1e6),
            peer: peer(),
            aim: "at most 1 s",
            met: Some(backup <= aim_ms(1_000)),
        },
    ]
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn init() -> Command {
    Command::Init(Init {
        cluster: "bench".to_owned(),
        cluster_id: "00".to_owned(),
        incarnation: Incarnation(1),
        subnet: [10, 0, 0, 0].into(),
        prefix: 8,
        node_name: "n1".to_owned(),
        address: "127.0.0.1".to_owned(),
        labels: BTreeMap::new(),
        peer_port: 0,
        public_key: String::new(),
        keyring: String::new(),
        ca: String::new(),
        ca_key: None,
    })
}

/// A file as a team writes it, its images pinned.
fn deploy(app: u64) -> Deploy {
    let mut text = format!("app \"app{app}\"\n");
    for n in 0..SERVICES {
        text.push_str(&format!(
            "service \"web-{app}-{n}\" {{ image \"registry.example/web:v{n}\"; port 3000
             replicas {REPLICAS}; cpu 0.1; memory \"200M\"; health \"/healthz\"
             env {{ MODE \"production\"; LOG_LEVEL \"info\"; NUMBER \"{n}\" }} }}\n"
        ));
    }
    let spec = mill::spec::read("bench", &text).unwrap().spec;
    let pinned = spec.services.into_iter().map(|(name, mut service)| {
        service.run.digest = Some(format!("sha256:{:064x}", app).into());
        (name, WorkloadSpec::Service(service))
    });
    Deploy {
        app: spec.app,
        kind: DeployKind::Up,
        base: Some(Revision(0)),
        services: pinned.collect(),
        tasks: BTreeMap::new(),
        file: text,
        plan: None,
        replace: false,
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self { state: State::default(), seq: 0, batches: BTreeMap::new() };
        world.apply(init());
        let first = world.state.nodes.get(&NodeId(1)).cloned().unwrap();
        for n in 1..=NODES {
            let id = NodeId(n);
            let node = Node {
                id,
                name: format!("n{n}"),
                part: if n <= 5 { RaftRole::Voter } else { RaftRole::Learner },
                ..(*first).clone()
            };
            world.state.nodes.insert(id, Arc::new(node));
            world.apply(Command::Register(Register {
                after: None,
                reach: None,
                node: id,
                boot: BootId(n),
                cpu: MilliCpu(4_000),
                memory: Bytes(8_000_000_000),
                version: "bench".to_owned(),
                feature_level: 1,
            }));
        }
        world
    }

    fn apply(&mut self, command: Command) {
        self.seq += 1;
        let (seq, low_water) = (self.seq, self.seq.saturating_sub(8));
        let session = SessionStep { node: NodeId(1), boot: BootId(1), seq, low_water };
        let time = Timestamp(START + self.seq);
        let entry = Entry { time, session, idempotency_key: None, command };
        let applied = fsm::apply(&mut self.state, Index(self.seq), entry);
        applied.outcome.unwrap();
    }

    /// Plans and applies until there is nothing left to do at once.
    fn deploy_all(&mut self) -> Duration {
        for app in 0..APPS {
            self.apply(Command::Deploy(deploy(app)));
        }
        let start = Instant::now();
        loop {
            let now = self.state.time;
            let planned =
                plan(&self.state, &plan::SettledIndexes::default(), now, self.seq, &Scope::All);
            if planned.commands.is_empty() {
                return start.elapsed();
            }
            planned.commands.into_iter().for_each(|command| self.apply(command));
        }
    }

    /// Every node reports each of its allocations, one at a time, until all are healthy.
    fn start_all(&mut self) -> (u64, Duration) {
        let phases = [
            (Phase::Pulling, Health::None),
            (Phase::Starting, Health::None),
            (Phase::Running, Health::Checking),
            (Phase::Running, Health::Healthy),
        ];
        let all: Vec<(AllocId, NodeId)> =
            self.state.allocations.values().map(|a| (a.id.clone(), a.node)).collect();
        let mut reports = Vec::new();
        for (phase, health) in phases {
            for (id, node) in &all {
                reports.push(self.report(id, *node, phase, health));
            }
        }
        let count = reports.len() as u64;
        let start = Instant::now();
        reports.into_iter().for_each(|report| self.apply(report));
        (count, start.elapsed())
    }

    fn report(&mut self, id: &AllocId, node: NodeId, phase: Phase, health: Health) -> Command {
        let batch = self.batches.entry(node).or_default();
        *batch += 1;
        let ran = phase == Phase::Running;
        let seen = AllocationStatus {
            attempt: Attempt(1),
            phase,
            health,
            address: ran.then_some([10, 0, 8, 7].into()),
            started_at: ran.then_some(Timestamp(START)),
            ..AllocationStatus::default()
        };
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        Command::Report(Report { node, boot: BootId(node.0), seq: *batch, allocations })
    }

    /// A replica has died: what the planner takes to find that out and replace it.
    fn step_after_a_change(&mut self) -> Duration {
        let mut times = Vec::new();
        let all: Vec<AllocId> = self.state.allocations.keys().cloned().collect();
        for id in all.iter().step_by(all.len() / ROUNDS) {
            self.settle();
            let allocation = Arc::clone(&self.state.allocations[id]);
            let report = self.report(id, allocation.node, Phase::Failed, Health::None);
            self.apply(report);
            let scope = Scope::Apps(BTreeSet::from([AppName::clone(&allocation.app)]));
            let now = self.state.time;
            let start = Instant::now();
            let planned =
                plan(&self.state, &plan::SettledIndexes::default(), now, self.seq, &scope);
            times.push(start.elapsed());
            assert!(!planned.commands.is_empty(), "the replica is replaced");
            planned.commands.into_iter().for_each(|command| self.apply(command));
        }
        median(&mut times)
    }

    /// Lets deployments end that have nothing left to do.
    fn settle(&mut self) {
        let now = self.state.time;
        let planned =
            plan(&self.state, &plan::SettledIndexes::default(), now, self.seq, &Scope::All);
        planned.commands.into_iter().for_each(|command| self.apply(command));
    }

    fn snapshot(&self) -> (usize, Duration, Duration) {
        let (mut encode, mut decode) = (Vec::new(), Vec::new());
        let mut size = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let bytes = self.state.encode().unwrap();
            encode.push(start.elapsed());
            let start = Instant::now();
            let again = State::decode(&bytes).unwrap();
            decode.push(start.elapsed());
            assert_eq!(again.allocations.len(), self.state.allocations.len());
            size = bytes.len();
        }
        (size, median(&mut encode), median(&mut decode))
    }

    fn backup(&self) -> (usize, Duration) {
        let recipients = [age::x25519::Identity::generate().to_public()];
        let mut times = Vec::new();
        let mut size = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let kept = Backup {
                state: self.state.clone(),
                keyring: SealKey::new([7; KEY_LEN]),
                taken_at: Timestamp(START),
                version: String::new(),
            };
            let plain = kept.encode().unwrap();
            size = backup::encrypt(&plain, &recipients).unwrap().len();
            times.push(start.elapsed());
        }
        (size, median(&mut times))
    }
}
