//! What is different with a task: its program runs once, for so long at most, and is not probed.
//!
//! Owns a task's deadline and its end. Never starts a program that may have run.

use super::adopt::FoundTask;
use super::{Cause, Effect, Effects, Life, Stage, Wait, Want, bounded};
use crate::fsm::model::{Exit, ExitReason, Health, Phase};
use crate::id::Attempt;
use crate::limits;
use crate::units::Timestamp;

/// What a program that took too long has as its code, as with `timeout` of coreutils.
const TIMED_OUT: i32 = 124;

/// How a program ended that took too long.
pub(super) fn timed_out(output: &str) -> Exit {
    Exit { code: Some(TIMED_OUT), reason: ExitReason::Timeout, message: bounded(output) }
}

impl Life {
    /// Begins a task's life from what is there. What may have run is never started again.
    pub(super) fn begin_task(
        &mut self,
        found: Option<(Attempt, FoundTask)>,
        now: Timestamp,
    ) -> Effects {
        let Want::Run(_) = self.want else {
            return match found {
                Some((_, FoundTask::Running)) => self.resume(now),
                _ => self.clear(Cause::Stopped),
            };
        };
        let phase = self.observed.phase;
        match found.map(|(_, task)| task) {
            Some(FoundTask::Running) => self.resume(now),
            // It was being stopped for its deadline.
            Some(FoundTask::Ended(_)) if phase == Phase::Stopping => self.clear(Cause::TimedOut),
            Some(FoundTask::Ended(ended)) => self.clear(Cause::Ended(ended)),
            Some(FoundTask::Unstarted) => self.clear(Cause::Leftover),
            None if phase < Phase::Running => {
                self.observed.attempt = self.observed.attempt.max(Attempt(1));
                self.observed.message = None;
                self.pull()
            }
            Some(FoundTask::Gone) | None if self.observed.exit.is_some() => {
                self.clear(Cause::Stopped)
            }
            Some(FoundTask::Gone) | None => self.lost(now),
        }
    }

    /// Lets a program run until its deadline, counted from its start.
    pub(super) fn watch_task(&mut self, since: Timestamp, now: Timestamp) -> Effects {
        self.stage = Stage::Running { since, healthy: false, failures: 0 };
        self.observed.health = Health::None;
        self.op += 1;
        let mut effects = vec![Effect::Report];
        if let Some(timeout) = self.terms.timeout {
            effects.push(Effect::Wake(self.op, since.plus(timeout).since(now)));
        }
        effects
    }

    /// A task that could not be pulled or started for so long isn't tried again.
    pub(super) fn gives_up(&self, wait: &Wait, now: Timestamp) -> bool {
        let tries = now.since(self.begun).duration();
        let is_start = matches!(wait, Wait::Pull | Wait::Start);
        !self.terms.restarts && is_start && tries >= limits::UNPLACED_DEADLINE
    }

    /// Everything of a task is removed.
    pub(super) fn task_over(&mut self, exit: Exit) -> Effects {
        self.observed.ooms += u32::from(exit.reason == ExitReason::Oom);
        self.observed.exit = Some(exit);
        self.gone(None)
    }

    /// Where a life ends: a task that neither completed nor was asked to end has failed.
    pub(super) fn last_phase(&mut self) -> Phase {
        if self.terms.restarts {
            return Phase::Stopped;
        }
        let killed = || Exit { code: None, reason: ExitReason::Killed, message: None };
        match self.observed.exit.get_or_insert_with(killed).reason {
            ExitReason::Completed | ExitReason::Killed => Phase::Stopped,
            _ => Phase::Failed,
        }
    }
}
