//! The one way to wait in a test: a condition with a deadline.
//!
//! Owns the deadline and what is said when it passes. Never waits a fixed time.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// The first pause between two looks; each is longer than the last, up to `STEP_MAX`.
const STEP_MIN: Duration = Duration::from_millis(2);
const STEP_MAX: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(10);

/// What a condition may answer: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Condition {
    /// What the wait gives when it ends well.
    type Value;
    /// The value, or why it isn't there yet.
    fn check(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();
    fn check(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("still false".to_owned()) }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;
    fn check(self) -> Result<T, String> {
        self.ok_or_else(|| "still none".to_owned())
    }
}

impl<T, E: std::fmt::Debug> Condition for Result<T, E> {
    type Value = T;
    fn check(self) -> Result<T, String> {
        self.map_err(|error| format!("last error: {error:?}"))
    }
}

/// A wait that hasn't begun.
#[must_use = "nothing is waited for before `expect`"]
pub struct Poll<F> {
    look: F,
    deadline: Duration,
}

/// Waits for a condition: `poll(|| file.exists()).secs(5).expect("the file")`.
pub fn poll<F, C>(look: F) -> Poll<F>
where
    F: FnMut() -> C,
    C: Condition,
{
    Poll { look, deadline: DEADLINE }
}

/// Waits for a future's answer: `poll_async(|| async { .. }).secs(5).expect_async("it").await`.
pub fn poll_async<F, Fut>(look: F) -> Poll<F>
where
    F: FnMut() -> Fut,
    Fut: Future,
    Fut::Output: Condition,
{
    Poll { look, deadline: DEADLINE }
}

impl<F> Poll<F> {
    /// Gives up after so many seconds; 10 unless told.
    pub fn secs(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    /// Waits until the condition holds, and gives its value.
    ///
    /// # Panics
    /// When the deadline passes: with `what`, the time and the last answer.
    #[track_caller]
    pub fn expect<C>(mut self, what: &str) -> C::Value
    where
        F: FnMut() -> C,
        C: Condition,
    {
        let start = Instant::now();
        let mut step = STEP_MIN;
        loop {
            match (self.look)().check() {
                Ok(value) => return value,
                Err(last) if start.elapsed() >= self.deadline => {
                    panic!("waited {:?} for {what}: {last}", self.deadline)
                }
                Err(_) => std::thread::park_timeout(step),
            }
            step = (step * 2).min(STEP_MAX);
        }
    }

    /// As [`Poll::expect`], for a condition that is a future.
    #[track_caller]
    pub fn expect_async<Fut>(
        mut self,
        what: &str,
    ) -> impl Future<Output = <Fut::Output as Condition>::Value>
    where
        F: FnMut() -> Fut,
        Fut: Future,
        Fut::Output: Condition,
    {
        let caller = Location::caller();
        async move {
            let start = tokio::time::Instant::now();
            let mut step = STEP_MIN;
            loop {
                match (self.look)().await.check() {
                    Ok(value) => return value,
                    Err(last) if start.elapsed() >= self.deadline => {
                        panic!("{caller}: waited {:?} for {what}: {last}", self.deadline)
                    }
                    Err(_) => {
                        let never = std::future::pending::<()>();
                        // Elapses on purpose: a pause that the runtime's clock can skip.
                        let _ = tokio::time::timeout(step, never).await;
                    }
                }
                step = (step * 2).min(STEP_MAX);
            }
        }
    }
}
