//! How a life begins: from nothing, or from what an earlier process left.
//!
//! Never looks at containers: what was found is an input.

use super::{Cause, Effect, Effects, Ended, Life, Stage, Terms, Wait, Want};
use crate::fsm::model::{AllocationStatus, Phase};
use crate::id::Attempt;
use crate::units::Timestamp;

/// What was found of an allocation's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundTask {
    /// Made, but its program was never started, or what it was is unknown.
    Unstarted,
    /// Its program runs.
    Running,
    /// Its program ended.
    Ended(Ended),
    /// Its program was started, and nothing is left that tells how it ended.
    Gone,
}

impl Life {
    /// Begins a life from what was last reported of it and what is there. Created without a task:
    /// made anew; ended: the next attempt; running: kept; asked to stop: the stop is resumed.
    #[must_use]
    pub fn begin(
        terms: Terms,
        want: Want,
        reported: &AllocationStatus,
        found: Option<(Attempt, FoundTask)>,
        now: Timestamp,
    ) -> (Self, Effects) {
        let mut life = Self {
            terms,
            want,
            stage: Stage::Pulling,
            observed: reported.clone(),
            op: 0,
            ends: usize::try_from(reported.restarts).unwrap_or(usize::MAX),
            tries: 0,
            oom: false,
            begun: now,
            far: super::pull::Far::default(),
            oom_counted: None,
            early: None,
        };
        if let Some((attempt, _)) = found
            && attempt != reported.attempt
        {
            life.observed.attempt = attempt;
            life.observed.restarts = attempt.0.saturating_sub(1);
            life.observed.phase = Phase::Pending;
        }
        if !life.terms.restarts {
            let effects = life.begin_task(found, now);
            return (life, effects);
        }
        let effects = match found {
            None => life.begin_without(now),
            Some((_, FoundTask::Running)) => life.resume(now),
            Some((_, FoundTask::Ended(ended))) => match want {
                Want::Stop => life.clear(Cause::Stopped),
                Want::Run(_) => life.clear(Cause::Ended(ended)),
            },
            Some((_, FoundTask::Unstarted | FoundTask::Gone)) => match want {
                Want::Stop => life.clear(Cause::Stopped),
                Want::Run(wanted) if wanted > life.attempt() => life.clear(Cause::Replaced),
                // After a reboot, for example.
                Want::Run(_) if life.observed.phase == Phase::Running => life.clear(Cause::Lost),
                Want::Run(_) => life.clear(Cause::Leftover),
            },
        };
        (life, effects)
    }

    fn begin_without(&mut self, now: Timestamp) -> Effects {
        let Want::Run(wanted) = self.want else { return self.clear(Cause::Stopped) };
        match self.observed.phase {
            Phase::Pending | Phase::Pulling | Phase::Starting => {
                self.observed.attempt = self.observed.attempt.max(wanted).max(Attempt(1));
                self.observed.restarts = self.observed.attempt.0 - 1;
                self.observed.message = None;
                self.pull()
            }
            Phase::Running => self.lost(now),
            Phase::Backoff if wanted <= self.attempt() => {
                let pause = self.observed.retry_at.unwrap_or(now).since(now);
                self.stage = Stage::Waiting(Wait::Backoff);
                self.op += 1;
                vec![Effect::Wake(self.op, pause)]
            }
            Phase::Backoff | Phase::Stopping | Phase::Stopped | Phase::Failed | Phase::Lost => {
                self.next_attempt()
            }
        }
    }

    /// The program runs on: it is as healthy as it was, until a probe says otherwise.
    pub(super) fn resume(&mut self, now: Timestamp) -> Effects {
        let healthy = self.observed.phase == Phase::Running
            && self.observed.health == crate::fsm::model::Health::Healthy;
        let since = self.observed.started_at.unwrap_or(now);
        self.observed.phase = Phase::Running;
        self.observed.started_at = Some(since);
        let mut effects = self.watch(since, healthy, now);
        let again = match self.want {
            Want::Stop => self.clear(Cause::Stopped),
            Want::Run(wanted) if wanted > self.attempt() => self.clear(Cause::Replaced),
            Want::Run(_) => return effects,
        };
        effects.retain(|effect| *effect == Effect::Report);
        effects.extend(again);
        effects
    }
}
