//! Tables of cases of the planner of members, and a simulation that lets nodes come and go.

use super::{Next, plan, voters_among};
use crate::consensus::raft::node::{Conf, Member};
use crate::fsm::command::{Init, Members};
use crate::fsm::model::{Drain, Node, NodeStatus, RaftRole};
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::{BootId, NodeId};
use crate::units::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Seconds.
const NOW: u64 = 1_000;

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000)
}

fn ids(text: &str) -> BTreeSet<NodeId> {
    text.split_whitespace().map(|id| NodeId(id.parse().unwrap())).collect()
}

/// A node table: ids, each ready and caught up but for a mark behind it: `-` draining, `~` behind,
/// `?` never heard, `!N` down for N seconds.
fn table(text: &str) -> (State, BTreeSet<NodeId>) {
    let mut state = State::default();
    let first = fixture::init();
    let _ = apply_next(&mut state, at(1), Command::Init(Init { ..first })).outcome.unwrap();
    let model = state.nodes.remove(&NodeId(1)).unwrap();
    let mut near = BTreeSet::new();
    for word in text.split_whitespace() {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (id, mark) = word.split_at(digits);
        let id = NodeId(id.parse().unwrap());
        let mut node = Node { id, boot: BootId(id.0), part: RaftRole::Out, ..(*model).clone() };
        let ago = || at(NOW - mark[1..].parse::<u64>().unwrap());
        match mark.chars().next() {
            None => {}
            Some('-') => {
                node.status = NodeStatus::Draining;
                node.drain = Some(Drain { since: at(1), deadline: None });
            }
            Some('?') => {
                (node.status, node.boot) = (NodeStatus::Down, BootId(0));
                node.down_since = Some(at(NOW));
            }
            Some('!') => {
                node.status = NodeStatus::Down;
                node.down_since = Some(ago());
            }
            Some('~') => {}
            other => panic!("{other:?}"),
        }
        if mark.is_empty() || mark == "-" {
            near.insert(id);
        }
        state.nodes.insert(id, Arc::new(node));
    }
    (state, near)
}

/// `VOTERS | LEARNERS`, with `& OUTGOING` behind the voters of a joint one.
fn conf(text: &str, caught_up: BTreeSet<NodeId>) -> Conf {
    let (voters, learners) = text.split_once('|').unwrap_or((text, ""));
    let (voters, outgoing) = voters.split_once('&').unwrap_or((voters, ""));
    let (voters, outgoing, learners) = (ids(voters), ids(outgoing), ids(learners));
    Conf { voters, outgoing, learners, caught_up }
}

/// The state's record is that of the configuration.
fn record(state: &mut State, conf: &Conf) {
    let members = Members { voters: conf.voters.clone(), learners: conf.learners.clone() };
    let _ = apply_next(state, at(1), Command::Members(members)).outcome.unwrap();
}

fn tell(next: &Next) -> String {
    match next {
        Next::Change { members, .. } => {
            let one = |member: &Member| match member {
                Member::Voter(id) => format!("+{id}"),
                Member::Learner(id) => format!("={id}"),
                Member::Removed(id) => format!("-{id}"),
            };
            members.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Next::Leave => "leave".to_owned(),
        Next::Record(_) => "record".to_owned(),
        Next::TransferLeader(id) => format!("lead {id}"),
        Next::Nothing => String::new(),
    }
}

// Wanted: `+` votes, `=` learns, `-` is removed.
#[yare::parameterized(
    alone = { "1", "1", "" },
    a_second_learns = { "1 2", "1", "=2" },
    one_that_was_never_heard_learns_too = { "1 2?", "1", "=2" },
    two_have_one_voter = { "1 2", "1 | 2", "" },
    several_learn_at_once = { "1 2 3", "1", "=2 =3" },
    a_pair_enters = { "1 2 3", "1 | 2 3", "+2 +3" },
    a_pair_waits_for_the_slower_one = { "1 2 3~", "1 | 2 3", "" },
    a_pair_waits_for_one_that_was_never_heard = { "1 2 3?", "1 | 2 3", "" },
    joint_left_half_way = { "1 2 3", "1 2 3 & 1", "leave" },
    four_have_three = { "1 2 3 4", "1 2 3 | 4", "" },
    the_fifth_and_the_fourth_enter = { "1 2 3 4 5", "1 2 3 | 4 5", "+4 +5" },
    the_fifth_learns_first = { "1 2 3 4 5", "1 2 3 | 4", "=5" },
    six_have_five = { "1 2 3 4 5 6", "1 2 3 4 5 | 6", "" },
    a_voter_is_missed_for_a_while = { "1 2 3!20 4", "1 2 3 | 4", "" },
    a_voter_is_replaced = { "1 2 3!60 4", "1 2 3 | 4", "+4 =3" },
    nobody_to_replace_it = { "1 2 3!90", "1 2 3", "" },
    the_spare_is_behind = { "1 2 3!90 4~", "1 2 3 | 4", "" },
    the_spare_is_down = { "1 2 3!90 4!1", "1 2 3 | 4", "" },
    the_spare_drains = { "1 2 3!90 4-", "1 2 3 | 4", "" },
    two_of_five_are_replaced_as_far_as_it_goes =
        { "1 2 3 4!90 5!80 6", "1 2 3 4 5 | 6", "+6 =5" },
    one_that_drains_gives_its_vote = { "1 2- 3 4", "1 2 3 | 4", "+4 =2" },
    one_that_drains_keeps_it_for_want_of_others = { "1 2- 3", "1 2 3", "" },
    five_to_three = { "1 2 3 4", "1 2 3 4 5", "=4 -5" },
    three_to_one = { "1 2", "1 2 3", "=2 -3" },
    a_removed_voter_is_replaced = { "1 2 4", "1 2 3 | 4", "+4 -3" },
    a_removed_voter_stays_until_others_can = { "1 2 4~", "1 2 3 | 4", "" },
    a_removed_learner_goes = { "1", "1 | 2", "-2" },
    a_wiped_one_comes_back_under_another_id = { "1 2 4", "1 2 3", "=4" },
    a_leader_that_drains_hands_over = { "1- 2 3", "1 2 3", "lead 2" },
    not_to_one_that_drains_too = { "1- 2- 3", "1 2 3", "lead 3" },
    not_to_one_that_is_behind = { "1- 2~ 3", "1 2 3", "lead 3" },
    not_to_one_that_is_down = { "1- 2!1 3", "1 2 3", "lead 3" },
    nobody_takes_over_from_one_that_drains = { "1- 2- 3-", "1 2 3", "" },
    the_only_voter_drains_and_another_votes_first = { "1- 2", "1 | 2", "+2" },
    then_it_hands_over = { "1- 2", "1 2", "lead 2" },
    the_only_voter_drains_and_the_other_is_behind = { "1- 2~", "1 | 2", "" },
    the_only_one_drains = { "1-", "1", "" },
    a_leader_that_was_removed_hands_over = { "2 3 4", "1 2 3 | 4", "lead 2" },
    also_to_one_that_drains = { "2-", "1 2", "lead 2" },
    a_removed_leader_makes_another_voter_first = { "2", "1 | 2", "+2" },
    a_removed_leader_waits_for_the_other = { "2~", "1 | 2", "" },
    everything_down_but_one = { "1 2!90 3!90", "1 2 3", "" },
    everything_down_but_one_with_spares_down = { "1 2!90 3!90 4!90 5!90", "1 2 3 | 4 5", "" },
    one_that_does_not_vote_hands_over = { "1 2 3 4", "2 3 | 1", "lead 2" },
    one_that_does_not_vote_waits_for_a_voter = { "1 2~ 3~", "2 3 | 1", "" },
)]
fn cases(nodes: &str, configuration: &str, want: &str) {
    let (mut state, near) = table(nodes);
    let conf = conf(configuration, near);
    record(&mut state, &conf);
    assert_eq!(tell(&plan(&state, &conf, NodeId(1), at(NOW))), want);
}

#[test]
fn a_new_leader_lets_the_old_one_go() {
    for (nodes, configuration, want) in [
        ("2", "1 2", "-1"),
        ("1- 2", "1 2", "=1"),
        ("2 3", "1 2 3", "=3 -1"),
        ("2 3 4", "1 2 3 | 4", "+4 -1"),
        ("1 2 3", "1 2 3", ""),
    ] {
        let (mut state, near) = table(nodes);
        let conf = conf(configuration, near);
        record(&mut state, &conf);
        assert_eq!(tell(&plan(&state, &conf, NodeId(2), at(NOW))), want, "{nodes}");
    }
}

#[test]
fn a_change_says_what_is_so_once_it_is_done_and_a_refused_one_is_found_again() {
    let (mut state, near) = table("1 2 3 4!90");
    let conf = conf("1 | 2 3 4", near);
    record(&mut state, &conf);
    let next = plan(&state, &conf, NodeId(1), at(NOW));
    let want = Members { voters: ids("1 2 3"), learners: ids("4") };
    assert!(matches!(&next, Next::Change { command: Command::Members(m), .. } if *m == want));
    // Refused: an empty entry took its place, so that neither conf nor state has changed.
    assert_eq!(plan(&state, &conf, NodeId(1), at(NOW + 1)), next);
}

#[test]
fn a_state_that_says_otherwise_than_the_configuration_is_put_right() {
    let (state, near) = table("1 2");
    let next = plan(&state, &conf("1 | 2", near), NodeId(1), at(NOW));
    let want = Members { voters: ids("1"), learners: ids("2") };
    assert_eq!(next, Next::Record(Command::Members(want)));
}

/// Nodes that join, fall silent, come back, drain and go, by a seed; the leader is always one that
/// votes and is there.
struct World {
    state: State,
    conf: Conf,
    leader: NodeId,
    second: u64,
    dice: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (state, near) = table("1");
        let mut world =
            Self { state, conf: conf("1", near), leader: NodeId(1), second: NOW, dice: seed };
        record(&mut world.state, &world.conf.clone());
        world
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.dice >> 33) % sides
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let mut node = (*self.state.nodes[&id]).clone();
        change(&mut node);
        self.state.nodes.insert(id, Arc::new(node));
    }

    fn is_up(&self, id: NodeId) -> bool {
        id == self.leader || self.state.nodes.get(&id).is_some_and(|node| node.is_up())
    }

    fn some_node(&mut self) -> NodeId {
        let n = self.roll(self.state.nodes.len() as u64) as usize;
        *self.state.nodes.keys().nth(n).unwrap()
    }

    /// Something happens, but never so much that those that vote have no majority.
    fn happen(&mut self) {
        let id = self.some_node();
        let now = at(self.second);
        match self.roll(6) {
            0 if self.state.nodes.len() < 7 => {
                let id = NodeId(self.state.last_node.0.max(1) + 1);
                self.state.last_node = id;
                let model = self.state.nodes.values().next().unwrap().clone();
                let (part, drain) = (RaftRole::Out, None);
                let node = Node { id, part, drain, status: NodeStatus::Ready, ..(*model).clone() };
                self.state.nodes.insert(id, Arc::new(node));
                self.conf.caught_up.insert(id);
            }
            1 if id != self.leader => {
                let voters = &self.conf.voters;
                let there = voters.iter().filter(|v| **v != id && self.is_up(**v)).count();
                if there > voters.len() / 2 {
                    self.change(id, |node| {
                        (node.status, node.down_since) = (NodeStatus::Down, Some(now));
                    });
                }
            }
            2 => self.change(id, |node| {
                (node.status, node.down_since) = (NodeStatus::Ready, None);
                node.drain = None;
            }),
            3 if self.is_up(id) => self.change(id, |node| {
                node.status = NodeStatus::Draining;
                node.drain = Some(Drain { since: now, deadline: None });
            }),
            4 => {
                let others = self.state.nodes.values().filter(|n| n.id != id && n.is_up());
                let counts = self.conf.voters.contains(&id);
                let there = self.conf.voters.iter().filter(|v| **v != id && self.is_up(**v));
                let goes_on = !counts || there.count() > self.conf.voters.len() / 2;
                // As the state allows it: `Command::Remove`.
                let is_ready = self.state.nodes[&id].is_ready();
                if others.count() > 0 && goes_on && !is_ready {
                    self.state.nodes.remove(&id);
                }
            }
            _ => self.second += 61,
        }
    }

    /// Carries out steps until there are none; how many there were.
    fn settle(&mut self) -> usize {
        for n in 0.. {
            assert!(n < 30, "no end: {:?}", self.conf);
            match plan(&self.state, &self.conf, self.leader, at(self.second)) {
                Next::Change { members, command } => {
                    let Command::Members(target) = &command else { unreachable!() };
                    assert!(target.voters.contains(&self.leader), "a leader keeps its vote");
                    if members.len() > 1 {
                        self.conf.outgoing = self.conf.voters.clone();
                    }
                    self.conf.voters = target.voters.clone();
                    self.conf.learners = target.learners.clone();
                    let _ = apply_next(&mut self.state, at(1), command).outcome.unwrap();
                }
                Next::Leave => self.conf.outgoing.clear(),
                Next::Record(command) => {
                    let _ = apply_next(&mut self.state, at(1), command).outcome.unwrap();
                }
                Next::TransferLeader(id) => {
                    assert!(self.conf.voters.contains(&id) && self.is_up(id));
                    self.leader = id;
                }
                Next::Nothing => return n,
            }
        }
        unreachable!()
    }
}

#[test]
fn whatever_happens_the_right_ones_vote_in_the_end() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.happen();
            world.settle();
            let ready = world.state.nodes.values().filter(|n| n.is_ready()).count();
            let voters = world.conf.voters.len();
            assert!(voters % 2 == 1, "seed {seed}: {:?}", world.conf);
            assert!(voters >= voters_among(world.state.nodes.len().min(ready)), "seed {seed}");
            let members: BTreeSet<NodeId> = world.state.nodes.keys().copied().collect();
            let parts = world.conf.voters.union(&world.conf.learners).copied();
            let parts: BTreeSet<NodeId> = parts.collect();
            assert!(parts.is_superset(&members), "seed {seed}: somebody takes no part");
        }
        // All are back: nobody votes who is no member, and no more than should.
        let all: Vec<NodeId> = world.state.nodes.keys().copied().collect();
        for id in all {
            world.change(id, |node| {
                (node.status, node.down_since, node.drain) = (NodeStatus::Ready, None, None);
            });
        }
        world.settle();
        let nodes = world.state.nodes.len();
        assert_eq!(world.conf.voters.len(), voters_among(nodes), "seed {seed}: {:?}", world.conf);
        assert!(world.conf.voters.iter().all(|id| world.state.nodes.contains_key(id)));
        assert_eq!(world.settle(), 0, "seed {seed}: at rest");
    }
}
