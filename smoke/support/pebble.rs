//! A certificate authority of a test's own: pebble, with the DNS server that it asks.
//!
//! Owns both processes and their folder: they go with it. Never checks anything.

use super::node::free_port;
use crate::poll::poll;
use crate::registry::run;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A certificate authority with the DNS server that it asks.
pub struct Pebble {
    folder: TempDir,
    /// The network namespace that it is in, if not the host's, and its address there.
    namespace: Option<PathBuf>,
    address: String,
    dns: u16,
    dns_management: u16,
    port: u16,
    management: u16,
    names: Child,
    authority: Option<Child>,
    external: Option<(String, String)>,
}

impl Pebble {
    /// The DNS server alone: every name leads to 127.0.0.1. The authority is started later, when it
    /// is known where hosts answer.
    #[must_use]
    pub fn new() -> Self {
        Self::at(None, "127.0.0.1")
    }

    /// The same in a network namespace, at that address.
    #[must_use]
    pub fn new_in(namespace: &Path, address: &str) -> Self {
        Self::at(Some(namespace.to_owned()), address)
    }

    fn at(namespace: Option<PathBuf>, address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [dns, dns_management, port, management] = std::array::from_fn(|_| free_port());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), address.to_owned()]);
        let own = params.unwrap().signed_by(&key, &ca).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        write("cert.pem", own.pem());
        write("key.pem", key.serialize_pem());
        let mut names = within(namespace.as_deref(), "pebble-challtestsrv");
        names.args(["-dns01", &format!("{address}:{dns}"), "-defaultIPv6", ""]);
        names.args(["-management", &format!("{address}:{dns_management}")]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let quiet = names.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let names = quiet.spawn().expect("pebble-challtestsrv: harness/setup --test installs it");
        let (address, authority, external) = (address.to_owned(), None, None);
        let pebble = Self {
            folder,
            namespace,
            address,
            dns,
            dns_management,
            port,
            management,
            names,
            authority,
            external,
        };
        poll(|| pebble.is_known()).secs(20).expect("a DNS server");
        pebble
    }

    /// Wants an account elsewhere of everybody, from the next start on: this one, with that key.
    pub fn want_external(&mut self, id: &str, key: &str) {
        self.external = Some((id.to_owned(), key.to_owned()));
    }

    /// Starts the authority, with another root than before. It looks at hosts at these ports, of
    /// HTTP and of HTTPS.
    pub fn start(&mut self, http: u16, https: u16) {
        let path = |name: &str| self.folder.path().join(name);
        let keys = self.external.iter().map(|(id, key)| (id.clone(), key.clone().into()));
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("{}:{}", self.address, self.port),
            "managementListenAddress": format!("{}:{}", self.address, self.management),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http,
            "tlsPort": https,
            "externalAccountBindingRequired": self.external.is_some(),
            "externalAccountMACKeys": keys.collect::<serde_json::Map<_, _>>(),
        }});
        fs::write(path("config.json"), config.to_string()).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let mut pebble = within(self.namespace.as_deref(), "pebble");
        pebble.arg("-config").arg(path("config.json"));
        pebble.args(["-dnsserver", &self.resolver()]);
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
        format!("https://{}/dir", self.place())
    }

    /// Where it listens, `ADDRESS:PORT`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// Whom its directory is trusted by.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Whom the directories of both are trusted by.
    #[must_use]
    pub fn trusting_also(&self, other: &Self) -> PathBuf {
        let path = self.folder.path().join("both.pem");
        let both = [self, other].map(|one| fs::read_to_string(one.ca()).unwrap());
        fs::write(&path, both.concat()).unwrap();
        path
    }

    /// Its own certificate and key.
    #[must_use]
    pub fn own(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name))
    }

    /// The DNS server that knows all names.
    #[must_use]
    pub fn resolver(&self) -> String {
        format!("{}:{}", self.address, self.dns)
    }

    /// Whom the certificates that it issues are trusted by, in a file.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let path = self.folder.path().join("root.pem");
        fs::write(&path, self.fetch("roots/0")).unwrap();
        path
    }

    /// How often the authority said so since it was started: a part of a line of its log.
    #[must_use]
    pub fn said(&self, part: &str) -> usize {
        self.log().lines().filter(|line| line.contains(part)).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether the DNS server can be told something.
    fn is_known(&self) -> bool {
        let to = format!("http://{}:{}/", self.address, self.dns_management);
        let mut curl = within(self.namespace.as_deref(), "curl");
        curl.args(["-s", "-o", "/dev/null", &to]).status().is_ok_and(|status| status.success())
    }

    /// Lets a name lead to an address and no other.
    pub fn lead(&self, name: &str, address: &str) {
        let body = serde_json::json!({ "host": format!("{name}."), "addresses": [address] });
        for what in ["clear-a", "add-a"] {
            let to = format!("http://{}:{}/{what}", self.address, self.dns_management);
            let mut curl = within(self.namespace.as_deref(), "curl");
            run(curl.args(["-sSf", "-d", &body.to_string(), &to]));
        }
    }

    fn fetch(&self, path: &str) -> String {
        let from = format!("https://{}:{}/{path}", self.address, self.management);
        let mut curl = within(self.namespace.as_deref(), "curl");
        let got = curl.args(["-sk", &from]).output().unwrap();
        String::from_utf8_lossy(&got.stdout).into_owned()
    }
}

/// A program in a network namespace, or in the host's.
fn within(namespace: Option<&Path>, program: &str) -> Command {
    let Some(namespace) = namespace else { return Command::new(program) };
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg(program);
    command
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- pebble's log\n{}", self.log());
        }
        for process in [Some(&mut self.names), self.authority.as_mut()].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
