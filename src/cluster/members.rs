//! Who votes: the planner of raft's configuration.
//!
//! Owns which part every node takes, and in which steps. Never changes the configuration itself,
//! and remembers nothing between calls: any leader, at any moment, finds the same next step.
//!
//! A leader asks whenever the node table, the configuration or who is caught up has changed, and at
//! each look at who is silent. It carries out one answer at a time: a change or a leave until it
//! shows in the configuration or as an empty entry, a hand-over until another leads or
//! [`limits::MEMBERS_RETRY`] is over. Then it asks again; a refused step is simply found again.
//!
//! The rules: one voter for up to two nodes, three for up to four, five from five on. Every member
//! learns before it votes. Voters stay while they are ready; one that drains, or is down for
//! [`limits::VOTER_DOWN`], gives its vote to a ready learner that is caught up, if there is one.
//! Who is removed leaves the configuration as soon as others fill its place. A leader never takes
//! its own vote: it hands over first.

#[cfg(test)]
mod tests;

use crate::bugs::{Bug, is_on};
use crate::consensus::raft::node::{Conf, Member};
use crate::fsm::command::Members;
use crate::fsm::model::{Node, NodeStatus, RaftRole};
use crate::fsm::{Command, State};
use crate::id::NodeId;
use crate::limits;
use crate::units::Timestamp;
use std::collections::BTreeSet;

/// What to do next.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Propose this change of the configuration; more than one member makes it joint.
    Change {
        /// What changes.
        members: Vec<Member>,
        /// Rides as the entry's context: what is so once the change is done.
        command: Command,
    },
    /// Leave the joint configuration. The entry's context is empty.
    Leave,
    /// Propose this as any other command: the state says otherwise than the configuration.
    Record(Command),
    /// Hand leadership over to this voter.
    TransferLeader(NodeId),
    /// All is as it should be, or nothing helps but a change from outside.
    Nothing,
}

/// Says what comes next. `me` leads, and `conf` is what its raft told last. The same inputs give
/// the same answer.
pub fn plan(state: &State, conf: &Conf, me: NodeId, now: Timestamp) -> Next {
    if !conf.outgoing.is_empty() {
        return Next::Leave;
    }
    let planner = Planner { state, conf, me, now };
    if let Some(heir) = planner.heir() {
        return Next::TransferLeader(heir);
    }
    if !planner.votes() {
        return Next::Nothing;
    }
    let voters = planner.voters();
    if !planner.would_go_on(&voters) {
        return Next::Nothing;
    }
    let learners: BTreeSet<NodeId> =
        state.nodes.keys().filter(|id| !voters.contains(id)).copied().collect();
    let members = planner.difference(&voters, &learners);
    let command = Command::Members(Members { voters, learners });
    if !members.is_empty() {
        return Next::Change { members, command };
    }
    if planner.is_recorded() { Next::Nothing } else { Next::Record(command) }
}

/// The feature level that every node knows, if entries may not need it yet. Before that each
/// node can go back to the version that it had.
#[must_use]
pub fn raise(state: &State) -> Option<Command> {
    let level = state.nodes.values().map(|node| node.feature_level).min()?;
    (level > state.level()).then_some(Command::Raise { level })
}

/// How many vote among so many nodes.
#[must_use]
pub fn voters_among(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// How well a node keeps or takes a vote; the least is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Leads, and stays.
    Leader,
    /// Votes, and nothing is said against it.
    Voter,
    /// Could vote: ready and caught up.
    Learner,
    /// Votes, and is about to go.
    Draining,
    /// Votes, and has been down for long.
    Down,
    /// Votes, and is no member any more.
    Removed,
}

struct Planner<'a> {
    state: &'a State,
    conf: &'a Conf,
    me: NodeId,
    now: Timestamp,
}

impl Planner<'_> {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.state.nodes.get(&id).map(|node| &**node)
    }

    /// Since when a node is down, if it is.
    fn down_since(&self, id: NodeId) -> Option<Timestamp> {
        let down = self.node(id).filter(|node| !node.is_up());
        down.map(|node| node.down_since.unwrap_or(node.joined_at))
    }

    fn is_up(&self, id: NodeId) -> bool {
        id == self.me || self.node(id).is_some() && self.down_since(id).is_none()
    }

    /// It is to give up what it does, also leadership.
    fn is_leaving(&self, id: NodeId) -> bool {
        self.node(id).is_none_or(|node| node.drain.is_some())
    }

    /// This node votes. One that leads may have lost its vote by a change of the leader before it.
    fn votes(&self) -> bool {
        self.conf.voters.contains(&self.me)
    }

    /// Who takes leadership over from one that is leaving, or doesn't vote.
    fn heir(&self) -> Option<NodeId> {
        if self.votes() && !self.is_leaving(self.me) {
            return None;
        }
        let must_go = !self.votes() || self.node(self.me).is_none();
        let can =
            |id: &&NodeId| **id != self.me && self.is_up(**id) && self.conf.caught_up.contains(*id);
        let able = self.conf.voters.iter().filter(can);
        // One that drains stays rather than burden another such.
        let able = able.filter(|id| must_go || !self.is_leaving(**id));
        able.copied().min_by_key(|id| (self.is_leaving(*id), *id))
    }

    fn rank(&self, id: NodeId) -> Option<Rank> {
        let node = self.node(id);
        if !self.conf.voters.contains(&id) {
            let is_ready = node.is_some_and(|node| node.status == NodeStatus::Ready);
            let is_able = is_ready
                && self.is_up(id)
                && self.conf.learners.contains(&id)
                && self.conf.caught_up.contains(&id);
            return is_able.then_some(Rank::Learner);
        }
        if node.is_none() {
            return Some(Rank::Removed);
        }
        let is_old =
            |since: Timestamp| self.now >= self.state.due(since, limits::VOTER_DOWN.into());
        Some(if id != self.me && self.down_since(id).is_some_and(is_old) {
            Rank::Down
        } else if self.is_leaving(id) {
            Rank::Draining
        } else if id == self.me {
            Rank::Leader
        } else {
            Rank::Voter
        })
    }

    /// Who should vote now: always an odd number, but for a leader that can't go yet.
    fn voters(&self) -> BTreeSet<NodeId> {
        let all = self.state.nodes.keys().chain(&self.conf.voters);
        let known: BTreeSet<NodeId> = all.copied().collect();
        let ranked = |id| Some((self.rank(id)?, id != self.me, id));
        let mut able: Vec<(Rank, bool, NodeId)> = known.into_iter().filter_map(ranked).collect();
        able.sort_unstable();
        let most = voters_among(self.state.nodes.len()).min(able.len());
        let odd = most - usize::from(most.is_multiple_of(2));
        able.into_iter().take(odd).map(|(_, _, id)| id).chain([self.me]).collect()
    }

    /// A majority of them is there.
    fn would_go_on(&self, voters: &BTreeSet<NodeId>) -> bool {
        voters.iter().filter(|id| self.is_up(**id)).count() > voters.len() / 2
    }

    /// What leads from the configuration to these.
    fn difference(&self, voters: &BTreeSet<NodeId>, learners: &BTreeSet<NodeId>) -> Vec<Member> {
        let conf = self.conf;
        let promoted = voters.difference(&conf.voters).map(|id| Member::Voter(*id));
        let learning = learners.difference(&conf.learners).map(|id| Member::Learner(*id));
        let all = conf.voters.union(&conf.learners);
        let gone = all.filter(|id| !voters.contains(id) && !learners.contains(id));
        let gone = gone.filter(|_| !is_on(Bug::KeepRemoved)).map(|id| Member::Removed(*id));
        promoted.chain(learning).chain(gone).collect()
    }

    /// The state says of every node what the configuration does.
    fn is_recorded(&self) -> bool {
        self.state.nodes.values().all(|node| {
            let part = if self.conf.voters.contains(&node.id) {
                RaftRole::Voter
            } else if self.conf.learners.contains(&node.id) {
                RaftRole::Learner
            } else {
                RaftRole::Out
            };
            node.part == part
        })
    }
}
