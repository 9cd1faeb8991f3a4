//! What another node has, asked of this one.

use super::support::{Node, Sse};
use crate::api::wire::{AllocationView, ErrorDocument, NodeView};
use crate::fsm::Command;
use crate::fsm::command::{Join, Register};
use crate::fsm::fixture;
use crate::fsm::model::{DeployStatus, Role};
use crate::id::{AllocId, BootId, NodeId};

const FILE: &str = "service \"web\" {
    image \"nginx:1\"
    replicas 2
}
";

/// Two nodes of a cluster with a replica each; the second's.
async fn two() -> (Node, Node, AllocId) {
    let first = Node::start().await;
    let join = Join { address: "192.0.2.2".to_owned(), ..fixture::join("n2", "k") };
    first.apply(Command::Join(join)).unwrap();
    let (id, boot) = (NodeId(2), BootId(2));
    first.apply(Command::Register(Register { node: id, boot, ..fixture::register() })).unwrap();
    let json = first.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    first.place("web", 0);
    let other = first.place_on(NodeId(2), "web", 1);
    first.finish(1, DeployStatus::Succeeded);
    let second = Node::start().await;
    second.become_node(NodeId(2), first.state());
    first.neighbours.know(NodeId(2), NodeId(1), &second.args.ports.members);
    (first, second, other)
}

fn field<'a>(line: &'a Sse, name: &str) -> &'a str {
    line.data[name].as_str().unwrap()
}

#[tokio::test]
async fn lines_of_both_nodes_come_in_one_order() {
    let (first, _second, other) = two().await;
    let lines = first.local().events("GET", "/v1/logs/web", "").await.rest().await;
    assert_eq!(lines.len(), 6);
    let times: Vec<&str> = lines.iter().map(|line| field(line, "ts")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let there = lines.iter().filter(|line| field(line, "node") == "n2");
    assert!(there.clone().all(|line| field(line, "allocation") == other.as_str()));
    assert_eq!(there.count(), 3);
    let tail = first.local().events("GET", "/v1/logs/web?tail=2", "").await.rest().await;
    assert_eq!(tail, lines[4..]);
}

#[tokio::test]
async fn a_node_that_breaks_off_is_told_and_goes_on_where_it_was() {
    let (first, second, other) = two().await;
    let path = format!("/v1/logs/{other}?follow");
    let mut lines = first.local().events("GET", &path, "").await;
    for _ in 0..3 {
        assert_eq!(field(&lines.next().await.unwrap(), "allocation"), other.as_str());
    }
    first.neighbours.cut(NodeId(2));
    let told = lines.next().await.unwrap();
    assert_eq!((field(&told, "stream"), field(&told, "node")), ("event", "n2"));
    assert!(field(&told, "line").starts_with("n2 can't be reached at 192.0.2.2:"), "{told:?}");
    // Once for each reason, until it answers again.
    first.neighbours.know(NodeId(2), NodeId(1), &second.args.ports.members);
    let again = loop {
        let line = lines.next().await.unwrap();
        if field(&line, "line") == "n2 answers again" {
            break line;
        }
        assert_eq!(field(&line, "stream"), "event", "no line comes twice");
    };
    assert_eq!(field(&again, "allocation"), "");
    let more = async {
        while second.logs.more.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        second.logs.more.send_replace(9_000);
    };
    tokio::time::timeout(super::support::PATIENCE, more).await.unwrap();
    assert_eq!(field(&lines.next().await.unwrap(), "line"), "line 9000");
}

#[tokio::test]
async fn figures_are_of_all_nodes_that_answer() {
    let (first, _second, _) = two().await;
    let used = |all: Vec<NodeView>| all.iter().map(|node| node.cpu.used).collect::<Vec<_>>();
    let all = used(first.local().get("/v1/nodes").await.json());
    assert_eq!(all, [Some(0.7), Some(0.7)]);
    let replicas: Vec<AllocationView> = first.local().get("/v1/allocations").await.json();
    assert!(replicas.iter().all(|one| one.memory.used == Some(91_000_000)), "{replicas:?}");
    first.apply(down()).unwrap();
    let all = used(first.local().get("/v1/nodes").await.json());
    assert_eq!(all, [Some(0.7), None]);
}

#[tokio::test]
async fn who_asks_is_let_in_or_told_why_not() {
    let (first, second, other) = two().await;
    let path = format!("/v1/allocations/{other}/files?path=/etc");
    // The words of the node that was asked: it runs no containers in this test.
    let answer = first.local().get(&path).await;
    let ErrorDocument { error } = answer.json();
    assert_eq!((answer.status, &*error.message), (503, "the node is starting"));
    let deployer = first.network().token(&first.token(Role::Deploy));
    assert_eq!(deployer.get(&path).await.status, 403);
    // A node that was removed, and one that nobody knows.
    first.neighbours.know(NodeId(2), NodeId(9), &second.args.ports.members);
    let mut state = first.state();
    state.removed.insert(NodeId(9));
    second.become_node(NodeId(2), state);
    let refused = first.local().get(&path).await;
    assert_eq!((refused.status, &*refused.code()), (403, "forbidden"));
    first.neighbours.cut(NodeId(2));
    let lost = first.local().get(&path).await;
    assert_eq!((lost.status, &*lost.code()), (503, "unreachable"));
    let ErrorDocument { error } = lost.json();
    assert!(error.message.ends_with("no way there"), "{}", error.message);
    first.apply(down()).unwrap();
    let ErrorDocument { error } = first.local().get(&path).await.json();
    assert!(error.message.starts_with("n2 has been silent for "), "{}", error.message);
}

#[tokio::test]
async fn lines_of_a_node_that_stands_still_are_missing_as_soon_as_it_counts_as_down() {
    let (first, _second, _) = two().await;
    let mut lines = first.local().events("GET", "/v1/logs/web?follow", "").await;
    for _ in 0..6 {
        assert_eq!(field(&lines.next().await.unwrap(), "stream"), "stdout");
    }
    // The connection stays open all the while.
    first.apply(down()).unwrap();
    let told = loop {
        let line = lines.next().await.unwrap();
        assert_eq!(field(&line, "stream"), "event");
        // That its replica is lost is told too.
        if field(&line, "allocation").is_empty() {
            break line;
        }
    };
    let line = field(&told, "line");
    assert!(line.starts_with("n2 has been silent for "), "{line}");
    assert!(line.ends_with("missing until it answers again"), "{line}");
    let (node, boot, after) = (NodeId(2), BootId(3), Some(BootId(2)));
    let back = Register { node, boot, after, ..fixture::register() };
    first.apply(Command::Register(back)).unwrap();
    while field(&lines.next().await.unwrap(), "line") != "n2 answers again" {}
}

#[yare::parameterized(out_of = { "GET", "" }, into = { "POST", "anything" })]
#[test_macro(tokio::test)]
async fn files_of_a_node_that_stands_still_are_waited_for_no_longer(method: &str, body: &str) {
    let (first, _second, other) = two().await;
    // It takes connections and answers nothing.
    let members = crate::actors::api::MemberListener::new();
    first.neighbours.know(NodeId(2), NodeId(1), &members);
    let path = format!("/v1/allocations/{other}/files?path=/tmp");
    let client = first.local();
    let asking = client.send(method, &path, body);
    let falls = async {
        while !first.neighbours.is_open(NodeId(2)) {
            tokio::task::yield_now().await;
        }
        first.apply(down()).unwrap();
    };
    let (answer, ()) = tokio::join!(asking, falls);
    let ErrorDocument { error } = answer.json();
    assert!(error.message.starts_with("n2 has been silent for "), "{}", error.message);
    assert_eq!(answer.status, 503);
}

fn down() -> Command {
    Command::NodeDown { node: NodeId(2), boot: BootId(2) }
}
