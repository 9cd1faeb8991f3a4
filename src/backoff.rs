//! Pauses between tries, each twice as long as the one before.
//!
//! Owns their growth. Never waits: its caller does.

use std::time::Duration;

/// Pauses from a first one up to a longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Before the first try has failed.
    #[must_use]
    pub fn new([first, longest]: [Duration; 2]) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// A try has succeeded: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new([20, 70].map(Duration::from_millis));
        let pauses = [backoff.pause(), backoff.pause(), backoff.pause(), backoff.pause()];
        assert_eq!(pauses.map(|pause| pause.as_millis()), [20, 40, 70, 70]);
        backoff.reset();
        assert_eq!(backoff.pause().as_millis(), 20);
    }
}
