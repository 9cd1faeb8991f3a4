//! Secrets.

use super::support::Node;
use crate::api::wire::{Encoding, ErrorDocument, SecretValueView, SecretView};
use crate::fsm::{Command, FEATURE_LEVEL};

/// A cluster whose nodes all know secrets.
async fn knowing() -> Node {
    let node = Node::start().await;
    node.apply(Command::Raise { level: FEATURE_LEVEL }).unwrap();
    node
}

#[tokio::test]
async fn a_value_is_kept_sealed_and_shown_to_an_admin_alone() {
    let node = knowing().await;
    let json = node.local().header("content-type", "application/json");
    let body = |value: &str| format!("{{\"value\": \"{value}\"}}");
    let set = json.send("PUT", "/v1/secrets/web.db", body("hunter2")).await;
    assert_eq!(set.status, 200);
    let set: SecretView = set.json();
    assert_eq!((set.name.as_str(), set.version, set.size, set.binary), ("web.db", 1, 7, false));
    let again: SecretView = json.send("PUT", "/v1/secrets/web.db", body("hunter3")).await.json();
    assert_eq!(again.version, 2);
    let state = String::from_utf8(node.state().encode().unwrap()).unwrap();
    assert!(state.contains("web.db") && !state.contains("hunter"), "{state}");
    let shown = node.local().get("/v1/secrets").await;
    assert!(!shown.body.contains("hunter"));
    assert_eq!(shown.json::<Vec<SecretView>>(), [again]);
    let value: SecretValueView = node.local().get("/v1/secrets/web.db").await.json();
    assert_eq!((value.value.as_str(), value.version, value.encoding), ("hunter3", 2, None));

    let binary = "{\"value\": \"AP8=\", \"encoding\": \"base64\"}";
    let set: SecretView = json.send("PUT", "/v1/secrets/tls", binary).await.json();
    assert_eq!((set.size, set.binary), (2, true));
    let value: SecretValueView = node.local().get("/v1/secrets/tls").await.json();
    assert_eq!((value.value.as_str(), &value.encoding), ("AP8=", &Some(Encoding::Base64)));

    assert_eq!(node.local().send("DELETE", "/v1/secrets/tls", "").await.status, 204);
    assert_eq!(node.local().get("/v1/secrets/tls").await.status, 404);
    assert_eq!(node.local().send("DELETE", "/v1/secrets/tls", "").await.status, 404);
}

#[tokio::test]
async fn several_come_all_or_none() {
    let node = knowing().await;
    let json = node.local().header("content-type", "application/json");
    let bad = "{\"secrets\": {\"a\": \"1\", \"B\": \"2\"}}";
    let refused = json.send("POST", "/v1/secrets", bad).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json::<ErrorDocument>().error.message.contains("\"B\""));
    assert!(node.state().secrets.is_empty());
    let good = "{\"secrets\": {\"a\": \"1\", \"b.c\": \"2\"}}";
    let all: Vec<SecretView> = json.send("POST", "/v1/secrets", good).await.json();
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b.c"]);
}

#[tokio::test]
async fn what_is_no_secret_is_refused() {
    let node = knowing().await;
    let json = node.local().header("content-type", "application/json");
    let large = format!("{{\"value\": \"{}\"}}", "x".repeat((64 << 10) + 1));
    for (name, body) in [
        ("a", "{\"value\": \"\"}"),
        ("a", "{\"value\": \"x\", \"encoding\": \"hex\"}"),
        ("a", "{\"value\": \"!\", \"encoding\": \"base64\"}"),
        ("a", "{\"value\": \"x\", \"more\": 1}"),
        ("A", "{\"value\": \"x\"}"),
        ("a..b", "{\"value\": \"x\"}"),
        ("a", &large),
    ] {
        let answer = json.send("PUT", &format!("/v1/secrets/{name}"), body.to_owned()).await;
        assert_eq!(answer.status, 400, "{name} {body:.40}");
    }
    assert!(node.state().secrets.is_empty());
}
