//! No request is dropped: clients go on through rolling updates, good and failed ones.
//!
//! Owns what is changed meanwhile. The clients are `support/traffic.rs`.

use crate::registry::Registry;
use crate::support::TestDaemon;
use crate::support::files;
use crate::support::node::free_port;
use crate::support::traffic::{Load, Traffic};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const UPDATES: u32 = 10;
const FAILURES: u32 = 3;

#[test]
fn ten_updates_and_three_failed_ones_drop_no_request() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let (image, port) = (registry.image("patient:v1"), free_port());
    let _ = node.up(&files::patient(&image, port, 2, "v0", "")).ok();
    let load = Load {
        kept: 8,
        new: Duration::from_millis(10),
        slow: Duration::from_millis(100),
        upload: Duration::from_millis(250),
    };
    let traffic = Traffic::at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), load);
    for n in 1..=UPDATES {
        traffic.during(&format!("v{n}"));
        let _ = node.up(&files::patient(&image, port, 2, &format!("v{n}"), "")).ok();
    }
    for n in 1..=FAILURES {
        traffic.during(&format!("bad{n}"));
        let broken = files::patient(&image, port, 2, &format!("bad{n}"), "; BROKEN \"yes\"");
        let outcome = node.up(&broken).code(1);
        assert!(outcome.stdout.contains("500"), "{}", outcome.stdout);
    }
    println!("{}", node.mill(["events"]).ok());
    let counts = traffic.end();
    assert!(counts.slow > 100, "{counts:?}");
}
