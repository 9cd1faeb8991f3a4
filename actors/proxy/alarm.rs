//! One timer for all that a connection waits for.
//!
//! Never says what the time is for.

use crate::limits::KEEP_WAIT;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::{Sleep, sleep};

/// A timer that is seldom set: it may ring early, and looks again.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// Set to some time.
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep(KEEP_WAIT)))
    }

    /// Waits until then.
    pub(super) fn poll(&mut self, cx: &mut Context, due: Instant) -> Poll<()> {
        if self.0.deadline().into_std() > due {
            self.0.as_mut().reset(due.into());
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due.into());
        }
    }
}
