//! Tests of reasons, and that every remedy helps.

use super::*;
use crate::api::wire::NodeReason;
use crate::fsm::Command;
use crate::fsm::command::Report;
use crate::fsm::model::{Exit, NodeStatus};
use crate::id::{Attempt, NodeId, Revision};
use crate::scheduler::preview::forecast;
use crate::scheduler::preview::tests::{SHOP, World};

fn web(world: &World) -> WhyView {
    workload(&world.state, &"web".into(), &views::LiveUsage::default()).unwrap()
}

fn waiting_web(world: &World) -> Vec<Unplaced> {
    let app = world.state.apps.get(&AppName::from("shop")).unwrap();
    waiting(&world.state, std::iter::once(app))
}

/// The remedies for the first waiting replica.
fn remedies_of(world: &World) -> Vec<Remedy> {
    let waiting = waiting_web(world);
    remedies(&world.state, waiting.first().expect("a replica waits"), waiting.len())
}

fn texts(world: &World) -> Vec<String> {
    remedies_of(world).iter().map(|remedy| remedy.text(&world.state)).collect()
}

/// A world in which web has one replica more than there is room for.
fn full() -> World {
    let mut world = World::new(&[(4, 3), (1, 8)]);
    let text = SHOP.replace("replicas 2", "replicas 4").replace("memory \"1G\"", "memory \"1.2G\"");
    assert_eq!(world.up(&text).unplaced.len(), 1);
    world
}

#[test]
fn a_waiting_replica_has_every_nodes_reason_and_what_helps() {
    let world = full();
    let why = web(&world);
    let one = &why.waiting[0];
    assert_eq!((one.name.as_str(), one.need.as_str()), ("web-3", "cpu 1, memory 1.2G"));
    let reasons: Vec<_> = one.nodes.iter().map(|n| format!("{} {}", n.node, n.reason)).collect();
    assert_eq!(reasons, ["n1 memory", "n2 cpu"]);
    let deployment = why.deployment.as_ref().map(|d| (d.revision, d.status.to_string()));
    assert_eq!(deployment, Some((1, "running".to_owned())));
    assert_eq!(why.replicas.as_ref().map(|r| (r.desired, r.healthy)), Some((4, 3)));
    assert_eq!(one.remedies, texts(&world));
    // It is seen everywhere.
    let seen = views::LiveUsage { leader: Some(NodeId(1)), ..Default::default() };
    let status = views::status(&world.state, &seen);
    let warning = status.warnings.iter().find(|warning| warning.subject == "web").unwrap();
    assert_eq!(warning.message, "3/4: no node fits cpu 1, memory 1.2G");
    let service = status.services.iter().find(|service| service.name == "web").unwrap();
    assert_eq!(service.waiting, why.waiting);
}

/// Carries out a remedy as a person would.
fn carry_out(world: &mut World, remedy: &Remedy) {
    let file = world.state.deployments[&Revision(1)].file.to_string();
    let set_ready = |node: &mut crate::fsm::model::Node| node.status = NodeStatus::Ready;
    match remedy {
        Remedy::Undrain(id) | Remedy::Return(id) => world.node(id.0, set_ready),
        Remedy::Label(id, labels) => {
            world.node(id.0, |node| node.labels.extend(labels.iter().cloned()));
        }
        Remedy::Free { node: id, one: (cpu, memory), .. } => world.node(id.0, |node| {
            // As much room as if something that holds it had ended.
            node.cpu.0 += cpu.0;
            node.memory.0 += memory.0;
        }),
        Remedy::Home(..) => unreachable!("no volume is in these"),
        Remedy::Lower { .. } | Remedy::Replicas(_) | Remedy::StopFirst(_) => {
            let mut text = file;
            if let Remedy::Lower { cpu: Some(cpu), .. } = remedy {
                text = text.replace("cpu 1", &format!("cpu {}", cpu.cores()));
            }
            if let Remedy::Lower { memory: Some(memory), .. } = remedy {
                let memory = format!("memory \"{}M\"", memory.0 / 1_000_000);
                text = text.replace("memory \"1.2G\"", &memory);
            }
            if let Remedy::Replicas(count) = remedy {
                text = text.replace("replicas 4", &format!("replicas {count}"));
            }
            if let Remedy::StopFirst(_) = remedy {
                text = text.replace("cpu 1", "cpu 1\n update order=\"stop-first\"");
            }
            // What waits is given up for it.
            abandon(world);
            world.up(&text);
        }
        Remedy::AddNode(cpu, memory) => {
            let (cpu, memory) = (*cpu, *memory);
            let mut node = (*world.state.nodes[&NodeId(1)]).clone();
            (node.id, node.cpu, node.memory) = (NodeId(9), cpu, memory);
            world.state.nodes.insert(node.id, Arc::new(node));
        }
    }
}

/// Ends the deployment that waits, keeping what runs.
fn abandon(world: &mut World) {
    let revision = world.state.last_revision;
    let (status, degraded) = (DeployStatus::Failed, vec![]);
    let actions = vec![crate::fsm::command::Action::Finish { revision, status, degraded }];
    let steps = crate::fsm::command::Steps { actions, ..Default::default() };
    world.change(Command::Steps(steps)).unwrap();
}

/// Every remedy, carried out on a world of its own, leaves nothing of web waiting.
#[track_caller]
fn all_help(make: impl Fn() -> World, expected: &[&str]) {
    let world = make();
    assert_eq!(texts(&world), expected);
    for remedy in remedies_of(&world) {
        let mut world = make();
        let before = waiting_web(&world).len();
        carry_out(&mut world, &remedy);
        let after = forecast(world.state.clone(), &"shop".into());
        let still = after.unplaced.iter().filter(|one| one.service.as_str() == "web").count();
        assert!(still < before, "{remedy:?}: {still} of {before} wait");
    }
}

#[test]
fn making_room_helps() {
    all_help(full, &["lower memory to 344M", "free 856M of memory on n1", "lower replicas to 3"]);
}

#[test]
fn labelling_undraining_and_returning_help() {
    let zone = |state: fn(&mut crate::fsm::model::Node)| {
        move || {
            let mut world = World::new(&[(4, 8), (4, 8)]);
            for id in [1, 2] {
                world.node(id, |node| drop(node.labels.insert("zone".into(), format!("eu-{id}"))));
            }
            world.node(2, state);
            let text = SHOP.replace("replicas 2", "replicas 3\n constraint \"zone\" \"eu-2\"");
            assert_eq!(world.up(&text).unplaced.len(), 3);
            world
        }
    };
    let (on_n1, draining, down) = ("label n1 zone=eu-2", "undrain n2", "bring n2 back");
    all_help(zone(|node| node.status = NodeStatus::Draining), &[draining, on_n1]);
    all_help(zone(|node| node.status = NodeStatus::Down), &[on_n1, down]);
}

#[test]
fn where_nothing_helps_a_node_does() {
    let make = || {
        let mut world = World::new(&[(4, 3)]);
        let text = SHOP.replace("replicas 2", "replicas 1").replace("\"1G\"", "\"2.9G\"");
        assert_eq!(world.up(&text).unplaced.len(), 1);
        // All of the node belongs to others.
        world.node(1, |node| node.memory.0 = 256_000_000);
        world
    };
    all_help(make, &["add a node with 1 core and 2.9G of memory"]);
}

#[test]
fn a_replacement_without_room_beside_the_old_one_may_stop_it_first() {
    let make = || {
        let mut world = World::new(&[(2, 8)]);
        world.up(&SHOP.replace("replicas 2", "replicas 1"));
        world.node(1, |node| node.cpu.0 = 1_500);
        let v2 = SHOP.replace("replicas 2", "replicas 1").replace("web:v1", "web:v2");
        assert_eq!(world.up(&v2).unplaced.len(), 1);
        world
    };
    let expected =
        ["lower cpu to 0.25", "free 0.75 cores on n1", "update with order=\"stop-first\""];
    assert_eq!(texts(&make()), expected);
    let mut world = make();
    let file = world.state.deployments[&Revision(2)].file.clone();
    abandon(&mut world);
    let after = world.up(&file.replace("cpu 1", "cpu 1\n update order=\"stop-first\""));
    assert_eq!(after.unplaced, []);
}

#[test]
fn an_allocation_that_fails_says_why() {
    let mut world = World::new(&[(4, 8), (4, 8)]);
    world.up(SHOP);
    let why = web(&world);
    assert_eq!((why.waiting.len(), why.allocations.len(), &why.deployment), (0, 2, &None));
    let good = &why.allocations[0];
    let told: Vec<_> = good.nodes.iter().map(|n| (&*n.node, &n.reason, &*n.detail)).collect();
    let [chosen, other] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((chosen.0, chosen.1), (good.node.as_str(), &NodeReason::Chosen));
    assert!(chosen.2.starts_with("no other replica, "), "{chosen:?}");
    assert!(*other.1 == NodeReason::Fits && other.2.starts_with("1 other replica, "), "{other:?}");
    assert!(good.reason.is_none() && good.output.is_empty() && good.remedies.is_empty());
    // It ends for want of memory.
    let id = world.state.allocations_of(&"web".into()).next().unwrap().id.clone();
    let of = world.state.allocations[&id].clone();
    let mut seen = of.observed.clone();
    let message = Some("allocating\nmore".to_owned());
    seen.exit = Some(Exit { code: Some(137), reason: ExitReason::Oom, message });
    (seen.phase, seen.health) = (Phase::Backoff, Health::None);
    // Six deaths, of which one took two processes with it.
    (seen.attempt, seen.ooms) = (Attempt(6), 7);
    let node = world.state.nodes[&of.node].clone();
    let allocations = std::collections::BTreeMap::from([(id.clone(), seen)]);
    let (node, boot) = (node.id, node.boot);
    let seq = world.state.reports.get(&node).copied().unwrap_or(0) + 1;
    world.change(Command::Report(Report { node, boot, seq, allocations })).unwrap();
    let why = one(&world.state, &world.state.allocations[&id], &views::LiveUsage::default());
    let bad = &why.allocations[0];
    assert_eq!(bad.reason.as_deref(), Some("out of memory 6×"));
    assert_eq!(bad.output, ["allocating", "more"]);
    assert_eq!(bad.remedies[0], "raise memory above 1.0G");
    // What is wrong with its machine, and with no other one's.
    let told = "another firewall drops it".to_owned();
    for (of, is_its) in [(node, true), (NodeId(9), false)] {
        let trouble = [(of, vec![told.clone()])].into();
        let seen = views::LiveUsage { trouble, ..Default::default() };
        let why = one(&world.state, &world.state.allocations[&id], &seen);
        assert_eq!(why.allocations[0].remedies.contains(&told), is_its, "{why:?}");
    }
}
