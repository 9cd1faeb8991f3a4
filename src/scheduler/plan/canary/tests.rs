//! Tests of canaries: what runs beside what, and how one ends.

use crate::fsm::command::{CanaryEnd, Deploy, Register, Report};
use crate::fsm::model::{
    AllocationStatus, DeployKind, DeployStatus, Desired, Health, Phase, WorkloadSpec,
};
use crate::fsm::{Command, NEXT_LEVEL, Outcome, Rejection, State, apply_next, fixture};
use crate::id::{Attempt, BootId, NodeId, Revision};
use crate::limits;
use crate::node::ingress::figures::Requests;
use crate::scheduler::canary::Sample;
use crate::scheduler::plan::{Scope, SettledIndexes as Seen, plan};
use crate::units::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// A cluster of two nodes with a service of four replicas.
struct Case {
    state: State,
    now: u64,
    seq: u64,
    /// What the nodes counted: requests and errors of the new version, and of the old one.
    counted: Option<[(u64, u64); 2]>,
}

impl Case {
    fn new(update: &str) -> Self {
        let mut case = Self { state: State::default(), now: 1_000_000, seq: 0, counted: None };
        let _ = case.change(Command::Init(fixture::init())).unwrap();
        for n in 1..=2 {
            if n > 1 {
                let _ = case.change(Command::Join(fixture::join("n2", ""))).unwrap();
            }
            let (node, boot, feature_level) = (NodeId(n), BootId(n), NEXT_LEVEL);
            let register = Register { node, boot, feature_level, ..fixture::register() };
            let _ = case.change(Command::Register(register)).unwrap();
        }
        let _ = case.change(Command::Raise { level: NEXT_LEVEL }).unwrap();
        case.up("v1", update);
        case.run(3);
        assert_eq!(case.status(), DeployStatus::Succeeded);
        case
    }

    fn change(&mut self, command: Command) -> Result<Outcome, Rejection> {
        apply_next(&mut self.state, Timestamp(self.now), command).outcome
    }

    fn up(&mut self, version: &str, update: &str) {
        let text = format!(
            "service \"web\" {{ image \"web:{version}\"; port 80; replicas 4\n\
             route \"a.example\"; update {update} }}\n"
        );
        let spec = crate::spec::parse("file", &text).unwrap();
        let services = spec.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        let _ = self
            .change(Command::Deploy(Deploy {
                app: "shop".into(),
                kind: DeployKind::Up,
                base: None,
                services: services.collect(),
                tasks: BTreeMap::new(),
                file: text,
                replace: false,
                plan: None,
            }))
            .unwrap();
    }

    fn sample(&self) -> BTreeMap<crate::id::WorkloadName, Sample> {
        let Some([new, old]) = self.counted else { return BTreeMap::new() };
        let of = |(count, errors): (u64, u64)| {
            let mut all = Requests::default();
            for n in 0..count {
                let code = if n < errors { 500 } else { 200 };
                all.add(code, Duration::from_millis(3), (0, 0));
            }
            all
        };
        let sample = |(name, canary): (&crate::id::WorkloadName, crate::fsm::canary::Watched)| {
            let stage = (canary.deployment.revision, canary.progress?.since);
            let sample = Sample { stage, new: of(new), old: of(old), complete: true };
            Some((name.clone(), sample))
        };
        self.state.canaries().filter_map(sample).collect()
    }

    /// Carries out what is planned now.
    fn settle(&mut self) {
        for _ in 0..200 {
            let settled = self.state.nodes.keys().map(|id| (*id, self.state.index)).collect();
            let seen = Seen { settled, canaries: self.sample() };
            let planned = plan(&self.state, &seen, Timestamp(self.now), self.now, &Scope::All);
            if planned.commands.is_empty() {
                return;
            }
            for command in planned.commands {
                let _ = self.change(command).unwrap();
            }
        }
        panic!("it never comes to rest");
    }

    /// So many times: what should run does so healthily, what should end ends, time passes.
    fn run(&mut self, times: u32) {
        for _ in 0..times {
            self.settle();
            for one in self.state.allocations.clone().values().filter(|a| a.is_live()) {
                let (phase, health) = match one.desired {
                    Desired::Run => (Phase::Running, Health::Healthy),
                    Desired::Stop => (Phase::Stopped, Health::None),
                    Desired::Draining { .. } => continue,
                };
                self.seq += 1;
                let seen =
                    AllocationStatus { attempt: Attempt(1), phase, health, ..Default::default() };
                let allocations = BTreeMap::from([(one.id.clone(), seen)]);
                let boot = self.state.nodes[&one.node].boot;
                let report = Report { node: one.node, boot, seq: self.seq, allocations };
                let _ = self.change(Command::Report(report)).unwrap();
            }
            self.settle();
            self.now += Millis::from(limits::DRAIN_DELAY).0 + 1;
        }
    }

    fn status(&self) -> DeployStatus {
        self.state.deployments.values().next_back().unwrap().status
    }

    /// Replicas that get traffic: of the first version, of the second.
    fn versions(&self) -> (usize, usize) {
        let of = |version: &str| {
            let live = self.state.allocations.values().filter(|a| a.is_routable());
            let images = live.filter_map(|a| self.state.spec(&a.spec));
            images.filter(|stored| stored.spec.run().image.ends_with(version)).count()
        };
        (of(":v1"), of(":v2"))
    }

    fn why(&self) -> String {
        let newest = self.state.deployments.values().next_back().unwrap();
        let canary = newest.canaries.values().next();
        canary.and_then(|c| c.verdict.as_ref()).map(|v| v.why.clone()).unwrap_or_default()
    }

    fn end(&mut self, promote: bool) -> Result<Outcome, Rejection> {
        self.change(Command::Canary(CanaryEnd { app: "shop".into(), promote }))
    }
}

const FIRST: &str = "order=\"start-first\" canary=2 for=\"60s\" max-error-rate=\"1%\"";
const STOP: &str = "order=\"stop-first\" max-parallel=2 canary=2 for=\"60s\" max-error-rate=\"1%\"";

#[yare::parameterized(
    start_first = { FIRST, (4, 2) },
    stop_first = { STOP, (2, 2) },
)]
fn a_canary_runs_beside_the_old_ones_until_it_is_good(update: &str, beside: (usize, usize)) {
    let mut case = Case::new(update);
    assert_eq!(case.versions(), (4, 0), "the first version has nothing to be compared with");
    case.up("v2", update);
    case.counted = Some([(400, 1), (800, 1)]);
    case.run(10);
    assert_eq!((case.versions(), case.status()), (beside, DeployStatus::Running));
    case.now += 60_000;
    case.run(20);
    assert_eq!((case.versions(), case.status()), ((0, 4), DeployStatus::Succeeded));
    assert!(
        case.why().starts_with("canary promoted: 0.2% of 400 requests failed"),
        "{}",
        case.why()
    );
}

#[yare::parameterized(start_first = { FIRST }, stop_first = { STOP })]
fn one_that_is_worse_is_taken_back_before_its_time_is_over(update: &str) {
    let mut case = Case::new(update);
    case.up("v2", update);
    case.run(5);
    case.counted = Some([(400, 80), (800, 1)]);
    case.run(8);
    assert_eq!((case.versions(), case.status()), ((4, 0), DeployStatus::Failed));
    assert!(case.why().starts_with("canary taken back: 20% of 400"), "{}", case.why());
    let reason = case.state.deployments[&Revision(2)].reason.clone();
    assert_eq!(reason, Some(case.why()));
}

#[test]
fn with_too_few_requests_it_runs_on_and_says_so_once() {
    let mut case = Case::new(FIRST);
    case.up("v2", FIRST);
    case.counted = Some([(5, 5), (800, 0)]);
    case.run(5);
    case.now += 60_000;
    case.run(3);
    assert_eq!((case.versions(), case.status()), ((4, 2), DeployStatus::Running));
    let told = |case: &Case| {
        let steps = case.state.deployments[&Revision(2)].progress.values();
        let said = steps.filter_map(|step| step.message.clone());
        said.filter(|text| text.contains("too few requests")).count()
    };
    assert_eq!(told(&case), 1);
    case.now += 120_000;
    case.run(20);
    assert_eq!((case.versions(), case.status()), ((0, 4), DeployStatus::Succeeded));
    assert!(case.why().contains("healthy, with too few requests"), "{}", case.why());
    assert_eq!(told(&case), 2, "as it was promoted");
}

#[test]
fn a_person_promotes_it_and_takes_it_back() {
    let mut case = Case::new(FIRST);
    assert!(matches!(case.end(true), Err(Rejection::NoCanary { .. })));
    case.up("v2", FIRST);
    case.run(5);
    let _ = case.end(false).unwrap();
    case.run(8);
    assert_eq!((case.versions(), case.status()), ((4, 0), DeployStatus::Aborted));
    assert!(matches!(case.end(true), Err(Rejection::NoCanary { .. })));
    case.up("v2", FIRST);
    case.run(5);
    let _ = case.end(true).unwrap();
    case.run(20);
    assert_eq!((case.versions(), case.status()), ((0, 4), DeployStatus::Succeeded));
    assert_eq!(case.why(), "promoted by hand");
}

#[test]
fn meanwhile_the_old_ones_are_kept_whole_and_leave_a_draining_node() {
    let mut case = Case::new(FIRST);
    case.up("v2", FIRST);
    case.run(5);
    let _ = case.change(Command::Drain { node: NodeId(2), deadline: None }).unwrap();
    case.run(30);
    assert_eq!((case.versions(), case.status()), ((4, 2), DeployStatus::Running));
    let left = case.state.allocations_on(NodeId(2)).filter(|a| a.is_live()).count();
    assert_eq!(left, 0);
}

#[test]
fn a_rollback_needs_no_canary() {
    let mut case = Case::new(FIRST);
    case.up("v2", FIRST);
    case.run(5);
    let back = crate::scheduler::revise::rollback(&case.state, None, None).unwrap();
    let _ = case.change(Command::Deploy(back)).unwrap();
    case.run(8);
    assert_eq!((case.versions(), case.status()), ((4, 0), DeployStatus::Succeeded));
    let steps: Vec<_> =
        case.state.deployments.values().next_back().unwrap().canaries.keys().collect();
    assert!(steps.is_empty(), "{steps:?}");
}
