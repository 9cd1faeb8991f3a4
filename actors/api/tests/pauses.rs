//! Paused hosts, and secrets that say who may pass a route.

use super::support::Node;
use crate::api::wire::{ErrorDocument, RouteView, StatusView};
use crate::fsm::{Command, FEATURE_LEVEL};

async fn routed() -> Node {
    let node = Node::start().await;
    node.apply(Command::Raise { level: FEATURE_LEVEL }).unwrap();
    let file = "service \"web\" {
    image \"nginx:1\"
    port 80
    route \"a.example\"
    route \"a.example\" path=\"/x\"
    route \"*.b.example\"
}
";
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", file).await.status, 202);
    node
}

#[tokio::test]
async fn a_host_is_paused_and_resumed() {
    let node = routed().await;
    let json = node.local().header("content-type", "application/json");
    let body = "{\"message\": \"Back at noon\"}";
    let answer = json.send("POST", "/v1/routes/a.example/pause", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let routes: Vec<RouteView> = answer.json();
    assert_eq!(routes.len(), 2);
    assert!(routes.iter().all(|route| route.paused.as_ref().unwrap().message == "Back at noon"));
    assert_eq!(json.send("POST", "/v1/routes/%2A.b.example/pause", "").await.status, 200);
    let all: Vec<RouteView> = node.local().get("/v1/routes").await.json();
    assert!(all.iter().all(|route| route.paused.is_some()));
    let status: StatusView = node.local().get("/v1/status").await.json();
    let warning = status.warnings.iter().find(|warning| warning.subject == "*.b.example");
    let command = warning.unwrap().command.as_deref();
    assert_eq!(command, Some("mill route resume '*.b.example'"));
    let events = node.local().get("/v1/events").await.body;
    assert!(events.contains("a.example: Back at noon"), "{events}");

    let resumed = json.send("POST", "/v1/routes/a.example/resume", "").await;
    assert_eq!(resumed.status, 200);
    assert!(resumed.json::<Vec<RouteView>>().iter().all(|route| route.paused.is_none()));
}

#[tokio::test]
async fn what_can_t_be_paused_is_told() {
    let node = routed().await;
    let json = node.local().header("content-type", "application/json");
    let long = format!("{{\"message\": \"{}\"}}", "x".repeat(501));
    for (path, body, status) in [
        ("/v1/routes/none.example/pause", "", 404),
        ("/v1/routes/a.example/resume", "", 404),
        ("/v1/routes/a.example/pause", "{\"message\": \"a\\nb\"}", 400),
        ("/v1/routes/a.example/pause", &long, 400),
        ("/v1/routes/a.example/pause", "{\"text\": \"a\"}", 400),
    ] {
        let answer = json.send("POST", path, body.to_owned()).await;
        assert_eq!(answer.status, status, "{path} {body:.30}: {}", answer.body);
        assert!(answer.json::<ErrorDocument>().error.hint.is_some(), "{}", answer.body);
    }
    assert!(node.state().pauses.is_empty());
}

#[tokio::test]
async fn the_secret_of_a_route_is_looked_at_before_it_is_deployed() {
    let node = routed().await;
    let json = node.local().header("content-type", "application/json");
    let file = "service \"web\" {
    image \"nginx:1\"
    port 80
    route \"a.example\" auth=\"web.users\"
}
";
    let up = node.local().header("accept", "application/json");
    let missing = up.send("POST", "/v1/deploy", file).await;
    assert_eq!(missing.status, 422);
    let detail = &missing.json::<ErrorDocument>().error.details[0];
    assert!(detail.message.contains("secret web.users isn't in prod"), "{}", detail.message);
    assert_eq!((detail.line, detail.column), (4, 28));
    let set = |value: &str| serde_json::json!({ "value": value }).to_string();
    json.send("PUT", "/v1/secrets/web.users", set("ann:secret")).await;
    let plain = up.send("POST", "/v1/deploy", file).await;
    assert_eq!(plain.status, 422);
    assert!(plain.body.contains("can't be used for auth: the password of ann"), "{}", plain.body);
    let hash = set("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=");
    json.send("PUT", "/v1/secrets/web.users", hash).await;
    assert_eq!(up.send("POST", "/v1/deploy", file).await.status, 202);
    let refused = node.local().send("DELETE", "/v1/secrets/web.users", "").await;
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("is needed by web"), "{}", refused.body);
}
