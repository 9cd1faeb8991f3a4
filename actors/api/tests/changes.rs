//! Changes that aren't a file: scale, remove, restart, tokens, images; and what is shown.

use super::support::Node;
use crate::api::wire::{
    AllocationView, DeploymentStatus, ErrorCode, ImageView, NewTokenView, NodeView, RevisionView,
    ServiceView,
};
use crate::api::wire::{AppView, ErrorDocument, StatusView, TokenView};
use crate::fsm::Command;
use crate::fsm::command::{Action, Steps};
use crate::fsm::model::{DeployStatus, Health, Phase};
use crate::id::{Attempt, Revision};
use crate::scheduler::revise;

const FILE: &str = "app \"shop\"
service \"web\" {
    image \"nginx:1\"
    port 80
    replicas 2
    memory \"512M\"
    publish 8080
}
service \"api\" {
    image \"nginx:1\"
}
";

/// A node that runs the file.
async fn running() -> Node {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    node.place("web", 0);
    node.place("web", 1);
    node.place("api", 0);
    node.finish(1, DeployStatus::Succeeded);
    node
}

#[tokio::test]
async fn services_allocations_nodes_and_status_show_the_state() {
    let node = running().await;
    let services: Vec<ServiceView> = node.local().get("/v1/services").await.json();
    let web = services.iter().find(|service| service.name == "web").unwrap();
    assert_eq!((web.replicas.desired, web.replicas.healthy), (2, 2));
    assert_eq!(web.address.as_deref(), Some("web.mill:80"));
    assert_eq!((web.digest.as_deref(), &web.publish), (Some("sha256:aa"), &vec![8080]));
    assert_eq!(node.local().get("/v1/services/web").await.json::<ServiceView>(), *web);
    let first = &web.allocations[0];
    assert_eq!(format!("{} {}", first.status, first.health), "running healthy");
    assert_eq!(first.address.as_deref(), Some("10.104.0.2:80"));
    assert_eq!((first.cpu.used, first.memory.limit), (Some(0.12), Some(512_000_000)));
    assert_eq!(first.started_at.as_deref(), Some("1970-01-01T00:00:01.000Z"));
    let all: Vec<AllocationView> = node.local().get("/v1/allocations").await.json();
    assert_eq!(all.len(), 3);
    let of_api: Vec<AllocationView> = node.local().get("/v1/allocations?name=api").await.json();
    assert_eq!(of_api.iter().map(|a| a.address.as_deref()).collect::<Vec<_>>(), [None]);
    let none: Vec<AllocationView> = node.local().get("/v1/allocations?node=n2").await.json();
    assert!(none.is_empty());
    let nodes: Vec<NodeView> = node.local().get("/v1/nodes").await.json();
    assert_eq!((nodes[0].cpu.total, nodes[0].cpu.used), (4.0, Some(0.7)));
    assert_eq!((nodes[0].memory.reserved, nodes[0].allocations), (1_280_000_000, 3));
    assert_eq!((nodes[0].subnet.as_str(), nodes[0].leader), ("10.104.0.0/21", true));
    let status: StatusView = node.local().get("/v1/status").await.json();
    assert_eq!((status.cluster.as_str(), status.leader.as_deref()), ("prod", Some("n1")));
    assert_eq!(status.warnings, []);
    let newest = status.apps[0].deployment.as_ref().unwrap();
    assert_eq!(newest.status, DeploymentStatus::Succeeded);
    let app: AppView = node.local().get("/v1/apps/shop").await.json();
    assert_eq!((app.revision, app.file.as_str()), (1, FILE));
}

/// As by `mill up -f - </dev/null`: what runs is not taken down by what says nothing.
#[tokio::test]
async fn an_empty_file_takes_nothing_down() {
    let node = running().await;
    let json = node.local().header("accept", "application/json");
    for empty in ["app \"shop\"\n", "app \"shop\"\n// service \"web\"\n"] {
        for path in ["/v1/deploy", "/v1/plan"] {
            let refused = json.send("POST", path, empty).await;
            assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"), "{path}");
            assert!(refused.body.contains("--replace"), "{}", refused.body);
        }
    }
    assert_eq!(node.state().last_revision.0, 1);
    assert_eq!(json.send("POST", "/v1/deploy", "").await.status, 202, "app default runs nothing");
    let replaced = json.send("POST", "/v1/deploy?replace=true", "app \"shop\"\n").await;
    assert_eq!(replaced.status, 202);
}

#[tokio::test]
async fn an_allocation_is_found_by_the_start_of_its_id() {
    let node = running().await;
    let all: Vec<AllocationView> = node.local().get("/v1/allocations?name=web").await.json();
    let id = &all[0].id;
    let whole: AllocationView = node.local().get(&format!("/v1/allocations/{id}")).await.json();
    assert_eq!(whole, all[0]);
    let start: AllocationView = node.local().get("/v1/allocations/web-0").await.json();
    assert_eq!(start, all[0]);
    let several = node.local().get("/v1/allocations/web").await;
    assert_eq!((several.status, several.code().as_str()), (400, "bad_request"));
    assert!(several.body.contains(id.as_str()), "{}", several.body);
}

#[tokio::test]
async fn scale_and_removal_are_revisions_that_can_be_followed() {
    let node = running().await;
    let scaled = node.local().send("POST", "/v1/services/web/scale", "{\"replicas\": 3}").await;
    assert_eq!((scaled.status, scaled.json::<RevisionView>().revision), (202, 2));
    let shown: ServiceView = node.local().get("/v1/services/web").await.json();
    assert_eq!(shown.replicas.desired, 3);
    let second = node.local().send("POST", "/v1/services/web/scale", "{\"replicas\": 3}").await;
    assert_eq!((second.status, second.json::<RevisionView>().revision), (202, 2));
    node.place("web", 2);
    node.finish(2, DeployStatus::Succeeded);
    let events = node.local().events("GET", "/v1/deployments/2/events", "").await.rest().await;
    assert_eq!(events.last().unwrap().name, "done");
    let too_many = "{\"replicas\": 1000000}";
    let refused = node.local().send("POST", "/v1/services/web/scale", too_many).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_request"));
    let removed = node.local().send("DELETE", "/v1/services/api", "").await;
    assert_eq!((removed.status, removed.json::<RevisionView>().revision), (202, 3));
    node.finish(3, DeployStatus::Succeeded);
    assert_eq!(node.local().send("DELETE", "/v1/services/api", "").await.status, 404);
    let web: ServiceView = node.local().get("/v1/services/web").await.json();
    assert_eq!(web.replicas.desired, 3);
    let down = node.local().send("DELETE", "/v1/apps/shop", "").await;
    assert_eq!((down.status, down.json::<RevisionView>().revision), (202, 4));
    node.finish(4, DeployStatus::Succeeded);
    assert_eq!(node.local().get("/v1/apps/shop").await.status, 404);
    let again = node.local().send("DELETE", "/v1/apps/shop", "").await;
    assert_eq!((again.status, again.json::<RevisionView>().revision), (202, 4));
}

#[tokio::test]
async fn a_change_that_lost_a_race_is_made_anew_of_what_is_there_now() {
    let node = running().await;
    let faster = revise::scale(&node.state(), &"api".into(), 4).unwrap();
    let (revision, status) = (Revision(2), DeployStatus::Succeeded);
    let finish = Action::Finish { revision, status, degraded: Vec::new() };
    let finish = Steps { actions: vec![finish], ..Default::default() };
    node.shared.lock().unwrap().race = vec![Command::Deploy(faster), Command::Steps(finish)];
    let keyed = node.local().header("idempotency-key", "k");
    let path = "/v1/services/web/scale";
    let scaled = keyed.send("POST", path, "{\"replicas\": 3}").await;
    assert_eq!((scaled.status, scaled.json::<RevisionView>().revision), (202, 3));
    let services: Vec<ServiceView> = node.local().get("/v1/services").await.json();
    let desired: Vec<u32> = services.iter().map(|service| service.replicas.desired).collect();
    assert_eq!(desired, [4, 3]);
    node.finish(3, DeployStatus::Succeeded);
    let again = keyed.send("POST", path, "{\"replicas\": 3}").await;
    assert_eq!(again.json::<RevisionView>().revision, 3);
    assert_eq!(node.state().last_revision.0, 3);
}

#[tokio::test]
async fn a_restart_is_no_revision() {
    let node = running().await;
    let service = node.local().send("POST", "/v1/services/web/restart", "").await;
    assert_eq!((service.status, service.json::<ServiceView>().revision), (202, 1));
    let state = node.state();
    assert_eq!(state.owner(&"web".into()).unwrap().services[&"web".into()].generation, 1);
    let answer = node.local().send("POST", "/v1/allocations/api-0/restart", "").await;
    assert_eq!((answer.status, answer.json::<AllocationView>().name.as_str()), (202, "api"));
    let state = node.state();
    let api = state.allocations_of(&"api".into()).next().unwrap();
    assert_eq!(api.attempt, Attempt(2));
    assert_eq!(state.last_revision.0, 1);
}

#[tokio::test]
async fn a_repeated_request_with_its_key_is_carried_out_once() {
    let node = running().await;
    let keyed = || node.local().header("idempotency-key", "k1");
    let path = "/v1/services/web/scale";
    let first = keyed().send("POST", path, "{\"replicas\": 3}").await;
    assert_eq!(first.json::<RevisionView>().revision, 2);
    node.finish(2, DeployStatus::Succeeded);
    let again = keyed().send("POST", path, "{\"replicas\": 3}").await;
    assert_eq!((again.status, again.json::<RevisionView>().revision), (202, 2));
    assert_eq!(node.state().last_revision.0, 2);
    let other = keyed().send("POST", path, "{\"replicas\": 4}").await;
    assert_eq!((other.status, other.code().as_str()), (409, "conflict"));
    let elsewhere = keyed().send("POST", "/v1/services/api/scale", "{\"replicas\": 2}").await;
    assert_eq!(elsewhere.json::<RevisionView>().revision, 3);
    node.finish(3, DeployStatus::Succeeded);
    // A deployment's retry finds its revision, even if the registry is gone by then.
    let file = FILE.replace("512M", "256M");
    let json = || keyed().header("accept", "application/json");
    let deployed = json().send("POST", "/v1/deploy", file.clone()).await;
    assert_eq!(deployed.json::<RevisionView>().revision, 4);
    node.images.outage();
    let again = json().send("POST", "/v1/deploy", file).await;
    assert_eq!(again.json::<RevisionView>().revision, 4);
    let empty = node.local().header("idempotency-key", "");
    assert_eq!(empty.send("POST", path, "{\"replicas\": 3}").await.status, 400);
    let token = "{\"role\": \"read\"}";
    assert_eq!(keyed().send("POST", "/v1/tokens", token).await.status, 201);
    assert_eq!(keyed().send("POST", "/v1/tokens", token).await.code(), "conflict");
    assert_eq!(node.state().tokens.len(), 1);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let node = Node::start().await;
    let body = "{\"role\": \"deploy\", \"ttl\": 3600}";
    let made = node.local().send("POST", "/v1/tokens", body).await;
    assert_eq!(made.status, 201);
    let made: NewTokenView = made.json();
    assert_eq!(node.network().token(&made.token).get("/v1/status").await.status, 200);
    let listed = node.local().get("/v1/tokens").await;
    assert!(!listed.body.contains(&made.token));
    let listed: Vec<TokenView> = listed.json();
    assert_eq!((&listed[0].id, listed[0].role.to_string()), (&made.id, "deploy".to_owned()));
    assert!(listed[0].expires_at.is_some());
    let path = format!("/v1/tokens/{}", made.id);
    assert_eq!(node.local().send("DELETE", &path, "").await.status, 204);
    assert_eq!(node.network().token(&made.token).get("/v1/status").await.status, 401);
    assert_eq!(node.local().send("DELETE", &path, "").await.status, 404);
}

#[tokio::test]
async fn images_are_loaded_listed_and_removed_unless_they_run() {
    let node = running().await;
    let archive = vec![7u8; 3 << 20];
    let loaded = node.local().send("POST", "/v1/images", archive.clone()).await;
    assert_eq!(loaded.status, 200, "{}", loaded.body);
    assert_eq!(*node.images.loaded.lock().unwrap(), archive);
    node.images.know("registry.example.com:5000/a/b:v1", "sha256:dd");
    let images: Vec<ImageView> = node.local().get("/v1/images").await.json();
    let used: Vec<(&str, bool)> = images.iter().map(|i| (i.reference.as_str(), i.used)).collect();
    assert_eq!(used, [("nginx:1", true), ("registry.example.com:5000/a/b:v1", false)]);
    let path = "/v1/images/registry.example.com:5000/a%2Fb:v1";
    assert_eq!(node.local().send("DELETE", path, "").await.status, 204);
    let full = "/v1/images?reference=docker.io/library/nginx:1";
    assert_eq!(node.local().send("DELETE", full, "").await.status, 409);
    let runs = node.local().send("DELETE", "/v1/images?reference=nginx:1", "").await;
    let error = runs.json::<ErrorDocument>().error;
    assert_eq!((runs.status, error.code), (409, ErrorCode::Conflict));
    for id in node.state().allocations.keys() {
        node.report(id, Phase::Stopped, Health::None);
    }
    assert_eq!(node.local().send("DELETE", "/v1/images/nginx:1", "").await.status, 204);
}

#[tokio::test]
async fn a_rollback_is_a_revision_with_what_was() {
    let node = running().await;
    let path = "/v1/rollback";
    let nothing = node.local().send("POST", path, "{}").await;
    assert_eq!((nothing.status, nothing.code().as_str()), (409, "conflict"), "{}", nothing.body);
    let scaled = node.local().send("POST", "/v1/services/web/scale", "{\"replicas\": 1}").await;
    assert_eq!(scaled.json::<RevisionView>().revision, 2);
    node.finish(2, DeployStatus::Succeeded);
    let keyed = node.local().header("idempotency-key", "k9");
    let back = keyed.send("POST", path, "{}").await;
    assert_eq!((back.status, back.json::<RevisionView>().revision), (202, 3));
    let again = keyed.send("POST", path, "{}").await;
    assert_eq!(again.json::<RevisionView>().revision, 3);
    let state = node.state();
    assert_eq!(state.deployments[&Revision(3)].kind, crate::fsm::model::DeployKind::Rollback);
    let same = node.local().send("POST", path, "{\"revision\": 1}").await;
    assert_eq!((same.status, same.json::<RevisionView>().revision), (202, 3));
    let unknown = node.local().send("POST", path, "{\"revision\": 44}").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "not_found"));
    let other = node.local().send("POST", path, "{\"app\": \"x\"}").await;
    assert_eq!((other.status, other.code().as_str()), (404, "not_found"));
    let wrong = node.local().send("POST", path, "{\"rev\": 1}").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "bad_request"), "{}", wrong.body);
}
