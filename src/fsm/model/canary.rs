//! A canary: the replicas of a new version that get their share of the traffic before the rest is
//! replaced.
//!
//! Owns what is remembered of one. Never judges it: that is plan.

use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a service's canary is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// All its replicas worked for the first time: since then requests are compared.
    pub since: Timestamp,
    /// Its time was over with too few requests: it runs on, and that was said.
    #[serde(default, skip_serializing_if = "is_false")]
    pub longer: bool,
    /// How it ended; absent: it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// How a canary ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub at: Timestamp,
    /// The rest is replaced; otherwise it was taken back.
    pub promoted: bool,
    /// A person said so.
    pub by_hand: bool,
    /// Why, with the figures.
    pub why: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Canary {
    /// It has begun now.
    #[must_use]
    pub fn begun(since: Timestamp) -> Self {
        Self { since, longer: false, verdict: None }
    }

    /// The rest of the service may be replaced.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.promoted)
    }
}
