//! What a revision would do before it is made: the diff by field, where replicas would go, a hash.
//!
//! Owns what `plan` says. Never proposes anything, and has no rule of its own on what replaces what
//! or which node is taken: it asks the replicated machine and the planner.

mod fields;
mod forecast;
mod stale;

#[cfg(test)]
pub mod tests;

pub use fields::{FieldChange, Sign, diff, order};
pub use forecast::{Forecast, forecast};
pub use stale::{Planned, changed_since};

use crate::fsm::command::Deploy;
use crate::fsm::model::{App, Desired, StoredSpec, WorkloadSpec};
use crate::fsm::{self, Command, Outcome, Rejection, State, plan_hash};
use crate::id::{AppName, NodeId, Revision, SpecHash, WorkloadName};
use crate::scheduler::plan::Unplaced;
use crate::spec::model::UpdateOrder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a revision would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The plan's hash.
    pub hash: String,
    /// Whose revision.
    pub app: AppName,
    /// The app's revision now; none: it is new.
    pub base: Option<Revision>,
    /// The revision that it would be, if no other comes before; none: nothing is to be done.
    pub next: Option<Revision>,
    /// Services and tasks that differ: services first, each by name.
    pub changes: Vec<Change>,
}

/// What a revision would do to a service or task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: WorkloadName,
    pub is_task: bool,
    /// Whether it comes, changes or goes.
    pub sign: Sign,
    /// What becomes of what runs.
    pub effect: Effect,
    /// Replicas now and then.
    pub replicas: (Option<u32>, Option<u32>),
    /// The order of a replacement.
    pub order: Option<UpdateOrder>,
    /// What differs; empty if it comes or goes.
    pub fields: Vec<FieldChange>,
    /// Where new replicas would go.
    pub placements: BTreeMap<u32, NodeId>,
    /// Replicas that would fit no node.
    pub unplaced: Vec<Unplaced>,
    /// Persistent volumes that nothing uses any more and that stay.
    pub kept: Vec<String>,
}

/// What becomes of what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is started.
    Start,
    /// Every replica is replaced.
    Replace,
    /// Replicas come or go, the others stay.
    Scale,
    /// Nothing that runs changes.
    Nothing,
    /// It ends.
    Stop,
}

/// What a revision would do.
///
/// # Errors
/// It would be rejected.
pub fn preview(state: &State, deploy: &Deploy) -> Result<Preview, Rejection> {
    let mut next = state.clone();
    let mut asked = deploy.clone();
    asked.plan = None;
    let outcome = fsm::apply_next(&mut next, state.time, Command::Deploy(asked)).outcome?;
    let app = state.apps.get(&deploy.app).map(|app| &**app);
    let mut preview = Preview {
        hash: plan_hash::hash(state, deploy),
        app: deploy.app.clone(),
        base: app.map(|app| app.revision),
        next: None,
        changes: Vec::new(),
    };
    let Outcome::Revision { revision, new: true } = outcome else { return Ok(preview) };
    preview.next = Some(revision);
    let touched = next.deployments.get(&revision).map(|d| d.touched.clone()).unwrap_or_default();
    let forecast = forecast(next.clone(), &deploy.app);
    let context = Context { state, next: &next, app, deploy, forecast: &forecast };
    preview.changes = context.services(&touched);
    preview.changes.extend(context.tasks());
    Ok(preview)
}

struct Context<'a> {
    state: &'a State,
    next: &'a State,
    app: Option<&'a App>,
    deploy: &'a Deploy,
    forecast: &'a Forecast,
}

impl Context<'_> {
    fn services(&self, touched: &BTreeSet<WorkloadName>) -> Vec<Change> {
        touched.iter().filter_map(|name| self.service(name)).collect()
    }

    fn service(&self, name: &WorkloadName) -> Option<Change> {
        let old = self.app.and_then(|app| app.services.get(name));
        // One that is on its way out runs what was stable.
        let old = old.and_then(|old| old.target.as_ref().or(old.stable.as_ref()));
        let old = old.and_then(|hash| self.state.spec(hash));
        let new = self.deploy.services.get(name);
        let (before, after) = (old.map(|old| &old.spec), new);
        let count = |spec: Option<&WorkloadSpec>| Some(spec?.service()?.replicas);
        let replicas = (count(before), count(after));
        let sign = sign(before.is_some(), after.is_some())?;
        let effect = match sign {
            Sign::Add => Effect::Start,
            Sign::Remove => Effect::Stop,
            Sign::Change if self.is_replaced(name) => Effect::Replace,
            Sign::Change if replicas.0 != replicas.1 => Effect::Scale,
            Sign::Change => Effect::Nothing,
        };
        let placements = self.forecast.placed.get(name).cloned().unwrap_or_default();
        let waits = self.forecast.unplaced.iter().filter(|one| one.service == *name);
        Some(Change {
            name: name.clone(),
            is_task: false,
            sign,
            effect,
            replicas,
            order: after.and_then(|spec| Some(spec.service()?.update.order)),
            fields: differing(before, after),
            placements: if after.is_some() { placements } else { BTreeMap::new() },
            unplaced: waits.cloned().collect(),
            kept: self.kept(before),
        })
    }

    /// Whether something that should run now is another version than what would be asked for.
    fn is_replaced(&self, name: &WorkloadName) -> bool {
        let target_of = |state: &State| -> Option<Arc<StoredSpec>> {
            let target = state.owner(name)?.services.get(name)?.target.clone()?;
            state.spec(&target).cloned()
        };
        let Some(new) = target_of(self.next) else { return false };
        let is_other = |run: &SpecHash| *run != new.run;
        let running =
            self.state.allocations_of(name).filter(|a| a.is_live() && a.desired == Desired::Run);
        let mut runs = running.filter_map(|a| self.state.spec(&a.spec));
        target_of(self.state).is_some_and(|old| is_other(&old.run))
            || runs.any(|stored| is_other(&stored.run))
    }

    /// Persistent volumes of a specification that nothing in the app would use.
    fn kept(&self, before: Option<&WorkloadSpec>) -> Vec<String> {
        let used: BTreeSet<&String> = self
            .deploy
            .services
            .values()
            .chain(self.deploy.tasks.values())
            .flat_map(|spec| spec.run().volumes.iter().map(|volume| &volume.name))
            .collect();
        let own = before.into_iter().flat_map(|spec| &spec.run().volumes);
        let kept = own.filter(|volume| !volume.ephemeral && !used.contains(&volume.name));
        kept.map(|volume| volume.name.clone()).collect()
    }

    fn tasks(&self) -> Vec<Change> {
        let old = self.app.map(|app| app.tasks.clone()).unwrap_or_default();
        let names: BTreeSet<&WorkloadName> = old.keys().chain(self.deploy.tasks.keys()).collect();
        let change = |name: &WorkloadName| {
            let before = old.get(name).and_then(|hash| self.state.spec(hash)).map(|old| &old.spec);
            let after = self.deploy.tasks.get(name);
            if before == after {
                return None;
            }
            Some(Change {
                name: name.clone(),
                is_task: true,
                sign: sign(before.is_some(), after.is_some())?,
                effect: Effect::Nothing,
                replicas: (None, None),
                order: None,
                fields: differing(before, after),
                placements: BTreeMap::new(),
                unplaced: Vec::new(),
                kept: Vec::new(),
            })
        };
        names.into_iter().filter_map(change).collect()
    }
}

fn sign(before: bool, after: bool) -> Option<Sign> {
    match (before, after) {
        (false, true) => Some(Sign::Add),
        (true, true) => Some(Sign::Change),
        (true, false) => Some(Sign::Remove),
        (false, false) => None,
    }
}

fn differing(before: Option<&WorkloadSpec>, after: Option<&WorkloadSpec>) -> Vec<FieldChange> {
    match (before, after) {
        (Some(before), Some(after)) => fields::diff(before, after),
        _ => Vec::new(),
    }
}
