//! What must hold in the simulation of consensus, whatever breaks, and what when it is over.
//!
//! Never changes anything.

use super::{QUIET, TROUBLE, World};
use crate::cluster::members::{self, Next, voters_among};
use crate::consensus::raft::event::Committed;
use crate::consensus::raft::node::Conf;
use crate::fsm::State;
use crate::id::NodeId;
use raft::eraftpb::ConfState;
use std::collections::BTreeSet;

/// Every so many entries all that is replicated is compared.
const COMPARED: u64 = 16;
/// At rest nobody begins to lead for so long.
const STEADY: u64 = 5_000;

impl World {
    /// What is committed once stays.
    pub(super) fn check_canon(&mut self, id: u64, committed: &Committed) {
        let index = committed.index;
        let first = self.canon.entry(index.0).or_insert_with(|| committed.clone());
        if first != committed {
            let what = format!("n{id} has another entry {index} than was committed: {first:?}");
            self.fail(what);
        }
    }

    /// Equal index, equal state.
    pub(super) fn check_hash(&mut self, id: u64, at_once: bool) {
        let state = &self.lives[&id].state;
        let index = state.index.0;
        if index == 0 || !at_once && !index.is_multiple_of(COMPARED) {
            return;
        }
        let hash = state.hash();
        if *self.hashes.entry(index).or_insert_with(|| hash.clone()) != hash {
            self.fail(format!("n{id} has another state at {index}"));
        }
    }

    /// An entry makes the same configuration on every node.
    pub(super) fn check_conf(&mut self, id: u64, index: u64, conf: &ConfState) {
        let conf = sorted(conf);
        let first = self.confs.entry(index).or_insert_with(|| conf.clone());
        if *first != conf {
            let what = format!("n{id} makes {conf:?} of {index}, others {first:?}");
            self.fail(what);
        }
    }

    /// A term has one leader.
    pub(super) fn check_leader(&mut self, id: u64, term: u64) {
        self.note(format!("n{id} leads term {term}"));
        self.led_since = self.now;
        if *self.leaders.entry(term).or_insert(id) != id {
            self.fail(format!("n{id} is a second leader of term {term}"));
        }
        let conf = self.confs.values().next_back();
        let votes = conf.is_some_and(|conf| {
            // Until a joint change is left, it votes.
            conf.voters.contains(&id) || conf.voters_outgoing.contains(&id)
        });
        if self.table.removed.contains(&NodeId(id)) && !votes {
            self.fail(format!("n{id} leads term {term} and was removed"));
        }
        self.electors.entry((id, term)).or_default().insert(NodeId(id));
    }

    /// A leader has the votes of its configuration's majority, and needs nobody else's: not those
    /// of nodes that were removed.
    pub(super) fn check_electors(&mut self, id: u64, conf: &Conf) {
        let last = self.leaders.iter().next_back().map(|(term, leader)| (*term, *leader));
        let Some((term, _)) = last.filter(|(_, leader)| *leader == id) else { return };
        // Only at the term's beginning: later the configuration is another.
        let Some(votes) = self.electors.remove(&(id, term)) else { return };
        let is_majority = |voters: &BTreeSet<NodeId>| {
            voters.is_empty() || votes.intersection(voters).count() > voters.len() / 2
        };
        if !is_majority(&conf.voters) || !is_majority(&conf.outgoing) {
            self.fail(format!("n{id} leads term {term} by the votes of {votes:?}, of {conf:?}"));
        }
    }

    /// The nodes have changed: who was removed stays so, and no id comes twice.
    pub(super) fn check_table(&mut self, id: u64, before: &State) {
        let state = &self.lives[&id].state;
        let (has, had) = (&state.nodes, &before.nodes);
        let is_removed = |id: &&NodeId| state.removed.contains(*id);
        let new = has.keys().find(|id| !had.contains_key(*id) && **id <= before.last_node);
        let back = has.keys().find(is_removed);
        let forgotten = before.removed.iter().find(|id| !is_removed(id));
        let gone = had.keys().find(|id| !has.contains_key(*id) && !is_removed(id));
        let wrong = new.or(back).or(forgotten).or(gone).copied();
        self.removals += (state.removed.len() - before.removed.len()) as u64;
        self.table = state.clone();
        if let Some(wrong) = wrong {
            self.fail(format!("n{wrong} is no member, and is treated as one, or the other way"));
        }
    }

    /// Everybody who belongs to it is there, has applied the same and nothing is left to be done.
    pub(super) fn check_rest(&mut self) {
        if let Err(what) = self.rest() {
            self.fail(format!("no rest: {what}"));
        }
    }

    fn rest(&self) -> Result<(), String> {
        let last = self.frontier;
        let members: Vec<u64> = self.table.nodes.keys().map(|id| id.0).collect();
        for id in &members {
            let life = self.lives.get(id).ok_or_else(|| format!("n{id} is not there"))?;
            let (at, gate) = (life.state.index.0, life.gate);
            if at + 64 < last {
                return Err(format!("n{id} is at {at} of {last}"));
            }
            if !life.is_current() {
                return Err(format!("n{id} is not current: {gate:?} at {at}"));
            }
            let ready = self.table.nodes.get(&NodeId(*id)).is_some_and(|node| node.is_ready());
            if !ready {
                return Err(format!("n{id} is not ready"));
            }
        }
        if let Some((number, _)) = self.machines.iter().find(|(_, machine)| !machine.is_there()) {
            return Err(format!("machine {number} could not join"));
        }
        let (term, leader) = self.leaders.last_key_value().ok_or("nobody ever led")?;
        let life = self.lives.get(leader).ok_or("the leader is not there")?;
        let conf = life.conf.as_ref().ok_or_else(|| format!("n{leader} leads no more"))?;
        let time = life.state.time;
        let next = members::plan(&life.state, conf, NodeId(*leader), time);
        if next != Next::Nothing {
            return Err(format!("the members are to change: {next:?}"));
        }
        let everybody: Vec<u64> = conf.voters.union(&conf.learners).map(|id| id.0).collect();
        if everybody != members || conf.voters.len() != voters_among(members.len()) {
            return Err(format!("{conf:?} of {members:?}"));
        }
        if last < 100 || self.led_since + STEADY > TROUBLE + QUIET {
            return Err(format!("{last} entries, term {term} since {}", self.led_since));
        }
        Ok(())
    }
}

/// The same configuration in the same words.
pub(super) fn sorted(conf: &ConfState) -> ConfState {
    let mut conf = conf.clone();
    let lists = [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing];
    lists.into_iter().for_each(|list| list.sort_unstable());
    conf.learners_next.sort_unstable();
    conf
}
