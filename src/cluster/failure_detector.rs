//! Which nodes count as lost: the leader's judgement of their silence, on its own clock.
//!
//! Owns the window and the bound on how many may go at once. Never hears anything itself and never
//! changes the state: it says what to propose.

use crate::fsm::model::NodeStatus;
use crate::fsm::{Command, State};
use crate::id::NodeId;
use crate::limits;
use crate::units::Millis;
use std::collections::BTreeMap;

/// What a leader has heard in its term.
#[derive(Clone, Debug)]
pub struct Silence {
    /// Nobody's silence counts from before.
    since: Millis,
    ticked: Millis,
    heard: BTreeMap<NodeId, Millis>,
}

impl Silence {
    /// A term begins: nobody has been silent yet. `now` is of a clock that never runs back.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { since: now, ticked: now, heard: BTreeMap::new() }
    }

    /// A node has let itself be heard.
    pub fn heard(&mut self, node: NodeId, now: Millis) {
        let last = self.heard.entry(node).or_default();
        *last = now.max(*last);
    }

    /// Time passes, a tick each [`limits::SILENCE_TICK`]. One that is late means that this process
    /// stood still: it can't have heard anybody, so that all begins anew.
    pub fn tick(&mut self, state: &State, now: Millis) {
        let late = limits::SILENCE_TICK + limits::SILENCE_LATE;
        if now.since(self.ticked) > late.into() {
            self.since = now;
        }
        self.ticked = now;
        // One that is down begins anew once it is let in again.
        for node in state.nodes.values().filter(|node| node.status == NodeStatus::Down) {
            self.heard(node.id, now);
        }
    }

    /// What to propose: those that have been silent for too long, the longest first. At most a
    /// third of the nodes is down at once, for more of them is rather this node's own fault; the
    /// first is never held back. `me` is the leader's own node.
    #[must_use]
    pub fn lost(&self, state: &State, me: NodeId, now: Millis) -> Vec<Command> {
        let is_down = |id: &NodeId| state.nodes.get(id).map(|n| n.status) == Some(NodeStatus::Down);
        let down = state.nodes.keys().filter(|id| is_down(id)).count();
        let allowed = (state.nodes.len() / 3).max(1).saturating_sub(down);
        let last = |id: &NodeId| self.heard.get(id).map_or(self.since, |at| self.since.max(*at));
        let is_silent = |id: &NodeId| {
            *id != me && !is_down(id) && now.since(last(id)) >= limits::NODE_DOWN.into()
        };
        let mut silent: Vec<NodeId> =
            state.nodes.keys().copied().filter(|id| is_silent(id)).collect();
        silent.sort_by_key(|id| (last(id), *id));
        let one = |id: NodeId| {
            let boot = state.nodes.get(&id)?.boot;
            Some(Command::NodeDown { node: id, boot })
        };
        silent.into_iter().take(allowed).filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::{apply_next, fixture};
    use crate::id::BootId;
    use crate::units::Timestamp;
    use std::sync::Arc;

    /// A cluster with so many nodes; those named are down.
    fn cluster(size: u64, down: &[u64]) -> State {
        let mut state = State::default();
        let _ =
            apply_next(&mut state, Timestamp(0), Command::Init(fixture::init())).outcome.unwrap();
        let first = state.nodes[&NodeId(1)].clone();
        for id in 1..=size {
            let mut node = (*first).clone();
            (node.id, node.boot) = (NodeId(id), BootId(id));
            if down.contains(&id) {
                node.status = NodeStatus::Down;
            }
            state.nodes.insert(node.id, Arc::new(node));
        }
        state
    }

    /// What is proposed of a cluster whose nodes were last heard at these times. Node 1 leads.
    fn lost(size: u64, down: &[u64], heard: &[(u64, u64)], now: u64) -> Vec<u64> {
        let mut silence = Silence::new(Millis(0));
        heard.iter().for_each(|(node, at)| silence.heard(NodeId(*node), Millis(*at)));
        let commands = silence.lost(&cluster(size, down), NodeId(1), Millis(now));
        let node = |command| match command {
            Command::NodeDown { node, boot } if boot.0 == node.0 => node.0,
            other => panic!("{other:?}"),
        };
        commands.into_iter().map(node).collect()
    }

    #[yare::parameterized(
        too_early = { 3, &[], &[], 4_999, &[] },
        since_the_term_began = { 3, &[], &[(3, 1_000)], 5_000, &[2] },
        never_the_leader = { 1, &[], &[], 60_000, &[] },
        the_first_of_two = { 2, &[], &[], 5_000, &[2] },
        the_longest_silent_first = { 3, &[], &[(2, 400), (3, 300)], 6_000, &[3] },
        a_third_at_once = { 7, &[], &[(2, 9_000)], 10_000, &[3, 4] },
        a_third_with_those_that_are_down = { 7, &[6], &[], 10_000, &[2] },
        no_more_than_a_third = { 7, &[6, 7], &[], 10_000, &[] },
        one_is_down_already = { 3, &[2], &[], 10_000, &[] },
    )]
    fn silence_is_judged(size: u64, down: &[u64], heard: &[(u64, u64)], now: u64, want: &[u64]) {
        assert_eq!(lost(size, down, heard, now), want);
    }

    #[test]
    fn a_leader_that_stood_still_has_heard_nobody() {
        let state = cluster(3, &[]);
        let mut silence = Silence::new(Millis(0));
        (1..=4).for_each(|second| silence.tick(&state, Millis(second * 1_000)));
        assert_eq!(silence.lost(&state, NodeId(1), Millis(5_000)).len(), 1);
        silence.tick(&state, Millis(6_001));
        assert_eq!(silence.lost(&state, NodeId(1), Millis(6_001)), []);
        silence.tick(&state, Millis(7_500));
        assert_eq!(silence.lost(&state, NodeId(1), Millis(11_000)), []);
        assert_eq!(silence.lost(&state, NodeId(1), Millis(11_001)).len(), 1);
    }

    #[test]
    fn one_that_was_down_has_the_whole_window_again() {
        let mut silence = Silence::new(Millis(0));
        silence.heard(NodeId(3), Millis(60_000));
        (1..=60).for_each(|second| silence.tick(&cluster(3, &[2]), Millis(second * 1_000)));
        silence.heard(NodeId(3), Millis(64_000));
        let back = cluster(3, &[]);
        assert_eq!(silence.lost(&back, NodeId(1), Millis(64_999)), []);
        assert_eq!(silence.lost(&back, NodeId(1), Millis(65_000)).len(), 1);
    }
}
