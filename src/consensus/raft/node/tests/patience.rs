//! Disks that are slow, hang or lack something, and who is believed to lead meanwhile.

use super::*;

fn beat(term: u64, commit: u64) -> Message {
    let mut beat = Message { from: 1, to: 2, term, commit, ..Message::default() };
    beat.set_msg_type(MessageType::MsgHeartbeat);
    beat
}

#[test]
fn a_log_that_lacks_what_was_confirmed_is_recognised() {
    let mut peers = [Peer::new(1, &[1, 2]), Peer::new(2, &[1, 2])];
    let leader = elect(&mut peers);
    peers[leader].node.propose(b"a".to_vec()).unwrap();
    exchange(&mut peers);
    let term = peers[leader].node.lead().term;
    let follower = &mut peers[1 - leader].node;
    assert_eq!(follower.step(beat(term, 2)), Ok(()));
    assert_eq!(follower.step(beat(term - 1, 9)), Ok(()), "of an earlier term");
    assert_eq!(follower.step(beat(term, 9)), Err(Older { last: 2, confirmed: 9 }));
}

#[test]
fn a_slow_disk_is_no_silence() {
    let mut peers = [Peer::new(1, &[1, 2]), Peer::new(2, &[1, 2])];
    let leader = elect(&mut peers);
    exchange(&mut peers);
    let term = peers[leader].node.lead().term;
    peers[leader].node.propose(b"a".to_vec()).unwrap();
    peers[leader].pump();
    let appends = std::mem::take(&mut peers[leader].outbox);
    let follower = &mut peers[1 - leader];
    for message in appends {
        follower.node.step(message).unwrap();
    }
    follower.node.step(Message { to: follower.id, ..beat(term, 1) }).unwrap();
    follower.pump();
    let said: Vec<MessageType> = follower.outbox.iter().map(Message::get_msg_type).collect();
    assert_eq!(said, [MessageType::MsgHeartbeatResponse], "what was appended isn't durable");
    assert!(follower.write_one());
    follower.pump();
    let said = follower.outbox.iter().map(Message::get_msg_type);
    assert!(said.skip(1).any(|kind| kind == MessageType::MsgAppendResponse));
}

#[test]
fn a_term_that_is_not_durable_is_not_confirmed() {
    let mut follower = Peer::new(2, &[1, 2]);
    follower.node.step(beat(3, 0)).unwrap();
    follower.pump();
    assert!(follower.outbox.is_empty(), "{:?}", follower.outbox);
    assert!(follower.write_one());
    follower.pump();
    assert_eq!(follower.outbox.len(), 1);
}

#[test]
fn who_does_not_vote_believes_in_no_leader_that_is_not_heard() {
    let conf = ConfState { voters: vec![1], learners: vec![2], ..ConfState::default() };
    let found = Recovered { snapshot_conf: conf.clone(), conf, ..Recovered::default() };
    let mut learner = Peer::from(2, &found, Disk::default());
    learner.node.step(beat(3, 0)).unwrap();
    learner.settle();
    assert_eq!(learner.node.lead().leader, 1);
    let due = learner.node.due();
    assert!((limits::ELECTION_TICKS..=2 * limits::ELECTION_TICKS).contains(&due), "{due}");
    (1..due).for_each(|_| learner.node.tick());
    assert_eq!(learner.node.lead().leader, 1);
    learner.node.tick();
    assert_eq!(learner.node.lead().leader, 0);
    learner.node.step(beat(3, 0)).unwrap();
    assert_eq!(learner.node.lead().leader, 1, "it was heard again");
}

#[test]
fn a_leader_whose_disk_hangs_goes_and_asks_for_no_votes() {
    let mut peers = [Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]), Peer::new(3, &[1, 2, 3])];
    let leader = elect(&mut peers);
    peers[leader].node.propose(b"a".to_vec()).unwrap();
    peers[leader].pump();
    peers[leader].outbox.clear();
    assert!(peers[leader].node.step_down());
    assert!(!peers[leader].node.step_down(), "it leads no more");
    for _ in 0..10 * limits::ELECTION_TICKS {
        peers[leader].node.tick();
        peers[leader].pump();
    }
    assert!(peers[leader].outbox.is_empty(), "{:?}", peers[leader].outbox);
    let mut alone = Peer::new(1, &[1]);
    alone.settle();
    assert!(!alone.node.step_down(), "nobody else could lead");
}
