//! A cluster's state with services that run, without anything that runs.
//!
//! Never measures.

use mill::fsm::command::{Action, Deploy, Init, Place, Register, Report, Steps};
use mill::fsm::model::{AllocationStatus, DeployKind, Health, Phase, WorkloadSpec};
use mill::fsm::{Command, NEXT_LEVEL, State, apply_next};
use mill::id::{AllocId, Attempt, BootId, Incarnation, NodeId, Revision};
use mill::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

fn change(state: &mut State, command: Command) {
    let time = Timestamp(state.time.0 + 1_000);
    apply_next(state, time, command).outcome.unwrap();
}

/// A cluster of one node.
pub fn begun() -> State {
    let mut state = State::default();
    change(
        &mut state,
        Command::Init(Init {
            cluster: "bench".to_owned(),
            cluster_id: "00".to_owned(),
            incarnation: Incarnation(1),
            subnet: [10, 99, 0, 0].into(),
            prefix: 16,
            node_name: "n1".to_owned(),
            address: "127.0.0.1".to_owned(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        }),
    );
    change(
        &mut state,
        Command::Register(Register {
            after: None,
            reach: None,
            node: NodeId(1),
            boot: BootId(1),
            cpu: MilliCpu(10_000_000),
            memory: Bytes(u64::MAX / 2),
            version: String::new(),
            feature_level: NEXT_LEVEL,
        }),
    );
    change(&mut state, Command::Raise { level: NEXT_LEVEL });
    state
}

/// Deploys an app that there isn't yet.
pub fn deploy(state: &mut State, file: &str) {
    let spec = mill::spec::read("bench", file).unwrap().spec;
    let services = spec.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
    change(
        state,
        Command::Deploy(Deploy {
            app: spec.app,
            kind: DeployKind::Up,
            base: Some(Revision(0)),
            services: services.collect(),
            tasks: BTreeMap::new(),
            file: file.to_owned(),
            plan: None,
            replace: false,
        }),
    );
}

/// Healthy replicas of a service, at these addresses.
pub fn place(state: &mut State, service: &str, addresses: impl Iterator<Item = Ipv4Addr>) {
    let workload = mill::id::WorkloadName::from(service);
    let spec = state.owner(&workload).unwrap().services[&workload].target.clone().unwrap();
    let seq = state.index.0 + 1;
    let mut allocations = BTreeMap::new();
    let mut actions = Vec::new();
    for (replica, address) in (0..).zip(addresses) {
        let id = AllocId::service(&workload, replica, u32::try_from(seq).unwrap());
        let (workload, spec, node) = (workload.clone(), spec.clone(), NodeId(1));
        let (own, replaces) = (id.clone(), None);
        actions.push(Action::Place(Place { id: own, workload, replica, node, spec, replaces }));
        allocations.insert(
            id,
            AllocationStatus {
                attempt: Attempt(1),
                phase: Phase::Running,
                health: Health::Healthy,
                address: Some(address),
                ..AllocationStatus::default()
            },
        );
    }
    change(state, Command::Steps(Steps { actions, ..Steps::default() }));
    let (node, boot) = (NodeId(1), BootId(1));
    change(state, Command::Report(Report { node, boot, seq, allocations }));
}
