//! Plans, and that they are checked at the moment the revision is made; events.

use super::support::Node;
use crate::api::wire::{ErrorCode, ErrorDocument, EventView, PlanView};
use crate::fsm::Command;
use crate::fsm::command::{Action, Steps};
use crate::fsm::model::{DeployStatus, Role};
use crate::id::Revision;
use crate::scheduler::revise;

const FILE: &str = "app \"shop\"\nservice \"web\" {\n    image \"nginx:1\"\n    port 80\n}\n";

#[tokio::test]
async fn a_plan_is_checked_when_the_revision_is_made() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    let reader = node.network().token(&node.token(Role::Deploy));
    let plan: PlanView = reader.send("POST", "/v1/plan", FILE).await.json();
    assert_eq!((plan.base, plan.revision, plan.changes.len()), (None, Some(1), 1));
    assert_eq!(plan.changes[0].placements[0].node.as_deref(), Some("n1"));
    assert_eq!(node.state().last_revision, Revision(0), "nothing was changed");
    let up = |plan: &PlanView| format!("/v1/deploy?plan={}", plan.hash);
    let stream = node.local().events("POST", &up(&plan), FILE).await.next().await.unwrap();
    assert_eq!(stream.data, serde_json::json!({"revision": 1, "plan": plan.hash}));
    node.place("web", 0);
    node.finish(1, DeployStatus::Succeeded);
    // Somebody is faster, after everything was checked and before the revision is made.
    let text = FILE.replace("port 80", "port 81");
    let plan: PlanView = reader.send("POST", "/v1/plan", text.clone()).await.json();
    let faster = revise::scale(&node.state(), &"web".into(), 4).unwrap();
    let (revision, status) = (Revision(2), DeployStatus::Succeeded);
    let finish = Action::Finish { revision, status, degraded: Vec::new() };
    let finish = Steps { actions: vec![finish], ..Default::default() };
    node.shared.lock().unwrap().race = vec![Command::Deploy(faster), Command::Steps(finish)];
    let answer = json.send("POST", &up(&plan), text.clone()).await;
    let error = answer.json::<ErrorDocument>().error;
    assert_eq!((answer.status, &error.code), (409, &ErrorCode::PlanStale));
    assert!(error.message.contains("shop is at r2 since "), "{}", error.message);
    assert_eq!(error.hint.as_deref(), Some("look at it again: mill plan"));
    assert_eq!(node.state().last_revision, Revision(2));
    // A tag that has moved meanwhile.
    let plan: PlanView = reader.send("POST", "/v1/plan", text.clone()).await.json();
    node.images.know("nginx:1", "sha256:77ab");
    let error = json.send("POST", &up(&plan), text.clone()).await.json::<ErrorDocument>().error;
    assert!(error.message.contains("the tag nginx:1 now leads to 77ab…, was aa…"), "{error:?}");
    let wrong = json.send("POST", "/v1/deploy?plan=zzz", text.clone()).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "bad_request"));
}

/// A registry is asked with the cluster's logins, and from inside its network.
#[tokio::test]
async fn a_read_token_plans_with_what_is_pinned_only() {
    let node = Node::start().await;
    let reader = node.network().token(&node.token(Role::Read));
    let refused = reader.send("POST", "/v1/plan", FILE).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{}", refused.body);
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    let text = FILE.replace("port 80", "port 81");
    let plan = reader.send("POST", "/v1/plan", text).await;
    assert_eq!(plan.status, 200, "{}", plan.body);
    let other = FILE.replace("nginx:1", "10.0.0.1:22/x:1");
    assert_eq!(reader.send("POST", "/v1/plan", other).await.status, 403);
}

#[tokio::test]
async fn events_are_listed_and_followed_without_gap_or_double() {
    let node = Node::start().await;
    let all: Vec<EventView> = node.local().get("/v1/events").await.json();
    let kinds: Vec<String> = all.iter().map(|event| event.kind.to_string()).collect();
    assert_eq!(kinds, ["node-joined", "node-registered"]);
    let mut stream = node.local().events("GET", "/v1/events?follow", "").await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.id.as_str(), &first.data["kind"]), ("1", &"node-joined".into()));
    drop(stream);
    node.token(Role::Read);
    let again = node.local().header("last-event-id", "1");
    let mut stream = again.events("GET", "/v1/events?follow=true", "").await;
    let rest = [stream.next().await.unwrap(), stream.next().await.unwrap()];
    assert_eq!(rest.clone().map(|event| event.id), ["2", "3"]);
    assert_eq!(rest[1].data["kind"], "token-created");
    let newest: Vec<EventView> = node.local().get("/v1/events?limit=1").await.json();
    assert_eq!(newest.iter().map(|event| event.id).collect::<Vec<_>>(), [3]);
    let wrong = node.local().header("last-event-id", "x").get("/v1/events").await;
    assert_eq!(wrong.status, 400);
}
