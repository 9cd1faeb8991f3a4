//! Figures of pulls within a deployment's events: which are worth sending, and when.
//!
//! Owns how often a stream has them. Never keeps a figure for a later reader: whoever comes back is
//! told the newest.

use crate::api::wire::ProgressEvent;
use crate::limits;
use crate::node::oci::pull::Pulls;
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What one stream was told.
#[derive(Default)]
pub struct Figures {
    told: BTreeMap<String, (Option<u64>, Option<u64>)>,
    last: Option<Instant>,
    waiting: bool,
}

impl Figures {
    /// An event with perhaps figures in it was sent.
    pub fn told(&mut self, event: &ProgressEvent) {
        if let Some(id) = &event.allocation {
            self.told.insert(id.clone(), (event.bytes, event.total));
        }
    }

    /// Those of the figures to send now: not what was told already, and not too often.
    pub fn news(&mut self, mut figures: Vec<ProgressEvent>) -> Vec<ProgressEvent> {
        figures.retain(|event| {
            let told = event.allocation.as_ref().and_then(|id| self.told.get(id));
            event.total > Some(0) && told != Some(&(event.bytes, event.total))
        });
        self.waiting = !figures.is_empty() && self.next_time() > Some(Instant::now());
        if figures.is_empty() || self.waiting {
            return Vec::new();
        }
        self.last = Some(Instant::now());
        figures.iter().for_each(|event| self.told(event));
        figures
    }

    /// Ends when there may be something to send. Safe to cancel.
    pub async fn due(&self, pulls: &mut watch::Receiver<Pulls>) {
        if !self.waiting && pulls.changed().await.is_err() {
            // The node is about to end.
            return std::future::pending().await;
        }
        if let Some(time) = self.next_time() {
            sleep_until(time).await;
        }
    }

    fn next_time(&self) -> Option<Instant> {
        self.last.map(|last| last + limits::PULL_FIGURES)
    }
}
