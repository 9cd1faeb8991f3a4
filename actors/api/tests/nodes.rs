//! Nodes: labels, drains with what is left, removal.

use super::support::Node;
use crate::api::wire::{ErrorDocument, LeaveState, NodeStatus, NodeView, StatusView, WhyView};
use crate::fsm::Command;
use crate::fsm::command::{Join, Members, Register};
use crate::fsm::fixture;
use crate::fsm::model::Role;
use crate::id::{BootId, NodeId};

const FILE: &str = "app \"shop\"
service \"web\" {
    image \"nginx:1\"
    port 80
}
";

/// A second node, ready.
fn join(node: &Node) {
    let join = Join { address: "192.0.2.2".to_owned(), ..fixture::join("n2", "k") };
    node.apply(Command::Join(join)).unwrap();
    let (id, boot) = (NodeId(2), BootId(2));
    node.apply(Command::Register(Register { node: id, boot, ..fixture::register() })).unwrap();
}

#[tokio::test]
async fn labels_are_set_by_an_admin_and_shown() {
    let node = Node::start().await;
    let path = "/v1/nodes/n1";
    let body = "{\"labels\": {\"zone\": \"eu-1\", \"none\": null}}";
    let answer = node.local().send("PATCH", path, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json::<NodeView>().labels["zone"], "eu-1");
    let by_id: NodeView = node.local().get("/v1/nodes/1").await.json();
    assert_eq!((by_id.name.as_str(), by_id.labels.len()), ("n1", 1));
    let gone = node.local().send("PATCH", path, "{\"labels\": {\"zone\": null}}").await;
    assert!(gone.json::<NodeView>().labels.is_empty());
    let deployer = node.network().token(&node.token(Role::Deploy));
    assert_eq!(deployer.send("PATCH", path, body).await.status, 403);
    let bad = node.local().send("PATCH", path, "{\"labels\": {\"a=b\": \"c\"}}").await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "bad_request"));
}

#[tokio::test]
async fn the_only_node_drains_and_says_what_stays() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    node.place("web", 0);
    let answer = node.local().send("POST", "/v1/nodes/n1/drain", "").await;
    assert_eq!(answer.status, 200);
    let view: NodeView = answer.json();
    let drain = view.drain.unwrap();
    assert_eq!((view.status, drain.deadline), (NodeStatus::Draining, None));
    let left = &drain.left[0];
    assert_eq!((left.name.as_str(), &left.state), ("web", &LeaveState::Stuck));
    let why = "no other node takes it: n1 draining";
    assert_eq!(left.message.as_deref(), Some(why));
    let status: StatusView = node.local().get("/v1/status").await.json();
    let warning = &status.warnings[0];
    assert_eq!(warning.message, "draining: no other node takes web-0");
    let told: WhyView = node.local().get("/v1/why/web").await.json();
    let reason = told.allocations[0].reason.as_deref().unwrap();
    assert_eq!(reason, format!("node n1 is draining: {why}"));
    assert!(told.waiting.is_empty(), "it runs on");
    let until = node.local().send("POST", "/v1/nodes/n1/drain", "{\"timeout\": 60}").await;
    assert!(until.json::<NodeView>().drain.unwrap().deadline.is_some());
    let back = node.local().send("POST", "/v1/nodes/n1/undrain", "").await.json::<NodeView>();
    assert_eq!((back.status, back.drain), (NodeStatus::Ready, None));
    let twice = node.local().send("POST", "/v1/nodes/n1/undrain", "").await;
    assert_eq!((twice.status, twice.code().as_str()), (409, "conflict"));
}

#[tokio::test]
async fn a_node_is_removed_once_it_is_drained() {
    let node = Node::start().await;
    let refused = async |path: &str| {
        let answer = node.local().send("DELETE", path, "").await;
        assert_eq!(answer.status, 409);
        let error = answer.json::<ErrorDocument>().error;
        (error.message, error.hint.unwrap())
    };
    let (message, hint) = refused("/v1/nodes/n1").await;
    assert!(message.contains("the last that is ready"), "{message}");
    assert!(hint.starts_with("join another node first"), "{hint}");
    join(&node);
    let (message, hint) = refused("/v1/nodes/n2").await;
    assert_eq!(message, "node n2 still takes work");
    assert!(hint.starts_with("mill drain n2"), "{hint}");
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    node.place("web", 0);
    assert_eq!(node.local().send("POST", "/v1/nodes/n1/drain", "").await.status, 200);
    let (message, hint) = refused("/v1/nodes/n1").await;
    assert!(message.starts_with("node n1 still holds web-0-"), "{message}");
    assert!(hint.starts_with("mill drain n1 moves them"), "{hint}");
    let left: NodeView = node.local().get("/v1/nodes/n1").await.json();
    assert_eq!(left.drain.unwrap().left[0].state, LeaveState::Waiting, "n2 would take it");
    let members = Members { voters: [NodeId(1)].into(), learners: [NodeId(2)].into() };
    node.apply(Command::Members(members)).unwrap();
    assert_eq!(node.local().send("POST", "/v1/nodes/2/drain", "").await.status, 200);
    assert_eq!(node.local().send("DELETE", "/v1/nodes/2", "").await.status, 204);
    let gone = node.local().get("/v1/nodes/n2").await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "not_found"));
    assert!(node.state().removed.contains(&NodeId(2)));
}
