//! The tests of `registry.rs`, apart from it because the end-to-end tests share it.

use crate::registry::*;
use std::fs;
use std::net::TcpStream;
use std::process::Command;

fn digest(registry: &Registry, image: &str, options: &[&str]) -> String {
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("inspect").args(options).args(["--format", "{{.Digest}}"]);
    run(skopeo.arg(format!("docker://{}", registry.image(image)))).trim().to_owned()
}

#[test]
fn serves_the_images_stops_and_starts_again() {
    let mut registry = Registry::start();
    let address = registry.address();
    let plain = ["--tls-verify=false"];
    let v1 = digest(&registry, "hello:v1", &plain);
    let v2 = digest(&registry, "hello:v2", &plain);
    assert_ne!(v1, v2);
    registry.copy("hello:v2", "hello:v1");
    assert_eq!(digest(&registry, "hello:v1", &plain), v2);
    registry.stop();
    assert!(TcpStream::connect(&address).is_err());
    registry.restart();
    assert_eq!(registry.address(), address);
}

#[test]
fn serves_over_tls_with_its_own_authority() {
    let registry = Registry::start_tls();
    let folder = registry.ca().parent().unwrap().join("trusted");
    fs::create_dir(&folder).unwrap();
    fs::copy(registry.ca(), folder.join("ca.crt")).unwrap();
    let trusted = format!("--cert-dir={}", folder.display());
    assert!(digest(&registry, "multi:v1", &[&trusted]).starts_with("sha256:"));
}

#[test]
fn archives_hold_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tar");
    docker_archive("hello:v1", &file);
    let list = run(Command::new("tar").arg("tf").arg(&file));
    assert!(list.contains("manifest.json"), "{list}");
    let file = folder.path().join("b.tar");
    oci_archive("hello:v1", &file);
    let list = run(Command::new("tar").arg("tf").arg(&file));
    assert!(list.contains("oci-layout"), "{list}");
}
