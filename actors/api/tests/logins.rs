//! Logins to registries.

use super::support::Node;
use crate::api::wire::{ErrorCode, ErrorDocument, LoginView};

#[tokio::test]
async fn a_login_is_tried_kept_and_shown_without_its_password() {
    let node = Node::start().await;
    let body = |password: &str| format!("{{\"user\": \"ann\", \"password\": \"{password}\"}}");
    let json = node.local().header("content-type", "application/json");
    let refused = json.send("PUT", "/v1/registries/r.lan:5000", body("wrong-one")).await;
    let text = refused.json::<ErrorDocument>().error;
    assert_eq!((refused.status, &text.code), (409, &ErrorCode::Conflict));
    assert!(text.message.contains("r.lan:5000") && !text.message.contains("wrong-one"));
    assert!(node.state().logins.is_empty());

    let kept = json.send("PUT", "/v1/registries/r.lan:5000", body("right")).await;
    assert_eq!(kept.status, 200);
    let kept: LoginView = kept.json();
    assert_eq!((kept.registry.as_str(), kept.user.as_str()), ("r.lan:5000", "ann"));
    assert_eq!(node.images.logins.lock().unwrap().len(), 1, "it counts at once");
    let all = node.local().get("/v1/registries").await;
    assert_eq!(all.json::<Vec<LoginView>>(), [kept]);
    let state = String::from_utf8(node.state().encode().unwrap()).unwrap();
    assert!(state.contains("sealed") && !state.contains("right"), "{state}");

    // Docker Hub has several names and is one registry.
    assert_eq!(json.send("PUT", "/v1/registries/index.docker.io", body("right")).await.status, 200);
    assert!(node.state().logins.contains_key("docker.io"));
    assert_eq!(node.local().send("DELETE", "/v1/registries/r.lan:5000", "").await.status, 204);
    assert_eq!(node.local().send("DELETE", "/v1/registries/r.lan:5000", "").await.status, 404);
    assert_eq!(node.images.logins.lock().unwrap().len(), 1, "only Docker Hub's is left");
}

#[tokio::test]
async fn what_is_no_login_is_refused() {
    let node = Node::start().await;
    let json = node.local().header("content-type", "application/json");
    let fine = "{\"user\": \"ann\", \"password\": \"right\"}";
    let cases = [
        ("r.lan", "{\"user\": \"\", \"password\": \"right\"}"),
        ("r.lan", "{\"user\": \"a:b\", \"password\": \"right\"}"),
        ("r.lan", "{\"user\": \"ann\", \"password\": \"\"}"),
        ("r.lan", "{\"user\": \"ann\"}"),
        ("r.lan", "{\"user\": \"ann\", \"password\": \"right\", \"email\": \"x\"}"),
        ("plain", fine),
        ("https:%2F%2Fr.lan", fine),
        ("r.lan%2Fapp", fine),
    ];
    for (registry, body) in cases {
        let answer = json.send("PUT", &format!("/v1/registries/{registry}"), body).await;
        assert_eq!(answer.status, 400, "{registry} {body}");
    }
    assert!(node.state().logins.is_empty());
}
