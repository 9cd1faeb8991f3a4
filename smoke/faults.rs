//! What people and machines do wrong, and what mill says: files, images, registries, hosts.
//!
//! Each case ends with a message that names the place, and with a node that still works.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::cut::Cut;
use crate::support::node::MILL;
use crate::support::{Outcome, TestDaemon, files};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// That the node still deploys.
fn works(node: &TestDaemon, registry: &Registry) {
    let _ = node.up(&files::hello(&registry.image("hello:v1"), 1)).ok();
    assert_eq!(node.allocations("hello")[0]["health"], "healthy");
}

#[test]
fn bad_files_are_refused_before_anything_is_touched() {
    let node = TestDaemon::start();
    let _ = node
        .up("service \"web\" {\n    image \"x\"\n    replica 2\n}\n")
        .code(2)
        .says("test.mill:3:5: service \"web\": unknown field \"replica\"");
    let large = "// a long comment\n".repeat(120_000);
    let _ = node.up(&large).code(2).says("1 MiB");
    let file = node.file("binary.mill", "");
    std::fs::write(&file, [0xff, 0xfe, 0, 1, 2, 3]).unwrap();
    let _ = node.mill(["up", "-f", file.to_str().unwrap()]).code(2).says("UTF-8");
    let answer = node.api().request("POST", "/v1/deploy").body("text/plain", large).send();
    answer.error(413, "too_large");
    let empty = node.api().get("/v1/allocations");
    assert_eq!(empty.as_array().map(Vec::len), Some(0), "{empty}");
}

#[test]
fn what_can_not_be_carried_out_is_refused_with_its_line() {
    let node = TestDaemon::start();
    let file = files::service("web", "x:v1", "update canary=1 for=\"1m\"");
    let _ = node.up(&file).code(2).says("test.mill:7:");
}

#[test]
fn a_missing_image_is_named() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("nothing:v9");
    let _ = node.up(&files::hello(&image, 1)).code(1).says(&format!("{image} not found"));
    works(&node, &registry);
}

#[test]
fn a_registry_that_is_down_is_named() {
    let mut registry = Registry::start();
    let node = TestDaemon::start();
    registry.stop();
    let image = registry.image("hello:v1");
    let _ = node.up(&files::hello(&image, 1)).code(1).says(&registry.address());
    registry.restart();
    works(&node, &registry);
}

#[test]
fn a_registry_that_breaks_off_is_tried_again() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let cut = Cut::after(100_000, registry.address());
    let file = node.file("test.mill", &files::hello(&cut.image("hello:v1"), 1));
    let mut up = node.command(["up", "-f", file.to_str().unwrap()]).spawn().unwrap();
    poll(|| node.allocations("hello").iter().any(|one| one["status"] == "pulling"))
        .secs(30)
        .expect("a pull that doesn't end");
    cut.mend();
    let status = poll(|| up.try_wait().unwrap()).secs(120).expect("the end of up");
    assert!(status.success(), "{status}");
}

#[test]
fn a_layer_with_a_wrong_digest_is_refused() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    break_layers(&registry);
    let file = node.file("test.mill", &files::hello(&registry.image("hello:v1"), 1));
    let mut command = node.command(["up", "-f", file.to_str().unwrap(), "--timeout", "20s"]);
    let outcome = Outcome::new("up".to_owned(), command.output().unwrap());
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains("digest"), "{text}");
}

/// Changes a byte in every blob that is compressed.
fn break_layers(registry: &Registry) {
    let blobs = registry.data().join("docker/registry/v2/blobs/sha256");
    let mut broken = 0;
    for entry in walk(&blobs) {
        let mut bytes = std::fs::read(&entry).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&entry, bytes).unwrap();
            broken += 1;
        }
    }
    assert!(broken > 0, "no layer found");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn an_image_for_another_processor_is_named() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let outcome = node.up(&files::hello(&registry.image("alien:v1"), 1)).code(1);
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains("arm64") || text.contains("amd64"), "{text}");
    works(&node, &registry);
}

#[test]
fn a_command_that_is_not_in_the_image_is_named() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let outcome = node.up(&files::service("web", &image, "command \"/bin/nothing\"")).code(1);
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains("/bin/nothing"), "{text}");
    works(&node, &registry);
}

#[test]
fn a_container_that_ends_at_once_fails_the_deployment() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let image = registry.image("crash:v1");
    let outcome = node.up(&files::service("web", &image, "update healthy-deadline=\"5s\"")).code(1);
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains("exited 3") || text.contains("exit code 3"), "{text}");
    assert!(text.contains("nothing to live for"), "its last lines are shown: {text}");
}

#[test]
fn a_new_version_that_fails_leaves_the_old_one() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    works(&node, &registry);
    let before = node.allocations("hello")[0]["id"].clone();
    let bad = files::hello(&registry.image("crash:v1"), 1)
        .replace("health", "update healthy-deadline=\"5s\"\n    health");
    let _ = node.up(&bad).code(1);
    let running = || {
        let all = node.allocations("hello");
        let now: Vec<_> = all.iter().filter(|one| one["status"] == "running").cloned().collect();
        (now.len() == 1 && now[0]["id"] == before).then_some(())
    };
    poll(running).secs(20).expect("the old replica alone");
}

#[test]
fn a_published_port_in_use_is_named() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = files::hello(&registry.image("hello:v1"), 1)
        .replace("health", &format!("publish {port}\n    health"));
    let outcome = node.up(&file).code(1);
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(text.contains(&port.to_string()) && text.contains("smoke"), "{text}");
}

#[test]
fn a_listener_in_use_is_named() {
    let node = TestDaemon::start();
    let folder = tempfile::tempdir().unwrap();
    let mut second = daemon(folder.path());
    let output = ended(second.args(["--api", &node.api_address()]));
    let _ = Outcome::new("daemon".to_owned(), output).code(1).says(&node.api_address());
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let node = TestDaemon::start();
    let output = node.daemon_command().output().unwrap();
    let outcome = Outcome::new("daemon".to_owned(), output).code(1);
    let _ = outcome.says(node.data().to_str().unwrap());
    assert_eq!(node.api().get("/v1/nodes").as_array().map(Vec::len), Some(1));
}

/// A daemon in a folder of its own that is to end by itself.
fn daemon(folder: &Path) -> Command {
    let mut command = Command::new(MILL);
    command.arg("daemon").arg("--data-dir").arg(folder.join("data"));
    command.arg("--socket").arg(folder.join("s"));
    command
}

#[test]
fn without_root_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let binary = folder.path().join("mill");
    std::fs::copy(MILL, &binary).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.args(daemon(folder.path()).get_args()).args(["--api", "127.0.0.1:0"]);
    let _ = Outcome::new("daemon".to_owned(), ended(&mut command)).code(1).says("root");
}

#[test]
fn a_data_directory_that_is_not_writable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file is in the way").unwrap();
    let mut command = daemon(folder.path());
    let output = ended(command.args(["--api", "127.0.0.1:0"]));
    let _ = Outcome::new("daemon".to_owned(), output).code(1).says("data directory");
}

/// The output of a command that is to end by itself.
fn ended(command: &mut Command) -> std::process::Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let end = poll(|| child.try_wait().unwrap().is_some() || Instant::now() > deadline);
    end.secs(30).expect("the end");
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let output = Command::new(MILL).arg("ps").env("MILL_SOCKET", &socket).output().unwrap();
    let _ = Outcome::new("ps".to_owned(), output).code(3).says("No daemon at");
}

#[test]
fn a_containerd_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(MILL);
    command.arg("daemon").arg("--data-dir").arg(folder.path().join("data"));
    command.arg("--socket").arg(folder.path().join("s")).args(["--api", "127.0.0.1:0"]);
    command.args(["--containerd", "/nowhere/containerd.sock"]);
    let outcome = Outcome::new("daemon".to_owned(), command.output().unwrap()).code(1);
    let _ = outcome.says("/nowhere/containerd.sock");
}

#[test]
fn a_disk_that_is_full_while_pulling_is_named() {
    let registry = Registry::start();
    let node = TestDaemon::builder().containerd_disk("32M").start();
    let ballast = node.data().join("containerd/ballast");
    let mut open = std::fs::File::create(&ballast).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0), &mut open).unwrap_err();
    // Open, it would hold its space beyond its removal.
    drop(open);
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let file = node.file("test.mill", &files::hello(&registry.image("hello:v1"), 1));
    let output = node.file("output", "");
    let out = std::fs::File::create(&output).unwrap();
    let mut up = node.command(["up", "-f", file.to_str().unwrap()]);
    let mut up = up.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    poll(|| std::fs::read_to_string(&output).unwrap().contains("no space"))
        .secs(60)
        .expect("up to say that the disk is full");
    std::fs::remove_file(ballast).unwrap();
    let status = poll(|| up.try_wait().unwrap()).secs(120).expect("the end of up");
    assert!(status.success(), "the pull is tried again: {status}");
}

#[test]
fn a_client_may_leave_in_the_middle_of_every_stream() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    works(&node, &registry);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    let before = open();
    let api = node.api();
    for round in 0..20 {
        let text = files::hello(&registry.image("hello:v1"), 1 + round % 2);
        api.request("POST", "/v1/deploy").body("text/plain", text).leave();
        api.request("GET", "/v1/logs/hello?follow=true").leave();
        api.request("GET", "/v1/logs?follow=true").leave();
    }
    poll(|| open() <= before + 4).secs(30).expect("the connections to be closed");
    let settled = || node.api().get("/v1/deployments")[0]["status"] != "running";
    poll(settled).secs(60).expect("the deployments to go on without their client");
    works(&node, &registry);
}
