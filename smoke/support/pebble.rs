//! A certificate authority of a test's own: pebble, with the DNS server that it asks.
//!
//! Owns both processes and their folder: they go with it. Never checks anything.

use super::node::free_port;
use crate::poll::poll;
use crate::registry::run;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A certificate authority with the DNS server that it asks.
pub struct Pebble {
    folder: TempDir,
    dns: u16,
    dns_management: u16,
    port: u16,
    management: u16,
    names: Child,
    authority: Option<Child>,
}

impl Pebble {
    /// The DNS server alone: every name leads to 127.0.0.1. The authority is started later, when it
    /// is known where hosts answer.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [dns, dns_management, port, management] = std::array::from_fn(|_| free_port());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let own = params.unwrap().signed_by(&key, &ca).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        write("cert.pem", own.pem());
        write("key.pem", key.serialize_pem());
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-dns01", &format!("127.0.0.1:{dns}"), "-defaultIPv6", ""]);
        names.args(["-management", &format!("127.0.0.1:{dns_management}")]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let quiet = names.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let names = quiet.spawn().expect("pebble-challtestsrv: harness/setup --test installs it");
        Self { folder, dns, dns_management, port, management, names, authority: None }
    }

    /// Starts the authority, with another root than before. It looks at hosts at these ports, of
    /// HTTP and of HTTPS.
    pub fn start(&mut self, http: u16, https: u16) {
        let path = |name: &str| self.folder.path().join(name);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http,
            "tlsPort": https,
        }});
        fs::write(path("config.json"), config.to_string()).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(path("config.json"));
        pebble.args(["-dnsserver", &format!("127.0.0.1:{}", self.dns)]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "20");
        let pebble = pebble.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.authority = Some(pebble.spawn().expect("pebble: harness/setup --test installs it"));
        poll(|| self.fetch("roots/0").contains("BEGIN")).secs(20).expect("pebble to answer");
    }

    /// Ends the authority, at once. What it knew is gone with it.
    pub fn stop(&mut self) {
        if let Some(mut pebble) = self.authority.take() {
            pebble.kill().unwrap();
            pebble.wait().unwrap();
        }
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// Whom its directory is trusted by.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The DNS server that knows all names.
    #[must_use]
    pub fn resolver(&self) -> String {
        format!("127.0.0.1:{}", self.dns)
    }

    /// Whom the certificates that it issues are trusted by, in a file.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let path = self.folder.path().join("root.pem");
        fs::write(&path, self.fetch("roots/0")).unwrap();
        path
    }

    /// Whether the DNS server can be told something.
    #[must_use]
    pub fn is_known(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.dns_management)).is_ok()
    }

    /// Lets a name lead to an address and no other.
    pub fn lead(&self, name: &str, address: &str) {
        let body = serde_json::json!({ "host": format!("{name}."), "addresses": [address] });
        for what in ["clear-a", "add-a"] {
            let to = format!("http://127.0.0.1:{}/{what}", self.dns_management);
            run(Command::new("curl").args(["-sSf", "-d", &body.to_string(), &to]));
        }
    }

    fn fetch(&self, path: &str) -> String {
        let from = format!("https://127.0.0.1:{}/{path}", self.management);
        let got = Command::new("curl").args(["-sk", &from]).output().unwrap();
        String::from_utf8_lossy(&got.stdout).into_owned()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- pebble's log\n{log}");
        }
        for process in [Some(&mut self.names), self.authority.as_mut()].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
