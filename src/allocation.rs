//! The life of an allocation on its node: what was asked and seen decides what is done next.
//!
//! Owns phases, attempts, backoff and the verdict on health. Never does what it decides, reads a
//! clock or waits: the container actor's shell does, and tells the outcome.

mod adopt;
mod event;
mod health;
mod pull;
mod task;
mod text;

#[cfg(test)]
mod tests;

pub use adopt::FoundTask;
pub use event::{Effect, Ended, Failure, Input, Terms, Want};

use crate::fsm::model::{AllocationStatus, Exit, ExitReason, Health, Phase};
use crate::id::Attempt;
use crate::limits;
use crate::units::{Millis, Timestamp};
use text::{bounded, headed};

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Pulling,
    Starting,
    Running { since: Timestamp, healthy: bool, failures: u32 },
    Clearing(Cause),
    Waiting(Wait),
    Done,
}

/// Why the container goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Ended(Ended),
    Unhealthy(String),
    TimedOut,
    Replaced,
    Leftover,
    /// It ran, and nobody knows how it ended.
    Lost,
    Stopped,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wait {
    /// The same again.
    Pull,
    /// The same again.
    Start,
    /// The next attempt.
    Backoff,
    /// The same again.
    Clear(Cause),
}

/// An allocation's life.
#[derive(Clone, Debug)]
pub struct Life {
    terms: Terms,
    want: Want,
    stage: Stage,
    observed: AllocationStatus,
    op: u64,
    /// Ends in a row, for the backoff.
    ends: usize,
    /// Failures in a row to do what is being done, for the pause between.
    tries: usize,
    oom: bool,
    /// When this life began or its pull last got further, for how long a task's start is tried.
    begun: Timestamp,
    far: pull::Far,
    /// So many were counted while this attempt ran; absent: another life of the daemon counted.
    oom_counted: Option<u32>,
    /// An end that was told while the start was still under way.
    early: Option<Ended>,
}

type Effects = Vec<Effect>;

/// The code of a program that SIGKILL ended.
const KILLED: i32 = 128 + 9;

impl Life {
    /// What its node knows of it, for a report.
    #[must_use]
    pub fn observed(&self) -> &AllocationStatus {
        &self.observed
    }

    /// The attempt whose container is or was there.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.observed.attempt
    }

    /// Its program runs, as far as is known.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// Takes in what happened and says what to do.
    #[must_use]
    pub fn step(&mut self, input: Input, now: Timestamp) -> Effects {
        match (&self.stage, input) {
            (Stage::Done, _) => Vec::new(),
            (_, Input::Want(want)) => self.wanted(want),
            (stage, Input::OutOfMemory(attempt, kills)) => {
                let runs = matches!(stage, Stage::Running { .. });
                self.oom |= attempt == self.observed.attempt;
                if runs && attempt == self.observed.attempt {
                    self.out_of_memory(kills)
                } else {
                    Vec::new()
                }
            }
            (Stage::Pulling, Input::Pulled(op, result)) if op == self.op => match result {
                Ok(()) => self.start(),
                Err(failure) => self.failed(failure, Wait::Pull, now),
            },
            (Stage::Pulling, Input::Advanced(op, layers)) if op == self.op => {
                self.advanced(layers, now)
            }
            (Stage::Starting, Input::Started(op, result)) if op == self.op => match result {
                Ok(()) => self.started(now),
                Err(failure) => self.not_started(failure, now),
            },
            (Stage::Starting, Input::Exited(attempt, ended)) if attempt == self.attempt() => {
                self.early = Some(ended);
                Vec::new()
            }
            (Stage::Running { .. }, Input::Exited(attempt, ended)) if attempt == self.attempt() => {
                self.clear(Cause::Ended(ended))
            }
            (Stage::Running { .. }, Input::Gone(attempt)) if attempt == self.attempt() => {
                self.lost(now)
            }
            (Stage::Running { .. }, Input::Probed(op, result)) if op == self.op => {
                self.probed(result, now)
            }
            (Stage::Running { .. }, Input::Woken(op)) if op == self.op => {
                self.clear(Cause::TimedOut)
            }
            (Stage::Clearing(_), Input::Cleared(op, ended, output)) if op == self.op => {
                self.cleared(ended, output, now)
            }
            (Stage::Clearing(cause), Input::NotCleared(op, message)) if op == self.op => {
                let wait = Wait::Clear(cause.clone());
                self.failed(Failure { message, temporary: true, wait: None, code: None }, wait, now)
            }
            (Stage::Waiting(wait), Input::Woken(op)) if op == self.op => {
                let wait = wait.clone();
                self.woken(wait)
            }
            // What belongs to something that is over, or does not matter in this stage.
            _ => Vec::new(),
        }
    }

    fn wanted(&mut self, want: Want) -> Effects {
        if self.want == Want::Stop || self.want == want {
            return Vec::new();
        }
        self.want = want;
        match (&self.stage, want) {
            // A start under way is waited for: a container half made could not be removed surely.
            (Stage::Starting | Stage::Clearing(_) | Stage::Done, _)
            | (Stage::Waiting(Wait::Clear(_)), Want::Run(_)) => Vec::new(),
            (_, Want::Stop) => self.clear(Cause::Stopped),
            (_, Want::Run(attempt)) if attempt <= self.attempt() => Vec::new(),
            (Stage::Running { .. }, Want::Run(_)) => self.clear(Cause::Replaced),
            (Stage::Pulling | Stage::Waiting(_), Want::Run(_)) => self.next_attempt(),
        }
    }

    /// The first attempt, or the one after the last.
    fn next_attempt(&mut self) -> Effects {
        let Want::Run(wanted) = self.want else { return self.clear(Cause::Stopped) };
        let next = Attempt(self.observed.attempt.0 + 1).max(wanted);
        self.observed.attempt = next;
        self.observed.restarts = next.0.saturating_sub(1);
        self.observed.retry_at = None;
        self.observed.started_at = None;
        self.observed.message = None;
        self.oom = false;
        self.oom_counted = Some(0);
        self.early = None;
        self.tries = 0;
        self.pull()
    }

    fn pull(&mut self) -> Effects {
        self.stage = Stage::Pulling;
        self.observed.phase = Phase::Pulling;
        self.op += 1;
        vec![Effect::Report, Effect::Pull(self.op)]
    }

    fn start(&mut self) -> Effects {
        self.stage = Stage::Starting;
        self.observed.phase = Phase::Starting;
        self.observed.message = None;
        self.tries = 0;
        self.op += 1;
        vec![Effect::Report, Effect::Start(self.op, self.attempt())]
    }

    fn started(&mut self, now: Timestamp) -> Effects {
        self.tries = 0;
        self.observed.phase = Phase::Running;
        self.observed.started_at = Some(now);
        self.observed.message = None;
        let mut effects = self.watch(now, false, now);
        let again = match self.want {
            Want::Stop => self.clear(Cause::Stopped),
            Want::Run(wanted) if wanted > self.attempt() => self.clear(Cause::Replaced),
            Want::Run(_) => match self.early.take() {
                Some(ended) => self.clear(Cause::Ended(ended)),
                None => return effects,
            },
        };
        effects.retain(|effect| *effect == Effect::Report);
        effects.extend(again);
        effects
    }

    /// A temporary failure is tried again as it is; another ends the attempt.
    fn failed(&mut self, failure: Failure, wait: Wait, now: Timestamp) -> Effects {
        if self.want == Want::Stop && !matches!(wait, Wait::Clear(_)) {
            return self.clear(Cause::Stopped);
        }
        if !failure.temporary || self.gives_up(&wait, now) {
            let reason = match wait {
                Wait::Pull => ExitReason::PullFailed,
                _ => ExitReason::StartFailed,
            };
            let (code, message) = (failure.code, bounded(&failure.message));
            return self.over(Exit { code, reason, message }, now);
        }
        let pause = failure.wait.unwrap_or_else(|| backoff(self.tries));
        self.tries += 1;
        let message = bounded(&failure.message);
        let news = self.far.take_news() || self.observed.message != message;
        self.observed.message = message;
        self.op += 1;
        self.stage = Stage::Waiting(wait);
        let mut effects = vec![Effect::Wake(self.op, pause)];
        if news {
            effects.insert(0, Effect::Report);
        }
        effects
    }

    fn not_started(&mut self, failure: Failure, now: Timestamp) -> Effects {
        self.early = None;
        if let Want::Run(wanted) = self.want
            && wanted > self.attempt()
        {
            return self.clear(Cause::Replaced);
        }
        self.failed(failure, Wait::Start, now)
    }

    /// Ends the program if need be and removes the container.
    fn clear(&mut self, cause: Cause) -> Effects {
        let was_running = self.is_running();
        self.op += 1;
        // A task is never started again: what later attempts would need goes at once.
        let last = cause == Cause::Stopped || !self.terms.restarts && cause != Cause::Leftover;
        if matches!(cause, Cause::Stopped | Cause::Replaced | Cause::TimedOut) {
            if self.observed.phase != Phase::Stopping {
                self.observed.message = None;
            }
            self.observed.phase = Phase::Stopping;
        }
        let unhealthy = matches!(cause, Cause::Unhealthy(_));
        if !unhealthy {
            self.observed.health = Health::None;
        }
        self.observed.retry_at = None;
        let gently = was_running && !matches!(cause, Cause::Ended(_));
        let (op, attempt) = (self.op, self.attempt());
        self.stage = Stage::Clearing(cause);
        vec![Effect::Report, Effect::Clear { op, attempt, gently, last }]
    }

    fn cleared(&mut self, ended: Option<Ended>, output: String, now: Timestamp) -> Effects {
        let Stage::Clearing(cause) = std::mem::replace(&mut self.stage, Stage::Done) else {
            return Vec::new();
        };
        self.tries = 0;
        let stop = self.want == Want::Stop;
        match cause {
            Cause::Stopped => return self.gone(ended),
            Cause::Ended(ended) => {
                let exit = self.exit_of(ended, &output);
                if !self.terms.restarts {
                    return self.task_over(exit);
                }
                if stop {
                    self.observed.exit = Some(exit);
                    return self.clear(Cause::Stopped);
                }
                return self.over(exit, now);
            }
            Cause::TimedOut => return self.task_over(task::timed_out(&output)),
            Cause::Unhealthy(message) if !stop => {
                let code = ended.map(|ended| ended.code);
                let message = headed(&message, &output);
                return self.over(Exit { code, reason: ExitReason::Killed, message }, now);
            }
            Cause::Replaced => {
                self.killed(ended);
                self.ends = 0;
            }
            Cause::Leftover if !stop => {
                // It was started after all, by a call of the life before, and has ended since.
                if let Some(ended) = ended.filter(|ended| ended.at.0 > 0 && ended.code != KILLED) {
                    let exit = self.exit_of(ended, &output);
                    return self.over(exit, now);
                }
                return self.pull();
            }
            Cause::Lost if !stop => return self.lost(now),
            Cause::Unhealthy(_) | Cause::Leftover | Cause::Lost => {}
        }
        if stop { self.clear(Cause::Stopped) } else { self.next_attempt() }
    }

    /// Everything is removed: the end of the allocation.
    fn gone(&mut self, ended: Option<Ended>) -> Effects {
        self.stage = Stage::Done;
        self.observed.health = Health::None;
        self.observed.message = None;
        if ended.is_some() {
            self.killed(ended);
        }
        self.observed.phase = self.last_phase();
        vec![Effect::Report, Effect::Finish]
    }

    /// A process was killed for want of memory while the program runs; perhaps it lives on. By the
    /// kernel there are so many by now: what is told twice counts once, two told at once as two.
    fn out_of_memory(&mut self, kills: Option<u32>) -> Effects {
        let more = match (self.oom_counted, kills) {
            (Some(counted), Some(kills)) => kills.max(1).saturating_sub(counted),
            (Some(0) | None, _) => 1,
            (Some(_), None) => 0,
        };
        self.oom_counted = kills.max(self.oom_counted).max(Some(1));
        self.observed.ooms += more;
        if more > 0 { vec![Effect::Report] } else { Vec::new() }
    }

    fn killed(&mut self, ended: Option<Ended>) {
        let code = ended.map(|ended| ended.code);
        self.observed.exit = Some(Exit { code, reason: ExitReason::Killed, message: None });
    }

    /// An attempt is over; the next one follows after the backoff.
    fn over(&mut self, exit: Exit, now: Timestamp) -> Effects {
        let settled = self
            .observed
            .started_at
            .is_some_and(|started| now.since(started).duration() >= limits::RESTART_SETTLED);
        if settled {
            self.ends = 0;
        }
        let pause = backoff(self.ends);
        self.ends += 1;
        let is_counted = self.oom_counted.is_some_and(|counted| counted > 0);
        self.observed.ooms += u32::from(exit.reason == ExitReason::Oom && !is_counted);
        let message = bounded(&format!("{}, next try in {pause}", describe(&exit)));
        self.observed.exit = Some(exit);
        self.observed.health = Health::None;
        if !self.terms.restarts {
            return self.clear(Cause::Stopped);
        }
        self.observed.message = message;
        self.observed.phase = Phase::Backoff;
        self.observed.retry_at = Some(now.plus(pause));
        if let Want::Run(wanted) = self.want
            && wanted > self.attempt()
        {
            return self.next_attempt();
        }
        self.op += 1;
        self.stage = Stage::Waiting(Wait::Backoff);
        vec![Effect::Report, Effect::Wake(self.op, pause)]
    }

    /// The container vanished.
    fn lost(&mut self, now: Timestamp) -> Effects {
        let message = "the container was gone, for example after a reboot".to_owned();
        self.over(Exit { code: None, reason: ExitReason::Lost, message: Some(message) }, now)
    }

    fn woken(&mut self, wait: Wait) -> Effects {
        match wait {
            Wait::Pull => {
                self.stage = Stage::Pulling;
                self.op += 1;
                vec![Effect::Pull(self.op)]
            }
            Wait::Start => {
                self.stage = Stage::Starting;
                self.op += 1;
                vec![Effect::Start(self.op, self.attempt())]
            }
            Wait::Backoff => self.next_attempt(),
            Wait::Clear(cause) => self.clear(cause),
        }
    }

    fn exit_of(&self, ended: Ended, output: &str) -> Exit {
        let reason = match ended.code {
            KILLED if self.oom => ExitReason::Oom,
            0 => ExitReason::Completed,
            _ => ExitReason::Error,
        };
        Exit { code: Some(ended.code), reason, message: bounded(output) }
    }
}

/// How an end is told.
fn describe(exit: &Exit) -> String {
    match (exit.reason, exit.code) {
        (ExitReason::Oom, _) => "out of memory".to_owned(),
        (ExitReason::Killed, _) => "unhealthy and killed".to_owned(),
        (ExitReason::Lost, _) => "the container was gone".to_owned(),
        (ExitReason::StartFailed, _) => "could not be started".to_owned(),
        (ExitReason::PullFailed, _) => "image could not be pulled".to_owned(),
        (_, Some(code)) => format!("exited {code}"),
        (_, None) => "ended".to_owned(),
    }
}

/// The pause after that many failures in a row.
fn backoff(failures: usize) -> Millis {
    let steps = limits::RESTART_BACKOFF;
    steps[failures.min(steps.len() - 1)].into()
}
