//! Members that are elsewhere than the state says.
//!
//! Owns what is believed of it: a member that calls says where it is, and who answers there must
//! show that member's certificate, so that nobody can send others astray. Never changes the state:
//! a member that has moved registers itself.

use crate::id::NodeId;
use std::collections::BTreeMap;

/// Where one member is said to be.
struct Place {
    here: String,
    /// What the state said when it was known to be current; absent: it wasn't yet.
    instead_of: Option<Option<String>>,
}

/// Those that have moved.
#[derive(Default)]
pub(super) struct Moved(BTreeMap<NodeId, Place>);

impl Moved {
    /// Begins with what a person has said.
    pub(super) fn new(hints: BTreeMap<NodeId, String>) -> Self {
        let place = |here| Place { here, instead_of: None };
        Self(hints.into_iter().map(|(id, here)| (id, place(here))).collect())
    }

    /// Where they are.
    pub(super) fn places(&self) -> impl Iterator<Item = (NodeId, String)> + '_ {
        self.0.iter().map(|(id, place)| (*id, place.here.clone()))
    }

    /// A member has called from there, of which the state says `known`. Whether that changes
    /// where it is dialled.
    pub(super) fn called(
        &mut self,
        node: NodeId,
        here: String,
        known: Option<&String>,
        current: bool,
    ) -> bool {
        if known == Some(&here) {
            return self.0.remove(&node).is_some();
        }
        let is_news = self.0.get(&node).is_none_or(|place| place.here != here);
        let instead_of = current.then(|| known.cloned());
        self.0.insert(node, Place { here, instead_of });
        is_news
    }

    /// Who is no member any more has no place.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&NodeId) -> bool) {
        self.0.retain(|id, _| !is_gone(id));
    }

    /// The state is current: what it says since is newer than what was said here. Whether
    /// something changes by it.
    pub(super) fn settle(&mut self, places: &BTreeMap<NodeId, String>) -> bool {
        let before = self.0.len();
        self.0.retain(|id, place| {
            let says = places.get(id);
            let instead_of = place.instead_of.get_or_insert_with(|| says.cloned());
            says != Some(&place.here) && instead_of.as_ref() == says
        });
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NodeId = NodeId(2);

    fn says(place: &str) -> BTreeMap<NodeId, String> {
        BTreeMap::from([(TWO, place.to_owned())])
    }

    fn place(moved: &Moved) -> Option<String> {
        moved.places().next().map(|(_, place)| place)
    }

    #[test]
    fn who_calls_from_elsewhere_is_dialled_there_until_the_state_says_more() {
        let mut moved = Moved::default();
        let old = "a:1".to_owned();
        assert!(!moved.called(TWO, "a:1".into(), Some(&old), true), "where it was");
        assert!(moved.called(TWO, "b:1".into(), Some(&old), true));
        assert!(!moved.called(TWO, "b:1".into(), Some(&old), true), "known already");
        assert!(!moved.settle(&says("a:1")), "the state has not changed");
        assert_eq!(place(&moved).as_deref(), Some("b:1"));
        assert!(moved.settle(&says("c:1")), "it has registered elsewhere since");
        assert_eq!(place(&moved), None);
        assert!(moved.called(TWO, "b:1".into(), Some(&old), true));
        assert!(moved.settle(&says("b:1")), "the state says it");
        assert!(moved.called(TWO, "b:1".into(), None, true), "the state doesn't have it yet");
        moved.forget(|id| *id == TWO);
        assert_eq!(place(&moved), None);
    }

    /// While the log is read, the state says where the member was long ago.
    #[test]
    fn a_hint_counts_until_a_current_state_changes() {
        let mut moved = Moved::new(says("new:1"));
        for _ in 0..2 {
            assert!(!moved.settle(&says("last:1")));
            assert_eq!(place(&moved).as_deref(), Some("new:1"));
        }
        assert!(moved.settle(&says("newer:1")));
        let mut moved = Moved::default();
        assert!(moved.called(TWO, "b:1".into(), Some(&"ancient:1".to_owned()), false));
        assert!(!moved.settle(&says("a:1")), "that was an old state");
    }
}
