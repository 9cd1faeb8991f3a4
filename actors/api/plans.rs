//! The plans that this node has made and not forgotten, so that it can say what has changed since.
//!
//! Owns their bound. A plan is carried out without it: the hash decides, this only explains.

use crate::limits::PLANS_REMEMBERED;
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
        if all.len() == PLANS_REMEMBERED {
            all.pop_front();
        }
        all.push_back(Arc::new(planned));
    }

    /// The plan with that hash.
    pub fn find(&self, hash: &str) -> Option<Arc<Planned>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|planned| planned.hash == hash).cloned()
    }
}
