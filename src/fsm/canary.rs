//! Canaries: which services have one under way, and the steps that one takes.
//!
//! Owns when a service has a canary, and what each step leaves in the state. Never judges one.

use super::command::{CanaryEnd, CanaryStep};
use super::model::{Canary, DeployKind, Deployment, Progress, ProgressPhase, StoredSpec, Verdict};
use super::{Outcome, Rejection, State, Touched};
use crate::id::{AppName, Revision, SpecHash, WorkloadName};
use crate::spec::model::{CanarySpec, ServiceSpec};
use std::sync::Arc;

/// A canary that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    pub deployment: &'a Deployment,
    /// How it is watched.
    pub spec: &'a CanarySpec,
    pub new: Version<'a>,
    pub old: Version<'a>,
    /// How far it is; absent: its replicas have not worked yet.
    pub progress: Option<&'a Canary>,
}

/// A version of a service.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// The hash of its specification.
    pub hash: &'a SpecHash,
    /// The specification.
    pub stored: &'a StoredSpec,
    /// The same, as a service's.
    pub spec: &'a ServiceSpec,
}

impl State {
    /// The canary of a service, while it is under way: a deployment that goes forward brings a
    /// version that is watched, beside one that worked.
    #[must_use]
    pub fn canary(&self, app: &AppName, name: &WorkloadName) -> Option<Watched<'_>> {
        let deployment = self.running_deployment(app).filter(|_| self.is_next())?;
        let brings = matches!(deployment.kind, DeployKind::Up | DeployKind::Scale);
        if !brings || !deployment.goes_forward() || !deployment.touched.contains(name) {
            return None;
        }
        let progress = deployment.canaries.get(name);
        if progress.is_some_and(Canary::is_promoted) {
            return None;
        }
        let service = self.apps.get(app)?.services.get(name)?;
        let new = self.version(service.target.as_ref()?)?;
        let old = self.version(service.stable.as_ref()?)?;
        let spec = new.spec.update.canary.as_ref()?;
        let differs = new.stored.run != old.stored.run && old.spec.replicas > 0;
        differs.then_some(Watched { deployment, spec, new, old, progress })
    }

    /// A version of a service.
    #[must_use]
    pub fn version(&self, hash: &SpecHash) -> Option<Version<'_>> {
        let (hash, stored) = self.specs.get_key_value(hash)?;
        Some(Version { hash, stored, spec: stored.spec.service()? })
    }

    /// All canaries under way, by service.
    pub fn canaries(&self) -> impl Iterator<Item = (&WorkloadName, Watched<'_>)> {
        let apps = self.apps.values().filter_map(|app| self.running_deployment(&app.name));
        apps.flat_map(|deployment| {
            let touched = deployment.touched.iter();
            touched.filter_map(|name| Some((name, self.canary(&deployment.app, name)?)))
        })
    }

    /// Takes a step of a canary that plan found.
    pub(super) fn step_canary(
        &mut self,
        revision: Revision,
        service: WorkloadName,
        step: CanaryStep,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut deployment = self.running(revision)?;
        let time = self.time;
        let known = deployment.canaries.get(&service).cloned();
        let (canary, message) = match (step, known) {
            (CanaryStep::Watch { message }, None) => (Canary::begun(time), message),
            (CanaryStep::Longer { message }, Some(canary)) if !canary.longer => {
                (Canary { longer: true, ..canary }, message)
            }
            (CanaryStep::Promote { why }, Some(canary)) if canary.verdict.is_none() => {
                (Canary { verdict: Some(promoted(time, &why, false)), ..canary }, why)
            }
            _ => return Err(Rejection::Stale),
        };
        deployment.canaries.insert(service.clone(), canary);
        deployment.add_progress(step_of(time, &service, message));
        touched.apps.insert(deployment.app.clone());
        self.deployments.insert(revision, Arc::new(deployment));
        Ok(())
    }

    /// Ends the canaries of an app because a person says so.
    pub(super) fn end_canaries(
        &mut self,
        end: &CanaryEnd,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let app = end.app.clone();
        let none = || Rejection::NoCanary { app: app.clone() };
        let mut deployment = Deployment::clone(self.running_deployment(&end.app).ok_or_else(none)?);
        let under_way = deployment.touched.iter().filter(|name| self.canary(&app, name).is_some());
        let services: Vec<WorkloadName> = under_way.cloned().collect();
        let first = services.first().cloned().ok_or_else(none)?;
        let (time, revision) = (self.time, deployment.revision);
        let why = match end.promote {
            true => "promoted by hand",
            false => "taken back by hand",
        };
        for service in services {
            let canary = deployment.canaries.remove(&service).unwrap_or(Canary::begun(time));
            let verdict = Verdict { promoted: end.promote, ..promoted(time, why, true) };
            let canary = Canary { verdict: Some(verdict), ..canary };
            deployment.add_progress(step_of(time, &service, format!("canary {why}")));
            deployment.canaries.insert(service, canary);
        }
        touched.apps.insert(app.clone());
        self.deployments.insert(revision, Arc::new(deployment));
        self.outdate(&app, touched);
        if !end.promote {
            self.revert(revision, first, format!("canary {why}"), touched)?;
        }
        Ok(Outcome::Revision { revision, new: false })
    }
}

fn promoted(at: crate::units::Timestamp, why: &str, by_hand: bool) -> Verdict {
    Verdict { at, promoted: true, by_hand, why: why.to_owned() }
}

fn step_of(time: crate::units::Timestamp, service: &WorkloadName, message: String) -> Progress {
    let (phase, service, message) = (ProgressPhase::Canary, service.clone(), Some(message));
    Progress { time, phase, service, allocation: None, node: None, message }
}

impl Deployment {
    /// A person has taken a canary of it back.
    #[must_use]
    pub fn is_taken_back_by_hand(&self) -> bool {
        let verdicts = self.canaries.values().filter_map(|canary| canary.verdict.as_ref());
        verdicts.into_iter().any(|verdict| verdict.by_hand && !verdict.promoted)
    }
}
