//! The HTTP API of a real node: who may, streams that are resumed and left, and its end.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Api, Event, TestDaemon, files};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

fn deploy(api: &Api, file: &str) -> u64 {
    let answer = api
        .request("POST", "/v1/deploy")
        .header("Accept", "application/json")
        .body("text/plain", file)
        .send();
    answer.status(202).json()["revision"].as_u64().expect("a revision")
}

fn token(node: &TestDaemon, role: &str) -> Api {
    let request = node.api().request("POST", "/v1/tokens").json(&json!({"role": role})).send();
    let made = request.status(201).json();
    Api::tcp(node.api_address(), made["token"].as_str())
}

#[test]
fn tokens_open_what_their_role_may_and_nothing_else() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let file = files::hello(&registry.image("hello:v1"), 1);
    let (read, may_deploy) = (token(&node, "read"), token(&node, "deploy"));
    let nobody = Api::tcp(node.api_address(), None);
    nobody.request("GET", "/v1/status").send().error(401, "unauthorized");
    assert_eq!(nobody.get("/v1/health")["status"], "ready");
    read.request("POST", "/v1/deploy").body("text/plain", &*file).send().error(403, "forbidden");
    let events = may_deploy.request("POST", "/v1/deploy").body("text/plain", &*file).events();
    assert_eq!(events.last().map(|event| event.name), Some("done".to_owned()));
    assert_eq!(read.get("/v1/services/hello")["replicas"]["healthy"], 1);
    may_deploy.request("GET", "/v1/tokens").send().error(403, "forbidden");
    node.api_tcp().request("POST", "/v1/init").json(&json!({})).send().error(403, "forbidden");
    let tokens = node.api_tcp().get("/v1/tokens");
    let role = |role: &str| tokens.as_array().unwrap().iter().find(|t| t["role"] == role).cloned();
    let id = role("read").expect("the token")["id"].as_str().unwrap().to_owned();
    let revoke = node.api_tcp().request("DELETE", &format!("/v1/tokens/{id}")).send();
    let _ = revoke.status(204);
    read.request("GET", "/v1/status").send().error(401, "unauthorized");
}

#[test]
fn a_deployment_goes_on_without_its_client_and_is_resumed_even_after_a_restart() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let file = files::hello(&registry.image("hello:v1"), 2);
    let mut stream = node.api().request("POST", "/v1/deploy").body("text/plain", &*file).events();
    let mut seen: Vec<Event> = stream.by_ref().take(2).collect();
    drop(stream);
    let path = "/v1/deployments/1/events";
    let rest = node.api().request("GET", path).header("Last-Event-ID", &seen[1].id).events();
    seen.extend(rest);
    // The figures of a pull, between two steps, are told as they come and only then.
    seen.retain(|event| !event.id.contains('.'));
    assert_eq!(seen[0].name, "accepted");
    assert_eq!(seen.last().map(|event| &*event.name), Some("done"));
    let numbers: Vec<String> = (0..seen.len()).map(|n| format!("1-{n}")).collect();
    assert_eq!(seen.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), numbers);
    assert_eq!(node.stop(), Some(0));
    node.restart();
    let again = node.api().request("GET", path).events();
    let steps: Vec<_> = again.map(|event| (event.id, event.name)).collect();
    assert_eq!(steps, seen.into_iter().map(|e| (e.id, e.name)).collect::<Vec<_>>());
}

#[test]
fn clients_that_leave_in_the_middle_of_every_stream_disturb_nobody() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let file = files::service("chatty", &registry.image("chatty:v1"), "replicas 2");
    let api = node.api();
    let mut deploying = api.request("POST", "/v1/deploy").body("text/plain", file).events();
    assert_eq!(deploying.next().map(|event| event.name), Some("accepted".to_owned()));
    let mut following = api.request("GET", "/v1/deployments/1/events").events();
    assert!(following.next().is_some());
    drop((deploying, following));
    let done = || api.get("/v1/deployments/1")["status"] == "succeeded";
    poll(done).secs(60).expect("the deployment goes on");
    for _ in 0..300 {
        // More than there may be open at once: each must have given its place back.
        let open = || api.request("GET", "/v1/logs/chatty?follow&tail=5").events().next();
        let line = poll(|| std::panic::catch_unwind(open).ok().flatten()).secs(20);
        assert!(line.expect("a line").data["line"].is_string());
    }
    assert_eq!(api.get("/v1/services/chatty")["replicas"]["healthy"], 2);
}

#[test]
fn a_stop_ends_streams_and_the_daemon() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let file = files::service("chatty", &registry.image("chatty:v1"), "replicas 1");
    let revision = deploy(&node.api(), &file);
    let path = format!("/v1/deployments/{revision}/events");
    let last = node.api().request("GET", &path).events().last();
    assert_eq!(last.map(|event| event.name), Some("done".to_owned()));
    let mut logs = node.api().request("GET", "/v1/logs?follow").events();
    assert!(logs.next().is_some());
    kill(node.pid(), Signal::SIGTERM).unwrap();
    let _ = logs.count();
    assert_eq!(node.wait(), Some(0));
    assert!(!node.socket().exists());
    node.restart();
    assert_eq!(node.allocations("chatty")[0]["restarts"], 0);
}

#[test]
fn an_image_that_runs_is_not_removed() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("hello:v1");
    let _ = node.up(&files::hello(&image, 1)).ok();
    let path = format!("/v1/images?reference={image}");
    node.api().request("DELETE", &path).send().error(409, "conflict");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    let _ = node.api().request("DELETE", &path).send().status(204);
    node.api().request("DELETE", &path).send().error(404, "not_found");
}
