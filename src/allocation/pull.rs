//! How far an image's pull is: one that gets further is not given up.
//!
//! Owns what of it is told. Never fetches anything.

use super::{Effect, Effects, Life};
use crate::id::Digest;
use crate::limits;
use crate::units::Timestamp;
use std::collections::BTreeMap;

/// How far the pull is, over all its tries: what is fetched once more counts for nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Far {
    layers: BTreeMap<Digest, u64>,
    told_at: Option<Timestamp>,
    is_news: bool,
}

impl Far {
    /// Whether something was fetched that was not told yet; now it is.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }
}

impl Life {
    pub(super) fn advanced(&mut self, layers: Vec<(Digest, u64)>, now: Timestamp) -> Effects {
        for (digest, bytes) in layers {
            let most = self.far.layers.entry(digest).or_default();
            *most = bytes.max(*most);
        }
        let sum = self.far.layers.values().sum();
        if sum > self.observed.pulled {
            self.observed.pulled = sum;
            self.begun = now;
            self.far.is_news = true;
        }
        let since = self.far.told_at.map(|at| now.since(at));
        let is_time = since.is_none_or(|since| since >= limits::PULL_TOLD.into());
        if !self.far.is_news || !is_time {
            return Vec::new();
        }
        self.far.told_at = Some(now);
        self.far.is_news = false;
        vec![Effect::Report]
    }
}
