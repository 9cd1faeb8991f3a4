//! `docs/workflows/certificates.md`: a host that leads to the cluster is served with a certificate
//! that nobody had to ask for.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::front::{Front, Manner};
use crate::support::pebble::Pebble;
use crate::support::{Outcome, TestDaemon, files};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A node that orders certificates from an authority of its own.
pub struct Site {
    pub pebble: Pebble,
    pub front: Option<Front>,
    pub node: TestDaemon,
    _registry: Registry,
}

/// What a site is made of.
#[derive(Default)]
pub struct Plan<'a> {
    /// The routes of the one service.
    pub routes: &'a str,
    /// Names that lead to 203.0.113.9.
    pub away: &'a [&'a str],
    /// The external account that the authority asks for.
    pub external: Option<(&'a str, &'a str)>,
    /// Something stands before the authority, from its start with this manner.
    pub front: Option<Manner>,
    /// An authority where orders are tried.
    pub trial: Option<&'a Pebble>,
    /// The authority finds no host.
    pub blind: bool,
}

impl Site {
    /// With one service behind these routes; some names lead to 203.0.113.9.
    pub fn new(routes: &str, away: &[&str]) -> Self {
        Self::of(&Plan { routes, away, ..Plan::default() })
    }

    pub fn of(plan: &Plan) -> Self {
        let (mut pebble, registry) = (Pebble::new(), Registry::start());
        plan.away.iter().for_each(|name| pebble.lead(name, "203.0.113.9"));
        if let Some((id, key)) = plan.external {
            pebble.want_external(id, key);
        }
        let mut ca = pebble.ca();
        let mut builder = TestDaemon::builder().env("MILL_ACME_RESOLVER", &pebble.resolver());
        if let Some(trial) = plan.trial {
            builder = builder.env("MILL_ACME_TRIAL", &trial.directory());
            ca = pebble.trusting_also(trial);
        }
        let builder = builder.flags(["--acme-ca", ca.to_str().unwrap()]);
        let mut node = builder.unclaimed().start();
        match plan.blind {
            true => pebble.start(1, 1),
            false => pebble.start(port(&node.http_address()), port(&node.https_address())),
        }
        let front = plan.front.as_ref().map(|manner| {
            let front = Front::new(&pebble, None);
            front.behave(|known| *known = manner.clone());
            front
        });
        let directory = front.as_ref().map_or_else(|| pebble.directory(), Front::directory);
        let more = ["--advertise", "127.0.0.1", "--acme-email", "ops@acme.test"];
        node.init(&[&more[..], &["--acme-directory", &directory]].concat());
        let text = files::hello(&registry.image("hello:v1"), 1);
        let text = format!("{}{}\n}}\n", text.trim_end().trim_end_matches('}'), plan.routes);
        let _ = node.up(&text).ok();
        Self { pebble, front, node, _registry: registry }
    }

    /// How a host stands.
    pub fn certificate(&self, host: &str) -> Value {
        let all = self.node.mill(["cert", "list", "--json"]).json();
        let mut all = all.as_array().unwrap().iter();
        all.find(|one| one["host"] == host).cloned().unwrap_or_default()
    }

    /// Waits until a host has a certificate.
    #[track_caller]
    pub fn valid(&self, host: &str) -> Value {
        poll(|| {
            let one = self.certificate(host);
            if one["status"] == "valid" { Ok(one) } else { Err(one) }
        })
        .secs(60)
        .expect("a certificate")
    }

    /// One request with HTTPS; the whole answer.
    pub fn https(&self, host: &str, trusted: &Path) -> Outcome {
        let to = self.node.https_address();
        let (address, port) = to.rsplit_once(':').unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--resolve", &format!("{host}:{port}:{address}"), "--cacert"]);
        curl.arg(trusted).arg(format!("https://{host}:{port}/"));
        let output = curl.output().unwrap();
        Outcome::new(format!("{curl:?}"), output)
    }

    /// And with HTTP.
    pub fn http(&self, host: &str) -> String {
        let to = format!("http://{}/x?y", self.node.http_address());
        let mut curl = Command::new("curl");
        let output = curl.args(["-si", "-H", &format!("Host: {host}"), &to]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

pub fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn certificates() {
    let routes = "    route \"app.acme.test\" hsts=#true\n    \
                  route \"plain.acme.test\" redirect=#false\n    \
                  route \"away.acme.test\"\n    route \"*.wild.test\"";
    let mut site = Site::new(routes, &["away.acme.test"]);
    let first = site.valid("app.acme.test");
    assert!(first["issuer"].as_str().unwrap().starts_with("Pebble"), "{first}");
    site.valid("plain.acme.test");
    let root = site.pebble.root();
    let answer = site.https("app.acme.test", &root).ok();
    assert!(answer.starts_with("HTTP/2 200") && answer.contains("hello v1"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    let moved = site.http("app.acme.test");
    let port = port(&site.node.https_address());
    assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
    assert!(moved.contains(&format!("https://app.acme.test:{port}/x?y\r\n")), "{moved}");
    let plain = site.http("plain.acme.test");
    assert!(plain.starts_with("HTTP/1.1 ") && !plain.contains("ocation: "), "{plain}");
    assert_eq!(site.https("other.acme.test", &root).code, Some(35), "no certificate, no TLS");

    // A name that leads elsewhere is told, and not ordered for until it leads here.
    let elsewhere = || site.node.mill(["status"]).ok();
    let told = "away.acme.test  away.acme.test leads to 203.0.113.9, not to this cluster";
    poll(|| elsewhere().contains(told)).secs(30).expect("a warning");
    println!("{}\n{}", elsewhere(), site.node.mill(["cert", "list"]).ok());
    let why = site.node.mill(["why", "away.acme.test"]).ok();
    assert!(
        why.starts_with("away.acme.test has no certificate\n  away.acme.test leads to"),
        "{why}"
    );
    site.pebble.lead("away.acme.test", "127.0.0.1");
    site.valid("away.acme.test");

    wildcard(&site);
    renewal(&mut site, &first);
}

/// A wildcard's certificate is imported.
fn wildcard(site: &Site) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["*.wild.test".to_owned()]).unwrap();
    let made = made.self_signed(&key).unwrap();
    let certificate = site.node.file("cert.pem", &made.pem());
    let own = site.node.file("key.pem", &key.serialize_pem());
    let (certificate, own) = (certificate.to_str().unwrap(), own.to_str().unwrap());
    let import = |host: &str| site.node.mill(["cert", "import", host, certificate, own]);
    let _ = import("app.acme.test").code(2).says("the certificate is not for app.acme.test");
    let told = import("*.wild.test").ok();
    assert!(told.starts_with("*.wild.test  imported, valid until "), "{told}");
    let answer = site.https("any.wild.test", Path::new(certificate)).ok();
    assert!(answer.contains("hello v1"), "{answer}");
    let _ = site.node.mill(["cert", "renew", "*.wild.test"]).code(1).says("is imported");
    let metrics = site.node.api().request("GET", "/v1/metrics").send().status(200).body;
    assert!(metrics.contains("mill_cert_expiry_seconds{host=\"*.wild.test\"}"), "{metrics}");
}

/// What there is outlives the daemon and the keyring, and another is ordered when asked for.
fn renewal(site: &mut Site, first: &Value) {
    let _ = site.node.mill(["secret", "rotate-key"]).ok();
    site.node.kill();
    site.node.restart();
    assert_eq!(&site.valid("app.acme.test")["not_after"], &first["not_after"]);
    let root = site.pebble.root();
    poll(|| site.https("app.acme.test", &root).code == Some(0)).secs(20).expect("an answer");
    let renewed = || site.node.mill(["events"]).ok().contains("certificate  renewed");
    let _ = site.node.mill(["cert", "renew", "app.acme.test"]).ok();
    poll(renewed).secs(60).expect("another certificate");
    println!("{}", site.node.mill(["events"]).ok());
    let _ = site.https("app.acme.test", &root).ok();
}
