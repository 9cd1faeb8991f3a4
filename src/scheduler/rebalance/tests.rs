//! Tests of spreading replicas onto nodes that came late.

use super::*;
use crate::fsm::Command;
use crate::fsm::model::{Node, NodeStatus};
use crate::scheduler::preview::forecast;
use crate::scheduler::preview::tests::World;

const MANY: &str = "app \"shop\"
service \"web\" {
    image \"web:v1\"
    replicas 6
    memory \"256M\"
}
service \"db\" {
    image \"db:v1\"
    volume \"data\" path=\"/data\" size=\"1Gi\"
}
";

/// A cluster of one node whose replicas are all there, and two nodes that came later.
fn crowded() -> World {
    let mut world = World::new(&[(4, 8), (4, 8), (4, 8)]);
    for id in [2, 3] {
        world.node(id, |node: &mut Node| node.status = NodeStatus::Down);
    }
    world.up(MANY);
    for id in [2, 3] {
        world.node(id, |node: &mut Node| node.status = NodeStatus::Ready);
    }
    world
}

fn counts(world: &World) -> Vec<usize> {
    let live = |node: u64| {
        let of_node = world.state.allocations_on(NodeId(node));
        of_node.filter(|a| a.is_live() && a.workload.as_str() == "web").count()
    };
    [1, 2, 3].map(live).into()
}

#[test]
fn replicas_spread_over_nodes_that_came_late() {
    let mut world = crowded();
    assert_eq!(counts(&world), [6, 0, 0]);
    let all = moves(&world.state, None);
    let to: Vec<u64> = all.iter().map(|one| one.to.0).collect();
    assert_eq!((all.len(), to.iter().filter(|node| **node == 2).count()), (4, 2), "{all:?}");
    assert!(all.iter().all(|one| one.from == NodeId(1) && one.service.as_str() == "web"));
    let allocations = allocations(&all);
    world.change(Command::Move { allocations: allocations.clone() }).unwrap();
    let moved = forecast(world.state.clone(), &"shop".into());
    let placed: Vec<u64> = moved.placed[&"web".into()].values().map(|node| node.0).collect();
    assert_eq!(placed.iter().filter(|node| **node == 2).count(), 2, "{placed:?}");
    assert_eq!(placed.iter().filter(|node| **node == 3).count(), 2, "{placed:?}");
    let seats: BTreeSet<u32> =
        allocations.iter().filter_map(|id| world.state.allocations.get(id)?.replica()).collect();
    let placed: BTreeSet<u32> = moved.placed[&"web".into()].keys().copied().collect();
    assert_eq!(placed, seats, "only what was asked for is replaced");
}

#[test]
fn what_is_spread_stays() {
    let mut world = World::new(&[(4, 8), (4, 8), (4, 8)]);
    world.up(MANY);
    assert_eq!(counts(&world), [2, 2, 2]);
    assert_eq!(moves(&world.state, None), []);
}

#[test]
fn one_service_alone_may_be_asked_for_and_full_nodes_take_none() {
    let mut world = crowded();
    assert_eq!(moves(&world.state, Some(&"db".into())), []);
    for id in [2, 3] {
        world.node(id, |node: &mut Node| node.memory = crate::units::Bytes(100_000_000));
    }
    assert_eq!(moves(&world.state, None), []);
}
