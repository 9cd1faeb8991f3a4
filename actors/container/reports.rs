//! What root still has to be told of the node's allocations.
//!
//! Owns batching: one batch under way, the first at once, the next ones a little apart. Never sends
//! anything itself.

use crate::fsm::model::AllocationStatus;
use crate::id::AllocId;
use crate::limits;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A batch.
pub type Batch = BTreeMap<AllocId, AllocationStatus>;

/// What has to be told and what is being told.
#[derive(Debug, Default)]
pub struct Reports {
    waiting: Batch,
    under_way: Option<Batch>,
    not_before: Option<Instant>,
}

/// What to do about it now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: there is nothing to tell, or a batch is under way.
    Rest,
    /// Ask again after this long.
    Wait(Duration),
    /// Send this.
    Send(Batch),
}

impl Reports {
    /// An allocation is so now.
    pub fn add(&mut self, id: AllocId, observed: AllocationStatus) {
        self.waiting.insert(id, observed);
    }

    /// What root was or will be told of an allocation last.
    #[must_use]
    pub fn latest(&self, id: &AllocId) -> Option<&AllocationStatus> {
        self.waiting.get(id).or_else(|| self.under_way.as_ref()?.get(id))
    }

    /// Whatever is to be done now.
    pub fn next(&mut self, now: Instant) -> Next {
        if self.waiting.is_empty() || self.under_way.is_some() {
            return Next::Rest;
        }
        let wait = self.not_before.map(|at| at.saturating_duration_since(now));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Next::Wait(wait);
        }
        let batch = std::mem::take(&mut self.waiting);
        self.under_way = Some(batch.clone());
        self.not_before = Some(now + limits::REPORT_INTERVAL);
        Next::Send(batch)
    }

    /// The batch under way has arrived.
    pub fn arrived(&mut self) {
        self.under_way = None;
    }

    /// The batch under way has not arrived: it is told again after a while, but for what has
    /// changed since.
    pub fn failed(&mut self, now: Instant) {
        let mut batch = self.under_way.take().unwrap_or_default();
        batch.append(&mut self.waiting);
        self.waiting = batch;
        self.not_before = Some(now + limits::REPORT_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::model::Phase;

    fn seen(phase: Phase) -> AllocationStatus {
        AllocationStatus { phase, ..AllocationStatus::default() }
    }

    fn batch(items: &[(&str, Phase)]) -> Batch {
        items.iter().map(|(id, phase)| ((*id).into(), seen(*phase))).collect()
    }

    #[test]
    fn the_first_goes_at_once_and_the_rest_together() {
        let start = Instant::now();
        let mut reports = Reports::default();
        assert_eq!(reports.next(start), Next::Rest);
        reports.add("a".into(), seen(Phase::Pulling));
        assert_eq!(reports.next(start), Next::Send(batch(&[("a", Phase::Pulling)])));
        reports.add("a".into(), seen(Phase::Starting));
        reports.add("b".into(), seen(Phase::Pulling));
        assert_eq!(reports.next(start), Next::Rest, "one at a time");
        assert_eq!(reports.latest(&"a".into()), Some(&seen(Phase::Starting)));
        reports.arrived();
        assert_eq!(reports.next(start), Next::Wait(limits::REPORT_INTERVAL));
        reports.add("a".into(), seen(Phase::Running));
        let both = batch(&[("a", Phase::Running), ("b", Phase::Pulling)]);
        assert_eq!(reports.next(start + limits::REPORT_INTERVAL), Next::Send(both));
    }

    #[test]
    fn what_did_not_arrive_is_told_again_unless_it_changed() {
        let start = Instant::now();
        let mut reports = Reports::default();
        reports.add("a".into(), seen(Phase::Running));
        reports.add("b".into(), seen(Phase::Running));
        assert!(matches!(reports.next(start), Next::Send(_)));
        reports.add("a".into(), seen(Phase::Backoff));
        reports.failed(start);
        assert_eq!(reports.next(start), Next::Wait(limits::REPORT_RETRY));
        let both = batch(&[("a", Phase::Backoff), ("b", Phase::Running)]);
        assert_eq!(reports.next(start + limits::REPORT_RETRY), Next::Send(both));
    }
}
