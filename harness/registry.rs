//! A registry of container images on loopback, for tests: plain or with TLS, with the small images
//! of `harness/images` in it.
//!
//! Owns its process and its folder, both gone when it is dropped. Never shared between tests, so
//! each may stop it, break it or look into its folder.

use crate::poll::poll;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Who a guarded registry lets in.
pub const USER: &str = "ann";
/// With this password.
pub const PASSWORD: &str = "right-horse-7";
/// The file that says so: bcrypt, the only kind that the registry takes.
const HTPASSWD: &str = "ann:$2y$05$abcdefghijklmnopqrstuuA3tM7o/BT.GHlVwQF/VFOckT3/jKGgC\n";

/// A running registry; ended and removed on drop.
pub struct Registry {
    folder: tempfile::TempDir,
    address: SocketAddr,
    tls: Option<Tls>,
    guard: Guard,
    process: Option<Child>,
    /// The network namespace that it is in, if not the host's.
    namespace: Option<PathBuf>,
}

/// Whom it lets in.
enum Guard {
    Open,
    Password,
    /// Who brings a token, which is given out there.
    Token {
        realm: String,
    },
}

struct Tls {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Registry {
    /// Starts one over plain HTTP.
    #[must_use]
    pub fn start() -> Self {
        Self::new(None, Guard::Open)
    }

    /// Starts one over TLS with an authority of its own, see [`Registry::ca`].
    #[must_use]
    pub fn start_tls() -> Self {
        Self::new(Some(2100), Guard::Open)
    }

    /// Starts one over TLS whose certificate has expired.
    #[must_use]
    pub fn start_expired() -> Self {
        Self::new(Some(2001), Guard::Open)
    }

    /// Starts one over TLS that lets in only [`USER`] with [`PASSWORD`].
    #[must_use]
    pub fn start_guarded() -> Self {
        Self::new(Some(2100), Guard::Password)
    }

    /// Starts one over plain HTTP that wants a token, signed by [`Registry::token_keys`] and given
    /// out at that URL.
    #[must_use]
    pub fn start_with_tokens(realm: &str) -> Self {
        Self::new(None, Guard::Token { realm: realm.to_owned() })
    }

    /// Certificate and key of whom it believes tokens.
    #[must_use]
    pub fn token_keys(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.path().join("tokens").join(name))
    }

    /// With a certificate that is good until that year, and perhaps a guard.
    fn new(tls: Option<i32>, guard: Guard) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(pushed_images()).arg(folder.path().join("data")));
        let tls = tls.map(|until| certificate(folder.path(), until));
        fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        certificate(&tokens, 2100);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut registry = Self { folder, address, tls, guard, process: None, namespace: None };
        registry.restart();
        registry
    }

    /// Starts one over plain HTTP in a network namespace, at port 5000 of that address.
    #[must_use]
    pub fn start_in(namespace: &Path, address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(pushed_images()).arg(folder.path().join("data")));
        let address = SocketAddr::new(address.parse().unwrap(), 5000);
        let namespace = Some(namespace.to_owned());
        let guard = Guard::Open;
        let mut registry = Self { folder, address, tls: None, guard, process: None, namespace };
        registry.restart();
        registry
    }

    /// A program where the registry is.
    fn command(&self, program: &str) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.display())).arg(program);
        command
    }

    /// Whether somebody listens at its address.
    fn answers(&self) -> bool {
        if self.namespace.is_none() {
            return TcpStream::connect(self.address).is_ok();
        }
        let mut curl = self.command("curl");
        let url = format!("http://{}/v2/", self.address);
        curl.args(["--silent", "--output", "/dev/null", &url]).status().is_ok_and(|s| s.success())
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The whole reference of one of the images, for example of `hello:v1`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The authority's certificate in PEM, of a registry with TLS.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.tls.as_ref().expect("a registry started with TLS").ca
    }

    /// The folder where it keeps its blobs, to break them.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// From now on it speaks TLS, at the same address.
    pub fn speak_tls(&mut self) {
        self.tls = Some(certificate(self.folder.path(), 2100));
        self.restart();
    }

    /// Gives a tag to another image of this registry: `copy("hello:v2", "hello:v1")` moves v1.
    pub fn copy(&self, from: &str, to: &str) {
        run(skopeo()
            .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
            .arg(format!("docker://{}", self.image(from)))
            .arg(format!("docker://{}", self.image(to))));
    }

    /// Pushes an image in another form: `skopeo copy`'s flags say which.
    pub fn push_as(&self, from: &str, to: &str, form: &[&str]) {
        let (name, tag) = from.split_once(':').expect("NAME:TAG");
        let layout = format!("oci:{}:{tag}", layouts().join(name).join(tag).display());
        let to = format!("docker://{}", self.image(to));
        run(skopeo().arg("--dest-tls-verify=false").args(form).args([layout, to]));
    }

    /// The manifest of an image as it is stored.
    #[must_use]
    pub fn raw(&self, image: &str) -> String {
        let reference = format!("docker://{}", self.image(image));
        run(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false"]).arg(reference))
    }

    /// Ends the process; the folder and the address stay.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again at its address (at a free port the first time).
    pub fn restart(&mut self) {
        self.stop();
        let fixed = self.address.port() != 0;
        for _ in 0..5 {
            if !fixed {
                // Another program may take it before the registry does: then once more.
                self.address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .and_then(|listener| listener.local_addr())
                    .unwrap();
            }
            if self.try_start() {
                return;
            }
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("the registry doesn't start at {}: {log}", self.address);
    }

    fn try_start(&mut self) -> bool {
        let config = self.folder.path().join("config.yml");
        fs::write(&config, self.config()).unwrap();
        let log = File::create(self.folder.path().join("log")).unwrap();
        let process = self
            .command("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry; run harness/setup --test");
        self.process = Some(process);
        poll(|| {
            let ended = self.process.as_mut().is_some_and(|p| p.try_wait().unwrap().is_some());
            (ended || self.answers()).then_some(!ended)
        })
        .secs(20)
        .expect("the registry to listen")
    }

    fn config(&self) -> String {
        let data = self.data();
        let tls = self.tls.as_ref().map_or_else(String::new, |tls| {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            format!("  tls: {{certificate: {certificate}, key: {key}}}\n")
        });
        let folder = self.folder.path().display();
        let auth = match &self.guard {
            Guard::Open => String::new(),
            Guard::Password => {
                format!("auth: {{htpasswd: {{realm: x, path: {folder}/htpasswd}}}}\n")
            }
            Guard::Token { realm } => format!(
                "auth: {{token: {{realm: \"{realm}\", service: test, issuer: test, \
                 rootcertbundle: {folder}/tokens/ca.pem}}}}\n"
            ),
        };
        format!(
            "version: 0.1\n\
             log: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             \x20 redirect: {{disable: true}}\n\
             {auth}http:\n  addr: {}\n{tls}",
            data.display(),
            self.address
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The images as OCI layouts, `NAME/TAG` each: for archives and `image load`.
#[must_use]
pub fn layouts() -> PathBuf {
    cache().join("layouts")
}

/// Writes an image as the archive that `docker save` makes.
pub fn docker_archive(image: &str, file: &Path) {
    archive(image, &format!("docker-archive:{}:{image}", file.display()));
}

/// The same under another name.
pub fn archive_as(image: &str, name: &str, file: &Path) {
    archive(image, &format!("docker-archive:{}:{name}", file.display()));
}

/// Writes an image as an OCI archive.
pub fn oci_archive(image: &str, file: &Path) {
    archive(image, &format!("oci-archive:{}:{image}", file.display()));
}

fn archive(image: &str, to: &str) {
    let (name, tag) = image.split_once(':').expect("NAME:TAG");
    let layout = layouts().join(name).join(tag);
    run(skopeo().arg(format!("oci:{}:{tag}", layout.display())).arg(to));
}

fn skopeo() -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet"]);
    command
}

/// A registry's folder with all images pushed, made once and copied for each test.
fn pushed_images() -> PathBuf {
    cache().join("registry/data")
}

/// What is made once for one version of the images, however many tests run at a time.
/// Where all tests of this machine have what they share: `MILL_TEST_SHARED`, or the folder for what
/// is temporary.
#[must_use]
pub fn shared() -> PathBuf {
    std::env::var_os("MILL_TEST_SHARED").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn cache() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/images");
    let sources = [script.clone(), script.with_file_name("patient.rs")];
    let version = sources.map(|path| fs::read(path).unwrap()).concat();
    let version = version.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
    });
    let folder = shared().join(format!("mill-test-images-{version:016x}"));
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    if !folder.join("done").exists() {
        make_images(&script, &folder);
        File::create(folder.join("done")).unwrap();
    }
    folder
}

fn make_images(script: &Path, folder: &Path) {
    let layouts = folder.join("layouts");
    let registry = script.with_file_name("registry");
    run(Command::new(script).arg("build").arg(&layouts));
    let kept = folder.join("registry");
    let _ = fs::remove_dir_all(&kept);
    // The folder is removed by `stop`, so the blobs are linked aside first.
    let serving = folder.join("serving");
    let address = run(Command::new(&registry).arg("start").arg(&serving));
    run(Command::new(script).arg("push").arg(&layouts).arg(address.trim()));
    fs::create_dir_all(&kept).unwrap();
    run(Command::new("cp").arg("-a").arg(serving.join("data")).arg(&kept));
    run(Command::new(&registry).arg("stop").arg(&serving));
}

fn certificate(folder: &Path, until: i32) -> Tls {
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "registry test authority");
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, &ca_key);
    let names = ["127.0.0.1", "localhost", "10.102.0.1", "10.125.0.1"].map(str::to_owned).to_vec();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(names).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2000, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    Tls {
        ca: write("ca.pem", ca.pem()),
        certificate: write("cert.pem", leaf.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}

/// Runs a command that must succeed, and gives its output.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; run harness/setup --test");
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
