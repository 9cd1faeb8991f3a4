//! The leader's watch over the nodes: who is silent, and who is to take part in raft.
//!
//! Owns what a leader hears in its term, and that a step is not asked for twice before it shows.
//! Never judges by itself: silence is judged by `silence`, the members are planned by `members`.
//! Never reads a clock: `now` is of one that never runs back.

use crate::cluster::clocks;
use crate::cluster::failure_detector::Silence;
use crate::cluster::members::{self, Next};
use crate::consensus::raft::node::Conf;
use crate::fsm::{Command, State};
use crate::id::NodeId;
use crate::limits;
use crate::units::{Millis, Timestamp};
use std::collections::BTreeMap;

/// What a leader knows of the nodes.
pub struct Watch {
    silence: Silence,
    /// How far the other nodes' clocks are ahead of this one's, in milliseconds.
    clocks: BTreeMap<NodeId, i64>,
    conf: Option<Conf>,
    /// The last step, and when it was taken: it is not taken twice before it shows or fails.
    asked: Option<(Next, Millis)>,
}

impl Watch {
    /// A leader begins: nobody has been silent yet.
    #[must_use]
    pub fn new(conf: Option<Conf>, now: Millis) -> Self {
        let clocks = BTreeMap::new();
        Self { silence: Silence::new(now), clocks, conf, asked: None }
    }

    /// A node has let itself be heard.
    pub fn heard(&mut self, node: NodeId, now: Millis) {
        self.silence.heard(node, now);
    }

    /// What a node's clock shows beside this one's, if it says so.
    pub fn set_clock(&mut self, node: NodeId, ahead: Option<i64>) {
        match ahead {
            Some(ahead) => drop(self.clocks.insert(node, ahead)),
            None => drop(self.clocks.remove(&node)),
        }
    }

    /// The configuration, or who has caught up, has changed.
    pub fn set_conf(&mut self, conf: Conf) {
        let members =
            |conf: &Conf| (conf.voters.clone(), conf.outgoing.clone(), conf.learners.clone());
        if self.conf.as_ref().map(members) != Some(members(&conf)) {
            self.asked = None;
        }
        self.conf = Some(conf);
    }

    /// A tick of the watch: what is to be said of those that are silent. `time` is replicated time.
    pub fn look(
        &mut self,
        state: &State,
        me: NodeId,
        now: Millis,
        time: Timestamp,
    ) -> Vec<Command> {
        self.silence.tick(state, now, time);
        let mut seen = self.silence.judge(state, me, now);
        self.clocks.retain(|id, _| state.nodes.get(id).is_some_and(|node| node.is_up()));
        seen.extend(clocks::judge(state, me, &self.clocks));
        seen
    }

    /// The next step toward the configuration that should be, if one is due. `time` is replicated
    /// time.
    pub fn plan(
        &mut self,
        state: &State,
        me: NodeId,
        now: Millis,
        time: Timestamp,
    ) -> Option<&Next> {
        let conf = self.conf.as_ref()?;
        let next = members::plan(state, conf, me, time);
        let next = match next {
            Next::Nothing => members::raise(state).map_or(next, Next::Record),
            next => next,
        };
        // Asked again at each tick of the watch.
        if matches!(next, Next::Nothing) {
            return None;
        }
        let retry = limits::MEMBERS_RETRY.into();
        let is_asked = |(asked, at): &(Next, Millis)| *asked == next && now.since(*at) < retry;
        if self.asked.as_ref().is_some_and(is_asked) {
            return None;
        }
        Some(&self.asked.insert((next, now)).0)
    }
}
