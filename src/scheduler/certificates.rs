//! Orders of certificates: when the authority may look.
//!
//! Owns that every node shows what it is to see before it is told to look. Never orders anything.

use super::plan::SettledIndexes;
use crate::fsm::certificates::CertificateChange;
use crate::fsm::{Command, State};
use crate::id::Index;
use crate::limits;
use crate::units::Timestamp;

/// What stands for all orders in what a planner is woken for. No app has this name.
pub const ORDERS: &str = "/orders";

/// The orders of which every node that is there shows by now what is to be seen, or has had its
/// time, by their entries; and when to look again at the others.
#[must_use]
pub fn settled(
    state: &State,
    observed: &SettledIndexes,
    now: Timestamp,
) -> (Vec<(Index, Command)>, Option<Timestamp>) {
    let (mut commands, mut again) = (Vec::new(), None);
    for (host, order) in state.certificates.unsettled() {
        let mut there = state.nodes.values().filter(|node| node.is_up());
        let is_settled =
            there.all(|node| observed.settled.get(&node.id).is_some_and(|at| *at >= order.index));
        let bound = state.due(order.shown_at, limits::SETTLE_DEADLINE.into());
        if is_settled || now >= bound {
            let (host, claim) = (host.clone(), order.claim);
            let settled = CertificateChange::Settled { host, claim };
            commands.push((order.index, Command::Certificates(settled)));
        } else {
            again = Some(again.map_or(bound, |before: Timestamp| before.min(bound)));
        }
    }
    (commands, again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::apply_next;
    use crate::fsm::certificates::{Claim, Shown};
    use crate::id::{BootId, NodeId};
    use crate::node::ingress::fixture::Case;
    use crate::units::Millis;

    #[test]
    fn an_authority_looks_when_every_node_shows_it_or_has_had_its_time() {
        let file = "service \"web\" { image \"a\"; route \"a.example\"; port 80 }";
        let mut state = Case::new(file).state;
        let claim = Claim { node: NodeId(1), boot: BootId(1), number: 1 };
        let host = "a.example".to_owned();
        let shown = Shown { token: "t".to_owned(), authorization: "t.x".to_owned() };
        let make = CertificateChange::Claim { host: host.clone(), claim, over: None };
        let show = CertificateChange::Show { host, claim, shown };
        let now = state.time;
        let none = SettledIndexes::default();
        for change in [make, show] {
            assert_eq!(settled(&state, &none, now), (Vec::new(), None));
            let _ = apply_next(&mut state, now, Command::Certificates(change)).outcome.unwrap();
        }
        let at = |index: u64| SettledIndexes {
            settled: [(NodeId(1), Index(index))].into(),
            ..SettledIndexes::default()
        };
        let bound = now.plus(limits::SETTLE_DEADLINE.into());
        let before = at(state.index.0 - 1);
        assert_eq!(settled(&state, &before, now), (Vec::new(), Some(bound)));
        let (found, again) = settled(&state, &at(state.index.0), now);
        assert_eq!((found.len(), again), (1, None));
        assert_eq!(settled(&state, &before, bound).0, found, "a node that does not answer");
        assert!(settled(&state, &before, Timestamp(bound.0 - 1)).0.is_empty());
        let (_, command) = found.into_iter().next().unwrap();
        let _ = apply_next(&mut state, now.plus(Millis(1)), command).outcome.unwrap();
        assert_eq!(settled(&state, &none, bound), (Vec::new(), None));
    }
}
