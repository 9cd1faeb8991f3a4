//! `docs/workflows/partial-deploy-failure.md`: one of several services fails, and all that the
//! deployment touched is as it was before; what it would have removed never was otherwise.

use crate::poll::poll;
use crate::support::{TestCluster, Traffic, files};
use serde_json::Value;

const PORT: u16 = 8080;
const OLD_PORT: u16 = 8081;

/// A service without a port beside `patient`, in its app.
fn other(name: &str, image: &str) -> String {
    format!(
        "service \"{name}\" {{\n    image \"{image}\"\n    command \"sleep\" \"1000\"\n    \
         cpu 0.05\n    memory \"32M\"\n    stop grace=\"1s\"\n}}\n"
    )
}

/// A service with clients of its own that a later file removes.
fn old(image: &str) -> String {
    let patient = files::patient(image, OLD_PORT, 2, "v1", "");
    patient.replace("app \"patient\"\n\nservice \"patient\"", "service \"old\"")
}

#[test]
fn partial_deploy_failure() {
    let cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let (image, busybox) = (cluster.image("patient:v1"), cluster.image("busybox:v1"));
    let patient = |version: &str| files::patient(&image, PORT, 3, version, "");
    let node = cluster.node(1);
    let good = [patient("v1"), other("worker", &busybox), old(&image)].concat();
    let _ = node.up(&good).ok();
    let before = live(&cluster);
    assert_eq!(before.len(), 6, "{before:?}");
    let of_old = |all: &[(String, String)]| {
        all.iter().filter(|one| one.0 == "old").map(|one| one.1.clone()).collect::<Vec<_>>()
    };

    // A new version of one, one that is new, one that goes, and one that can't work.
    let traffic = Traffic::everywhere(&cluster, "patient", PORT);
    let kept = Traffic::everywhere(&cluster, "old", OLD_PORT);
    let broken = other("worker", &busybox).replace("\"1000\"", "\"no number\"");
    let bad = [patient("v2"), broken, other("new", &busybox)].concat();
    let out = node.up(&bad).code(1).stdout;
    assert!(out.contains("worker-0-") && out.contains("failed"), "{out}");
    assert!(out.contains("✗ r2 failed") && out.contains("r1 runs again"), "{out}");
    println!("{out}");
    assert!(!out.contains("old-"), "nothing happened to it: {out}");
    assert_eq!(of_old(&live(&cluster)), of_old(&before));
    let services = |name: &str| node.api().get(&format!("/v1/services/{name}"));
    for name in ["patient", "worker", "old"] {
        let service = services(name);
        assert_eq!(service["replicas"]["desired"], service["replicas"]["healthy"], "{service}");
    }
    node.api().request("GET", "/v1/services/new").send().error(404, "not_found");
    let end = poll(|| {
        let now = live(&cluster);
        let names = |all: &[(String, String)]| all.iter().map(|one| one.0.clone()).collect();
        let (was, is): (Vec<String>, Vec<String>) = (names(&before), names(&now));
        if was == is { Ok(now) } else { Err(now) }
    });
    let end = end.secs(20).expect("what ran before, and nothing else");
    println!("{before:?}\n{end:?}");
    traffic.end();
    kept.end();
    assert_eq!(of_old(&end), of_old(&before));

    // Once it is mended the same file goes through.
    let mended = [patient("v2"), other("worker", &busybox), other("new", &busybox)].concat();
    let _ = node.up(&mended).ok();
    assert_eq!(services("new")["replicas"]["healthy"], 1);
    node.api().request("GET", "/v1/services/old").send().error(404, "not_found");
}

/// Names and ids of what runs and stays, in the order of the names.
fn live(cluster: &TestCluster) -> Vec<(String, String)> {
    let all = cluster.node(2).api().get("/v1/allocations");
    let stays = |one: &&Value| one["status"] == "running" && one["draining"] == false;
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    let all = all.as_array().unwrap().iter().filter(stays);
    let mut all: Vec<_> = all.map(|one| (text(one, "name"), text(one, "id"))).collect();
    all.sort();
    all
}
