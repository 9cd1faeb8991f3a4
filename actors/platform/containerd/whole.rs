//! Work at the runtime that goes on to its end although whoever asked for it has given up.
//!
//! Owns which work is under way, and that there is one piece of it at a time for a container. Never
//! knows what the work does.

use super::Containerd;
use crate::id::ContainerId;
use crate::limits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio_util::task::TaskTracker;

type Turn = tokio::sync::Mutex<()>;

/// What is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Works {
    tracker: TaskTracker,
    turns: Arc<Mutex<BTreeMap<ContainerId, Weak<Turn>>>>,
}

impl Works {
    /// What holds others up that want to change the same container.
    fn turn(&self, id: &ContainerId) -> Arc<Turn> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::new(()));
        turns.insert(id.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl Containerd {
    /// Does something to its end, also when the caller is dropped meanwhile: a runtime that is left
    /// halfway holds its container up, or leaves a part of it.
    pub(crate) async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.works.tracker.spawn(work).await {
            Ok(done) => done,
            Err(lost) => match lost.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends, and the caller with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The same, after what is under way for that container.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        id: &ContainerId,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let turn = self.works.turn(id);
        self.whole(async move {
            let _turn = turn.lock().await;
            work.await
        })
        .await
    }

    /// Does something to its end that nobody waits for.
    pub(crate) fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            // Its end is waited for by `settle` alone.
            drop(self.works.tracker.spawn(work));
        }
    }

    /// Waits until nothing is under way, for a bounded time.
    pub async fn settle(&self) {
        self.works.tracker.close();
        if tokio::time::timeout(limits::CONTAINERD_SETTLE, self.works.tracker.wait()).await.is_err()
        {
            let count = self.works.tracker.len();
            tracing::warn!(count, "calls to containerd are broken off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_one_turn_for_as_long_as_it_is_used() {
        let works = Works::default();
        let (a, b) = (ContainerId::from("a".to_owned()), ContainerId::from("b".to_owned()));
        let first = works.turn(&a);
        assert!(Arc::ptr_eq(&first, &works.turn(&a)));
        assert!(!Arc::ptr_eq(&first, &works.turn(&b)));
        drop(first);
        drop(works.turn(&b));
        assert_eq!(works.turns.lock().len(), 1);
    }
}
