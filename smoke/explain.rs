//! What will happen, what happened, and why: plans, events, reasons; and apps side by side.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{TestDaemon, files};

/// The words of a command line as mill printed it, without `mill`.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').skip(1).collect()
}

#[test]
fn a_plan_is_shown_carried_out_exactly_and_refused_once_it_is_past() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let v1 = files::hello(&registry.image("hello:v1"), 1);
    let file = node.file("test.mill", &v1);
    let path = file.to_str().unwrap();
    let new = node.mill(["plan", path]).code(10).stdout;
    assert!(new.starts_with("hello → r1 on test\n+ hello  1 replica: hello-0 "), "{new}");
    let _ = node.mill(["up", path]).ok();
    let same = node.mill(["plan", path]).ok();
    assert_eq!(same, "Nothing to do: hello r1 is as the file says\n");
    let v2 = files::hello(&registry.image("hello:v2"), 1);
    let v2 = v2.replace("port 8080", "port 8080\n    env { LEVEL \"s3cret\" }");
    node.file("test.mill", &v2);
    let plan = node.mill(["plan", path]).code(10).stdout;
    let lines: Vec<&str> = plan.lines().collect();
    assert_eq!(lines[0], "hello r1 → r2 on test");
    assert!(lines[1].starts_with("~ hello  replace 1, start-first: hello-0 "), "{plan}");
    assert!(lines[2].starts_with("    image  hello:v1 (") && lines[2].contains("…) → hello:v2 ("));
    assert_eq!(lines[3], "    env    + LEVEL");
    assert!(!plan.contains("s3cret"), "{plan}");
    let hash = words(lines[4])[2].to_owned();
    assert_eq!(lines[4], format!("mill up --plan {hash} -f {path}"));
    let json = node.mill(["plan", path, "--json"]).code(10).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["hash"], &json["revision"]), (&hash.as_str().into(), &2.into()), "{json}");
    assert_eq!(json["changes"][0]["effect"], "replace", "{json}");
    assert_eq!(node.mill(["history", "--json"]).json().as_array().map(Vec::len), Some(1));
    // What was printed does it, once.
    let _ = node.mill(words(lines[4])).ok();
    let first = node.api().request("GET", "/v1/deployments/2/events").events().next().unwrap();
    assert_eq!(first.data["plan"], hash.as_str(), "{first:?}");
    let past = node.mill(words(lines[4])).code(1);
    let _ = past.says(&format!("plan {hash} is past: hello is at r2 since ")).says(", was r1");
    let query = format!("/v1/deploy?plan={hash}");
    let stale = node.api().request("POST", &query).body("text/plain", v2.clone()).send();
    stale.error(409, "plan_stale");
    let _ = node.mill(["up", path, "--plan", "nonsense"]).code(2).says("mill plan");
    // What happened is kept over a restart, and goes on with the next number.
    let told = node.mill(["events"]).ok();
    for what in ["hello r1  accepted", "hello r2  succeeded", "  placed  ", "  healthy  "] {
        assert!(told.contains(what), "no {what:?} in {told}");
    }
    // The old one ends behind its update.
    let all = || node.api().get("/v1/events").as_array().unwrap().clone();
    let is_over = || all().iter().any(|event| event["kind"] == "allocation-stopped");
    poll(is_over).secs(30).expect("the end of the first replica");
    let before = node.api().get("/v1/events");
    let last = before.as_array().unwrap().last().unwrap()["id"].as_u64().unwrap();
    assert_eq!(node.stop(), Some(0));
    node.restart();
    let api = node.api();
    let request = api.request("GET", "/v1/events?follow=true");
    let mut events = request.header("Last-Event-ID", &last.to_string()).events();
    let next = events.next().unwrap();
    assert_eq!(
        (next.id.as_str(), &next.data["id"]),
        (&*(last + 1).to_string(), &(last + 1).into())
    );
    assert_eq!(next.data["kind"], "node-registered", "{next:?}");
    let kept = node.api().get("/v1/events?limit=1000");
    assert_eq!(kept[0], before[0]);
    let why = node.mill(["why", "hello"]).ok();
    assert!(why.contains(" running on ") && why.contains("  chosen  no other replica"), "{why}");
    let _ = node.mill(["why", "nope"]).code(1).says("no service, task or allocation nope");
}

#[test]
fn a_replica_without_room_is_seen_explained_and_helped() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let total = node.api().get("/v1/nodes")[0]["memory"]["total"].as_u64().unwrap();
    let memory = format!("memory \"{}M\"", total * 6 / 10 / 1_000_000);
    let text = files::hello(&registry.image("hello:v1"), 2).replace("memory \"32M\"", &memory);
    let file = node.file("test.mill", &text);
    let path = file.to_str().unwrap();
    let plan = node.mill(["plan", path]).code(10).stdout;
    assert!(plan.contains("    ! hello-1 waits: no node fits cpu 0.05, memory "), "{plan}");
    let _ = node.mill(["up", path, "--detach"]).ok();
    let why = || {
        let why = node.mill(["why", "hello"]).ok();
        (why.contains("hello-1 pending ") && why.contains(", healthy")).then_some(why)
    };
    let why = poll(why).secs(30).expect("one replica that waits and one that is healthy");
    assert!(why.contains("  memory  ") && why.contains(" free\n"), "{why}");
    assert!(why.contains("→ lower memory to ") && why.contains(" or lower replicas to 1"), "{why}");
    assert_eq!(node.mill(["why", "hello-1", "--json"]).json()["waiting"][0]["replica"], 1);
    let ps = node.mill(["ps"]).ok();
    let row = ps.lines().find(|line| line.starts_with("hello-1 ")).expect("a row");
    assert!(row.contains("  pending  none "), "{ps}");
    let status = node.mill(["status"]).ok();
    assert!(status.contains("! hello  1/2: no node fits cpu 0.05, memory "), "{status}");
    let events = node.api().get("/v1/events");
    let waits = events.as_array().unwrap().iter().filter(|e| e["kind"] == "deployment-waiting");
    assert_eq!(waits.count(), 1, "{events}");
    let steps = node.api().request("GET", "/v1/deployments/1/events").events();
    let told = steps.take(20).find(|event| event.data["phase"] == "retrying").expect("it is told");
    let message = told.data["message"].as_str().unwrap();
    assert!(message.starts_with("hello-1 waits: no node fits "), "{message}");
    // One of the remedies.
    let file = node.file("test.mill", &text.replace("replicas 2", "replicas 1"));
    let _ = node.mill(["up", file.to_str().unwrap()]).ok();
    assert!(!node.mill(["why", "hello"]).ok().contains("pending"));
}

#[test]
fn apps_stand_side_by_side_and_own_their_names() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("hello:v1");
    let app = |app: &str, service: &str| {
        let text = files::hello(&image, 1);
        text.replace("app \"hello\"", &format!("app \"{app}\""))
            .replace("service \"hello\"", &format!("service \"{service}\""))
    };
    let shop = node.file("shop.mill", &app("shop", "web"));
    let blog = node.file("blog.mill", &app("blog", "posts"));
    let (shop, blog) = (shop.to_str().unwrap(), blog.to_str().unwrap());
    let _ = node.mill(["up", shop]).ok();
    let _ = node.mill(["up", blog]).ok();
    let ids = |name: &str| {
        let live = node.allocations(name).into_iter().filter(|one| one["status"] == "running");
        live.map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    let web = ids("web");
    assert_eq!((web.len(), ids("posts").len()), (1, 1));
    // A name that another app owns.
    let thief = node.file("thief.mill", &app("thief", "web"));
    let thief = thief.to_str().unwrap();
    for command in ["up", "plan"] {
        let refused = node.mill([command, thief]).code(1);
        let _ = refused.says("web belongs to app shop").says("give web another name");
    }
    // A file that shares nothing with its app.
    let other = node.file("other.mill", &app("shop", "front"));
    let other = other.to_str().unwrap();
    let refused = node.mill(["up", other]).code(1).says("shares no name").says("--replace");
    assert_eq!(refused.stdout, "");
    assert_eq!(ids("web"), web);
    let replaced = node.mill(["up", other, "--replace"]).ok();
    assert!(replaced.contains("+ front") && replaced.contains("- web    removed"), "{replaced}");
    assert_eq!((ids("web").len(), ids("front").len(), ids("posts").len()), (0, 1, 1));
    // Now the name is free.
    let _ = node.mill(["up", thief]).ok();
    let _ = node.mill(["down", "-f", other]).ok();
    assert_eq!((ids("front").len(), ids("posts").len(), ids("web").len()), (0, 1, 1));
    let apps = node.mill(["show", "--json"]).json();
    let names: Vec<_> = apps.as_array().unwrap().iter().map(|app| app["app"].clone()).collect();
    assert_eq!(names, ["blog", "thief"], "{apps}");
}
