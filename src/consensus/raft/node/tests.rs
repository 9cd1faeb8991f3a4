//! Nodes whose disks and network are in the test's hand.

use super::*;
use crate::consensus::raft::log::{ReadEntries, ReadFailed, Wanted};
use raft::eraftpb::EntryType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

mod patience;

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<u64, Entry>>>);

impl ReadEntries for Disk {
    fn read(&self, low: u64, high: u64, _max: u64) -> Result<Vec<Entry>, ReadFailed> {
        Ok(self.0.lock().unwrap().range(low..high).map(|(_, e)| e.clone()).collect())
    }
}

/// A node, its disk, what waits to be written, what was handed out.
struct Peer {
    id: u64,
    node: Node,
    disk: Disk,
    writes: VecDeque<Write>,
    committed: Vec<Entry>,
    installed: Option<Snapshot>,
    outbox: Vec<Message>,
    reads: Vec<ReadState>,
}

impl Peer {
    fn new(id: u64, voters: &[u64]) -> Self {
        let conf = ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let found = Recovered { snapshot_conf: conf.clone(), conf, ..Recovered::default() };
        Self::from(id, &found, Disk::default())
    }

    fn from(id: u64, found: &Recovered, disk: Disk) -> Self {
        let view = LogView::new(found, Box::new(disk.clone()));
        let node = Node::new(NodeId(id), found, view, id).unwrap();
        let (writes, committed) = (VecDeque::new(), Vec::new());
        let (installed, outbox, reads) = (None, Vec::new(), Vec::new());
        Self { id, node, disk, writes, committed, installed, outbox, reads }
    }

    /// Carries out all but the writes.
    fn pump(&mut self) {
        self.node.lead_if_alone();
        while let Some(round) = self.node.round() {
            self.outbox.extend(round.send);
            self.reads.extend(round.reads);
            if let Some(write) = round.write {
                self.installed = write.snapshot.clone().or(self.installed.take());
                self.writes.push_back(write);
            }
            self.committed.extend(round.committed);
        }
    }

    fn write_one(&mut self) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        let mut disk = self.disk.0.lock().unwrap();
        if let Some(first) = write.entries.first() {
            disk.retain(|index, _| *index < first.index);
        }
        disk.extend(write.entries.iter().map(|e| (e.index, e.clone())));
        drop(disk);
        self.node.persisted(write.number);
        true
    }

    /// Carries out everything, applies at once.
    fn settle(&mut self) {
        self.pump();
        while self.write_one() {
            self.pump();
        }
        // As root does: what a snapshot brings it does not say that it has applied.
        self.node.applied(self.committed.last().map_or(0, |e| e.index));
        self.pump();
        while self.write_one() {
            self.pump();
        }
    }

    fn commands(&self) -> Vec<Vec<u8>> {
        let normal = |e: &&Entry| e.get_entry_type() == EntryType::EntryNormal;
        let commands = self.committed.iter().filter(normal).map(|e| e.data.clone());
        commands.filter(|d| !d.is_empty()).collect()
    }
}

/// Carries messages until nobody has any.
fn exchange(peers: &mut [Peer]) {
    for _ in 0..1_000 {
        peers.iter_mut().for_each(Peer::settle);
        let messages: Vec<Message> = peers.iter_mut().flat_map(|p| p.outbox.split_off(0)).collect();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            let bytes = prost011::Message::encode_to_vec(&message);
            let message: Message = prost011::Message::decode(bytes.as_slice()).unwrap();
            if let Some(peer) = peers.iter_mut().find(|p| p.id == message.to) {
                peer.node.step(message).unwrap();
            }
        }
    }
    panic!("the nodes never fall silent");
}

fn elect(peers: &mut [Peer]) -> usize {
    for _ in 0..100 {
        peers.iter_mut().for_each(|p| p.node.tick());
        exchange(peers);
        if let Some(at) = peers.iter().position(|p| p.node.lead().is_leader) {
            return at;
        }
    }
    panic!("no leader");
}

#[test]
fn alone_it_leads_at_once_and_commits_only_what_is_durable() {
    let mut peer = Peer::new(1, &[1]);
    assert_eq!(peer.node.propose(b"early".to_vec()), None);
    peer.pump();
    assert!(peer.node.lead().is_leader && peer.node.is_alone());
    assert_eq!(peer.node.confirmed(), None, "its first entry isn't durable");
    let (index, term) = peer.node.propose(b"a".to_vec()).unwrap();
    assert_eq!((index, term), (2, 1));
    peer.pump();
    assert!(peer.committed.is_empty() && peer.node.is_writing());
    while peer.write_one() {}
    peer.pump();
    assert_eq!(peer.commands(), [b"a"]);
    assert_eq!(peer.node.confirmed(), Some(2));
    assert_eq!(peer.node.applied_index(), 0, "root hasn't said so");
    peer.node.applied(2);
    assert_eq!(peer.node.applied_index(), 2);
    peer.node.read_index(b"ctx".to_vec());
    peer.pump();
    assert_eq!(peer.reads[0].index, 2);
    let last = peer.node.last_write().expect("the commit index on the disk lags");
    assert_eq!(last.hard.commit, 2);
    assert!(peer.node.last_write().is_none());
}

#[test]
fn what_is_with_root_is_bounded_whatever_the_log_holds() {
    let half = (limits::READY_MAX / 2) as usize;
    let count = 4 * limits::HANDED_OUT_MAX / limits::READY_MAX * 2;
    let entry = |index| Entry { index, term: 1, data: vec![1; half], ..Entry::default() };
    let disk = Disk::default();
    disk.0.lock().unwrap().extend((1..=count).map(|i| (i, entry(i))));
    let conf = ConfState { voters: vec![1], ..ConfState::default() };
    let found = Recovered {
        hard: HardState { term: 1, vote: 1, commit: count },
        snapshot_conf: conf.clone(),
        conf,
        terms: vec![(1, 1)],
        last: count,
        ..Recovered::default()
    };
    let mut peer = Peer::from(1, &found, disk);
    let mut handed = 0;
    while handed < count {
        peer.pump();
        let now = peer.committed.len() as u64;
        assert!(now > handed, "it goes on when root has applied");
        let bytes = (now - handed) * half as u64;
        assert!(bytes <= limits::HANDED_OUT_MAX + 2 * limits::READY_MAX, "{bytes} at once");
        assert!(!peer.node.lead().is_leader, "it leads when it has replayed what it knows");
        handed = now;
        peer.node.applied(handed);
    }
    peer.pump();
    assert!(peer.node.lead().is_leader);
}

#[test]
fn three_agree_and_a_follower_answers_only_when_durable() {
    let mut peers: Vec<Peer> = (1..=3).map(|id| Peer::new(id, &[1, 2, 3])).collect();
    let leader = elect(&mut peers);
    let follower = (leader + 1) % 3;
    assert!(!peers[leader].node.is_alone());
    assert_eq!(peers[follower].node.propose(b"x".to_vec()), None, "only the leader appends");
    peers[leader].node.propose(b"a".to_vec()).unwrap();
    peers[leader].pump();
    let to = peers[follower].id;
    let sent = std::mem::take(&mut peers[leader].outbox);
    for message in sent.into_iter().filter(|m| m.to == to) {
        peers[follower].node.step(message).unwrap();
    }
    peers[follower].pump();
    let answers = |p: &Peer| {
        let kind = MessageType::MsgAppendResponse;
        p.outbox.iter().filter(|m| m.get_msg_type() == kind && !m.reject).count()
    };
    assert_eq!(answers(&peers[follower]), 0, "it isn't on the disk yet");
    while peers[follower].write_one() {}
    peers[follower].pump();
    assert_eq!(answers(&peers[follower]), 1);
    exchange(&mut peers);
    peers.iter_mut().for_each(|p| p.node.tick());
    exchange(&mut peers);
    for peer in &peers {
        assert_eq!(peer.commands(), [b"a"], "node {}", peer.id);
    }
    peers[follower].node.read_index(b"r".to_vec());
    exchange(&mut peers);
    assert_eq!(peers[follower].reads.len(), 1, "a follower's read is confirmed by the leader");
}

#[test]
fn a_learner_joins_from_a_snapshot_and_a_voter_is_made_of_it() {
    let mut peers = vec![Peer::new(1, &[1])];
    peers[0].settle();
    for n in 0..5u8 {
        peers[0].node.propose(vec![n + 1]).unwrap();
        peers[0].settle();
    }
    let at = peers[0].node.change(&[Member::Learner(NodeId(2))], b"why".to_vec()).unwrap().0;
    peers[0].pump();
    while peers[0].write_one() {}
    peers[0].pump();
    assert!(peers[0].node.is_alone(), "in force only once the commit is durable");
    peers[0].settle();
    assert!(!peers[0].node.is_alone());
    assert_eq!(peers[0].committed.last().unwrap().context, b"why");
    let conf = peers[0].node.conf_at(at).unwrap();
    assert_eq!((conf.voters.as_slice(), conf.learners.as_slice()), (&[1][..], &[2][..]));
    assert_eq!(peers[0].node.conf_at(at - 1).unwrap().learners, Vec::<u64>::new());
    peers[0].node.compact(at, at);
    peers.push(Peer::new(2, &[]));
    peers[0].node.tick();
    peers[0].node.tick();
    exchange(&mut peers);
    assert_eq!(
        peers[0].node.log().take_wanted(),
        Wanted::Snapshot,
        "it is too far behind for the log"
    );
    let mut snapshot = Snapshot { data: b"state".to_vec(), ..Snapshot::default() };
    let term = peers[0].node.log().term_at(at).unwrap();
    let metadata = raft::eraftpb::SnapshotMetadata { conf_state: Some(conf), index: at, term };
    snapshot.metadata = Some(metadata);
    peers[0].node.set_sendable(Some(snapshot));
    for _ in 0..4 {
        peers.iter_mut().for_each(|p| p.node.tick());
        exchange(&mut peers);
    }
    peers[0].node.snapshot_sent(NodeId(2), true);
    assert_eq!(peers[1].installed.as_ref().unwrap().data, b"state");
    assert_eq!(peers[1].node.applied_index(), at, "or it could not ask for votes");
    peers[0].node.change(&[Member::Voter(NodeId(2))], b"now".to_vec()).unwrap();
    for _ in 0..4 {
        peers.iter_mut().for_each(|p| p.node.tick());
        exchange(&mut peers);
    }
    let conf = peers[1].node.conf_at(u64::MAX).unwrap();
    assert_eq!(conf.voters, [1, 2]);
    peers[0].node.propose(b"both".to_vec()).unwrap();
    peers[0].settle();
    assert!(!peers[0].commands().contains(&b"both".to_vec()), "one of two is no majority");
    exchange(&mut peers);
    assert!(peers[0].commands().contains(&b"both".to_vec()));
}

/// The commit of a change comes with the entry behind it.
#[test]
fn a_change_that_is_committed_together_with_new_entries_comes_into_force() {
    let mut peers: Vec<Peer> = vec![Peer::new(1, &[1]), Peer::new(2, &[1])];
    peers[0].settle();
    peers[0].node.change(&[Member::Learner(NodeId(2))], b"learn".to_vec()).unwrap();
    exchange(&mut peers);
    peers[0].node.change(&[Member::Voter(NodeId(2))], b"vote".to_vec()).unwrap();
    peers[0].pump();
    while peers[0].write_one() {}
    peers[0].pump();
    // What was sent so far is lost: the leader sends entry and commit in one message.
    peers[0].outbox.clear();
    peers[0].node.propose(b"next".to_vec()).unwrap();
    for _ in 0..6 {
        peers.iter_mut().for_each(|p| p.node.tick());
        exchange(&mut peers);
    }
    let conf = peers[1].node.conf_at(u64::MAX).unwrap();
    assert_eq!((conf.voters.as_slice(), conf.learners.len()), (&[1, 2][..], 0));
}

/// Ticks a follower until it asks for votes; answers how often.
fn ticks_until_it_asks(peer: &mut Peer) -> usize {
    for tick in 0..2 * limits::ELECTION_TICKS {
        peer.pump();
        if peer.outbox.iter().any(|m| m.get_msg_type() == MessageType::MsgRequestPreVote) {
            return tick;
        }
        assert!(peer.node.due() <= 2 * limits::ELECTION_TICKS - tick, "the clock is looked at");
        peer.node.tick();
    }
    panic!("it never asks");
}

#[test]
fn a_leader_whose_connection_ended_is_not_waited_for() {
    let mut peers: Vec<Peer> = (1..=3).map(|id| Peer::new(id, &[1, 2, 3])).collect();
    let leader = elect(&mut peers);
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let bystander = NodeId(peers[other].id);
    peers[one].node.unheard(bystander);
    assert!(ticks_until_it_asks(&mut peers[one]) >= limits::ELECTION_TICKS, "it doesn't lead");
    peers[one].outbox.clear();
    peers[leader].node.propose(b"here".to_vec()).unwrap();
    exchange(&mut peers);

    // Both have lost the leader: the one that asks first is given its vote by the other, which
    // waits for its turn.
    let dead = NodeId(peers[leader].id);
    peers[one].node.unheard(dead);
    peers[other].node.unheard(dead);
    let due = |at: usize| peers[at].node.due();
    assert_eq!((due(one.min(other)), due(one.max(other))), (1, 3));
    assert!(ticks_until_it_asks(&mut peers[one]) <= 3);
    let mut alive = vec![peers.remove(one.max(other)), peers.remove(one.min(other))];
    exchange(&mut alive);
    assert!(alive.iter().any(|peer| peer.node.lead().is_leader));
}

#[test]
fn a_leader_that_lives_is_believed_by_who_still_hears_it() {
    let mut peers: Vec<Peer> = (1..=3).map(|id| Peer::new(id, &[1, 2, 3])).collect();
    let leader = elect(&mut peers);
    let (term, one) = (peers[leader].node.lead().term, (leader + 1) % 3);
    let id = NodeId(peers[leader].id);
    peers[one].node.unheard(id);
    let _ = ticks_until_it_asks(&mut peers[one]);
    exchange(&mut peers);
    for _ in 0..limits::HEARTBEAT_TICKS {
        peers[leader].node.tick();
    }
    exchange(&mut peers);
    assert!(peers.iter().all(|peer| peer.node.lead().leader == id.0));
    assert_eq!(peers[leader].node.lead().term, term, "nobody was disturbed");
}

/// Those between are in the log, and come into force no second time: a snapshot there would have
/// the wrong one.
#[test]
fn after_a_start_no_configuration_is_known_before_the_newest_one() {
    let conf = |voters: &[u64]| ConfState { voters: voters.to_vec(), ..ConfState::default() };
    let hard = HardState { term: 1, vote: 1, commit: 6 };
    let (terms, last) = (vec![(1, 1)], 6);
    let (snapshot_conf, conf, conf_index) = (conf(&[1]), conf(&[1, 2, 3]), 5);
    let found =
        Recovered { hard, conf, conf_index, snapshot_conf, terms, last, ..Recovered::default() };
    let peer = Peer::from(1, &found, Disk::default());
    let voters = |index| peer.node.conf_at(index).map(|conf| conf.voters);
    assert_eq!([voters(0), voters(1), voters(4)], [Some(vec![1]), None, None]);
    assert_eq!([voters(5), voters(6)], [Some(vec![1, 2, 3]), Some(vec![1, 2, 3])]);
}

#[test]
fn a_member_speaks_for_itself_alone() {
    let mut peers: Vec<Peer> = [1, 2].map(|id| Peer::new(id, &[1, 2])).into();
    peers[0].node.tick();
    exchange(&mut peers);
    let says = |kind, from, to, term| {
        let mut message = Message { from, to, term, ..Message::default() };
        message.set_msg_type(kind);
        peers[0].node.may_say(NodeId(2), &message)
    };
    let beat = MessageType::MsgHeartbeat;
    assert!(says(beat, 2, 1, 7));
    assert!(!says(beat, 3, 1, 7), "of another one");
    assert!(!says(beat, 2, 3, 7), "to another one");
    assert!(!says(beat, 2, 1, u64::MAX), "the last of all terms");
    assert!(!says(MessageType::MsgPropose, 2, 1, 7), "past the checks");
    assert!(!says(MessageType::MsgTransferLeader, 2, 1, 7));
    assert!(says(MessageType::MsgReadIndex, 2, 1, 0));
}
