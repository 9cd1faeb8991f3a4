//! The watch over writes that do not end: whoever waits for a disk can't tell that itself.
//!
//! Owns a thread that sleeps while nothing is written. Never ends a write.

use crate::limits;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the watch finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// A write takes long.
    Late,
    /// A write takes so long that nothing can be expected of the disk.
    Stuck,
}

/// After how long each is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) late: Duration,
    pub(super) stuck: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { late: limits::WRITE_LATE, stuck: limits::WRITE_STUCK }
    }
}

#[derive(Default)]
struct Busy {
    /// The write that is on its way: its number and from when on it counts as slow.
    write: Option<(u64, Instant)>,
    count: u64,
    /// The thread looks again by itself.
    looks: bool,
    ended: bool,
}

/// What is written, as the watch sees it.
#[derive(Default)]
pub(super) struct Watch {
    busy: Mutex<Busy>,
    changed: Condvar,
}

impl Watch {
    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write begins, which may take so long more as it is large.
    pub(super) fn begin(&self, bytes: u64) {
        let allowed = Duration::from_secs(bytes / limits::WRITE_LEAST);
        let mut busy = self.busy();
        busy.count += 1;
        busy.write = Some((busy.count, Instant::now() + allowed));
        // Seldom: a thread that looks finds it by itself.
        if !busy.looks {
            self.changed.notify_all();
        }
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.busy().write = None;
    }

    /// Nothing is written any more.
    pub(super) fn close(&self) {
        self.busy().ended = true;
        self.changed.notify_all();
    }

    /// Starts the thread.
    pub(super) fn start(
        self: &Arc<Self>,
        bounds: Bounds,
        tell: impl Fn(Finding) + Send + 'static,
    ) -> std::io::Result<()> {
        let watch = Arc::clone(self);
        let thread = std::thread::Builder::new().name("mill-log-watch".to_owned());
        // Ends when it is closed, which nobody waits for.
        thread.spawn(move || watch.run(bounds, &tell)).map(drop)
    }

    fn run(&self, bounds: Bounds, tell: &impl Fn(Finding)) {
        while let Some((number, begun)) = self.next() {
            for (finding, after) in [(Finding::Late, bounds.late), (Finding::Stuck, bounds.stuck)] {
                if !self.outlasts(number, begun + after) {
                    break;
                }
                tell(finding);
            }
            self.over(number);
        }
    }

    /// The write that is on its way, waited for; none at the end.
    fn next(&self) -> Option<(u64, Instant)> {
        let mut busy = self.busy();
        busy.looks = false;
        let idle = |busy: &mut Busy| busy.write.is_none() && !busy.ended;
        busy = self.changed.wait_while(busy, idle).unwrap_or_else(PoisonError::into_inner);
        busy.looks = true;
        busy.write.filter(|_| !busy.ended)
    }

    /// Whether that write is still on its way then.
    fn outlasts(&self, number: u64, then: Instant) -> bool {
        let wait = then.saturating_duration_since(Instant::now());
        let not_ended = |busy: &mut Busy| !busy.ended;
        let waited = self.changed.wait_timeout_while(self.busy(), wait, not_ended);
        let (busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !busy.ended && busy.write.is_some_and(|(on_its_way, _)| on_its_way == number)
    }

    /// Waits until another write is on its way than that one.
    fn over(&self, number: u64) {
        let mut busy = self.busy();
        let is_it = |busy: &Busy| busy.write.is_some_and(|(on_its_way, _)| on_its_way == number);
        if is_it(&busy) {
            busy.looks = false;
            let wait = |busy: &mut Busy| is_it(busy) && !busy.ended;
            drop(self.changed.wait_while(busy, wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const BOUNDS: Bounds =
        Bounds { late: Duration::from_millis(20), stuck: Duration::from_millis(60) };

    #[test]
    fn a_write_that_hangs_is_found_late_then_stuck_and_the_next_one_anew() {
        let watch = Arc::new(Watch::default());
        let (tell, told) = channel();
        watch
            .start(BOUNDS, move |finding| {
                let _ = tell.send(finding);
            })
            .unwrap();
        let next = || told.recv_timeout(Duration::from_secs(10)).unwrap();
        for _ in 0..2 {
            let begun = Instant::now();
            watch.begin(0);
            assert_eq!(next(), Finding::Late);
            assert!(begun.elapsed() >= BOUNDS.late);
            assert_eq!(next(), Finding::Stuck);
            assert!(begun.elapsed() >= BOUNDS.stuck);
            watch.end();
        }
        watch.close();
        assert!(told.recv_timeout(Duration::from_secs(10)).is_err(), "the thread has ended");
    }

    #[test]
    fn a_large_one_may_take_longer() {
        let watch = Arc::new(Watch::default());
        let (tell, told) = channel();
        watch
            .start(BOUNDS, move |finding| {
                let _ = tell.send(finding);
            })
            .unwrap();
        let begun = Instant::now();
        watch.begin(limits::WRITE_LEAST);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Finding::Late));
        assert!(begun.elapsed() >= Duration::from_secs(1));
        watch.close();
    }

    #[test]
    fn writes_that_end_are_none_of_its_business() {
        let watch = Arc::new(Watch::default());
        let (tell, told) = channel();
        let bounds = Bounds { late: Duration::from_secs(5), ..BOUNDS };
        watch
            .start(bounds, move |finding| {
                let _ = tell.send(finding);
            })
            .unwrap();
        for _ in 0..1_000 {
            watch.begin(0);
            watch.end();
        }
        watch.close();
        assert!(told.recv_timeout(Duration::from_secs(20)).is_err(), "nothing, and the end");
    }
}
