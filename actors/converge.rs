//! What is to be true outside of the process, kept so: the newest that is wanted, one attempt under
//! way, and again after a pause where one fails.
//!
//! Owns when an attempt is made, and that a failure is logged once. Never decides what is wanted,
//! and holds nobody up: attempts run beside the actor, and end with it.

use crate::backoff::Backoff;
use crate::limits;
use parking_lot::Mutex;
use std::error::Error;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// What an attempt came to. What is missing is tried again.
pub enum Made<E> {
    /// All of it is true.
    Whole,
    /// As much as can be is true now.
    Partly(E),
    /// It can't be said to be true.
    Not(E),
}

impl<E> From<Result<(), E>> for Made<E> {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(Self::Not, |()| Self::Whole)
    }
}

/// How something wanted is made true.
pub trait Target: Send + 'static {
    /// What may be wanted.
    type Wanted: Clone + PartialEq + Send + Sync + 'static;
    /// Why it is not true.
    type Error: Error + Send + 'static;

    /// Makes it true, whatever was before.
    fn make(&mut self, wanted: Self::Wanted) -> impl Future<Output = Made<Self::Error>> + Send;
}

/// Something that is kept as it is wanted, until this is dropped.
pub struct Converge<T> {
    shared: Arc<Shared<T>>,
    _attempts: AbortOnDropHandle<()>,
}

struct Shared<T> {
    goal: Mutex<Goal<T>>,
    changed: Notify,
}

struct Goal<T> {
    wanted: Option<T>,
    /// What is true, as far as it can be; absent while that is not known.
    made: Option<T>,
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Converge<T> {
    /// Begins with nothing wanted. `told` is called whenever what was wanted has become true, as
    /// far as it can be.
    pub fn start(target: impl Target<Wanted = T>, told: impl Fn() + Send + Sync + 'static) -> Self {
        let goal = Mutex::new(Goal { wanted: None, made: None });
        let shared = Arc::new(Shared { goal, changed: Notify::new() });
        let attempts = keep(target, Arc::clone(&shared), told);
        Self { shared, _attempts: AbortOnDropHandle::new(tokio::spawn(attempts)) }
    }

    /// Wants this from now on. Answers whether it is true already.
    pub fn want(&self, wanted: T) -> bool {
        let mut goal = self.shared.goal.lock();
        if goal.wanted.as_ref() != Some(&wanted) {
            goal.wanted = Some(wanted);
            self.shared.changed.notify_one();
        }
        goal.is_made()
    }

    /// Whether what is wanted is true.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.shared.goal.lock().is_made()
    }
}

impl<T: PartialEq> Goal<T> {
    fn is_made(&self) -> bool {
        self.made.is_some() && self.made == self.wanted
    }
}

impl<T: Clone + PartialEq> Shared<T> {
    /// Waits until something is wanted that isn't true, or something else than this.
    async fn next(&self, failed: Option<&T>) -> T {
        loop {
            if let Some(wanted) = self.begin(failed) {
                return wanted;
            }
            self.changed.notified().await;
        }
    }

    fn begin(&self, failed: Option<&T>) -> Option<T> {
        let mut goal = self.goal.lock();
        if goal.is_made() && failed.is_none() || goal.wanted.as_ref() == failed {
            return None;
        }
        goal.made = None;
        goal.wanted.clone()
    }
}

/// Makes attempts for ever.
async fn keep<T: Target>(mut target: T, shared: Arc<Shared<T::Wanted>>, told: impl Fn()) {
    let (mut failed, mut known) = (None, None);
    let mut backoff = Backoff::new(limits::CONVERGE_RETRY);
    loop {
        let wanted = match &failed {
            None => shared.next(None).await,
            Some(old) => {
                let newer = shared.next(Some(old));
                let newer = tokio::time::timeout(backoff.pause(), newer).await;
                newer.unwrap_or_else(|_| old.clone())
            }
        };
        let (is_true, error) = match target.make(wanted.clone()).await {
            Made::Whole => (true, None),
            Made::Partly(error) => (true, Some(error)),
            Made::Not(error) => (false, Some(error)),
        };
        shared.goal.lock().made = is_true.then(|| wanted.clone());
        if is_true {
            told();
        }
        let text = error.as_ref().map(|error| format!("{error:?}"));
        if let Some(error) = error.filter(|_| known != text) {
            tracing::warn!(reason = error.source(), "{error}; tried again");
        }
        if text.is_none() || failed.as_ref() != Some(&wanted) {
            backoff.reset();
        }
        failed = text.is_some().then_some(wanted);
        known = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::mpsc;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[derive(Debug, thiserror::Error)]
    #[error("as the test says")]
    struct Refused;

    /// Shows each attempt, and waits for what comes of it.
    struct Scripted {
        attempts: mpsc::UnboundedSender<u32>,
        outcomes: mpsc::UnboundedReceiver<Made<Refused>>,
    }

    impl Target for Scripted {
        type Wanted = u32;
        type Error = Refused;

        async fn make(&mut self, wanted: u32) -> Made<Refused> {
            self.attempts.send(wanted).unwrap();
            self.outcomes.recv().await.unwrap()
        }
    }

    struct Case {
        converge: Converge<u32>,
        attempts: mpsc::UnboundedReceiver<u32>,
        outcomes: mpsc::UnboundedSender<Made<Refused>>,
        told: mpsc::UnboundedReceiver<()>,
    }

    impl Case {
        fn new() -> Self {
            let (attempted, attempts) = mpsc::unbounded_channel();
            let (outcomes, results) = mpsc::unbounded_channel();
            let (tell, told) = mpsc::unbounded_channel();
            let target = Scripted { attempts: attempted, outcomes: results };
            let told_of = move || tell.send(()).unwrap_or_default();
            let converge = Converge::start(target, told_of);
            Self { converge, attempts, outcomes, told }
        }

        async fn attempt(&mut self) -> u32 {
            let attempt = tokio::time::timeout(DEADLINE, self.attempts.recv()).await;
            attempt.expect("an attempt").unwrap()
        }

        async fn make(&mut self, outcome: Made<Refused>) {
            self.outcomes.send(outcome).ok().unwrap();
            tokio::time::timeout(DEADLINE, self.told.recv()).await.expect("it is told").unwrap();
        }
    }

    #[tokio::test]
    async fn the_newest_comes_after_the_attempt_that_is_under_way() {
        let mut case = Case::new();
        assert!(!case.converge.want(1));
        assert_eq!(case.attempt().await, 1);
        assert!(!case.converge.want(2) && !case.converge.want(3));
        case.make(Made::Whole).await;
        assert_eq!(case.attempt().await, 3);
        assert!(!case.converge.want(3) && !case.converge.is_made());
        case.make(Made::Whole).await;
        assert!(case.converge.want(3) && case.converge.is_made());
        assert!(case.attempts.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_fails_is_tried_again_and_what_is_newer_at_once() {
        let mut case = Case::new();
        case.converge.want(1);
        case.attempt().await;
        case.outcomes.send(Made::Not(Refused)).ok().unwrap();
        assert_eq!(case.attempt().await, 1);
        case.make(Made::Partly(Refused)).await;
        assert!(case.converge.want(1), "as far as it can be");
        let begun = std::time::Instant::now();
        case.converge.want(2);
        assert_eq!(case.attempt().await, 2);
        assert!(begun.elapsed() < limits::CONVERGE_RETRY[0]);
        case.make(Made::Whole).await;
    }
}
