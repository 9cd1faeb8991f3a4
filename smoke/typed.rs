//! What people of other programs type without thinking, against a real node.

use crate::registry::Registry;
use crate::support::TestDaemon;

/// One app with two services and a task.
fn shop(image: &str) -> String {
    let service = |name: &str| {
        format!(
            "service \"{name}\" {{\n    image \"{image}\"\n    cpu 0.05\n    memory \"32M\"\n    \
             command \"sleep\" \"100000\"\n    stop grace=\"1s\"\n}}\n"
        )
    };
    let task = format!("task \"job\" {{\n    image \"{image}\"\n    memory \"32M\"\n}}\n");
    format!("app \"shop\"\n\n{}{}{task}", service("web"), service("db"))
}

#[test]
fn words_are_taken_as_they_are_meant() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let mill = |line: &str| node.mill(line.split(' '));
    let _ = node.up(&shop(&image)).ok();

    // Behind the name, or behind the flags, everything is the program's.
    assert_eq!(mill("exec web echo --json -q").ok(), "--json -q\n");
    let spawn = format!("spawn --memory 32M --image {image} --wait echo -e x");
    assert!(mill(&spawn).ok().contains('x'));
    let run = mill(&format!("spawn --image {image} echo x")).ok();
    assert!(run.starts_with("busybox-"), "{run}");

    let ids = mill("ps -q web db").ok();
    assert!(ids.lines().count() == 2 && ids.starts_with("db-0-"), "{ids}");
    assert_eq!(mill("ps --status backoff -q").ok(), "");
    let _ = mill("ps --status well").code(2).says("running backoff");
    let why = mill("why shop").ok();
    assert!(why.contains("web-0-") && why.contains("db-0-"), "{why}");
    assert!(mill("show shop").ok().starts_with("// shop r1\napp \"shop\"\n"));
    assert!(mill("logs shop -n 1").ok().lines().count() <= 1);
    let offered = mill("__complete down w").ok();
    assert_eq!(offered, "web\n");

    // Nothing goes where one of the names is none.
    let _ = mill("down db nope").code(1).says("no service, task or app nope");
    assert_eq!(mill("ps -q db").ok().lines().count(), 1);
    let gone = mill("down job db").ok();
    assert!(gone.contains("- job  task, removed") && gone.contains("- db  removed"), "{gone}");
    let show = mill("show r1").ok();
    assert!(show.contains("\napp \"shop\"\n") && show.contains("task \"job\""), "{show}");
    let diff = mill("diff r1").ok();
    assert!(diff.contains("- db  image ") && diff.contains("- job  task"), "{diff}");
    assert_eq!(mill("diff r1 r1").ok(), "shop r1 and r1 are the same\n");
    assert_eq!(mill("rebalance").ok().split(':').next(), Some("Nothing to do"));
    let detached = mill("down --app shop --detach").ok();
    assert!(detached.contains(" accepted. Follow it: mill up --attach r"), "{detached}");
}

#[test]
fn a_login_is_kept_and_used() {
    let node = TestDaemon::start();
    let home = tempfile::tempdir().unwrap();
    let mill = |args: &[&str]| {
        let mut command = node.command(args);
        command.env_remove("MILL_SOCKET").env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let address = format!("http://{}", node.api_address());
    let (code, out) = mill(&["login", &address, "--token", &node.token()]);
    assert!(code == Some(0) && out.starts_with("test at http://"), "{out}");
    let (code, out) = mill(&["status"]);
    assert!(code == Some(0) && out.starts_with("test  1/1 nodes"), "{out}");
    assert_eq!(mill(&["logout"]), (Some(0), "Forgotten\n".to_owned()));
}
