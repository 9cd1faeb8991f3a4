//! How long a container takes beside `ctr run -d`; run by hand, prints its figures.
//!
//! Never fails for being slow: the bounds are in the benchmarks.

use super::{Host, run, sh};
use crate::registry::Registry;
use std::process::Command;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn create_and_start_beside_ctr() {
    let registry = Registry::start();
    let host = Host::start().await;
    let name = registry.image("busybox:v1");
    let image = host.pull(&name).await;
    let socket = host.places.socket();
    let exact = format!("{name}@{}", image.digest);
    for round in 0..10 {
        let began = Instant::now();
        let digest = host.images.resolve(&name).await.unwrap();
        let resolved = began.elapsed();
        host.images.ensure(&name, &digest, |_| ()).await.unwrap();
        let ensured = began.elapsed();
        let new = host.container(&format!("a{round}.1"), &image, &run("b", &["sleep", "60"]));
        host.containerd.create(&new).await.unwrap();
        let created = began.elapsed();
        host.containerd.start(&new.id).await.unwrap();
        let started = began.elapsed();
        let ctr = Instant::now();
        sh(Command::new("ctr")
            .arg("--address")
            .arg(&socket)
            .args(["--namespace", &host.instance, "run", "-d", &exact])
            .args([&format!("c{round}"), "sleep", "60"]));
        let ctr = ctr.elapsed();
        println!(
            "resolve {resolved:?} ensure {:?} create {:?} start {:?} = {started:?}; ctr {ctr:?}",
            ensured - resolved,
            created - ensured,
            started - created
        );
    }
}
