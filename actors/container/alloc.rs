//! The actor of one allocation: does what its life decides, and tells what happened.
//!
//! Owns the container of one allocation and the one piece of work that is under way for it. Never
//! waits in a handler: work runs in a task of its own that ends with the actor.

mod error;
mod files;
mod given;
mod work;

pub use error::Failed;
pub use files::{folders, leftover, remembered};
pub use work::{Job, ended, label, terms};

use crate::actors::platform::image::Image;
use crate::allocation::{Effect, Ended, Failure, FoundTask, Input, Life, Terms, Want};
use crate::fsm::model::AllocationStatus;
use crate::id::{AllocId, Attempt, SecretName};
use crate::limits;
use crate::units::{Millis, Timestamp};
use futures_util::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio_util::task::AbortOnDropHandle;

/// What an allocation's actor is told.
pub enum Msg {
    /// Something else should be.
    Want(Want),
    /// The program of an attempt ended.
    Exited(Attempt, Ended),
    /// A process of an attempt was killed for want of memory.
    OutOfMemory(Attempt),
    /// The container of an attempt is not there any more.
    Gone(Attempt),
    /// The image is there, or not.
    Pulled(u64, Result<Arc<Image>, Failed>),
    /// The program runs, with these versions of its secrets, or could not be started.
    Started(u64, Result<BTreeMap<SecretName, u64>, Failure>),
    /// Work has ended with this.
    Outcome(Input),
    /// Work panicked.
    Broken(String),
}

/// What it starts with.
pub struct Args {
    /// Who it is.
    pub job: Arc<Job>,
    /// What does not change.
    pub terms: Terms,
    /// What should be.
    pub want: Want,
    /// What was last reported of it.
    pub reported: AllocationStatus,
    /// What is there of it.
    pub found: Option<Adopted>,
    /// Where its news go.
    pub tell: Tell,
}

/// A container that an earlier actor or process left.
pub struct Adopted {
    pub attempt: Attempt,
    /// What became of it.
    pub task: FoundTask,
    /// The signal that asks its program to end.
    pub signal: Option<u32>,
}

/// News of an allocation.
pub enum News {
    /// It is so now.
    Observed(AllocationStatus),
    /// Nothing is left of it.
    Finished,
}

/// Takes an allocation's news.
pub type Tell = Box<dyn Fn(&AllocId, News) + Send + Sync>;

/// Why an actor stops that has nothing left to do.
pub const FINISHED: &str = "finished";

/// The actor.
pub struct Alloc;

/// What it keeps.
pub struct State {
    job: Arc<Job>,
    life: Life,
    tell: Tell,
    image: Option<Arc<Image>>,
    signal: Option<u32>,
    /// The one piece of work under way; a new one ends it.
    work: Option<AbortOnDropHandle<()>>,
    /// The repair of an adopted container's network.
    _repair: Option<AbortOnDropHandle<()>>,
    clock: Clock,
    /// The versions of the secrets that the program started with.
    secrets: BTreeMap<SecretName, u64>,
    /// When the last start began: where the attempt's output begins.
    began: Option<Timestamp>,
}

impl Actor for Alloc {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let clock = Clock::new();
        let found = args.found.as_ref().map(|found| (found.attempt, found.task));
        let now = clock.now();
        let (life, effects) = Life::begin(args.terms, args.want, &args.reported, found, now);
        let running = found.filter(|(_, task)| *task == FoundTask::Running);
        let repair = running.map(|(attempt, _)| {
            let job = Arc::clone(&args.job);
            AbortOnDropHandle::new(tokio::spawn(async move { job.repair(attempt).await }))
        });
        let mut state = State {
            job: args.job,
            life,
            tell: args.tell,
            image: None,
            signal: args.found.and_then(|found| found.signal),
            work: None,
            _repair: repair,
            clock,
            secrets: args.reported.secrets,
            began: None,
        };
        state.carry_out(effects, &myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let input = match message {
            Msg::Want(want) => Input::Want(want),
            Msg::Exited(attempt, ended) => Input::Exited(attempt, ended),
            Msg::OutOfMemory(attempt) => {
                Input::OutOfMemory(attempt, state.job.out_of_memory(attempt))
            }
            Msg::Gone(attempt) => Input::Gone(attempt),
            Msg::Pulled(op, Ok(image)) => {
                state.signal = Some(state.job.signal(&image));
                state.image = Some(image);
                Input::Pulled(op, Ok(()))
            }
            Msg::Pulled(op, Err(failed)) => Input::Pulled(op, Err(failed.failure())),
            Msg::Started(op, Ok(versions)) => {
                state.secrets = versions;
                Input::Started(op, Ok(()))
            }
            Msg::Started(op, Err(failure)) => Input::Started(op, Err(failure)),
            Msg::Outcome(input) => input,
            Msg::Broken(what) => return Err(what.into()),
        };
        let effects = state.life.step(input, state.clock.now());
        state.carry_out(effects, &myself);
        Ok(())
    }
}

impl State {
    fn carry_out(&mut self, effects: Vec<Effect>, myself: &ActorRef<Msg>) {
        for effect in effects {
            let job = Arc::clone(&self.job);
            match effect {
                Effect::Report => {
                    let mut observed = self.life.observed().clone();
                    observed.address = Some(job.address);
                    observed.secrets.clone_from(&self.secrets);
                    (self.tell)(&job.id, News::Observed(observed));
                }
                Effect::Finish => {
                    (self.tell)(&job.id, News::Finished);
                    self.work = None;
                    myself.stop(Some(FINISHED.to_owned()));
                }
                Effect::Pull(op) => {
                    let actor = myself.clone();
                    self.run(myself, async move {
                        let mut pulling = std::pin::pin!(job.pull());
                        loop {
                            match tokio::time::timeout(limits::PULL_LOOK, &mut pulling).await {
                                Ok(pulled) => return Msg::Pulled(op, pulled),
                                Err(_) => {
                                    let input = Input::Advanced(op, job.pulled_so_far());
                                    // The actor may have stopped, and this task with it.
                                    let _ = actor.cast(Msg::Outcome(input));
                                }
                            }
                        }
                    });
                }
                Effect::Start(op, attempt) => self.start(op, attempt, myself),
                Effect::Probe(op, after) => {
                    let attempt = self.life.attempt();
                    self.run(myself, async move {
                        tokio::time::sleep(after.duration()).await;
                        Msg::Outcome(Input::Probed(op, job.probe(attempt).await))
                    });
                }
                Effect::Wake(op, after) => self.run(myself, async move {
                    tokio::time::sleep(after.duration()).await;
                    Msg::Outcome(Input::Woken(op))
                }),
                Effect::Clear { op, attempt, gently, last } => {
                    let signal = gently.then_some(self.signal).flatten();
                    let gently = gently.then_some(signal);
                    let since = self.began.or(self.life.observed().started_at);
                    let actor = myself.clone();
                    self.run(myself, async move {
                        if job.out_of_memory(attempt).is_some_and(|kills| kills > 0) {
                            // The actor may have stopped meanwhile.
                            let _ = actor.cast(Msg::OutOfMemory(attempt));
                        }
                        Msg::Outcome(match job.clear(attempt, gently, since, last).await {
                            Ok((ended, output)) => Input::Cleared(op, ended, output),
                            Err(error) => {
                                let error = error.failure().message;
                                tracing::warn!(alloc = %job.id, error, "not removed yet");
                                Input::NotCleared(op, error)
                            }
                        })
                    });
                }
            }
        }
    }

    fn start(&mut self, op: u64, attempt: Attempt, myself: &ActorRef<Msg>) {
        self.began = Some(self.clock.now());
        let (job, image) = (Arc::clone(&self.job), self.image.clone());
        self.run(myself, async move {
            let started = match image {
                Some(image) => job.start(attempt, &image).await.map_err(|e| e.failure()),
                None => Err(Failed::Unpulled.failure()),
            };
            Msg::Started(op, started)
        });
    }

    /// Runs work whose outcome comes back as a message, in the place of what was under way.
    fn run(&mut self, myself: &ActorRef<Msg>, work: impl Future<Output = Msg> + Send + 'static) {
        let myself = myself.clone();
        let task = async move {
            let message = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Msg::Broken(text.unwrap_or_else(|| "work panicked".to_owned()))
            });
            // The actor may have stopped meanwhile: then nobody wants the outcome.
            let _ = myself.cast(message);
        };
        self.work = Some(AbortOnDropHandle::new(tokio::spawn(task)));
    }
}

/// Wall time that never jumps: read once, then counted on.
struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    fn new() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp(Millis::from(wall).0), since: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.wall.plus(self.since.elapsed().into())
    }
}
