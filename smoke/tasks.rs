//! Tasks: spawned, waited for, killed, out of time, before and after a deployment, over a restart.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{TestDaemon, files};
use serde_json::{Value, json};
use std::process::Stdio;

/// A task of busybox with a shell script.
fn task(name: &str, image: &str, script: &str, more: &str) -> String {
    let script = script.replace('"', "\\\"");
    format!(
        "task \"{name}\" {{\n image \"{image}\"\n command \"sh\" \"-c\" \"{script}\"\n {more}\n}}\n"
    )
}

fn run(node: &TestDaemon, id: &str) -> Value {
    node.api().get(&format!("/v1/tasks/{id}"))
}

#[test]
fn a_task_is_spawned_waited_for_killed_and_out_of_time() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let file = [
        task(
            "greet",
            &image,
            "echo hello $WHO; echo aside >&2; echo $MILL_TASK; exit 7",
            "env { WHO \"file\" }",
        ),
        task("endless", &image, "echo up; exec sleep 1000", "timeout \"1s\"; stop grace=\"1s\""),
        task("patient", &image, "exec sleep 1000", "stop grace=\"1s\""),
    ];
    // Tasks alone are a revision too.
    let _ = node.up(&file.concat()).ok();
    let greeted = node.command(["spawn", "greet", "--wait", "--env", "WHO=you"]).output().unwrap();
    assert_eq!(greeted.status.code(), Some(7), "{greeted:?}");
    assert_eq!(String::from_utf8_lossy(&greeted.stdout), "hello you\ngreet\n");
    assert_eq!(String::from_utf8_lossy(&greeted.stderr), "aside\n");
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let _ = node.mill(["spawn", "--image", &image, "--wait", "--", program]).code(code);
    }
    let mine = &node.api().get("/v1/tasks?name=greet")[0];
    let exit = (&mine["status"], &mine["exit"]["code"], &mine["exit"]["reason"]);
    assert_eq!(exit, (&json!("failed"), &json!(7), &json!("error")), "{mine}");
    // An image with a command of its own; it isn't in any file.
    let inline =
        ["spawn", "--image", &image, "--memory", "32M", "--wait", "--", "sh", "-c", "echo in"];
    assert_eq!(node.mill(inline).ok(), "in\n");
    let missing = registry.image("busybox:v1").replace("v1", "v9");
    let _ = node.mill(["spawn", "--image", &missing, "--wait"]).code(125);
    let _ = node.mill(["spawn", "endless", "--wait"]).code(124);
    let id = node.mill(["spawn", "patient"]).ok().trim().to_owned();
    poll(|| run(&node, &id)["status"] == "running").secs(20).expect("patient to run");
    assert!(node.mill(["ps"]).ok().contains(&id));
    let _ = node.mill(["restart", &id]).code(1).says("never starts again");
    let _ = node.mill(["kill", "patient"]).ok();
    let killed = poll(|| Some(run(&node, &id)).filter(|run| run["ended_at"].is_string()))
        .secs(20)
        .expect("its end");
    assert_eq!(
        (&killed["status"], &killed["exit"]["reason"]),
        (&json!("stopped"), &json!("killed"))
    );
    let _ = node.mill(["kill", "patient"]).code(1).says("doesn't run");
    assert!(!node.mill(["ps"]).ok().contains(&id));
    assert!(node.mill(["ps", "-a"]).ok().contains(&id));
    assert!(node.mill(["status"]).ok().contains("exit 7"));
    assert!(node.mill(["logs", "greet"]).ok().contains("hello you"));
    let request = json!({"task": "greet", "env": {}});
    let post = || {
        let sent = node.api();
        let sent = sent.request("POST", "/v1/tasks").header("idempotency-key", "once");
        sent.json(&request).send().status(202).json()["id"].clone()
    };
    assert_eq!(post(), post());
    node.api()
        .request("POST", "/v1/tasks")
        .json(&json!({"task": "no"}))
        .send()
        .error(404, "not_found");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    assert_eq!(node.api().get("/v1/tasks?all=false"), json!([]));
}

#[test]
fn a_task_outlives_the_daemon_and_is_never_started_again() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let script = "echo begun; while ! [ -e /tmp/end ]; do sleep 0.1; done; exit 3";
    let _ = node.up(&task("wait", &image, script, "")).ok();
    // Whoever waits for it waits on, over an orderly restart and over a crash.
    let waits = node.command(["spawn", "wait", "--wait"]).stdout(Stdio::piped()).spawn().unwrap();
    let running = || {
        let all = node.api().get("/v1/tasks");
        let all = all.as_array().unwrap().iter();
        let mut running = all.filter(|one| one["status"] == "running");
        running.next().map(|one| one["id"].as_str().unwrap().to_owned())
    };
    let id = poll(running).secs(20).expect("it to run");
    let started = run(&node, &id)["started_at"].clone();
    let _ = node.stop();
    node.restart();
    assert_eq!(run(&node, &id)["status"], "running");
    node.kill();
    node.restart();
    assert_eq!(run(&node, &id)["status"], "running");
    let _ = node.mill(["exec", &id, "--", "touch", "/tmp/end"]).ok();
    let ended = poll(|| Some(run(&node, &id)).filter(|run| run["ended_at"].is_string()))
        .secs(20)
        .expect("its end");
    assert_eq!((&ended["exit"]["code"], &ended["started_at"]), (&json!(3), &started), "{ended}");
    let lines = node.mill(["logs", &id]).ok();
    assert_eq!(lines.matches("begun").count(), 1, "{lines}");
    let waited = waits.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&waited.stdout);
    assert_eq!((waited.status.code(), &*said), (Some(3), "begun\n"));
}

#[test]
fn a_rollout_waits_for_its_task_and_fails_with_it() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let hello = |version: &str, script: &str| {
        let image_of = registry.image(&format!("hello:{version}"));
        let more = "before-deploy \"migrate\"\nafter-deploy \"tell\"";
        let service = files::service("hello", &image_of, more);
        let tell = task("tell", &image, "echo told", "");
        format!("{service}\n{}{tell}", task("migrate", &image, script, ""))
    };
    let out = node.up(&hello("v1", "echo migrated")).ok();
    let (migrated, healthy) = (out.find("completed"), out.find("healthy"));
    assert!(migrated.is_some() && migrated < healthy, "{out}");
    assert_eq!(out.matches("completed").count(), 2, "{out}");
    let before = node.allocations("hello");
    let failed = node.up(&hello("v2", "echo table is missing; exit 4")).code(1).stdout;
    assert!(failed.contains("exited 4") && failed.contains("table is missing"), "{failed}");
    let after = node.allocations("hello");
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(after[0]["id"], before[0]["id"], "the old version runs on");
    // A deployment that doesn't touch the service doesn't run its tasks.
    let runs = || node.api().get("/v1/tasks?name=migrate").as_array().map(Vec::len);
    assert_eq!(runs(), Some(2));
    let _ = node.mill(["scale", "hello", "2"]).ok();
    assert_eq!(runs(), Some(2));
}

#[test]
fn a_task_that_fails_after_a_rollout_takes_it_back() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let hello = |version: &str, script: &str| {
        let image_of = registry.image(&format!("hello:{version}"));
        let service = files::service("hello", &image_of, "after-deploy \"verify\"");
        format!("{service}\n{}", task("verify", &image, script, ""))
    };
    let out = node.up(&hello("v1", "true")).ok();
    assert!(out.contains("+ verify  task, image v1"), "{out}");
    let failed = node.up(&hello("v2", "echo page is empty; exit 4")).code(1).stdout;
    // The new version was healthy first, and is taken back for what the task said.
    let (healthy, exited) = (failed.find("healthy"), failed.find("exited 4"));
    assert!(healthy.is_some() && healthy < exited, "{failed}");
    assert!(failed.contains("after-deploy") && failed.contains("page is empty"), "{failed}");
    assert!(failed.contains("r1 runs again, 1/1 healthy"), "{failed}");
    assert!(failed.contains("~ verify  task, changed"), "{failed}");
    let service = node.api().get("/v1/services/hello");
    assert_eq!(service["image"], registry.image("hello:v1"), "{service}");
    let deployment = node.api().get("/v1/deployments/2");
    assert_eq!(deployment["status"], "failed", "{deployment}");
    // The task's earlier version is the one that can be spawned again.
    let _ = node.mill(["spawn", "verify", "--wait"]).code(0);
}
