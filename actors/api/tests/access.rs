//! Who may do what, and how everything else is refused.

use super::support::{Client, Node, PATIENCE};
use crate::actors::api::openapi;
use crate::actors::api::routes::{ROUTES, Route, Takes};
use crate::actors::api::{Bounds, Membership};
use crate::api::wire::{DaemonStatus, ErrorDocument, HealthView, InitView, TokenView};
use crate::cluster::token;
use crate::fsm::model::Role;
use crate::units::{Millis, Timestamp};
use std::os::unix::fs::PermissionsExt as _;
use warp::http::Method;

/// A path of the route that exists nowhere but leads to it.
fn example(route: &Route) -> String {
    let parts = route.path.split('/').map(|part| match part {
        "{revision}" => "999",
        part if part.starts_with('{') => "nowhere",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn status(client: &Client, route: &Route) -> (u16, String) {
    let answer = client.send(route.method.method().as_str(), &example(route), "{}").await;
    let code = if answer.status >= 400 { answer.code() } else { String::new() };
    (answer.status, code)
}

#[tokio::test]
async fn every_route_lets_in_exactly_its_roles() {
    let node = Node::start().await;
    let roles = [Role::Join, Role::Read, Role::Deploy, Role::Admin];
    let tokens: Vec<(Role, String)> = roles.iter().map(|role| (*role, node.token(*role))).collect();
    for route in ROUTES.iter().filter(|route| route.path != "/v1/logs") {
        let what = format!("{:?} {}", route.method, route.path);
        let (without, code) = status(&node.network(), route).await;
        match route.role {
            None => assert_eq!(without, 200, "{what} needs no token"),
            Some(_) => assert_eq!((without, code.as_str()), (401, "unauthorized"), "{what}"),
        }
        for (role, token) in &tokens {
            let (with, code) = status(&node.network().token(token), route).await;
            let need = route.role.unwrap_or(Role::Join);
            let may = route.role.is_none() || (*role != Role::Join && *role >= need);
            if may && !route.local {
                assert!(with != 401 && with != 403, "{what} as {role:?}: {with}");
            } else {
                assert_eq!((with, code.as_str()), (403, "forbidden"), "{what} as {role:?}");
            }
        }
        let (local, _) = status(&node.local(), route).await;
        assert!(local != 401 && local != 403, "{what} on the socket: {local}");
    }
}

#[tokio::test]
async fn what_a_body_has_beyond_what_is_known_is_refused() {
    let node = Node::start().await;
    let changes = ROUTES.iter().filter(|route| route.method.method() != Method::GET);
    // Those of the socket ask first whether the node is a member.
    // Registries are looked for first.
    for route in changes.filter(|route| !route.local && !route.path.contains("{registry}")) {
        let wanted = match route.body {
            Takes::Nothing => "takes no body",
            Takes::Json(_) => "unknown field `beyond`",
            Takes::File | Takes::Archive => continue,
        };
        let (method, path) = (route.method.method(), example(route));
        let answer = node.local().send(method.as_str(), &path, "{\"beyond\": 1}").await;
        let text = answer.json::<ErrorDocument>().error.message;
        assert_eq!(answer.status, 400, "{method} {path}: {text}");
        assert!(text.contains(wanted), "{method} {path}: {text}");
        assert!(!answer.header("mill-index").is_empty(), "a refusal tells the index, too");
    }
}

/// Who may what, as docs/api.md has it. `-`: without a token; `local`: on the UNIX socket only.
const CONTRACT: &str = "
    GET /v1/health -
    GET /v1/openapi.json -
    POST /v1/init local
    POST /v1/join local
    POST /v1/leave local
    GET /v1/status read
    GET /v1/nodes read
    GET /v1/nodes/{id} read
    PATCH /v1/nodes/{id} admin
    POST /v1/nodes/{id}/drain admin
    POST /v1/nodes/{id}/undrain admin
    DELETE /v1/nodes/{id} admin
    GET /v1/mesh/peers read
    POST /v1/mesh/rotate admin
    POST /v1/plan read
    POST /v1/routes/{host}/pause deploy
    POST /v1/routes/{host}/resume deploy
    GET /v1/routes read
    GET /v1/secrets read
    POST /v1/secrets deploy
    POST /v1/secrets/rotate-key admin
    GET /v1/secrets/{name} admin
    PUT /v1/secrets/{name} deploy
    DELETE /v1/secrets/{name} deploy
    GET /v1/certs read
    GET /v1/certs/{host} read
    PUT /v1/certs/{host} admin
    DELETE /v1/certs/{host} admin
    POST /v1/certs/{host}/renew deploy
    PUT /v1/acme admin
    DELETE /v1/acme admin
    PUT /v1/provider admin
    GET /v1/volumes read
    GET /v1/volumes/{name} read
    GET /v1/volumes/{name}/data admin
    POST /v1/volumes/{name}/data admin
    POST /v1/volumes/{name}/move admin
    GET /v1/backup admin
    GET /v1/backup/schedule admin
    PUT /v1/backup/schedule admin
    DELETE /v1/backup/schedule admin
    POST /v1/restore local
    DELETE /v1/volumes/{name} admin
    POST /v1/deploy deploy
    GET /v1/deployments read
    GET /v1/deployments/{revision} read
    GET /v1/deployments/{revision}/diff read
    GET /v1/deployments/{revision}/events read
    POST /v1/rollback deploy
    GET /v1/apps/{app} read
    DELETE /v1/apps/{app} deploy
    POST /v1/apps/{app}/promote deploy
    POST /v1/apps/{app}/abort deploy
    GET /v1/services read
    GET /v1/services/{name} read
    DELETE /v1/services/{name} deploy
    POST /v1/services/{name}/restart deploy
    POST /v1/services/{name}/scale deploy
    GET /v1/rebalance read
    POST /v1/rebalance deploy
    GET /v1/allocations read
    GET /v1/allocations/{id} read
    POST /v1/allocations/{id}/restart deploy
    GET /v1/allocations/{id}/port-forward deploy
    GET /v1/allocations/{id}/exec admin
    GET /v1/allocations/{id}/files admin
    POST /v1/allocations/{id}/files admin
    GET /v1/why/{name} read
    GET /v1/events read
    GET /v1/metrics read
    GET /v1/tasks read
    POST /v1/tasks deploy
    GET /v1/tasks/{id} read
    DELETE /v1/tasks/{id} deploy
    GET /v1/logs read
    GET /v1/logs/{name} read
    GET /v1/images read
    POST /v1/images deploy
    DELETE /v1/images deploy
    DELETE /v1/images/{reference*} deploy
    GET /v1/registries read
    PUT /v1/registries/{registry} deploy
    DELETE /v1/registries/{registry} deploy
    GET /v1/tokens admin
    POST /v1/tokens admin
    DELETE /v1/tokens/{id} admin
";

#[test]
fn each_route_asks_for_the_role_of_the_contract() {
    let roles = ROUTES.iter().map(|route| {
        let role = match route.role {
            None => "-",
            Some(_) if route.local => "local",
            Some(Role::Join) => "join",
            Some(Role::Read) => "read",
            Some(Role::Deploy) => "deploy",
            Some(Role::Admin) => "admin",
        };
        format!("{} {} {role}", route.method.method(), route.path)
    });
    let asked: std::collections::BTreeSet<String> = roles.collect();
    let lines = CONTRACT.lines().map(|line| line.trim().to_owned());
    let contract = lines.filter(|line| !line.is_empty()).collect();
    assert_eq!(asked, contract);
}

#[tokio::test]
async fn wrong_expired_and_revoked_tokens_are_refused() {
    let node = Node::start().await;
    let good = node.token(Role::Read);
    assert_eq!(node.network().token(&good).get("/v1/status").await.status, 200);
    let minted = token::mint(1, [1; 32], None);
    let past = crate::fsm::Command::CreateToken {
        id: minted.id,
        role: Role::Admin,
        hash: minted.hash,
        expires_at: Some(Timestamp(1)),
    };
    node.apply(past).unwrap();
    let other = token::mint(2, [2; 32], None).text;
    for wrong in [&minted.text, &other, &good[..good.len() - 1].to_owned(), &String::new()] {
        let answer = node.network().token(wrong).get("/v1/status").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{wrong}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let basic = node.network().header("authorization", format!("Basic {good}"));
    assert_eq!(basic.get("/v1/status").await.status, 401);
    let id = good.split('_').nth(1).unwrap();
    let revoked = node.local().send("DELETE", &format!("/v1/tokens/{id}"), "").await;
    assert_eq!(revoked.status, 204);
    assert_eq!(node.network().token(&good).get("/v1/status").await.status, 401);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let node = Node::start().await;
    let good = node.token(Role::Read);
    let id = good.split('_').nth(1).unwrap().to_owned();
    let mut revoked = node.network().token(&good).events("GET", "/v1/events?follow", "").await;
    let mut local = node.local().events("GET", "/v1/events?follow", "").await;
    let minted = token::mint(3, [3; 32], None);
    let soon = Some(crate::actors::api::context::now().plus(Millis(700)));
    let short = crate::fsm::Command::CreateToken {
        id: minted.id,
        role: Role::Read,
        hash: minted.hash,
        expires_at: soon,
    };
    node.apply(short).unwrap();
    let short = node.network().token(&minted.text);
    let mut expired = short.events("GET", "/v1/events?follow", "").await;
    assert_eq!(node.local().send("DELETE", &format!("/v1/tokens/{id}"), "").await.status, 204);
    for stream in [&mut revoked, &mut expired] {
        let end = async { while stream.next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("it ends");
    }
    node.token(Role::Read);
    // The socket's goes on, with what happened since.
    while local.next().await.unwrap().data["kind"] != "token-revoked" {}
    assert_eq!(local.next().await.unwrap().data["kind"], "token-created");
}

#[tokio::test]
async fn a_join_token_ends_after_a_day_and_may_be_for_so_many() {
    let node = Node::start().await;
    let create = async |body: &str| node.local().send("POST", "/v1/tokens", body.to_owned()).await;
    assert_eq!(create("{\"role\": \"join\", \"uses\": 2}").await.status, 201);
    assert_eq!(create("{\"role\": \"read\"}").await.status, 201);
    assert_eq!(create("{\"role\": \"join\", \"ttl\": 60}").await.status, 201);
    for wrong in ["{\"role\": \"join\", \"uses\": 0}", "{\"role\": \"admin\", \"uses\": 1}"] {
        assert_eq!(create(wrong).await.status, 400, "{wrong}");
    }
    let all: Vec<TokenView> = node.local().get("/v1/tokens").await.json();
    let now = crate::actors::api::context::now();
    let left = |token: &TokenView| {
        let at: Option<jiff::Timestamp> = token.expires_at.as_ref().map(|at| at.parse().unwrap());
        at.map(|at| (at.as_millisecond() - i64::try_from(now.0).unwrap()) / 1000)
    };
    let mut seen: Vec<_> = all.iter().map(|t| (t.role.to_string(), left(t), t.uses)).collect();
    seen.sort_unstable();
    let day = 24 * 3600;
    let near = |left: Option<i64>, want: i64| left.is_some_and(|l| (want - 20..=want).contains(&l));
    assert!(near(seen[0].1, 60) && seen[0].2.is_none(), "{seen:?}");
    assert!(near(seen[1].1, day) && seen[1].2 == Some(2), "{seen:?}");
    assert_eq!(seen[2], ("read".to_owned(), None, None));
}

#[tokio::test]
async fn the_document_and_the_routes_are_the_same() {
    let node = Node::start().await;
    let served = node.network().get("/v1/openapi.json").await;
    let served: serde_json::Value = served.json();
    assert_eq!(served, openapi::document().unwrap());
    let paths = served["paths"].as_object().unwrap();
    let mut documented = 0;
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            documented += 1;
            let asked = path.replace("{revision}", "999").replace("{", "").replace("}", "");
            let (client, verb) = (node.local(), method.to_uppercase());
            let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
            let open = client.open(&verb, &asked, body);
            let response = tokio::time::timeout(PATIENCE, open).await.unwrap();
            assert_ne!(response.status().as_u16(), 405, "{method} {path}");
            if response.status().as_u16() == 404 {
                let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
                let error: ErrorDocument = serde_json::from_slice(&body.to_bytes()).unwrap();
                assert!(!error.error.message.starts_with("no such route"), "{method} {path}");
            }
        }
    }
    assert_eq!(documented, ROUTES.len());
    for route in ROUTES {
        let path = route.path.replace("*}", "}");
        let method = route.method.method().as_str().to_lowercase();
        assert!(paths[&path].get(&method).is_some(), "{method} {path} is documented");
    }
    let text = serde_json::to_string(&served).unwrap();
    for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        let schemas = &served["components"]["schemas"];
        assert!(schemas.get(name).is_some(), "the schema {name} is there");
    }
}

#[tokio::test]
async fn every_rejection_is_an_error_document() {
    let node = Node::start().await;
    let cases = [
        ("GET", "/", "", 404, "not_found"),
        ("GET", "/v2/status", "", 404, "not_found"),
        ("GET", "/v1/status/", "", 404, "not_found"),
        ("GET", "/v1/services//restart", "", 404, "not_found"),
        ("PUT", "/v1/status", "", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/status", "", 405, "method_not_allowed"),
        ("GET", "/v1/certs/nowhere.example", "", 404, "not_found"),
        ("PATCH", "/v1/nodes/n1", "{}", 400, "bad_request"),
        ("PATCH", "/v1/nodes/n9", "{\"labels\": {}}", 404, "not_found"),
        ("POST", "/v1/nodes/n1/drain", "{\"timout\": 3}", 400, "bad_request"),
        ("POST", "/v1/rollback", "{}", 404, "not_found"),
        ("GET", "/v1/status?verbose=1", "", 400, "bad_request"),
        ("GET", "/v1/services/%ff", "", 400, "bad_request"),
        ("GET", "/v1/deployments/x", "", 400, "bad_request"),
        ("GET", "/v1/deployments?limit=many", "", 400, "bad_request"),
        ("GET", "/v1/deployments/999", "", 404, "not_found"),
        ("GET", "/v1/deployments/999/events", "", 404, "not_found"),
        ("GET", "/v1/apps/none", "", 404, "not_found"),
        ("GET", "/v1/services/none", "", 404, "not_found"),
        ("GET", "/v1/allocations/none", "", 404, "not_found"),
        ("GET", "/v1/logs/none", "", 404, "not_found"),
        ("GET", "/v1/logs?since=soon", "", 400, "bad_request"),
        ("GET", "/v1/logs?follow=perhaps", "", 400, "bad_request"),
        ("POST", "/v1/services/none/scale", "{\"replicas\": -1}", 400, "bad_request"),
        ("POST", "/v1/services/none/scale", "{}", 400, "bad_request"),
        ("POST", "/v1/services/none/scale", "{\"replicas\": 1}", 404, "not_found"),
        ("POST", "/v1/services/none/restart", "", 404, "not_found"),
        ("POST", "/v1/allocations/none/restart", "", 404, "not_found"),
        ("DELETE", "/v1/apps/none", "", 404, "not_found"),
        ("DELETE", "/v1/tokens/none", "", 404, "not_found"),
        ("DELETE", "/v1/images/none", "", 404, "not_found"),
        ("DELETE", "/v1/images", "", 400, "bad_request"),
        ("POST", "/v1/tokens", "{\"role\": \"god\"}", 400, "bad_request"),
        ("POST", "/v1/tokens", "{\"role\": \"read\", \"ttl\": 0}", 400, "bad_request"),
        ("POST", "/v1/tokens", "not json", 400, "bad_request"),
        ("POST", "/v1/images", "bad", 400, "bad_request"),
        ("POST", "/v1/init", "{}", 409, "conflict"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = node.local().send(method, path, body).await;
        let what = format!("{method} {path} {body}: {}", answer.body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
        assert_eq!(answer.header("content-type"), "application/json", "{what}");
        let hint = answer.json::<ErrorDocument>().error.hint;
        assert!(status != 404 || hint.is_some(), "what to do next: {what}");
    }
    let no_node = node.local().get("/v1/nodes/n9").await.json::<ErrorDocument>();
    assert_eq!(no_node.error.hint.as_deref(), Some("mill nodes lists them"));
    let wrong = node.local().send("PUT", "/v1/images", "").await;
    assert_eq!(wrong.header("allow"), "GET, POST, DELETE");
    let head = node.local().send("HEAD", "/v1/status", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn an_unclaimed_node_takes_nothing_but_init() {
    let node = Node::unclaimed(Bounds::default()).await;
    let socket = node.directory.path().join("mill.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let health = node.local().get("/v1/health").await;
    assert_eq!((health.status, health.json::<HealthView>().status), (200, DaemonStatus::Unclaimed));
    for path in ["/v1/status", "/v1/services", "/v1/logs", "/v1/tokens"] {
        let answer = node.local().get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "unclaimed"), "{path}");
    }
    let init = node.local().send("POST", "/v1/init", "{\"cluster\": \"prod\"}").await;
    assert_eq!((init.status, init.json::<InitView>().cluster.as_str()), (200, "prod"));
    assert!(matches!(*node.membership.borrow(), Membership::Unclaimed));
    // A member that has not read its log yet.
    node.claim();
    let health = node.local().get("/v1/health").await;
    assert_eq!((health.status, health.json::<HealthView>().status), (503, DaemonStatus::Starting));
    let early = node.network().token("mill_a_b").get("/v1/status").await;
    assert_eq!((early.status, early.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn a_reading_that_nobody_confirms_is_marked() {
    let node = Node::start().await;
    let fresh = node.local().get("/v1/nodes").await;
    assert_eq!((fresh.header("mill-index"), fresh.header("mill-stale")), ("2", ""));
    node.shared.lock().unwrap().unconfirmed = true;
    let stale = node.local().get("/v1/nodes").await;
    assert_eq!((stale.status, stale.body), (200, fresh.body));
    assert_eq!(stale.headers["mill-index"], "2");
    assert_eq!(stale.headers["mill-stale"], "true");
    // What isn't there may have come since.
    let missing = node.local().get("/v1/services/none").await;
    assert_eq!((missing.status, missing.header("mill-stale")), (404, "true"));
    node.shared.lock().unwrap().unconfirmed = false;
    let missing = node.local().get("/v1/services/none").await;
    assert_eq!((missing.status, missing.header("mill-stale")), (404, ""));
    assert_eq!(missing.header("mill-index"), "2");
}

#[tokio::test]
async fn wrong_tokens_are_counted_and_a_good_one_is_always_let_in() {
    let node = Node::start().await;
    let good = node.token(Role::Read);
    let wrong = token::mint(2, [2; 32], None).text;
    let mut statuses = Vec::new();
    for _ in 0..=crate::limits::AUTH_FAILURES {
        statuses.push(node.network().token(&wrong).get("/v1/status").await.status);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&401), Some(&429)));
    let refused = node.network().token(&wrong).get("/v1/status").await;
    assert_eq!(refused.code(), "rate_limited");
    assert_eq!(node.network().token(&good).get("/v1/status").await.status, 200);
    assert_eq!(node.network().get("/v1/status").await.status, 401, "no token is no try");
}
