//! The person in the simulation: random deployments of random services.
//!
//! Owns what is asked for, and how an image behaves: its name says so.

use super::{Event, TROUBLE, World};
use crate::fsm::Command;
use crate::fsm::command::{CanaryEnd, Deploy};
use crate::fsm::model::{DeployKind, WorkloadSpec};
use crate::id::{AppName, Revision, WorkloadName};
use crate::scheduler::revise;
use crate::spec::model::{
    HealthProbe, HealthSpec, PortSpec, RunSpec, ServiceSpec, StopSpec, UpdateOrder, UpdateSpec,
};
use crate::units::{Bytes, MilliCpu, Millis};
use std::collections::BTreeMap;

/// How the containers of an image behave.
const IMAGES: [&str; 14] = [
    "good",
    "good",
    "good",
    "good",
    "good",
    "slow",
    "flaky",
    "crash",
    "sick",
    "ill",
    "late",
    "unstartable",
    "unpullable",
    "unreachable",
];

impl World {
    pub(super) fn user(&mut self) {
        if self.now > TROUBLE {
            return;
        }
        let app = AppName::from(format!("app{}", self.dice.below(2)));
        let command = match self.dice.below(18) {
            10 => self.rollback(&app),
            11 if self.dice.chance(50) => {
                let promote = self.dice.chance(50);
                Some(Command::Canary(CanaryEnd { app, promote }))
            }
            11 => self.rollback(&app),
            12..15 => self.about_tasks(),
            15.. => self.about_nodes(),
            0 => Some(self.deploy(&app, BTreeMap::new(), BTreeMap::new())),
            1 => self.restart(&app),
            2 | 3 => {
                let services = self.scaled(&app);
                let tasks = self.tasks_of(&app);
                Some(self.deploy(&app, services, tasks))
            }
            _ => {
                let mut services = self.random_services(&app);
                let tasks = self.random_tasks(&app);
                self.hook_up(&mut services, &tasks);
                Some(self.deploy(&app, services, tasks))
            }
        };
        if let Some(command) = command {
            self.propose(command);
        }
        // Some are in a hurry, and don't wait for what they asked for.
        let longest = if self.dice.chance(30) { 4_000 } else { 40_000 };
        let pause = self.dice.between(100, longest);
        self.after(pause, Event::User);
    }

    fn deploy(
        &self,
        app: &AppName,
        services: BTreeMap<WorkloadName, WorkloadSpec>,
        tasks: BTreeMap<WorkloadName, WorkloadSpec>,
    ) -> Command {
        Command::Deploy(Deploy {
            app: app.clone(),
            kind: DeployKind::Up,
            base: None,
            services,
            tasks,
            file: String::new(),
            replace: true,
            plan: None,
        })
    }

    fn rollback(&mut self, app: &AppName) -> Option<Command> {
        let of_app = self.state.deployments.values().filter(|d| d.app == *app);
        let revisions: Vec<Revision> = of_app.map(|d| d.revision).collect();
        let which = usize::try_from(self.dice.below(2 * revisions.len() as u64)).ok()?;
        let mut deploy =
            revise::rollback(&self.state, Some(app), revisions.get(which).copied()).ok()?;
        deploy.base = deploy.base.filter(|_| which % 2 == 0);
        Some(Command::Deploy(deploy))
    }

    fn restart(&mut self, app: &AppName) -> Option<Command> {
        let services: Vec<_> = self.state.apps.get(app)?.services.keys().cloned().collect();
        let which = self.dice.below(services.len() as u64);
        let service = services.get(usize::try_from(which).ok()?)?.clone();
        Some(Command::RestartService { service })
    }

    fn tasks_of(&self, app: &AppName) -> BTreeMap<WorkloadName, WorkloadSpec> {
        let tasks = self.state.apps.get(app).map(|app| app.tasks.clone()).unwrap_or_default();
        let spec = |hash| self.state.spec(hash).map(|stored| stored.spec.clone());
        tasks.iter().filter_map(|(name, hash)| Some((name.clone(), spec(hash)?))).collect()
    }

    /// What runs, with another number of replicas.
    fn scaled(&mut self, app: &AppName) -> BTreeMap<WorkloadName, WorkloadSpec> {
        let Some(app) = self.state.apps.get(app).cloned() else { return BTreeMap::new() };
        let mut all = BTreeMap::new();
        for (name, service) in &app.services {
            let stored = service.target.as_ref().and_then(|hash| self.state.spec(hash)).cloned();
            if let Some(mut spec) = stored.and_then(|s| s.spec.service().cloned()) {
                spec.replicas = u32::try_from(self.dice.below(6)).unwrap_or(0);
                all.insert(name.clone(), WorkloadSpec::Service(spec));
            }
        }
        all
    }

    fn random_services(&mut self, app: &AppName) -> BTreeMap<WorkloadName, WorkloadSpec> {
        let count = self.dice.between(1, 3);
        let letters = ["a", "b", "c"];
        let named = (0..count).map(|_| {
            let which = usize::try_from(self.dice.below(3)).unwrap_or(0);
            let name = WorkloadName::from(format!("{}{}", letters[which], &app.as_str()[3..]));
            let mut service = self.random_service();
            service.update.canary = self.draw_canary();
            (name, WorkloadSpec::Service(service))
        });
        named.collect()
    }

    /// Some version of an image, with at most so many tenths of a core.
    pub(super) fn random_run(&mut self, image: &str, tenths: u64) -> RunSpec {
        let image = format!("{image}:{}", self.dice.below(3));
        RunSpec {
            cpu: Some(MilliCpu(self.dice.between(1, tenths) * 100)),
            memory: Bytes(self.dice.between(1, 8) * 100_000_000),
            ..RunSpec::of(image)
        }
    }

    pub(super) fn random_service(&mut self) -> ServiceSpec {
        self.revision_of_user += 1;
        let which = usize::try_from(self.dice.below(IMAGES.len() as u64)).unwrap_or(0);
        let stop_first = self.dice.chance(35);
        let ports =
            if self.dice.chance(80) { vec![PortSpec { port: 80, name: None }] } else { Vec::new() };
        ServiceSpec {
            run: self.random_run(IMAGES[which], 6),
            ports,
            replicas: u32::try_from(self.dice.below(6)).unwrap_or(0),
            health: HealthSpec {
                explicit: false,
                probe: HealthProbe::Tcp,
                interval: Millis(10_000),
                timeout: Millis(2_000),
                grace: Millis(30_000),
                host: None,
            },
            routes: Vec::new(),
            publish: Vec::new(),
            update: UpdateSpec {
                max_parallel: u32::try_from(self.dice.between(1, 3)).unwrap_or(1),
                order: if stop_first { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst },
                healthy_deadline: Millis(60_000),
                canary: None,
            },
            before_deploy: Vec::new(),
            after_deploy: Vec::new(),
            stop: StopSpec { signal: None, grace: Millis(10_000) },
        }
    }
}

pub(super) fn describe(deploy: &Deploy) -> String {
    let services = deploy.services.iter().filter_map(|(name, spec)| {
        let s = spec.service()?;
        let order = match s.update.order {
            UpdateOrder::StartFirst => "start-first",
            UpdateOrder::StopFirst => "stop-first",
        };
        Some(format!("{name}={}×{} {order}≤{}", s.run.image, s.replicas, s.update.max_parallel))
    });
    let kind = deploy.kind;
    format!("deploy {} ({kind:?}): {}", deploy.app, services.collect::<Vec<_>>().join(", "))
}
