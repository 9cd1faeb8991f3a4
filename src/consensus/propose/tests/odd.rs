//! Commands that are well-formed and that nobody would write: a member or a client may.
//!
//! Owns that each is refused, or leaves a state that every part of a node can go on with. Never
//! breaks their form: that is `hostile`.

use crate::api::{views, why};
use crate::cluster::failure_detector::Silence;
use crate::cluster::{clocks, members};
use crate::consensus::raft::node::Conf;
use crate::fsm::command::{
    Action, Deploy, GrantToken, Notice, Place, Report, RunAction, Sign, Spawn, Spawned, Steps,
};
use crate::fsm::loaded::{ImageChange, Pin};
use crate::fsm::mesh::{MeshKey, MeshPart, MeshPlace};
use crate::fsm::model::{
    AllocationStatus, DeployKind, DeployStatus, Exit, ExitReason, Health, Phase, Role, WorkloadSpec,
};
use crate::fsm::secrets::{NewSecret, SecretChange};
use crate::fsm::volumes::VolumeChange;
use crate::fsm::{Command, NEXT_LEVEL, State, apply_next, fixture};
use crate::id::{Attempt, Digest, NodeId};
use crate::node::dns::Zone;
use crate::node::ingress::table::{Maker, Table};
use crate::node::{image_replication, mesh, project};
use crate::scheduler::plan::{self, Scope, plan};
use crate::secret::Sealed;
use crate::spec;
use crate::units::{Bytes, Millis, Timestamp};
use proptest::prelude::*;
use proptest::sample::Index as At;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const NODE: NodeId = NodeId(1);

/// As much of the format as there is.
const FILE: &str = r#"app "shop"
service "web" {
    image "web:2"; port 80; port 9000 name="admin"; replicas 3; cpu 0.5; memory "64M"
    env { A "x"; B "${service.db.address}" }
    health "/ok" interval="5s" timeout="1s" grace="10s"
    route "a.example.com" path="/api" strip=#true timeout="5s" limit="10/s" sticky=#true
    publish 8080; update max-parallel=2 healthy-deadline="20s"
    volume "scratch" path="/scratch" ephemeral=#true
    before-deploy "migrate"; stop grace="1s"; constraint "zone" "a"
}
service "db" { image "db:1"; port 5432; volume "data" path="/data" size="1G" }
task "migrate" { image "m:1"; timeout "60s" }
task "nightly" { image "n:1"; schedule "0 3 * * *" }
"#;

fn deploy(state: &State) -> Deploy {
    let parsed = spec::parse("file", FILE).unwrap();
    let services = parsed.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
    let tasks = parsed.tasks.into_iter().map(|(n, t)| (n, WorkloadSpec::Task(t)));
    Deploy {
        app: parsed.app,
        kind: DeployKind::Up,
        base: None,
        services: services.collect(),
        tasks: tasks.collect(),
        file: format!("{FILE}// {}", state.index),
        replace: true,
        plan: None,
    }
}

/// A cluster of two with something of everything, in the middle of a deployment.
fn begun() -> State {
    let mut state = crate::fsm::deploy::tests::running();
    state.feature_level = NEXT_LEVEL;
    for command in [
        Command::Join(fixture::join("n2", "x")),
        Command::Deploy(deploy(&state)),
        Command::Spawn(Spawn { id: "migrate-aaaa".into(), what: task() }),
    ] {
        let time = Timestamp(state.time.0 + 1_000);
        let _ = apply_next(&mut state, time, command).outcome.unwrap();
    }
    go_on(&mut state, 3);
    state
}

fn task() -> Spawned {
    Spawned::Task { name: "migrate".into(), env: [("A".into(), "b".into())].into() }
}

fn observed() -> AllocationStatus {
    AllocationStatus {
        attempt: Attempt(1),
        phase: Phase::Backoff,
        health: Health::Unhealthy,
        restarts: 2,
        ooms: 1,
        address: Some([10, 99, 0, 2].into()),
        retry_at: Some(Timestamp(5_000)),
        message: Some("no".to_owned()),
        exit: Some(Exit { code: Some(1), reason: ExitReason::Oom, message: Some("x".into()) }),
        ..AllocationStatus::default()
    }
}

/// Commands about what runs.
fn seeds(state: &State) -> Vec<Command> {
    let live = state.allocations.values().find(|one| one.is_live()).expect("one is placed");
    let (id, spec, boot) = (live.id.clone(), live.spec.clone(), state.nodes[&NODE].boot);
    let allocations = [(id.clone(), observed())].into();
    let report = Report { node: NODE, boot, seq: 9, allocations };
    let place = Place {
        id: "web-1-zzzz".into(),
        workload: "web".into(),
        replica: 1,
        node: NODE,
        spec,
        replaces: None,
    };
    let text = "task \"t\" {\n image \"busybox:1\"; timeout \"5s\"\n}\n";
    let image = spec::parse("file", text).unwrap().tasks.into_values().next().unwrap();
    let image = Spawned::Image { name: "t".into(), spec: Box::new(image) };
    let steps = |actions| Command::Steps(Steps { planned: BTreeMap::new(), actions });
    let (revision, service) = (state.last_revision, "web".into());
    let fire = RunAction::Fire {
        task: "nightly".into(),
        due: Timestamp(9_000),
        run: Some("nightly-aaaa".into()),
    };
    let (status, degraded) = (DeployStatus::Failed, vec!["web".into()]);
    vec![
        Command::Deploy(deploy(state)),
        Command::Report(report),
        Command::Spawn(Spawn { id: "t-aaaa".into(), what: image }),
        Command::Spawn(Spawn { id: "migrate-bbbb".into(), what: task() }),
        steps(vec![Action::Place(place), Action::Run(fire)]),
        steps(vec![Action::Drain { allocation: id.clone() }]),
        steps(vec![Action::GiveUp { allocation: id.clone(), why: "no".into(), is_program: true }]),
        steps(vec![Action::Revert { revision, service, reason: "no".into() }]),
        steps(vec![Action::Finish { revision, status, degraded }]),
        Command::RestartAllocation { allocation: id },
        Command::Volumes(VolumeChange::Delete { name: "data".into() }),
    ]
}

/// Commands about nodes, and what they keep.
fn of_nodes(state: &State) -> Vec<Command> {
    let boot = state.nodes[&NODE].boot;
    let part = MeshPart { key: MeshKey::new([7; 32]), port: 51_820, rotation: 0 };
    let pin = Pin { reference: "web:2".into(), digest: Digest::from("sha256:1".to_owned()) };
    let sealed = || Sealed { key: "k".into(), text: "t".into() };
    let secret = NewSecret {
        name: "s".into(),
        version: 1,
        key: sealed(),
        text: "t".into(),
        size: 3,
        binary: false,
    };
    let notice = |sign| Command::Notice(Notice { node: NODE, boot, sign });
    let images = ImageChange::Load { node: NODE, images: vec![(pin, Bytes(7))], late: false };
    vec![
        Command::Register(fixture::register()),
        Command::Join(fixture::join("n3", "y")),
        Command::Drain { node: NODE, deadline: Some(Timestamp(70_000)) },
        Command::NodeDown { node: NODE, boot },
        notice(Sign::Silent(Some(Millis(5_000)))),
        notice(Sign::Runtime(Some(Millis(5_000)))),
        notice(Sign::Clock(60_000)),
        Command::Standstill { from: Timestamp(10) },
        Command::GrantToken(GrantToken {
            id: "t".into(),
            role: Role::Join,
            hash: "h".into(),
            expires_at: Some(Timestamp(1 << 40)),
            uses: Some(2),
        }),
        Command::Images(images),
        Command::Mesh(MeshPlace { node: NODE, boot, part }),
        Command::Secrets(SecretChange::Set(vec![secret])),
        Command::SetLogin { registry: "r".into(), user: "u".into(), password: sealed() },
        Command::Members(crate::fsm::command::Members {
            voters: [NODE].into(),
            learners: [NodeId(2)].into(),
        }),
    ]
}

/// A value in the place of another.
fn odd(which: u8) -> Value {
    match which % 16 {
        0 => json!(0),
        1 => json!(u64::MAX),
        2 => json!(u32::MAX),
        3 => json!(u16::MAX),
        4 => json!(i64::MAX),
        5 => json!(i64::MIN),
        6 => json!(""),
        7 => json!("é".repeat(3_000)),
        8 => Value::Null,
        9 => json!([]),
        10 => json!({}),
        11 => json!("../..\u{0}\n"),
        12 => json!(true),
        13 => json!(u8::MAX),
        14 => json!("255.255.255.255"),
        _ => json!(1),
    }
}

/// The values in a document, itself among them.
fn count(value: &Value) -> usize {
    let below: usize = match value {
        Value::Array(all) => all.iter().map(count).sum(),
        Value::Object(all) => all.values().map(count).sum(),
        _ => 0,
    };
    1 + below
}

/// Puts another value in the place of one; a member is left out where it is none.
fn put(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| put(one, at, with)),
        Value::Object(all) => all.values_mut().for_each(|one| put(one, at, with)),
        _ => {}
    }
}

/// The leader plans and the nodes apply, a few times.
fn go_on(state: &mut State, rounds: u64) {
    for _ in 0..rounds {
        let time = state.time.plus(Millis(61_000));
        let settled = state.nodes.keys().map(|id| (*id, state.index)).collect();
        let seen = plan::SettledIndexes { settled, ..plan::SettledIndexes::default() };
        for command in plan(state, &seen, time, state.index.0, &Scope::All).commands {
            let _ = apply_next(state, time, command);
        }
    }
}

/// What every node makes of a state, and shows of it.
fn walk(state: &State) {
    let seen = views::LiveUsage { now: state.time, leader: Some(NODE), ..Default::default() };
    let shown = serde_json::to_vec(&views::status(state, &seen)).unwrap();
    assert!(!shown.is_empty());
    drop((views::allocations(state, &seen), views::runs(state), views::routes(state, &seen)));
    drop((views::secrets(state), views::volumes(state, &seen)));
    drop(views::deployments(state, None, None, usize::MAX));
    drop(state.events.iter().map(|(_, one)| views::event(state, one)).collect::<Vec<_>>());
    for app in state.apps.values() {
        for name in app.services.keys().chain(app.tasks.keys()) {
            let _ = why::workload(state, name, &seen);
        }
    }
    for one in state.allocations.values() {
        let _ = (why::one(state, one, &seen), project::assignment(one));
    }
    for id in state.nodes.keys() {
        drop((project::publish_map(state, *id), project::neighbours(state, *id)));
        drop((Zone::of(state, *id), mesh::peers(state, *id), mesh::ways(state, *id)));
        let _ = image_replication::duties(state, *id, &[]);
        let mut maker =
            Maker { node: *id, local_names: true, figures: &mut |_| (), gauge: &mut |_| () };
        let _ = Table::of(state, &mut maker);
        let _ = members::plan(state, &Conf::default(), *id, state.time);
        let mut silence = Silence::new(Millis(0));
        silence.tick(state, Millis(9_000), state.time);
        let _ = silence.judge(state, *id, Millis(9_000));
        for ahead in [i64::MIN, i64::MAX] {
            let _ = clocks::judge(state, *id, &[(NodeId(2), ahead)].into());
        }
    }
}

/// What each case begins with, and the commands that are changed.
static BEGUN: LazyLock<(State, Vec<Command>)> = LazyLock::new(|| {
    let state = begun();
    let seeds = [seeds(&state), of_nodes(&state)].concat();
    (state, seeds)
});

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    })]

    #[test]
    fn an_odd_command_is_refused_or_every_node_goes_on(
        which in any::<At>(),
        odds in proptest::collection::vec((any::<At>(), any::<u8>()), 1..4),
    ) {
        let (begun, seeds) = &*BEGUN;
        let mut state = begun.clone();
        let mut document = serde_json::to_value(&seeds[which.index(seeds.len())]).unwrap();
        for (at, which) in &odds {
            let mut at = at.index(count(&document));
            put(&mut document, &mut at, &odd(*which));
        }
        let Ok(command) = serde_json::from_value::<Command>(document) else { return Ok(()) };
        let told = format!("{command:?}");
        let run = std::panic::AssertUnwindSafe(|| {
            let time = state.time.plus(Millis(1_000));
            let before = state.clone();
            // As root does: what panics inside is refused.
            let applied = std::panic::AssertUnwindSafe(|| apply_next(&mut state, time, command));
            if std::panic::catch_unwind(applied).is_err() {
                state = before;
            }
            go_on(&mut state, 2);
            walk(&state);
            assert_eq!(State::decode(&state.encode().unwrap()).unwrap(), state);
        });
        prop_assert!(std::panic::catch_unwind(run).is_ok(), "{told}");
    }
}

/// What is changed is something to begin with.
#[test]
fn most_whole_ones_are_carried_out() {
    let (state, seeds) = &*BEGUN;
    let refused = seeds.iter().filter_map(|command| {
        let document = serde_json::to_value(command).unwrap();
        assert_eq!(&serde_json::from_value::<Command>(document).unwrap(), command);
        let mut state = state.clone();
        let time = state.time.plus(Millis(1_000));
        let outcome = apply_next(&mut state, time, command.clone()).outcome;
        walk(&state);
        Some(format!("{command:?}: {}", outcome.err()?))
    });
    let refused: Vec<String> = refused.collect();
    assert!(refused.len() * 2 < seeds.len(), "{refused:#?}");
}
