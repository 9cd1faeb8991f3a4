//! A canary: some replicas of the new version beside the old ones, and when that ends.
//!
//! Owns what of it runs where meanwhile, and the next step. Never compares requests: that is
//! `scheduler::canary`.

#[cfg(test)]
mod tests;

use super::rollout::Group;
use super::{Context, RolloutStatus};
use crate::bugs::{Bug, is_on};
use crate::fsm::canary::Watched;
use crate::fsm::command::{Action, CanaryStep};
use crate::fsm::model::{Allocation, App, Canary, Service};
use crate::id::WorkloadName;
use crate::limits::CANARY_LONGEST;
use crate::scheduler::canary::{Certainty, Sample, Verdict};
use crate::spec::model::UpdateOrder;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

impl<'a> Context<'a> {
    /// Plans a service while its canary is under way: so many of the new version, and the old
    /// version whole but for what stops first.
    pub(super) fn roll_canary(
        &mut self,
        name: &WorkloadName,
        service: &Service,
        canary: Watched<'a>,
    ) -> RolloutStatus {
        let state = self.state;
        let (new, old) = (canary.new, canary.old);
        let count = canary.spec.count.min(new.spec.replicas);
        let stops_first = new.spec.update.order == UpdateOrder::StopFirst;
        let run = |one: &Allocation| state.spec(&one.spec).map(|stored| &stored.run);
        let is_of_canary = |one: &&Arc<Allocation>| match stops_first {
            true => one.replica().is_some_and(|replica| replica < count),
            false => run(one) == Some(&new.stored.run),
        };
        let (of_canary, others) = state.allocations_of(name).partition(is_of_canary);
        let first = if stops_first { count } else { 0 };
        let seats = first..old.spec.replicas.max(first);
        let generation = service.generation;
        let stay = Group { target: Some(old), generation, seats, all: others };
        let _ = self.roll_group(name, &stay);
        let come = Group { target: Some(new), generation, seats: 0..count, all: of_canary };
        let rollout = self.roll_group(name, &come);
        RolloutStatus { converged: false, canary: Some(rollout.converged), ..rollout }
    }

    /// Takes each canary a step on. One that is worse is a failure of the deployment.
    pub(super) fn judge_canaries(
        &mut self,
        app: &App,
        rollouts: &BTreeMap<&WorkloadName, RolloutStatus>,
    ) {
        for (name, rollout) in rollouts {
            let Some(works) = rollout.canary else { continue };
            let Some(canary) = self.state.canary(&app.name, name) else { continue };
            let (revision, service) = (canary.deployment.revision, (*name).clone());
            match self.next_step(name, &canary, works) {
                Some(Ok(step)) => self.actions.push(Action::Canary { revision, service, step }),
                Some(Err(reason)) => {
                    self.actions = vec![Action::Revert { revision, service, reason }];
                    return;
                }
                None => {}
            }
        }
    }

    /// The next step of a canary, or why it is taken back.
    fn next_step(
        &mut self,
        name: &WorkloadName,
        canary: &Watched<'a>,
        works: bool,
    ) -> Option<Result<CanaryStep, String>> {
        let Some(progress) = canary.progress else {
            return works.then(|| Ok(self.begin(name, canary)));
        };
        let span = canary.spec.duration;
        let is_over = self.is_due_in(progress.since, span);
        let longest = Millis(span.0.saturating_mul(CANARY_LONGEST));
        let is_last = is_over && self.is_due_in(progress.since, longest);
        let known = self.observed.canaries.get(name);
        let known = known.filter(|sample| sample.is_of(canary.deployment.revision, progress));
        let nothing = Sample::default();
        let sample = known.unwrap_or(&nothing);
        let certainty = if is_over { Certainty::Usual } else { Certainty::Early };
        let verdict = match is_on(Bug::DecideByFew) {
            true => sample.compare_whatever(canary.spec),
            false => sample.compare(canary.spec, certainty),
        };
        match verdict {
            Verdict::Worse(why) => Some(Err(format!("canary taken back: {why}"))),
            // What a node has counted may be on its way still.
            _ if !is_over || !(sample.complete || is_last) => None,
            Verdict::Good(figures) => works.then(|| promote(&figures)),
            Verdict::TooFew(figures) if is_last => Some(match works {
                true => promote(&format!("healthy, with too few requests to compare: {figures}")),
                false => Err(format!("canary taken back: not healthy in {longest}; {figures}")),
            }),
            Verdict::TooFew(figures) => longer(progress, &figures, longest),
        }
    }

    fn begin(&self, name: &WorkloadName, canary: &Watched<'a>) -> CanaryStep {
        let run = &canary.old.stored.run;
        let is_old = |one: &&Arc<Allocation>| {
            self.state.spec(&one.spec).is_some_and(|stored| stored.run == *run)
        };
        let mut old = self.state.allocations_of(name).filter(is_old);
        let (count, span) = (canary.spec.count, canary.spec.duration);
        let what = if count == 1 { "1 replica works".to_owned() } else { format!("{count} work") };
        let against = match old.any(|one| self.works(one)) {
            true => "its requests are compared with the old ones' for",
            false => "no old one works to compare it with; it is watched for",
        };
        CanaryStep::Watch { message: format!("canary: {what}; {against} {span}") }
    }
}

fn promote(why: &str) -> Result<CanaryStep, String> {
    Ok(CanaryStep::Promote { why: format!("canary promoted: {why}") })
}

/// Said once.
fn longer(progress: &Canary, figures: &str, longest: Millis) -> Option<Result<CanaryStep, String>> {
    let message = format!(
        "canary: too few requests to compare yet, {figures}; watched for {longest} at most"
    );
    (!progress.longer).then_some(Ok(CanaryStep::Longer { message }))
}
