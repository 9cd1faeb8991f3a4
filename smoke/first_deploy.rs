//! `docs/workflows/first-deploy.md`: a file is checked, planned, deployed, looked at, taken down.

use crate::registry::Registry;
use crate::support::{Api, TestDaemon, files};

#[test]
fn first_deploy() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let text = files::hello(&registry.image("hello:v1"), 2);
    let path = node.file("hello.mill", &text);
    let path = path.to_str().unwrap();

    // A slip is told with its line before anything is touched.
    let slip = node.file("slip.mill", &text.replace("replicas 2", "replica 2"));
    let told = node.mill(["check", slip.to_str().unwrap()]).code(2);
    assert!(told.stderr.contains("did you mean \"replicas\"?"), "{}", told.stderr);
    let _ = node.mill(["check", path]).ok();

    let planned = node.mill(["plan", path]).code(10).stdout;
    let exact = planned.lines().last().unwrap();
    assert!(planned.contains("+ hello") && exact.starts_with("mill up --plan "), "{planned}");
    assert!(node.allocations("hello").is_empty());
    let out = node.mill(exact.split(' ').skip(1)).ok();
    assert!(out.contains("✓ r1 done") && out.contains("2/2 healthy"), "{out}");
    println!("{planned}\n{out}");

    let ps = node.mill(["ps"]).ok();
    assert_eq!(ps.matches("running  healthy").count(), 2, "{ps}");
    println!("{ps}\n{}", node.mill(["status"]).ok());
    for one in node.allocations("hello") {
        let address = one["address"].as_str().unwrap();
        let answer = Api::tcp(address, None).request("GET", "/").send().status(200);
        assert_eq!(answer.body.trim(), "hello v1");
    }

    // The same file again is no change.
    assert!(node.mill(["up", path]).ok().contains("Nothing to do"));
    let _ = node.mill(["plan", path]).code(0);
    let _ = node.mill(["down", "-f", path]).ok();
    assert!(!node.mill(["ps"]).ok().contains("hello-0"));
}
