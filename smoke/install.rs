//! The daemon as a service of systemd: the unit is sound, and the daemon says when it is ready.

use crate::support::{Outcome, TestDaemon, node::MILL};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn run(command: &mut Command) -> Outcome {
    Outcome::new(format!("{command:?}"), command.output().expect("it can be run"))
}

fn install(root: &Path) -> Outcome {
    run(Command::new(MILL).args(["install", "--json", "--root", root.to_str().unwrap()]))
}

#[test]
fn the_unit_is_sound_and_settings_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let told = install(root.path()).json();
    let path = |what: &str| told[what].as_str().unwrap().to_owned();
    assert_eq!(told["started"], false, "{told}");
    std::fs::write(path("settings"), "MILL_LOG=debug\n").unwrap();
    let _ = install(root.path()).json();
    assert_eq!(std::fs::read_to_string(path("settings")).unwrap(), "MILL_LOG=debug\n");

    // systemd looks whether the program is there: it is shown the one below the root.
    let unit = std::fs::read_to_string(path("unit")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/mill daemon\n"), "{unit}");
    let shown = unit.replace("/usr/local/bin/mill", &path("binary"));
    std::fs::write(path("unit"), shown).unwrap();
    let checked = run(Command::new("systemd-analyze").arg("verify").arg(path("unit")));
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{checked:?}");
}

#[test]
fn a_daemon_tells_systemd_when_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("told within 20 s");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut node =
        TestDaemon::builder().env("NOTIFY_SOCKET", path.to_str().unwrap()).unclaimed().start();
    assert_eq!(told(), "READY=1\n");
    assert_eq!(node.stop(), Some(0));
    assert_eq!(told(), "STOPPING=1\n");
}
