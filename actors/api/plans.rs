//! The plans that this node has made and not forgotten, so that it can say what has changed since.
//!
//! Owns their bound. A plan is carried out without it: the hash decides, this only explains.

use crate::limits::{PLANS_BYTES, PLANS_REMEMBERED};
use crate::scheduler::preview::Planned;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The newest plans.
#[derive(Default)]
pub struct Plans {
    all: Mutex<VecDeque<Arc<Planned>>>,
}

impl Plans {
    /// Takes a plan; the oldest goes if there are too many.
    pub fn remember(&self, planned: Planned) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.hash != planned.hash);
        all.push_back(Arc::new(planned));
        let bytes = |all: &VecDeque<Arc<Planned>>| {
            all.iter().map(|planned| planned.deploy.file.len()).sum::<usize>()
        };
        while all.len() > PLANS_REMEMBERED || all.len() > 1 && bytes(&all) > PLANS_BYTES {
            all.pop_front();
        }
    }

    /// The plan with that hash.
    pub fn find(&self, hash: &str) -> Option<Arc<Planned>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|planned| planned.hash == hash).cloned()
    }
}
