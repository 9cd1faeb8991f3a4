//! `mill dev`: a node, a file, its logs, and everything gone at the end.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::node::{MILL, free_port, leftovers, sweep};
use crate::support::slot::Slot;
use crate::support::{Api, Outcome, files};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A place for one developer.
struct Dev {
    slot: Slot,
    registry: Registry,
}

impl Dev {
    fn new() -> Self {
        let slot = Slot::claim();
        sweep(&slot.folder());
        fs::create_dir_all(slot.folder()).unwrap();
        Self { slot, registry: Registry::start() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.slot.folder().join(name)
    }

    fn mill(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MILL);
        command.args(args).env_remove("MILL_ADDRESS").stdin(Stdio::null());
        command.env("MILL_SOCKET", self.path("dev.sock")).current_dir(self.slot.folder());
        command
    }

    fn dev(&self, args: &[&str]) -> Command {
        let mut command = self.mill(&["dev"]);
        command.args(args).args(["--containerd", "private", "--subnet", &self.slot.subnet()]);
        command.arg("--data-dir").arg(self.path("data"));
        for flag in ["--api", "--http", "--https", "--dns"] {
            command.args([flag, &format!("127.0.0.1:{}", free_port())]);
        }
        command
    }

    fn write(&self, image: &str) {
        let text = files::hello(&self.registry.image(image), 1);
        fs::write(self.path("hello.mill"), text).unwrap();
    }

    /// Runs it to its end.
    fn whole(&self, args: &[&str]) -> Outcome {
        let mut command = self.dev(args);
        let output = command.output().unwrap();
        Outcome::new(format!("{command:?}"), output)
    }

    /// Runs it on, its output in a file.
    fn begin(&self, args: &[&str]) -> Child {
        let out = fs::File::create(self.path("out")).unwrap();
        let mut command = self.dev(args);
        command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap()
    }

    fn out(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        poll(|| {
            let out = self.out();
            if out.contains(text) { Ok(()) } else { Err(out) }
        })
        .secs(60)
        .expect(text);
    }

    /// Whether no container of it is on the machine, nor its containerd.
    fn is_empty(&self) -> bool {
        let all = leftovers(&self.slot.folder());
        !all.iter().any(|line| line.starts_with("process") && line.contains("containerd"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        sweep(&self.slot.folder());
    }
}

fn interrupt(mut child: Child) -> Option<i32> {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::SIGINT).unwrap();
    poll(|| child.try_wait().unwrap()).secs(60).expect("mill dev to end").code()
}

/// What a name server says is the address of `NAME.mill` (RFC 1035, section 4.1).
fn resolved(server: &str, name: &str) -> Option<Ipv4Addr> {
    // Its number, recursion desired, one question.
    let mut question = vec![0x4d, 0x4c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name, "mill", ""] {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question, server).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    let answer = &answer[..length];
    assert_eq!(answer[..2], question[..2]);
    let has_one = answer[3] & 0x0f == 0 && answer[6..8] == [0, 1];
    let last: [u8; 4] = answer[length - 4..].try_into().unwrap();
    has_one.then(|| last.into())
}

#[test]
fn once_deploys_shows_and_removes() {
    let dev = Dev::new();
    dev.write("hello:v1");
    let out = dev.whole(&["--once"]).ok();
    assert!(out.starts_with("hello r1 → dev\n"), "{out}");
    assert!(out.contains("\nhello  http://hello.localhost:"), "{out}");
    assert!(out.contains("\nSERVICE  REPLICAS") && out.contains("\nhello    1/1"), "{out}");
    assert!(dev.is_empty(), "{:?}", leftovers(&dev.slot.folder()));
}

#[test]
fn a_file_that_is_wrong_is_told_before_anything_starts() {
    let dev = Dev::new();
    fs::write(dev.path("a.mill"), "servise \"web\" {\n}\n").unwrap();
    let _ = dev.whole(&["a.mill"]).code(2).says("a.mill:1:1: ");
    assert!(!dev.path("data").exists());
}

#[test]
fn a_failed_deployment_ends_it() {
    let dev = Dev::new();
    let image = dev.registry.image("crash:v1");
    let outcome = dev.whole(&["--run", &image]).code(1);
    assert!(outcome.stdout.contains("✗ r1 failed"), "{}", outcome.stdout);
    assert!(dev.is_empty());
}

#[test]
fn ctrl_c_removes_everything_and_changes_are_deployed() {
    let dev = Dev::new();
    dev.write("hello:v1");
    let child = dev.begin(&["hello.mill", "--watch"]);
    dev.wait_for("✓ r1 done");
    dev.wait_for("hello v1");
    let token = dev.path("data").join("token");
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let line = fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    let words = line.split('\0').skip_while(|word| *word != "--api");
    let tcp = |token: Option<&str>| {
        let api = Api::tcp(words.clone().nth(1).unwrap(), token);
        api.request("GET", "/v1/tokens").send().status
    };
    assert_eq!(tcp(None), 401);
    assert_eq!(tcp(Some(fs::read_to_string(&token).unwrap().trim())), 200);
    // The same over HTTPS, by the local CA.
    let out = dev.out();
    let place = out.lines().find_map(|line| line.strip_prefix("hello  https://")).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--resolve", &format!("{place}:127.0.0.1"), "--cacert"]);
    curl.arg(dev.path("data").join("local-ca/ca.pem")).arg(format!("https://{place}/"));
    let answer = curl.output().unwrap();
    assert_eq!(Outcome::new(format!("{curl:?}"), answer).ok().trim(), "hello v1");
    dev.write("hello:v2");
    dev.wait_for("✓ r2 done");
    let ps = dev.mill(&["ps", "--json"]).output().unwrap();
    let ps = Outcome::new("ps".to_owned(), ps).json();
    let running = ps.as_array().unwrap().iter().find(|one| one["status"] == "running").unwrap();
    let address = running["address"].as_str().unwrap();
    let answer = Api::tcp(address, None).request("GET", "/").send().status(200);
    assert_eq!(answer.body.trim(), "hello v2");
    // The host finds it by its name, at the address of `--dns`.
    let server = line.split('\0').skip_while(|word| *word != "--dns").nth(1).unwrap();
    let ip = address.rsplit_once(':').unwrap().0;
    poll(|| resolved(server, "hello").map(|ip| ip.to_string()) == Some(ip.to_owned()))
        .secs(20)
        .expect("its address by name");
    assert_eq!(resolved(server, "nobody"), None);
    fs::write(dev.path("hello.mill"), "app \"hello\"\nservise \"x\"\n").unwrap();
    dev.wait_for("hello.mill:2:1: ");
    assert_eq!(interrupt(child), Some(130), "{}", dev.out());
    assert!(dev.is_empty());
}

#[test]
fn keep_leaves_it_and_the_next_one_takes_it_over() {
    let dev = Dev::new();
    dev.write("hello:v1");
    let child = dev.begin(&["--keep"]);
    dev.wait_for("✓ r1 done");
    assert_eq!(interrupt(child), Some(130));
    assert!(!dev.is_empty());
    let out = dev.whole(&["--once"]).ok();
    assert!(out.starts_with("Nothing to do: r1 runs, 1/1 healthy\n"), "{out}");
    assert!(dev.is_empty());
}
