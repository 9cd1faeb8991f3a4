//! Tests of the projections.

use super::*;
use crate::fsm::command::{Action, Deploy, Place, Register, Report, Steps};
use crate::fsm::model::{DeployKind, DeployStatus, Exit, ExitReason, Health, Phase};
use crate::fsm::{Command, apply_next, fixture, model};
use crate::id::{Attempt, BootId, Revision, WorkloadName};
use crate::spec;

const FILE: &str = "service \"db\" {
    image \"postgres:17\"
    port 5432
    replicas 2
    memory \"512M\"
}
";

fn change(state: &mut State, command: Command) {
    let time = state.time.plus(step());
    apply_next(state, time, command).outcome.unwrap();
}

fn step() -> crate::units::Millis {
    crate::units::Millis(500)
}

fn deploy(state: &mut State, file: &str) {
    let parsed = spec::parse("file", file).unwrap();
    let services = parsed.services.into_iter();
    let deploy = Deploy {
        app: parsed.app,
        kind: DeployKind::Up,
        base: None,
        services: services.map(|(name, s)| (name, model::WorkloadSpec::Service(s))).collect(),
        tasks: BTreeMap::new(),
        file: file.to_owned(),
        replace: false,
        plan: None,
    };
    change(state, Command::Deploy(deploy));
}

fn act(state: &mut State, action: Action) {
    change(state, Command::Steps(Steps { actions: vec![action], ..Default::default() }));
}

fn place(state: &mut State, replica: u32) -> AllocId {
    let workload = WorkloadName::from("db");
    let spec = state.owner(&workload).unwrap().services[&workload].target.clone().unwrap();
    let id = AllocId::service(&workload, replica, 7);
    let place = Place { id: id.clone(), workload, replica, node: NodeId(1), spec, replaces: None };
    act(state, Action::Place(place));
    id
}

fn report(state: &mut State, id: &AllocId, seen: model::AllocationStatus) {
    let seq = state.reports.get(&NodeId(1)).map_or(1, |last| last + 1);
    let allocations = BTreeMap::from([(id.clone(), seen)]);
    change(state, Command::Report(Report { node: NodeId(1), boot: BootId(1), seq, allocations }));
}

fn healthy() -> model::AllocationStatus {
    let (attempt, phase, health) = (Attempt(1), Phase::Running, Health::Healthy);
    model::AllocationStatus { attempt, phase, health, ..Default::default() }
}

fn cluster() -> State {
    let mut state = State::default();
    change(&mut state, Command::Init(fixture::init()));
    let register = Register { version: "0.1.0".to_owned(), ..fixture::register() };
    change(&mut state, Command::Register(register));
    state
}

fn seen() -> LiveUsage {
    LiveUsage { leader: Some(NodeId(1)), ..Default::default() }
}

#[test]
fn a_replica_out_of_memory_is_the_first_thing_in_the_status() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    let (first, second) = (place(&mut state, 0), place(&mut state, 1));
    for id in [&first, &second] {
        report(&mut state, id, healthy());
    }
    let (revision, status) = (Revision(1), DeployStatus::Succeeded);
    act(&mut state, Action::Finish { revision, status, degraded: vec![] });
    assert_eq!(status_of(&state).warnings, []);
    let exit = Exit { code: Some(137), reason: ExitReason::Oom, message: None };
    let backoff = model::AllocationStatus {
        attempt: Attempt(6),
        phase: Phase::Backoff,
        restarts: 5,
        ooms: 6,
        retry_at: Some(Timestamp(50_000)),
        exit: Some(exit),
        ..Default::default()
    };
    report(&mut state, &second, backoff);
    let now = Timestamp(2_000);
    let shown = super::status(&state, &LiveUsage { now, ..seen() });
    let warning = &shown.warnings[0];
    assert_eq!((warning.subject.as_str(), shown.warnings.len()), ("db", 1));
    assert_eq!(warning.message, "1/2: out of memory 6×, next try 48s");
    let service = &shown.services[0];
    assert_eq!((service.replicas.desired, service.replicas.healthy), (2, 1));
    let allocation = &service.allocations[1];
    assert_eq!(format!("{} {}", allocation.status, allocation.health), "backoff none");
    assert_eq!(
        (allocation.restarts, &allocation.exit.as_ref().unwrap().reason),
        (5, &"oom".into())
    );
    let told = BTreeMap::from([(NodeId(1), vec!["ufw drops it; let it through: x".to_owned()])]);
    let shown = super::status(&state, &LiveUsage { trouble: told, ..seen() });
    let warning = shown.warnings.iter().find(|one| one.message.starts_with("ufw")).unwrap();
    assert_eq!(warning.subject, state.nodes[&NodeId(1)].name);
    assert_eq!(super::status(&state, &LiveUsage::default()).warnings[0].subject, "cluster");
    let leader = seen().leader;
    for (why, leader, begin) in [
        (Expelled::Removed, leader, "this node was removed from the cluster: "),
        (Expelled::Removed, None, "this node was removed from the cluster: "),
        (Expelled::Recovered, None, "the cluster was recovered or restored without this node: "),
        (Expelled::Recovered, leader, "another member was recovered or restored as a cluster "),
    ] {
        let told = super::status(&state, &LiveUsage { expelled: Some(why), leader, ..seen() });
        let message = &told.warnings[0].message;
        assert!(message.starts_with(begin) && message.ends_with("then mill join"), "{message}");
    }
}

#[test]
fn that_services_have_no_stable_address_is_told() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    state.feature_level = crate::fsm::NEXT_LEVEL;
    let told = |state: &State| {
        let all = super::status(state, &seen()).warnings;
        all.into_iter().find(|one| one.message.contains("no stable addresses"))
    };
    assert_eq!(told(&state), None);
    let node =
        model::Node { subnet: [10, 99, 248, 0].into(), ..(*state.nodes[&NodeId(1)]).clone() };
    state.nodes.insert(node.id, std::sync::Arc::new(node));
    let said = told(&state).unwrap().message;
    assert!(said.starts_with("n1 has 10.99.248.0/21, the last part of the subnet"), "{said}");
}

#[test]
fn a_node_that_is_up_and_not_heard_in_the_mesh_is_a_warning_with_its_port() {
    use crate::fsm::mesh::{MeshKey, MeshPart};
    let mut state = cluster();
    let mut second = (*state.nodes[&NodeId(1)]).clone();
    (second.id, second.name) = (NodeId(2), "n2".to_owned());
    second.mesh = Some(MeshPart { key: MeshKey::new([2; 32]), port: 51_820, rotation: 0 });
    state.nodes.insert(second.id, std::sync::Arc::new(second.clone()));
    let warned = |state: &State, figures: mesh::Figures| {
        let heard = [(NodeId(2), figures)].into();
        let seen = LiveUsage { mesh: [(NodeId(1), heard)].into(), node: NodeId(1), ..seen() };
        (super::status(state, &seen).warnings, super::nodes(state, &seen).remove(1).mesh)
    };
    let fine = mesh::Figures { handshake: Some(179), known: 900, ..Default::default() };
    let (none, shown) = warned(&state, fine);
    assert_eq!((none, shown.unwrap().handshake), (vec![], Some(179)));
    let young = mesh::Figures { handshake: None, known: 10, ..Default::default() };
    assert_eq!(warned(&state, young).0, []);
    for silent in [
        mesh::Figures { handshake: Some(180), known: 900, ..Default::default() },
        mesh::Figures { handshake: None, known: 180, ..Default::default() },
    ] {
        let warning = &warned(&state, silent).0[0];
        assert_eq!(warning.subject, "n2");
        let said = "no handshake in the mesh with n1 for 3 minutes: is UDP port 51820 closed";
        assert!(warning.message.starts_with(said), "{}", warning.message);
        second.status = model::NodeStatus::Down;
        let mut down = state.clone();
        down.nodes.insert(second.id, std::sync::Arc::new(second.clone()));
        let told = warned(&down, silent).0;
        assert_eq!(told.len(), 1, "it is down, which says enough: {told:?}");
    }
}

/// What is said without a leader, of a cluster with so many voters of which these are silent.
fn leaderless(voters: u64, silent: &[(u64, u64)]) -> String {
    let mut state = cluster();
    let first = state.nodes[&NodeId(1)].clone();
    for id in 1..=voters {
        let node = model::Node { id: NodeId(id), name: format!("n{id}"), ..(*first).clone() };
        state.nodes.insert(node.id, std::sync::Arc::new(node));
    }
    let silent = silent.iter().map(|(id, ms)| (NodeId(*id), Millis(*ms))).collect();
    super::no_leader(&state, &silent)
}

#[test]
fn without_a_leader_it_is_said_who_is_missing() {
    let after = "Containers run on; changes refused";
    for (voters, silent, said) in [
        (3, &[(2, 41_000), (3, 40_999)][..], "1 of 3 voters answers (n2, n3 silent 40s)"),
        (3, &[(2, 600_000)], "2 of 3 voters answer (n2 silent 10m)"),
        (5, &[(2, 7_200_000), (3, 0), (4, 1_000)], "2 of 5 voters answer (n2, n3, n4 silent 0s)"),
        (3, &[], "3 of 3 voters answer"),
        // Not a voter.
        (3, &[(9, 1_000)], "3 of 3 voters answer"),
    ] {
        assert_eq!(leaderless(voters, silent), format!("No leader: {said}. {after}"));
    }
}

#[test]
fn without_enough_voters_the_status_says_what_to_do() {
    let state = cluster();
    let silent = [(NodeId(1), Millis(90_000))].into();
    let told = super::status(&state, &LiveUsage { leader: None, silent, ..Default::default() });
    let said = &told.warnings[0].message;
    assert!(said.starts_with("No leader: 0 of 1 voters answer (n1 silent 90s). "), "{said}");
    assert!(
        said.ends_with("Start n1 again; if that can't be done ever: mill daemon --recover-single"),
        "{said}"
    );
}

#[test]
fn a_disk_that_is_slow_or_hangs_is_a_warning() {
    let state = cluster();
    let said = |disk| {
        let log_disks = [(NodeId(1), disk)].into();
        let told = super::status(&state, &LiveUsage { log_disks, ..seen() });
        told.warnings.first().map(|warning| format!("{}: {}", warning.subject, warning.message))
    };
    let slow = LogDisk { slow: Some(Millis(650)), hangs: false };
    assert_eq!(said(LogDisk::default()), None);
    let of_slow = "n1: the disk of its log takes 650 ms for a write: changes are slow";
    assert_eq!(said(slow).as_deref(), Some(of_slow));
    let hangs = said(LogDisk { hangs: true, ..slow }).unwrap();
    assert!(hangs.starts_with("n1: the disk of its log does not answer"), "{hangs}");
}

fn status_of(state: &State) -> StatusView {
    super::status(state, &seen())
}

#[test]
fn replicas_that_a_deployment_has_not_made_yet_are_no_warning() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    assert_eq!(status_of(&state).warnings, []);
    assert_eq!(status_of(&state).services[0].replicas.desired, 2);
}

#[test]
fn a_replica_that_does_not_end_is_a_warning() {
    let mut state = cluster();
    state.feature_level = crate::fsm::NEXT_LEVEL;
    deploy(&mut state, FILE);
    let id = place(&mut state, 0);
    report(&mut state, &id, healthy());
    act(&mut state, Action::Drain { allocation: id.clone() });
    let since = state.time;
    let warned = |after: u64| {
        let now = Timestamp(since.0 + after);
        let shown = super::status(&state, &LiveUsage { now, ..seen() });
        shown.warnings.into_iter().find(|one| one.subject == id.as_str())
    };
    let of = |state: &State| status_of(state).services[0].allocations[0].clone();
    assert!(of(&state).draining && of(&state).health.to_string() == "healthy", "{:?}", of(&state));
    let mut stopping = state.clone();
    act(&mut stopping, Action::Stop { allocation: id.clone() });
    let of_it = of(&stopping);
    let words = (of_it.status.to_string(), of_it.health.to_string());
    assert_eq!(words, ("stopping".to_owned(), "none".to_owned()));
    assert_eq!(warned(60_000), None, "it has its grace, and more");
    let warning = warned(80_000).unwrap();
    assert_eq!(warning.message, "was asked to end 80s ago and still is on n1");
    assert_eq!(warning.command, Some(format!("mill why {id}")));
}

#[test]
fn a_failed_deployment_is_a_warning_until_the_next_one() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    let (revision, reason) = (Revision(1), "db-0 not healthy in 60s".to_owned());
    act(&mut state, Action::Revert { revision, service: "db".into(), reason });
    act(&mut state, Action::Finish { revision, status: DeployStatus::Failed, degraded: vec![] });
    let warning = &status_of(&state).warnings[0];
    assert_eq!(
        (warning.subject.as_str(), warning.message.as_str()),
        ("default", "r1 failed: db-0 not healthy in 60s")
    );
    let events = events_after(&state, revision, 0).unwrap();
    assert!(events.ended);
    let Some((id, Event::Failed(failed))) = events.events.last() else { panic!("{events:?}") };
    assert_eq!((failed.service.as_deref(), failed.restored), (Some("db"), None));
    assert_eq!(failed.elapsed, 1.0);
    assert_eq!(id.number, 1);
}

#[test]
fn the_events_from_any_number_on_are_the_end_of_all_events() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    let id = place(&mut state, 0);
    report(&mut state, &id, healthy());
    let running = events_after(&state, Revision(1), 0).unwrap();
    assert!(!running.ended && running.events.len() == 3, "{running:?}");
    let (revision, status) = (Revision(1), DeployStatus::Succeeded);
    act(&mut state, Action::Finish { revision, status, degraded: vec![] });
    let all = events_after(&state, revision, 0).unwrap();
    assert_eq!(all.events[..3], running.events);
    for next in 0..=all.events.len() {
        let rest = events_after(&state, revision, next).unwrap();
        assert!(rest.ended);
        assert_eq!(rest.events, all.events[next..]);
    }
    assert_eq!(events_after(&state, revision, 99).unwrap().events, []);
    assert_eq!(events_after(&state, Revision(9), 0), None);
}

#[test]
fn places_of_events_are_written_and_read() {
    let id = EventId::new(Revision(8), 3);
    assert_eq!(id.to_string(), "8-3");
    assert_eq!("8-3".parse(), Ok(id));
    let live = EventId { live: 17, ..id };
    assert_eq!((live.to_string().as_str(), "8-3.17".parse()), ("8-3.17", Ok(live)));
    assert_eq!(live.next().to_string(), "8-4.17");
    for wrong in ["", "8", "8-", "-3", "8-x", "x-3", "8-3-1", "8-3.", "8-3.x"] {
        assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
    }
}

#[test]
fn an_allocation_that_was_told_to_stop_is_stopping() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    let id = place(&mut state, 0);
    let starting = model::AllocationStatus { phase: Phase::Starting, ..healthy() };
    report(&mut state, &id, model::AllocationStatus { health: Health::None, ..starting });
    act(&mut state, Action::Stop { allocation: id.clone() });
    let shown = allocation(&state, &state.allocations[&id], &seen());
    assert_eq!(shown.status.to_string(), "stopping");
}

#[test]
fn a_disk_with_little_room_is_a_warning_with_what_wrote_most() {
    let mut state = cluster();
    deploy(&mut state, FILE);
    let node = *state.nodes.keys().next().unwrap();
    let disk = |free: u64| Disk {
        place: "/var/lib/mill".to_owned(),
        free: Bytes(free),
        total: Bytes(10_000_000_000),
    };
    let mut seen = LiveUsage { leader: Some(node), ..LiveUsage::default() };
    let told = |seen: &LiveUsage| {
        let all = status(&state, seen).warnings.into_iter();
        all.map(|one| one.message).find(|message| message.contains("free"))
    };
    seen.disks.insert(node, vec![disk(1_100_000_000)]);
    assert_eq!(told(&seen), None);
    seen.disks.insert(node, vec![disk(800_000_000)]);
    let text = "disk of /var/lib/mill 8 % free (800M of 10.0G)";
    assert_eq!(told(&seen).as_deref(), Some(text));
    seen.disks.insert(node, vec![disk(5_000_000)]);
    let text = "disk of /var/lib/mill 0 % free (5M of 10.0G); changes are refused";
    assert_eq!(told(&seen).as_deref(), Some(text));
}

/// A cluster whose only service is deployed, and healthy where it is.
fn deployed(file: &str, replicas: u32) -> (State, Vec<AllocId>) {
    let mut state = cluster();
    deploy(&mut state, file);
    let all: Vec<AllocId> = (0..replicas).map(|replica| place(&mut state, replica)).collect();
    all.iter().for_each(|id| report(&mut state, id, healthy()));
    let (revision, status, degraded) = (Revision(1), DeployStatus::Succeeded, Vec::new());
    act(&mut state, Action::Finish { revision, status, degraded });
    (state, all)
}

fn messages(state: &State) -> Vec<String> {
    status(state, &seen()).warnings.into_iter().map(|w| w.message).collect()
}

#[test]
fn a_restart_that_fits_nowhere_is_seen() {
    let big = FILE.replace("replicas 2", "replicas 1").replace("512M", "5G");
    let (mut state, _) = deployed(&big, 1);
    assert_eq!(messages(&state), Vec::<String>::new());
    change(&mut state, Command::RestartService { service: "db".into() });
    let told = messages(&state);
    assert!(told.len() == 1 && told[0].starts_with("1/1: no node fits "), "{told:?}");
    let view = service_named(&state, &"db".into(), &seen()).unwrap();
    assert_eq!(view.waiting.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["db-0"]);
}

#[test]
fn nothing_is_known_of_what_runs_on_a_silent_node() {
    let (mut state, all) = deployed(FILE, 2);
    let notice = |sign| {
        Command::Notice(crate::fsm::command::Notice { node: NodeId(1), boot: BootId(1), sign })
    };
    use crate::fsm::command::Sign;
    change(&mut state, notice(Sign::Silent(Some(crate::units::Millis(2_000)))));
    let mut now = seen();
    now.now = state.time;
    let view = status(&state, &now);
    let silent = crate::api::wire::NodeStatus::Silent;
    assert_eq!((&view.nodes[0].status, view.services[0].replicas.healthy), (&silent, 0));
    assert!(view.warnings[0].message.starts_with("silent for 2s"), "{:?}", view.warnings);
    let one = allocation(&state, &state.allocations[&all[0]], &now);
    assert_eq!(format!("{} {}", one.status, one.health), "running unknown");
    change(&mut state, notice(Sign::Silent(None)));
    change(&mut state, notice(Sign::Runtime(Some(crate::units::Millis(2_000)))));
    now.now = state.time;
    now.nodes.insert(NodeId(1), (MilliCpu(1), Bytes(1)));
    let view = status(&state, &now);
    let degraded = crate::api::wire::NodeStatus::Degraded;
    assert_eq!((&view.nodes[0].status, view.nodes[0].cpu.used), (&degraded, None));
    let told = view.nodes[0].message.as_deref().unwrap();
    assert!(told.starts_with("degraded: containerd doesn't answer for 2s"), "{told}");
    let one = allocation(&state, &state.allocations[&all[0]], &now);
    assert_eq!(one.health.to_string(), "healthy", "its probes go on");
}

#[test]
fn where_a_service_did_not_work_is_told() {
    let (mut state, all) = deployed(FILE, 2);
    let crash =
        model::AllocationStatus { phase: Phase::Backoff, health: Health::None, ..healthy() };
    report(&mut state, &all[1], crash);
    let (allocation, why) = (all[1].clone(), "exited 1 3×".to_owned());
    act(&mut state, Action::GiveUp { allocation, why, is_program: true });
    let told = "did not work on n1, which is avoided for 10m: exited 1 3×";
    assert!(messages(&state).contains(&told.to_owned()), "{:?}", messages(&state));
    let why = crate::api::why::workload(&state, &"db".into(), &seen()).unwrap();
    let given_up = why.allocations.iter().find(|one| one.id == all[1].as_str()).unwrap();
    let reason = given_up.reason.as_deref();
    assert_eq!(reason, Some("given up on n1, another node is tried: exited 1 3×"));
    let other = why.allocations.iter().find(|one| one.id == all[0].as_str()).unwrap();
    assert_eq!(other.nodes[0].detail, "did not work there: exited 1 3×");
}
