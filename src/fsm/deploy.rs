//! New revisions of an app.
//!
//! Owns ownership of names, what a revision touches, the end of the one before it, and the bound on
//! kept revisions. Never decides how a revision is rolled out: that is plan.

#[cfg(test)]
pub(crate) mod tests;

use super::allocation::not_found;
use super::command::Deploy;
use super::model::{
    Allocation, App, Avoids, DeployKind, DeployStatus, Deployment, Desired, Service, StoredSpec,
    WorkloadSpec,
};
use super::{Outcome, Rejection, State, Touched, plan_hash};
use crate::id::{AllocId, AppName, Revision, SpecHash, WorkloadName};
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The services of an app, with what those that changed should run now.
fn retargeted(
    old: Option<&App>,
    services: &BTreeMap<WorkloadName, SpecHash>,
    changed: &BTreeSet<WorkloadName>,
) -> BTreeMap<WorkloadName, Service> {
    let mut own = old.map(|app| app.services.clone()).unwrap_or_default();
    for name in changed {
        let service = own.entry(name.clone()).or_insert_with(Service::none);
        service.target = services.get(name).cloned();
        service.degraded = false;
        // Another version may work where this one did not.
        service.avoids.retain(|_, avoided| !avoided.is_program);
    }
    own
}

impl State {
    pub(super) fn deploy(
        &mut self,
        deploy: Deploy,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        self.check_plan(&deploy)?;
        self.check_deploy(&deploy)?;
        let kept = self.store_file(deploy.file);
        let mut bytes = kept.bytes;
        let services = Arc::new(self.store_specs(deploy.services, &mut bytes));
        let tasks = Arc::new(self.store_specs(deploy.tasks, &mut bytes));
        let old = self.apps.get(&deploy.app).cloned();
        let running = self.running_deployment(&deploy.app).cloned();
        let changed = changed_services(old.as_deref(), running.as_deref(), &services);
        let same = same_as_now(running.as_deref(), old.as_deref(), &services, &tasks, &changed);
        if let Some(revision) = same {
            self.collect_specs();
            return Ok(Outcome::Revision { revision, new: false });
        }
        self.last_revision = Revision(self.last_revision.0 + 1);
        let revision = self.last_revision;
        if let Some(running) = running {
            self.supersede(&running, revision, deploy.kind);
        }
        let own = retargeted(old.as_deref(), &services, &changed);
        let app = App {
            name: deploy.app.clone(),
            revision,
            stable: old.as_deref().and_then(|app| app.stable),
            file: Arc::clone(&kept.file),
            file_hash: kept.hash.clone(),
            services: own,
            tasks: Arc::clone(&tasks),
            version: old.as_deref().map_or(0, |app| app.version) + 1,
        };
        let deployment = Deployment {
            revision,
            app: deploy.app.clone(),
            kind: deploy.kind,
            base: old.as_deref().map(|app| app.revision),
            status: DeployStatus::Running,
            reverting: None,
            started_at: self.time,
            ended_at: None,
            reason: None,
            failed_service: None,
            services,
            tasks,
            touched: Arc::new(changed),
            plan: deploy.plan,
            file: kept.file,
            file_hash: kept.hash,
            bytes,
            hooks: Vec::new(),
            canaries: BTreeMap::new(),
            progress: imbl::OrdMap::new(),
        };
        touched.apps.insert(deploy.app.clone());
        self.sync_schedules(&app);
        self.apps.insert(deploy.app.clone(), Arc::new(app));
        self.deployments.insert(revision, Arc::new(deployment));
        self.trim_revisions(&deploy.app)?;
        self.collect_specs();
        Ok(Outcome::Revision { revision, new: true })
    }

    /// Whoever proposes it need not have read a file: everybody calculates with its figures.
    pub(super) fn check_bounds(
        &self,
        name: &WorkloadName,
        excess: Option<&'static str>,
    ) -> Result<(), Rejection> {
        match excess.filter(|_| self.is_next()) {
            Some(what) => {
                let what = format!("{name} has {what} that no file may have");
                Err(Rejection::Illegal { what })
            }
            None => Ok(()),
        }
    }

    fn check_deploy(&self, deploy: &Deploy) -> Result<(), Rejection> {
        let old = self.apps.get(&deploy.app);
        let now = old.map_or(Revision(0), |app| app.revision);
        if let Some(expected) = deploy.base.filter(|expected| *expected != now) {
            return Err(Rejection::Moved { app: deploy.app.clone(), expected, now });
        }
        for (name, spec) in deploy.services.iter().chain(&deploy.tasks) {
            self.check_bounds(name, spec.excess())?;
        }
        for name in deploy.services.keys().chain(deploy.tasks.keys()) {
            if let Some(owner) = self.owner(name).filter(|owner| owner.name != deploy.app) {
                let (name, owner) = (name.clone(), owner.name.clone());
                return Err(Rejection::NameOwned { name, owner });
            }
        }
        let Some(old) = old.filter(|_| !deploy.replace) else { return Ok(()) };
        // What is about to go counts as gone.
        let services = old.services.iter().filter(|(_, service)| service.target.is_some());
        let mut runs = services.map(|(name, _)| name).chain(old.tasks.keys()).peekable();
        let wants = |name: &WorkloadName| {
            deploy.services.contains_key(name) || deploy.tasks.contains_key(name)
        };
        let is_empty = deploy.services.is_empty() && deploy.tasks.is_empty();
        // To take everything down is asked for by that name.
        let takes_down = deploy.kind != DeployKind::Up || !self.is_next();
        let is_full = runs.peek().is_some() && !(is_empty && takes_down);
        let shares = runs.any(wants);
        if is_full && !shares {
            return Err(Rejection::NothingShared { app: deploy.app.clone() });
        }
        Ok(())
    }

    /// Whoever names a plan gets that, or nothing.
    fn check_plan(&self, deploy: &Deploy) -> Result<(), Rejection> {
        let Some(planned) = &deploy.plan else { return Ok(()) };
        let now = plan_hash::hash(self, deploy);
        if now == *planned {
            return Ok(());
        }
        Err(Rejection::PlanStale { planned: planned.clone(), now })
    }

    /// Ends the deployment that a newer one takes the place of.
    fn supersede(&mut self, running: &Deployment, by: Revision, kind: DeployKind) {
        let mut ended = running.clone();
        let (status, how) = match kind {
            DeployKind::Rollback => (DeployStatus::Aborted, "aborted by the rollback"),
            _ => (DeployStatus::Superseded, "superseded by"),
        };
        let failed = running.reason.as_ref().map(|why| format!(" on the way back: {why}"));
        ended.reason = Some(format!("{how} r{by}{}", failed.unwrap_or_default()));
        ended.status = status;
        ended.ended_at = Some(self.time);
        self.deployments.insert(running.revision, Arc::new(ended));
    }

    fn store_specs(
        &mut self,
        specs: BTreeMap<WorkloadName, WorkloadSpec>,
        bytes: &mut u64,
    ) -> BTreeMap<WorkloadName, SpecHash> {
        specs
            .into_iter()
            .map(|(name, spec)| {
                let (hash, stored) = spec.store();
                *bytes += self.store_spec(hash.clone(), stored);
                (name, hash)
            })
            .collect()
    }

    /// Keeps a specification; what that adds, in bytes.
    pub(super) fn store_spec(&mut self, hash: SpecHash, stored: StoredSpec) -> u64 {
        let is_new = self.is_next() && !self.specs.contains_key(&hash);
        let bytes = if is_new { bytes_of(&stored.spec) } else { 0 };
        self.specs.insert(hash, Arc::new(stored));
        bytes
    }

    pub(super) fn restart_service(
        &mut self,
        name: &WorkloadName,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let owner = self.owner(name).ok_or_else(|| not_found("service", name.as_str()))?;
        let mut app = (**owner).clone();
        let service = app.services.get_mut(name);
        service.ok_or_else(|| not_found("service", name.as_str()))?.generation += 1;
        app.version += 1;
        touched.apps.insert(app.name.clone());
        self.apps.insert(app.name.clone(), Arc::new(app));
        Ok(Outcome::Done)
    }

    /// Makes these replicas ones of another generation than their service's: they are replaced.
    pub(super) fn replace_each(
        &mut self,
        all: &BTreeSet<AllocId>,
        touched: &mut Touched,
    ) -> Outcome {
        for id in all {
            let asked = |a: &&Arc<Allocation>| a.is_live() && a.desired == Desired::Run;
            let Some(old) = self.allocations.get(id).filter(asked) else { continue };
            let service = self.owner(&old.workload).and_then(|app| app.services.get(&old.workload));
            if service.is_none_or(|service| service.generation != old.generation) {
                continue;
            }
            let mut new = Allocation::clone(old);
            new.generation = old.generation.wrapping_sub(1);
            touched.apps.insert(new.app.clone());
            self.put_allocation(new, touched);
        }
        Outcome::Done
    }

    /// Keeps the newest revisions of an app, and always the one that runs and the last stable one.
    fn trim_revisions(&mut self, name: &AppName) -> Result<(), Rejection> {
        let Some(app) = self.apps.get(name).cloned() else { return Ok(()) };
        let of_app = self.deployments.values().filter(|d| d.app == *name);
        let all: Vec<Revision> = of_app.map(|d| d.revision).collect();
        let excess = all.len().saturating_sub(limits::REVISIONS_PER_APP);
        for revision in all.into_iter().take(excess) {
            if revision != app.revision && Some(revision) != app.stable {
                self.deployments.remove(&revision);
            }
        }
        self.make_room(name)
    }

    /// Drops specifications that nothing refers to.
    pub(super) fn collect_specs(&mut self) {
        let mut used: BTreeSet<&SpecHash> = BTreeSet::new();
        for app in self.apps.values() {
            used.extend(app.tasks.values());
            let of_services = app.services.values();
            used.extend(of_services.flat_map(|s| s.stable.iter().chain(&s.target)));
        }
        for deployment in self.deployments.values() {
            used.extend(deployment.services.values().chain(deployment.tasks.values()));
        }
        used.extend(self.allocations.values().map(|a| &a.spec));
        used.extend(self.runs.values().map(|run| &run.spec));
        let unused: Vec<SpecHash> =
            self.specs.keys().filter(|hash| !used.contains(hash)).cloned().collect();
        for hash in unused {
            self.specs.remove(&hash);
        }
        self.collect_files();
    }
}

fn bytes_of(spec: &WorkloadSpec) -> u64 {
    serde_json::to_vec(spec).map_or(0, |json| json.len() as u64)
}

impl Service {
    /// A service that nothing is known of yet.
    fn none() -> Self {
        let (stable, target, address) = (None, None, None);
        let avoids = Avoids::new();
        Self { stable, target, generation: 0, degraded: false, avoids, address }
    }
}

/// The revision that is all of this already, on its way or done.
fn same_as_now(
    running: Option<&Deployment>,
    app: Option<&App>,
    services: &BTreeMap<WorkloadName, SpecHash>,
    tasks: &BTreeMap<WorkloadName, SpecHash>,
    changed: &BTreeSet<WorkloadName>,
) -> Option<Revision> {
    if let Some(now) = running {
        // Asked for again while it is on its way: there is nothing new to do.
        let is_same = *now.services == *services && *now.tasks == *tasks;
        return (is_same && now.reverting.is_none()).then_some(now.revision);
    }
    let app = app.filter(|app| changed.is_empty() && *app.tasks == *tasks)?;
    Some(app.stable.unwrap_or(app.revision))
}

/// The services that a revision adds, changes or removes: those that are to be another way than
/// they should be now, or than they last were healthy, and what the one before was at work on.
fn changed_services(
    app: Option<&App>,
    running: Option<&Deployment>,
    services: &BTreeMap<WorkloadName, SpecHash>,
) -> BTreeSet<WorkloadName> {
    let known = app.into_iter().flat_map(|app| app.services.keys());
    let at_work = |name: &WorkloadName| running.is_some_and(|d| d.touched.contains(name));
    let is_other = |name: &&WorkloadName| {
        let wanted = services.get(*name);
        app.and_then(|app| app.services.get(*name)).is_none_or(|service| {
            let is_stable = service.stable.as_ref() == wanted && !service.degraded;
            service.target.as_ref() != wanted || !is_stable || at_work(name)
        })
    };
    known.chain(services.keys()).filter(is_other).cloned().collect()
}
