//! The daemon restarts, as under systemd, and no client of its proxy notices.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::traffic::Load;
use crate::support::{TestDaemon, Traffic, files};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const LOAD: Load = Load {
    kept: 4,
    new: Duration::from_millis(20),
    slow: Duration::from_millis(250),
    upload: Duration::from_millis(250),
};

#[test]
fn a_restart_of_the_daemon_loses_no_request() {
    let registry = Registry::start();
    let mut node = TestDaemon::builder().kept().start();
    let port = crate::support::node::free_port();
    let text = files::patient(&registry.image("patient:v1"), port, 2, "v1", "");
    let _ = node.up(&text.replace("    publish", "    route \"patient\"\n    publish")).ok();
    let kept = node.keeper().count();
    assert_ne!(kept, 0, "listeners are kept");

    let traffic = Traffic::at(node.http_address().parse().unwrap(), LOAD);
    for n in 1..=3 {
        traffic.during(&format!("restart {n}"));
        assert_eq!(node.stop(), Some(0));
        // Meanwhile a client comes, and waits.
        let mut early = TcpStream::connect(node.http_address()).unwrap();
        early.write_all(b"GET / HTTP/1.0\r\nHost: patient\r\n\r\n").unwrap();
        node.restart();
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(node.keeper().count(), kept, "the same are kept on");
        let before = traffic.answered();
        let served = || traffic.answered() > before + 200;
        poll(served).secs(30).expect("requests between two restarts");
    }
    traffic.end();

    // After a crash they are there as well.
    node.kill();
    let mut early = TcpStream::connect(node.http_address()).unwrap();
    early.write_all(b"GET / HTTP/1.0\r\nHost: patient\r\n\r\n").unwrap();
    node.restart();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
