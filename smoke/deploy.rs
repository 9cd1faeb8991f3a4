//! A service's life: deployed, reached, listed, logged, updated, scaled, gone.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Api, TestDaemon, files};

/// What a replica answers at an address.
fn answer(address: &str) -> String {
    Api::tcp(address, None).request("GET", "/").send().status(200).body.trim().to_owned()
}

fn addresses(node: &TestDaemon, name: &str) -> Vec<String> {
    let all = node.allocations(name);
    let running = all.iter().filter(|one| one["status"] == "running" && one["health"] == "healthy");
    running.map(|one| one["address"].as_str().expect("an address").to_owned()).collect()
}

#[test]
fn a_service_is_deployed_reached_updated_and_gone() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let out = node.up(&files::hello(&registry.image("hello:v1"), 2)).ok();
    assert!(out.contains("healthy"), "{out}");
    let first = addresses(&node, "hello");
    assert_eq!(first.len(), 2, "{first:?}");
    let network = node.subnet().replace("0.0/16", "");
    for address in &first {
        assert!(address.starts_with(&network) && address.ends_with(":8080"), "{address}");
        assert_eq!(answer(address), "hello v1");
    }
    let image = format!("hello={}", registry.image("hello:v2"));
    let file = node.file("test.mill", &files::hello(&registry.image("hello:v1"), 2));
    let _ = node.mill(["up", "-f", file.to_str().unwrap(), "--image", &image]).ok();
    let second = addresses(&node, "hello");
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(second.iter().all(|address| !first.contains(address)), "{first:?} {second:?}");
    for address in &second {
        assert_eq!(answer(address), "hello v2");
    }
    let history = node.mill(["history", "--json"]).json();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    nothing_is_left(&node);
}

/// After `down --all`: the daemon and its containerd, and nothing else.
fn nothing_is_left(node: &TestDaemon) {
    let rest = || {
        let left = node.leftovers().into_iter();
        left.filter(|line| {
            let daemon = line.starts_with("process")
                && (line.contains(" daemon ") || line.contains("containerd --config"));
            let folder = line.starts_with("folder /run/mill/");
            !daemon && !folder
        })
        .collect::<Vec<_>>()
    };
    poll(|| if rest().is_empty() { Ok(()) } else { Err(rest()) })
        .secs(20)
        .expect("nothing but the daemon and containerd");
}

#[test]
fn an_unchanged_file_makes_no_revision() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let text = files::hello(&registry.image("hello:v1"), 1);
    let _ = node.up(&text).ok();
    let before = node.allocations("hello");
    let _ = node.up(&text).ok();
    assert_eq!(node.allocations("hello")[0]["id"], before[0]["id"]);
    assert_eq!(node.mill(["history", "--json"]).json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_service_is_scaled_and_restarted() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 1)).ok();
    let _ = node.mill(["scale", "hello", "3"]).ok();
    assert_eq!(addresses(&node, "hello").len(), 3);
    let _ = node.mill(["scale", "hello", "1"]).ok();
    poll(|| addresses(&node, "hello").len() == 1).secs(30).expect("one replica");
    let before = addresses(&node, "hello");
    let _ = node.mill(["restart", "hello"]).ok();
    let replaced = || addresses(&node, "hello").len() == 1 && addresses(&node, "hello") != before;
    poll(replaced).secs(30).expect("another replica");
}

#[test]
fn logs_of_all_replicas_are_merged() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("chatty:v1");
    let _ = node.up(&files::service("chatty", &image, "replicas 2")).ok();
    let full = || {
        let out = node.mill(["logs", "chatty"]).ok();
        let lines = out.lines().filter(|line| line.contains("| line ")).count();
        (lines == 200).then_some(out)
    };
    let out = poll(full).secs(20).expect("100 lines of each replica");
    let numbers: Vec<&str> = out.lines().filter(|line| line.ends_with("| line 100")).collect();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    let tail = node.mill(["logs", "chatty", "-n", "3"]).ok();
    assert_eq!(tail.lines().count(), 3, "{tail}");
}
