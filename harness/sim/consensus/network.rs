//! The network between the simulated nodes: raft messages, and links for what else they say.
//!
//! Raft's messages come late, twice, out of order or not at all. A link carries proposals, refusals
//! and heartbeats; it breaks, which its ends notice late, and is dialled again, as `actors/peer`
//! does. Owns who reaches whom, and that a member doesn't listen to one that was removed. Never
//! decides what is said.

use super::disk::Shared;
use super::{Event, World};
use crate::consensus::propose::Refusal;
use crate::consensus::raft::Entry;
use crate::id::NodeId;
use bytes::Bytes;
use prost011::Message as _;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeSet;

/// How a node's link to another one stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Up,
    /// It is broken, and nobody has noticed yet.
    Broken,
    Down,
}

/// A link to another node.
pub(super) struct Link {
    stand: Stand,
    /// What was sent in an earlier one is lost, or comes very late.
    epoch: u64,
    /// Raft has been told that the other end can't be reached.
    told: bool,
}

impl World {
    /// The others that a node talks to: those in its table, and those that have called; before it
    /// finds itself there, all.
    fn talks_to(&self, from: u64, to: u64) -> bool {
        let Some(life) = self.lives.get(&from) else { return false };
        let (nodes, removed) = (&life.state.nodes, &life.state.removed);
        let has_called = life.callers.contains(&to) || !nodes.contains_key(&NodeId(from));
        nodes.contains_key(&NodeId(to)) || has_called && !removed.contains(&NodeId(to))
    }

    /// A node learns of one that it doesn't know yet when that one calls.
    fn called(&mut self, from: u64, to: u64) {
        let can_tell =
            self.lives.get(&from).is_some_and(|l| l.state.nodes.contains_key(&NodeId(from)));
        if let Some(life) = self.lives.get_mut(&to).filter(|_| can_tell)
            && life.callers.insert(from)
        {
            self.keep_links(to);
        }
    }

    fn listens(&self, to: u64, from: u64) -> bool {
        self.lives.get(&to).is_some_and(|life| !life.state.removed.contains(&NodeId(from)))
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    fn can_link(&self, from: u64, to: u64) -> bool {
        let is_open = !self.is_cut(from, to) && !self.is_cut(to, from);
        is_open && self.listens(to, from) && !self.is_paused(to)
    }

    /// Keeps links to exactly those that a node talks to.
    pub(super) fn keep_links(&mut self, from: u64) {
        let others: Vec<u64> = self.disks.keys().copied().filter(|id| *id != from).collect();
        let others: BTreeSet<u64> =
            others.into_iter().filter(|to| self.talks_to(from, *to)).collect();
        let Some(life) = self.lives.get_mut(&from) else { return };
        let boot = life.boot;
        life.links.retain(|to, _| others.contains(to));
        let new = others.into_iter().filter(|to| !life.links.contains_key(to)).collect::<Vec<_>>();
        for to in new {
            let epoch = self.dice.roll();
            let link = Link { stand: Stand::Down, epoch, told: false };
            if let Some(life) = self.lives.get_mut(&from) {
                life.links.insert(to, link);
            }
            let soon = self.dice.between(1, 30);
            self.after(soon, Event::Dial { from, boot, to });
        }
    }

    pub(super) fn dial(&mut self, from: u64, boot: u64, to: u64) {
        let can = self.can_link(from, to);
        let Some(life) = self.lives.get_mut(&from).filter(|life| life.boot == boot) else { return };
        let Some(link) = life.links.get_mut(&to).filter(|l| l.stand == Stand::Down) else { return };
        if !can {
            let pause = self.dice.between(100, 700);
            return self.after(pause, Event::Dial { from, boot, to });
        }
        (link.stand, link.told) = (Stand::Up, false);
        link.epoch += 1;
        if life.leader == Some(to) {
            self.hand_over_all(from);
            self.pump(from);
        }
        self.called(from, to);
    }

    /// A link breaks: what is on its way is lost, and that is noticed later.
    pub(super) fn sever(&mut self, from: u64, to: u64) {
        let Some(life) = self.lives.get_mut(&from) else { return };
        let boot = life.boot;
        let Some(link) = life.links.get_mut(&to).filter(|l| l.stand == Stand::Up) else { return };
        link.stand = Stand::Broken;
        link.epoch += 1;
        let soon = self.dice.chance(50);
        let late = self.dice.between(5, if soon { 50 } else { 1_500 });
        self.after(late, Event::Notice { from, boot, to });
    }

    /// All links to a node break, and those from it, since its process is no more.
    pub(super) fn sever_all(&mut self, id: u64) {
        let others: Vec<u64> = self.lives.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.sever(other, id);
            let late = self.dice.between(1, 100);
            self.after(late, Event::Unheard { from: id, to: other });
        }
    }

    pub(super) fn notice(&mut self, from: u64, boot: u64, to: u64) {
        let Some(life) = self.lives.get_mut(&from).filter(|life| life.boot == boot) else { return };
        let Some(link) = life.links.get_mut(&to).filter(|l| l.stand == Stand::Broken) else {
            return;
        };
        link.stand = Stand::Down;
        self.dial(from, boot, to);
        self.unheard(from, to);
    }

    /// The connection over which a node sends has ended at its other end.
    pub(super) fn unheard(&mut self, from: u64, to: u64) {
        if let Some(life) = self.lives.get_mut(&to).filter(|life| life.paused_until <= self.now) {
            life.consensus.unheard(NodeId(from));
            self.pump(to);
        }
    }

    /// Sends a raft message.
    pub(super) fn send(&mut self, from: u64, to: u64, bytes: Bytes, bulk: bool) {
        self.check_vote(from, &bytes);
        self.check_acknowledged(from, &bytes);
        if bulk {
            return self.send_bulk(from, to, bytes);
        }
        if !self.talks_to(from, to) {
            let Some(life) = self.lives.get_mut(&from) else { return };
            return life.consensus.unreachable(NodeId(to));
        }
        let lost = self.is_cut(from, to) || !self.calm() && self.dice.chance(3);
        if lost || !self.disks.contains_key(&to) {
            let told = self.lives.get_mut(&from).and_then(|life| {
                let link = life.links.get_mut(&to)?;
                (link.stand == Stand::Down && !std::mem::replace(&mut link.told, true))
                    .then_some(life)
            });
            if let Some(life) = told {
                life.consensus.unreachable(NodeId(to));
            }
            return;
        }
        let copies = 1 + u64::from(!self.calm() && self.dice.chance(3));
        for _ in 0..copies {
            let delay = self.delay();
            self.after(delay, Event::Arrive { from, to, bytes: bytes.clone() });
        }
    }

    fn delay(&mut self) -> u64 {
        let slow = !self.calm() && self.dice.chance(5);
        self.dice.between(1, if slow { 900 } else { 10 })
    }

    /// A snapshot goes by a connection of its own, and what became of it is told.
    fn send_bulk(&mut self, from: u64, to: u64, bytes: Bytes) {
        let Some(boot) = self.lives.get(&from).map(|life| life.boot) else { return };
        let delay = self.dice.between(5, 200);
        self.after(delay, Event::Bulk { from, boot, to, bytes });
    }

    pub(super) fn bulk(&mut self, from: u64, boot: u64, to: u64, bytes: Bytes) {
        let ok = self.talks_to(from, to) && self.can_link(from, to);
        let ok = ok && (self.calm() || !self.dice.chance(15));
        if ok {
            self.arrive(from, to, bytes);
        }
        if let Some(life) = self.lives.get_mut(&from).filter(|life| life.boot == boot) {
            life.consensus.snapshot_sent(NodeId(to), ok);
            self.pump(from);
        }
    }

    pub(super) fn arrive(&mut self, from: u64, to: u64, bytes: Bytes) {
        if !self.listens(to, from) {
            return;
        }
        self.count_vote(from, to, &bytes);
        if let Some(life) = self.lives.get_mut(&to) {
            life.consensus.step(NodeId(from), bytes);
            self.pump(to);
        }
    }

    /// Sends a proposal to the leader; answers whether it is on its way, as far as is known.
    pub(super) fn forward(&mut self, from: u64, to: u64, entry: &Entry) -> bool {
        let link = self.lives.get(&from).and_then(|life| life.links.get(&to));
        let Some((stand, epoch)) = link.map(|link| (link.stand, link.epoch)) else { return false };
        if stand == Stand::Up {
            let twice = !self.calm() && self.dice.chance(4);
            if twice {
                self.ledger.doubled(entry);
            }
            for _ in 0..=u64::from(twice) {
                let (delay, entry) = (self.delay(), Box::new(entry.clone()));
                self.after(delay, Event::Proposal { from, to, epoch, entry });
            }
        }
        stand != Stand::Down
    }

    pub(super) fn proposal(&mut self, from: u64, to: u64, epoch: u64, entry: Entry) {
        let now = self.lives.get(&from).and_then(|life| life.links.get(&to)).map(|l| l.epoch);
        let lost = now != Some(epoch) && self.dice.chance(50);
        if lost || !self.listens(to, from) {
            return;
        }
        self.take_in(to, entry);
        self.pump(to);
    }

    /// A proposal is not in the log of `by`: its proposer is told, if its link is up.
    pub(super) fn turn_back(&mut self, by: u64, to: u64, boot: u64, seq: u64, refusal: Refusal) {
        let link = self.lives.get(&to).and_then(|life| life.links.get(&by));
        if link.is_some_and(|link| link.stand == Stand::Up) {
            let delay = self.delay();
            self.after(delay, Event::Refused { to, boot, seq, refusal });
        }
    }

    /// A node lets the leader hear it.
    pub(super) fn beat(&mut self, id: u64) {
        let Some(life) = self.lives.get(&id) else { return };
        let Some(leader) = life.leader.filter(|leader| *leader != id) else { return };
        if life.links.get(&leader).is_some_and(|link| link.stand == Stand::Up) {
            let delay = self.delay();
            self.after(delay, Event::Heard { from: id, to: leader });
        }
    }

    pub(super) fn heard(&mut self, from: u64, to: u64) {
        let now = self.clock();
        if self.listens(to, from)
            && let Some(life) = self.lives.get_mut(&to)
            && let Some(watch) = life.watch.as_mut()
        {
            life.clock.heard(NodeId(from), 0, now);
            watch.heard(NodeId(from), now);
        }
    }

    /// One vote a term, whatever happened in between.
    fn check_vote(&mut self, from: u64, bytes: &Bytes) {
        let Some(message) = vote(bytes) else { return };
        let whom = match message.get_msg_type() {
            MessageType::MsgRequestVote => from,
            _ => message.to,
        };
        let term = message.term;
        let first = *self.votes.entry((from, term)).or_insert(whom);
        if first != whom {
            self.fail(format!("n{from} votes for n{first} and n{whom} in term {term}"));
        }
    }

    /// What a node says that it has is on its disk. What it says of an earlier term may have been
    /// replaced by the same write: who leads now could not have won if it mattered.
    fn check_acknowledged(&mut self, from: u64, bytes: &Bytes) {
        let Some(said) = one_of([MessageType::MsgAppendResponse], bytes) else { return };
        let (last, term) = self.disks.get(&from).map_or((0, 0), Shared::last);
        if said.index > last && said.term >= term {
            self.fail(format!("n{from} says that it has {}, its disk has {last}", said.index));
        }
    }

    /// Who has voted for a candidate, as far as it was told.
    fn count_vote(&mut self, from: u64, to: u64, bytes: &Bytes) {
        let Some(message) = vote(bytes) else { return };
        // What comes after the election is decided tells nothing.
        let leads = self.leaders.get(&message.term) == Some(&to);
        if message.get_msg_type() == MessageType::MsgRequestVoteResponse && !leads {
            self.electors.entry((to, message.term)).or_default().insert(NodeId(from));
        }
    }
}

/// A candidate's question, or a vote for it.
fn vote(bytes: &Bytes) -> Option<Message> {
    one_of([MessageType::MsgRequestVote, MessageType::MsgRequestVoteResponse], bytes)
}

/// A message of these kinds that refuses nothing. The first field says which kind it is: most
/// messages are none of them.
fn one_of<const N: usize>(kinds: [MessageType; N], bytes: &Bytes) -> Option<Message> {
    let is_one = |kind: &MessageType| bytes.starts_with(&[0x08, *kind as u8]);
    let is_any = kinds.iter().any(is_one);
    is_any.then(|| Message::decode(bytes.clone()).ok())?.filter(|message| !message.reject)
}
