//! Nodes of one cluster together: leaders, proposals from anywhere, silence, partitions.

use crate::cluster::TestCluster;
use crate::poll::poll_async;
use mill::actors::root::View;
use mill::api::views::Expelled;
use mill::fsm::command::Deploy;
use mill::fsm::model::{DeployKind, Desired, NodeStatus, Role, WorkloadSpec};
use mill::fsm::{Command, FEATURE_LEVEL};
use mill::id::{Incarnation, NodeId, TokenId};
use mill::secret::Sealed;
use mill::units::Millis;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn token(id: &str) -> Command {
    let (id, hash) = (id.into(), String::new());
    Command::CreateToken { id, role: Role::Read, hash, expires_at: None }
}

fn revoke(id: &str) -> Command {
    Command::RevokeToken { id: id.into() }
}

fn deploy(version: usize) -> Command {
    let file = format!("service \"web\" {{ image \"web@sha256:{version:064}\"; port 80 }}");
    let parsed = mill::spec::parse("file", &file).unwrap();
    let services = parsed.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
    Command::Deploy(Deploy {
        app: parsed.app,
        kind: DeployKind::Up,
        base: None,
        services: services.collect(),
        tasks: Default::default(),
        file,
        replace: true,
        plan: None,
    })
}

/// When the allocation that drains began to, and when that was settled everywhere.
fn draining(view: &View) -> Option<(Millis, Option<Millis>)> {
    view.state.allocations.values().find_map(|one| match one.desired {
        Desired::Draining { at, settled, .. } => {
            Some((Millis(at.0), settled.map(|settled| Millis(settled.0))))
        }
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stopped_before_the_slowest_child_that_leads_traffic_has_settled_it() {
    let cluster = TestCluster::new(2).await;
    let (late, other) = (cluster.node(1), cluster.node(2));
    other.propose(&deploy(1)).await.unwrap();
    let is_healthy = |view: &View| view.state.allocations.values().any(|one| one.is_routable());
    other.until("it is healthy", is_healthy).await;
    late.be_late(true);
    other.propose(&deploy(2)).await.unwrap();
    other.until("it drains", |view| draining(view).is_some()).await;
    // Long enough for any other child to be heard of.
    for id in ["t1", "t2", "t3"] {
        let done = other.propose(&token(id)).await.unwrap();
        let view = other.until("the change", |view| view.index >= done.index).await;
        assert!(matches!(draining(&view), Some((_, None))), "{:?}", draining(&view));
    }
    late.be_late(false);
    let is_settled = |view: &View| matches!(draining(view), Some((_, Some(_))));
    let (at, settled) = draining(&other.until("it is settled", is_settled).await).unwrap();
    let took = settled.unwrap().since(at).duration();
    assert!(took < mill::limits::SETTLE_DEADLINE, "given up on after {took:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_join_and_vote_and_each_takes_changes() {
    let cluster = TestCluster::new(3).await;
    for id in cluster.ids() {
        let name = format!("t{id}");
        let done = cluster.node(id).propose(&token(&name)).await.unwrap();
        for other in cluster.ids() {
            let view = cluster.node(other).until("the change", |v| v.index >= done.index).await;
            assert!(view.state.tokens.contains_key(&TokenId::from(name.as_str())));
        }
        let refused = cluster.node(id).propose(&revoke("none")).await.unwrap_err();
        assert_eq!(refused.to_string(), "no token none");
    }
    cluster.agree().await;
    cluster.end().await;
}

/// A member whose program or disk is damaged, or that an attacker has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_proposes_that_is_no_command_never_reaches_the_log() {
    let cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let follower = if leader == 1 { 2 } else { 1 };
    let early = br#"{"images": {"remove": {"reference": "r", "digest": null}}}"#;
    for (command, needs) in [(b"not json".to_vec(), 1), (early.to_vec(), 1), (vec![b'['; 9_999], 1)]
    {
        use mill::actors::root::{Msg, Proposal};
        let raised = |view: &View| view.state.level() == FEATURE_LEVEL;
        cluster.node(leader).until("the level is raised", raised).await;
        let is_early = command.starts_with(b"{");
        let ask = |reply| {
            let (command, idempotency_key) = (Ok(command), None);
            Msg::Propose(Proposal { command, needs, idempotency_key, reply })
        };
        let answer = cluster.node(follower).root().call(ask, None).await.unwrap();
        let refused = answer.unwrap().unwrap_err().to_string();
        // At this level the last one is a command, which has nothing to do.
        let expected = if is_early { "no image r" } else { "the leader can't read the change" };
        assert_eq!(refused, expected);
    }
    cluster.node(follower).propose(&token("after")).await.unwrap();
    cluster.agree().await;
    cluster.end().await;
}

/// Each change is one that can be carried out only once: a second copy of it would be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_follower_have_one_effect_though_leaders_die_meanwhile() {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let follower = if leader == 1 { 2 } else { 1 };
    for n in 0..40 {
        cluster.node(follower).propose(&token(&format!("t{n}"))).await.unwrap();
    }
    let root = cluster.node(follower).root().clone();
    let mut changes = tokio::task::JoinSet::new();
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    for n in 0..40 {
        let (root, begun) = (root.clone(), Arc::clone(&begun));
        changes.spawn(async move {
            use mill::actors::root::{Msg, Proposal};
            let command = revoke(&format!("t{n}"));
            begun.add_permits(1);
            let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
            root.call(ask, None).await.unwrap().unwrap()
        });
    }
    // All are on their way, none is waited for.
    let _all = begun.acquire_many(40).await.unwrap();
    cluster.kill(leader).await;
    for done in changes.join_all().await {
        done.unwrap();
    }
    let rest: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let new = cluster.leader(&rest).await;
    assert_ne!(new, leader);
    cluster.start(leader).await;
    let last = cluster.node(new).propose(&token("last")).await.unwrap().index;
    for id in cluster.ids() {
        let view = cluster.node(id).until("all of it", |view| view.index >= last).await;
        assert_eq!(view.state.tokens.len(), 2, "the join token and the last one");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_marked_down_and_comes_back() {
    let cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let silent = if leader == 3 { 2 } else { 3 };
    let before = cluster.node(silent).view().boot;
    let status = |view: &View| view.state.nodes[&NodeId(silent)].status;
    let begun = Instant::now();
    cluster.node(silent).stop_heartbeats();
    cluster.node(leader).until("it is down", |view| status(view) == NodeStatus::Down).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(9), "{took:?}");
    assert_eq!(cluster.node(leader).view().leader, Some(NodeId(leader)));
    cluster.node(silent).resume_heartbeats();
    let back = |view: &View| status(view) == NodeStatus::Ready;
    cluster.node(leader).until("it is back", back).await;
    cluster.node(silent).ready().await;
    assert_ne!(cluster.node(silent).view().boot, before, "a new life");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_takes_nothing_and_the_others_go_on() {
    let cluster = TestCluster::new(3).await;
    let old = cluster.leader(&[1, 2, 3]).await;
    let rest: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    cluster.links.isolate(old, true);
    let begun = Instant::now();
    let lone = {
        let root = cluster.node(old).root().clone();
        tokio::spawn(async move {
            use mill::actors::root::{Msg, Proposal};
            let command = token("lone");
            let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
            root.call(ask, None).await.unwrap().unwrap()
        })
    };
    cluster.leader(&rest).await;
    cluster.node(rest[0]).propose(&token("t")).await.unwrap();
    println!("cut off to the next write: {:?}", begun.elapsed());
    cluster.links.isolate(old, false);
    // It was on its way all the time, and reaches the new leader.
    lone.await.unwrap().unwrap();
    let view = cluster.node(old).until("the log", |view| view.state.tokens.len() == 3).await;
    assert_ne!(view.leader, Some(NodeId(old)));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_late_is_brought_a_snapshot_over_the_connection_for_bulk() {
    let mut cluster = TestCluster::new(1).await;
    let first = cluster.node(1);
    let each = 400 << 10;
    // More than what a snapshot is taken after: alone, a node keeps no entries behind it.
    let many = mill::limits::SNAPSHOT_BYTES as usize / each + 4;
    for n in 0..many {
        let (id, hash) = (TokenId::from(format!("t{n}").as_str()), "0".repeat(each));
        let command = Command::CreateToken { id, role: Role::Read, hash, expires_at: None };
        first.propose(&command).await.unwrap();
    }
    let joined = cluster.join().await;
    let view = cluster.node(joined).until("all", |view| view.state.tokens.len() > many).await;
    assert!(view.state.nodes.contains_key(&NodeId(joined)));
    cluster.settled().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_node_is_removed_the_others_have_another_keyring() {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let gone = if leader == 3 { 2 } else { 3 };
    let rest: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != gone).collect();
    let before = cluster.node(leader).view();
    let password = Sealed {
        key: before.state.keyring_id().unwrap().to_owned(),
        text: before.state.ca.as_ref().unwrap().key.text.clone(),
    };
    cluster.kill(gone).await;
    let is_down = |view: &View| !view.state.nodes[&NodeId(gone)].is_up();
    cluster.node(leader).until("it is down", is_down).await;
    cluster.node(leader).propose(&Command::Remove { node: NodeId(gone) }).await.unwrap();
    for id in &rest {
        let is_new = |view: &View| view.state.keyring_id() != before.state.keyring_id();
        let view = cluster.node(*id).until("another keyring", is_new).await;
        assert!(!view.state.keyring_due);
        assert_ne!(
            view.state.nodes[&NodeId(*id)].keyring,
            before.state.nodes[&NodeId(*id)].keyring
        );
    }
    let (registry, user) = ("r".to_owned(), "ann".to_owned());
    let late = cluster.node(leader).propose(&Command::SetLogin { registry, user, password }).await;
    assert_eq!(late.unwrap_err().to_string(), "made for a state that is past");
    // The authority's key is sealed by it: a new node's certificate is signed.
    let joined = cluster.join().await;
    cluster.node(joined).ready().await;
    cluster.end().await;
}

/// Its certificate is as good as ever, both times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_of_another_life_or_removed_is_refused_and_told() {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let gone = if leader == 3 { 2 } else { 3 };
    let told = async |cluster: &TestCluster, why: Expelled| {
        let told = || async { cluster.node(gone).vitals().await.expelled == Some(why) };
        poll_async(told).secs(20).expect_async("the refusal").await;
    };
    let is_down = |view: &View| !view.state.nodes[&NodeId(gone)].is_up();
    let life = cluster.reincarnate(gone, Incarnation(99)).await;
    told(&cluster, Expelled::Recovered).await;
    cluster.node(leader).until("it is missed", is_down).await;
    let missed = cluster.node(leader).propose(&token("missed")).await.unwrap().index;
    assert!(cluster.node(gone).view().index < missed, "nothing reaches it");

    cluster.reincarnate(gone, life).await;
    cluster.node(gone).ready().await;
    cluster.settled().await;
    cluster.kill(gone).await;
    let leader = cluster
        .leader(&cluster.ids().into_iter().filter(|id| *id != gone).collect::<Vec<_>>())
        .await;
    cluster.node(leader).until("it is down", is_down).await;
    cluster.node(leader).propose(&Command::Remove { node: NodeId(gone) }).await.unwrap();
    cluster.start(gone).await;
    told(&cluster, Expelled::Removed).await;
    let last = cluster.node(leader).propose(&token("last")).await.unwrap().index;
    assert!(cluster.node(gone).view().index < last, "nothing reaches it");
    cluster.end().await;
}

/// Nobody is there who could renew them: each signs for itself, as soon as it has read its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_off_while_its_certificates_expired_goes_on() {
    let mut cluster = TestCluster::new(3).await;
    for n in 0..200 {
        cluster.node(1).propose(&token(&format!("t{n}"))).await.unwrap();
    }
    cluster.agree().await;
    cluster.outlive_certificates().await;
    cluster.leader(&[1, 2, 3]).await;
    for id in cluster.ids() {
        cluster.node(id).ready().await;
        assert!(cluster.node(id).is_certified());
    }
    cluster.node(2).propose(&token("last")).await.unwrap();
    cluster.agree().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_is_called_back_before_it_is_let_in() {
    let cluster = TestCluster::new(1).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    // Somebody listens there, but shows nothing; then nobody does.
    let silent = cluster.refused("n2", port, true).await;
    let said = format!("n1 does not reach this node at 127.0.0.1:{port}: ");
    assert!(silent.starts_with(&said) && silent.contains("no answer in"), "{silent}");
    let other = {
        use mill::actors::peer::join_service::answer_back;
        let answering = tokio::spawn(answer_back(std::sync::Arc::new(free), [7; 32]));
        let other = cluster.refused("n2", port, true).await;
        answering.abort();
        assert!(answering.await.unwrap_err().is_cancelled());
        other
    };
    assert!(other.contains("something else answers there"), "{other}");
    let nobody = cluster.refused("n2", port, false).await;
    assert!(nobody.starts_with(&said), "{nobody}");
    assert_eq!(cluster.node(1).view().state.nodes.len(), 1, "none was let in");
    cluster.end().await;
}

/// Its certificate shows who it is, wherever it calls from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_elsewhere_registers_where_it_is() {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    for id in [if leader == 3 { 2 } else { 3 }, leader] {
        cluster.relocate(&[id], false).await;
        let port = cluster.node(id).port();
        let is_there = |view: &View| view.state.nodes[&NodeId(id)].peer_port == port;
        for other in cluster.ids() {
            cluster.node(other).until("its new place", is_there).await;
        }
        cluster.node(id).ready().await;
        cluster.agree().await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_has_moved_as_a_whole_finds_together_by_hints() {
    let mut cluster = TestCluster::new(3).await;
    cluster.relocate(&[1, 2, 3], true).await;
    for id in cluster.ids() {
        cluster.node(id).ready().await;
    }
    cluster.agree().await;
    // From now on the state says it.
    for id in cluster.ids() {
        let port = cluster.node(id).port();
        assert_eq!(cluster.node(1).view().state.nodes[&NodeId(id)].peer_port, port);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_is_recognised() {
    let mut cluster = TestCluster::new(3).await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let follower = if leader == 3 { 2 } else { 3 };
    let changes: Vec<Command> = (0..20).map(|n| token(&format!("t{n}"))).collect();
    let why = cluster.set_back(follower, &changes).await.failed().await;
    assert!(why.contains("it is an older copy") && why.contains("mill clean"), "{why}");
    // The others don't need it.
    cluster.node(leader).propose(&token("last")).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_is_left_alone_knows_of_no_leader() {
    let mut cluster = TestCluster::new(2).await;
    cluster.kill(1).await;
    cluster.node(2).until("nobody leads", |view| view.leader.is_none()).await;
    cluster.start(1).await;
    cluster.leader(&[1, 2]).await;
    cluster.node(2).propose(&token("t")).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_go_on_together_and_only_once_all_are_new_there_is_no_way_back() {
    let mut cluster = TestCluster::new(3).await;
    let (old, new) = (FEATURE_LEVEL, FEATURE_LEVEL + 1);
    cluster.node(1).until("the level of this build", |view| view.state.level() == old).await;
    let mut changes = 0;
    // Forth and back, one after another.
    for (id, level) in [(1, new), (2, new), (1, old), (2, old), (3, new), (2, new)] {
        cluster.install(id, level).await.ready().await;
        for node in cluster.ids() {
            changes += 1;
            cluster.node(node).propose(&token(&format!("t{changes}"))).await.unwrap();
        }
        assert_eq!(cluster.node(id).view().state.level(), old);
    }
    cluster.agree().await;
    let early = cluster.node(2).propose(&Command::Raise { level: new }).await;
    assert!(early.is_err(), "node 1 doesn't know it");
    cluster.install(1, new).await.ready().await;
    for id in cluster.ids() {
        cluster.node(id).until("the new level", |view| view.state.level() == new).await;
        cluster.node(id).propose(&token(&format!("new{id}"))).await.unwrap();
    }
    cluster.agree().await;
    let why = cluster.install(3, old).await.failed().await;
    let said = format!("needs feature level {new}, this build has {old}: install");
    assert!(why.contains(&said), "{why}");
    cluster.node(1).propose(&token("last")).await.unwrap();
    cluster.install(3, new).await.ready().await;
    cluster.end().await;
}
