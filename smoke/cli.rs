//! The command line against a real node: looks, exit codes, JSON, streams.

use crate::poll::poll;
use crate::registry::{Registry, docker_archive};
use crate::support::{Outcome, TestDaemon, files};
use std::io::Read;
use std::process::Stdio;

fn first_words(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// A column of the only row of a table, by its head.
fn cell<'a>(table: &'a str, head: &str) -> &'a str {
    let mut lines = table.lines();
    let at = lines.next().unwrap().find(head).expect("the column");
    lines.next().unwrap()[at..].split("  ").next().unwrap()
}

#[test]
fn a_services_life_reads_as_documented() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let (v1, v2) = (registry.image("hello:v1"), registry.image("hello:v2"));
    let out = node.up(&files::hello(&v1, 1)).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["hello r1 → test", "+ hello  image v1   1 replica"], "{out}");
    assert!(lines[2].starts_with("hello-0-") && lines[2].contains("  healthy  "), "{out}");
    assert!(lines[3].starts_with("✓ r1 done in ") && lines[3].ends_with(", 1/1 healthy"), "{out}");
    let id = first_words(&out)[2].to_owned();
    let again = node.up(&files::hello(&v1, 1)).ok();
    assert_eq!(again, "Nothing to do: r1 runs, 1/1 healthy\n");

    let ps = node.mill(["ps"]).ok();
    assert_eq!(cell(&ps, "ID"), id);
    assert_eq!((cell(&ps, "STATUS"), cell(&ps, "HEALTH")), ("running", "healthy"), "{ps}");
    assert!(cell(&ps, "CPU").ends_with("/0.05") && cell(&ps, "MEM").ends_with("/32M"), "{ps}");
    let status = node.mill(["status"]).ok();
    assert!(status.starts_with("test  1/1 nodes  leader "), "{status}");
    assert!(status.contains("  hello r1 ok, ") && status.contains("hello    1/1"), "{status}");

    let out = node.up(&files::hello(&v2, 1)).ok();
    assert!(out.contains("~ hello  image v1 → v2   1 replica, start-first"), "{out}");
    assert!(out.contains(&format!("  replaces {id}\n")), "{out}");
    let out = node.mill(["scale", "hello", "2"]).ok();
    assert!(out.starts_with("hello r3 → test\n~ hello  replicas 1 → 2\n"), "{out}");
    let out = node.mill(["restart", "hello", "--wait-stopped"]).ok();
    assert!(out.contains("✓ hello restarted in "), "{out}");
    assert_eq!(first_words(&node.mill(["history"]).ok()), ["REVISION", "r3", "r2", "r1"]);
    let show = node.mill(["show"]).ok();
    assert!(show.starts_with("// hello r3\napp \"hello\"\n"), "{show}");
    assert!(node.mill(["show", "hello"]).ok().contains("replicas  2/2 healthy"), "show hello");
    assert!(node.mill(["show", "r1"]).ok().contains("status    succeeded after "), "show r1");

    let file = node.file("test.mill", &files::hello(&v2, 2));
    let out = node.mill(["down", "-f", file.to_str().unwrap()]).ok();
    assert!(out.starts_with("hello r4 → test\n- hello  removed\n"), "{out}");
    assert_eq!(out.matches("  stopped\n").count(), 2, "{out}");
    assert_eq!(first_words(&node.mill(["ps"]).ok()), ["ID"]);
}

#[test]
fn json_is_what_the_api_answers() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let file = node.file("a.mill", &files::hello(&registry.image("hello:v1"), 1));
    let out = node.mill(["--json", "up", file.to_str().unwrap()]).ok();
    let events: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!((&first["event"], &first["revision"]), (&"accepted".into(), &1.into()), "{out}");
    assert_eq!((&last["event"], &last["success"]), (&"done".into(), &true.into()), "{out}");
    for (command, route) in [
        ("history", "/v1/deployments"),
        ("image list", "/v1/images"),
        ("token list", "/v1/tokens"),
        ("show r1", "/v1/deployments/1"),
    ] {
        let shown = node.mill(command.split(' ').chain(["--json"])).json();
        assert_eq!(shown, node.api().get(route), "{command}");
    }
    assert_eq!(node.mill(["ps", "--json"]).json()[0]["name"], "hello");
    assert_eq!(node.mill(["top", "--json"]).json()[0]["name"], "hello");
    let top = node.mill(["top"]).ok();
    assert!(top.contains("  cpu ") && cell(top.split_once('\n').unwrap().1, "NAME") == "hello");
    assert_eq!(node.mill(["status", "--json"]).json()["cluster"], "test");
    let cp = ["cp", "hello:/etc/hosts", "hosts", "--json"];
    assert_eq!(node.mill(cp).json()["to"], "hosts");
    assert!(node.mill(["install", "--print", "--json"]).json()["unit"].is_string());
    assert!(node.mill(["completions", "bash", "--json"]).json()["script"].is_string());
    let refused = node.mill(["--json", "scale", "nope", "1"]).code(1);
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["error"]["code"], "not_found", "{error}");
    assert_eq!(refused.stdout, "");
}

#[test]
fn waiting_can_end_before_the_deployment() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    // Never healthy: nothing listens there.
    let text = files::hello(&registry.image("hello:v1"), 1).replace("8080", "8081");
    let text = text.replace("interval", "grace=\"0s\" interval");
    let text = text.replace("8081\n", "8081\n    env { PORT \"8080\" }\n");
    let file = node.file("a.mill", &text);
    let file = file.to_str().unwrap();
    let outcome = node.mill(["up", file, "--timeout", "500ms"]).code(5);
    let _ = outcome.says("r1 goes on. Follow it: mill up --attach r1");
    // The same again joins it.
    let outcome = node.mill(["up", file, "--timeout", "500ms"]).code(5);
    let _ = outcome.says("r1 goes on. Follow it: mill up --attach r1");
    let mut child = node.command(["up", "--attach", "r1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut head = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let _ = node.mill(["up", "--attach", "r9"]).code(1).says("r9");
}

#[test]
fn logs_follow_until_ctrl_c() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&files::service("chatty", &registry.image("chatty:v1"), "")).ok();
    let outcome = node.mill(["logs", "chatty", "-n", "3"]).ok();
    assert_eq!(outcome.lines().count(), 3, "{outcome}");
    let id = node.allocations("chatty")[0]["id"].as_str().unwrap().to_owned();
    assert!(outcome.lines().all(|line| line.contains(&format!(" {id} "))), "{outcome}");
    let _ = node.mill(["logs", "nope"]).code(1);
    let mut child = node.command(["logs", "-f", "chatty"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 40];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let head = node.command(["logs", "chatty"]).stdout(Stdio::piped()).spawn().unwrap();
    // Whoever reads no more is no error.
    let mut head = head;
    drop(head.stdout.take());
    assert_eq!(head.wait().unwrap().code(), Some(0));
}

#[test]
fn tokens_are_created_listed_and_revoked() {
    let node = TestDaemon::start();
    let made = node.mill(["token", "create", "--role", "read", "--ttl", "1h", "--json"]).json();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let over_tcp = |args: &[&str], token: &str| {
        let mut command = node.command(args);
        command.env_remove("MILL_SOCKET").env("MILL_TOKEN", token);
        command.args(["--address", &format!("http://{}", node.api_address())]);
        Outcome::new(format!("{args:?}"), command.output().unwrap())
    };
    let _ = over_tcp(&["ps"], token).ok();
    let _ = over_tcp(&["down", "nope"], token).code(4);
    let _ = over_tcp(&["ps"], "").code(4).says("Pass --token T or set MILL_TOKEN");
    assert!(first_words(&node.mill(["token", "list"]).ok()).contains(&id));
    let revoked = node.mill(["token", "revoke", id, "--json"]).json();
    assert_eq!(revoked, serde_json::json!({ "id": id, "deleted": true }));
    let _ = over_tcp(&["ps"], token).code(4);
    let _ = node.mill(["token", "create", "--role", "root"]).code(2);
}

#[test]
fn an_image_is_loaded_run_and_removed() {
    let node = TestDaemon::start();
    let archive = node.file("hello.tar", "");
    docker_archive("hello:v1", &archive);
    let out = node.mill(["image", "load", archive.to_str().unwrap()]).ok();
    let reference = out.split_whitespace().next().unwrap().to_owned();
    let list = node.mill(["image", "list"]).ok();
    assert!(list.contains(&reference) && list.contains("archive"), "{list}");
    let _ = node.up(&files::hello(&reference, 1)).ok();
    let _ = node.mill(["image", "remove", &reference]).code(1).says("hello");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    let removed = node.mill(["image", "remove", &reference, "--json"]).json();
    assert_eq!(removed, serde_json::json!([{ "reference": reference, "deleted": true }]));
    assert!(!node.mill(["image", "list"]).ok().contains(&reference));
    let _ = node.mill(["image", "load", "/nonexistent.tar"]).code(2);
}

#[test]
fn wrong_usage_is_told_apart() {
    let node = TestDaemon::start();
    let _ = node.mill(["stop", "web"]).code(2).says("mill down SERVICE");
    let _ = node.mill(["top", "--node", "nope"]).code(1).says("no node nope");
    let _ = node.mill(["statsu"]).code(2).says("Did you mean mill status?");
    let _ = node.mill(["down", "--all"]).code(2).says("--yes");
    let _ = node.mill(["up"]).code(2).says("There is no *.mill file here");
    let _ = node.file("a.mill", "app \"a\"\n");
    let _ = node.file("b.mill", "app \"b\"\n");
    let _ = node.mill(["up"]).code(2).says("a.mill, b.mill");
    let _ = node.mill(["ps", "--bogus"]).code(2).says("--bogus");
    let _ = node.mill(["down", "a.mill"]).code(2).says("mill down -f a.mill");
    let _ = node.mill([""; 0]).code(2).says("Commands:");
    let _ = node.mill(["image"]).code(2).says("mill image <command>");
}

fn interrupt(child: &std::process::Child) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::SIGINT).unwrap();
}

#[test]
fn ps_watches() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let mut child = node.command(["ps", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 1)).ok();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let (mut stdout, text) = (child.stdout.take().unwrap(), std::sync::Arc::clone(&seen));
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    poll(|| seen.lock().unwrap().contains("hello-0-")).secs(20).expect("the new allocation");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    reader.join().unwrap();
}

#[test]
fn up_goes_on_when_the_daemon_is_killed_and_back() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let slow = "command \"sh\" \"-c\" \"sleep 8; exec httpd -f -p 8080\"\n    port 8080";
    let text = files::service("slow", &registry.image("busybox:v1"), slow);
    let file = node.file("a.mill", &text);
    let out = node.file("out", "");
    let mut command = node.command(["--json", "up", file.to_str().unwrap()]);
    let mut child = command.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
    let told = |text: &str| std::fs::read_to_string(&out).unwrap().contains(text);
    poll(|| told("\"phase\":\"starting\"")).secs(30).expect("the container to start");
    node.kill();
    node.restart();
    let status = poll(|| child.try_wait().unwrap()).secs(60).expect("up to end");
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(status.code(), Some(0), "{text}");
    assert_eq!(text.matches("\"event\":\"accepted\"").count(), 1, "{text}");
    assert_eq!(text.matches("\"phase\":\"scheduled\"").count(), 1, "no double: {text}");
    assert_eq!(text.matches("\"event\":\"done\"").count(), 1, "{text}");
}
