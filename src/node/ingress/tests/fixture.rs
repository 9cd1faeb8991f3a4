//! What tests of the ingress begin with: a state with services that run.
//!
//! Never anything but tests.

use crate::fsm::command::{Action, Deploy, Place, Report, Steps};
use crate::fsm::model::{self, DeployKind, Health, Phase, WorkloadSpec};
use crate::fsm::{Command, Rejection, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, WorkloadName};
use crate::units::Millis;
use std::collections::BTreeMap;

/// A cluster of one node with an app.
pub struct Case {
    pub state: State,
    life: u32,
}

impl Case {
    /// With this file deployed.
    pub fn new(file: &str) -> Self {
        let mut case = Self { state: State::default(), life: 0 };
        case.change(Command::Init(fixture::init()));
        case.change(Command::Register(fixture::register()));
        case.deploy(file);
        case
    }

    fn change(&mut self, command: Command) {
        self.try_change(command).unwrap();
    }

    /// Applies a command, which may be refused.
    pub fn try_change(&mut self, command: Command) -> Result<(), Rejection> {
        let time = self.state.time.plus(Millis(500));
        apply_next(&mut self.state, time, command).outcome.map(drop)
    }

    /// Deploys another file.
    pub fn deploy(&mut self, file: &str) {
        let spec = crate::spec::parse("file", file).unwrap();
        let services = spec.services.into_iter();
        self.change(Command::Deploy(Deploy {
            app: spec.app,
            kind: DeployKind::Up,
            base: None,
            services: services.map(|(name, s)| (name, WorkloadSpec::Service(s))).collect(),
            tasks: BTreeMap::new(),
            file: file.to_owned(),
            replace: true,
            plan: None,
        }));
    }

    /// Places a replica and reports it, running at this address.
    pub fn run(&mut self, name: &str, replica: u32, address: [u8; 4], health: Health) -> AllocId {
        let workload = WorkloadName::from(name);
        let spec = self.state.owner(&workload).unwrap().services[&workload].target.clone().unwrap();
        let id =
            AllocId::service(&workload, replica, u32::from_be_bytes(address) ^ (self.life << 8));
        let node = NodeId(1);
        let place = Place { id: id.clone(), workload, replica, node, spec, replaces: None };
        self.act(Action::Place(place));
        let seen = model::AllocationStatus {
            attempt: Attempt(1),
            phase: Phase::Running,
            health,
            address: Some(address.into()),
            ..Default::default()
        };
        let seq = self.state.reports.get(&node).map_or(1, |last| last + 1);
        let allocations = BTreeMap::from([(id.clone(), seen)]);
        self.change(Command::Report(Report { node, boot: BootId(1), seq, allocations }));
        id
    }

    /// Takes a step of the planner.
    pub fn act(&mut self, action: Action) {
        self.change(Command::Steps(Steps { actions: vec![action], ..Default::default() }));
    }

    /// Another replica in the place of one before, at the same address.
    pub fn run_again(&mut self, name: &str, replica: u32, address: [u8; 4], round: u32) {
        self.life = round + 1;
        self.run(name, replica, address, Health::Healthy);
    }
}
