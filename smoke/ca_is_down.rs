//! `docs/workflows/ca-is-down.md`: an authority that is away costs nothing but patience.

use crate::certificates::{Site, port};
use crate::poll::poll;

#[test]
fn ca_is_down() {
    let mut site = Site::new("    route \"app.acme.test\"", &[]);
    let first = site.valid("app.acme.test");
    let root = site.pebble.root();
    site.pebble.stop();

    let _ = site.node.mill(["cert", "renew", "app.acme.test"]).ok();
    let failed = poll(|| {
        let one = site.certificate("app.acme.test");
        if one["failures"] == 1 { Ok(one) } else { Err(one) }
    });
    let failed = failed.secs(60).expect("a failure");
    println!("{failed}");
    assert_eq!((&failed["status"], &failed["not_after"]), (&first["status"], &first["not_after"]));
    let next = failed["next"].as_str().unwrap();
    assert!(next > first["not_before"].as_str().unwrap(), "a wait: {next}");
    let _ = site.https("app.acme.test", &root).ok();
    let status = site.node.mill(["status"]).ok();
    println!("{status}\n{}", site.node.mill(["why", "app.acme.test"]).ok());
    let told = "app.acme.test  no answer from 127.0.0.1:";
    assert!(status.contains(told) && status.contains("mill why app.acme.test"), "{status}");
    assert!(site.node.mill(["events"]).ok().contains("certificate  failed  app.acme.test: "));

    // It comes back and knows nobody any more: the cluster is somebody new to it. Port 80 is closed
    // to it now, so that it looks by TLS.
    site.pebble.start(1, port(&site.node.https_address()));
    let _ = site.node.mill(["cert", "renew", "app.acme.test"]).ok();
    let renewed = || site.node.mill(["events"]).ok().contains("certificate  renewed");
    poll(renewed).secs(60).expect("another certificate");
    let healed = site.certificate("app.acme.test");
    assert_eq!((&healed["failures"], healed["error"].is_null()), (&0.into(), true), "{healed}");
    let _ = site.https("app.acme.test", &site.pebble.root()).ok();
}
