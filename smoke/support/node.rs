//! A node of its own for one test: the real daemon with a private containerd, in its own subnet.
//!
//! Owns everything that it starts. When it is dropped, also by a panic, all of that is taken away
//! and counted: a test that leaves something behind fails.

mod builder;

pub use crate::ports::free_port;
pub use builder::Builder;

use super::dials::Dials;
use super::disk::Disk;
use super::keeper::Keeper;
use super::netns::Namespace;
use super::{Api, Outcome, slot::Slot};
use crate::poll::poll;
use crate::registry::run;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program under test.
pub const MILL: &str = env!("CARGO_BIN_EXE_mill");

/// A running node.
pub struct TestDaemon {
    slot: Slot,
    api: u16,
    peer: u16,
    http: u16,
    https: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    init: Option<Value>,
    /// A machine of its own, and its address there.
    machine: Option<(Namespace, String)>,
    dials: Option<Dials>,
    disk: Option<Disk>,
    paused: bool,
    keeper: Option<Keeper>,
}

impl TestDaemon {
    /// A cluster of one node, ready for `up`.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// To start one with other flags.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            flags: vec![],
            environment: vec![],
            disk: None,
            own_disk: false,
            dials: None,
            containerd: "private",
            init: true,
            kept: false,
        }
    }

    /// The command line of the daemon.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let mut command = match &self.machine {
            Some((namespace, _)) => namespace.command(MILL),
            None => Command::new(MILL),
        };
        command.arg("daemon").arg("--data-dir").arg(self.data());
        command.arg("--socket").arg(self.socket());
        command.args(["--api", &self.api_address()]);
        let peer = self.machine.as_ref().map_or("127.0.0.1", |(_, address)| address);
        command.args(["--peer", &format!("{peer}:{}", self.peer)]);
        command.args(["--http", &format!("{peer}:{}", self.http)]);
        command.args(["--https", &format!("{peer}:{}", self.https)]);
        command.args(["--subnet", &self.slot.subnet()]).args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(dials) = &self.dials {
            command.envs(dials.environment());
        }
        command.stdin(Stdio::null());
        command
    }

    /// Makes it the first node of a cluster; what `init --json` told.
    #[track_caller]
    pub fn init(&mut self, more: &[&str]) -> Value {
        let fixed = ["init", "--cluster", "test", "--json"];
        let told = self.mill(fixed.iter().chain(more)).json();
        self.init = Some(told.clone());
        told
    }

    /// Whether the daemon runs, paused or not. One that has ended by itself doesn't.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Whether the daemon runs and isn't paused.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.is_running() && !self.paused
    }

    /// Lets the daemon stand still; what it started goes on.
    pub fn pause(&mut self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::SIGSTOP).unwrap();
        self.paused = true;
    }

    /// Lets a paused daemon go on.
    pub fn resume(&mut self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::SIGCONT).unwrap();
        self.paused = false;
    }

    /// Its clock and the speed of its disk.
    ///
    /// # Panics
    /// When it was started without.
    #[must_use]
    pub fn dials(&self) -> &Dials {
        self.dials.as_ref().expect("dials")
    }

    /// The disk of its data directory.
    ///
    /// # Panics
    /// When it has none of its own.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// What keeps its listeners over a restart.
    ///
    /// # Panics
    /// When it was started without.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("a keeper")
    }

    /// Its namespace.
    ///
    /// # Panics
    /// When it runs in the host's.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.machine.as_ref().expect("a machine of its own").0
    }

    /// Starts the process; its output goes to [`TestDaemon::log`].
    ///
    /// # Panics
    /// When it is running already.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// The same with further flags, this once.
    ///
    /// # Panics
    /// When it is running already.
    pub fn launch_with(&mut self, more: &[&str]) {
        assert!(self.process.is_none(), "the daemon runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.daemon_command();
        command.args(more);
        if let Some(keeper) = &self.keeper {
            command = keeper.wrap(&command);
            command.stdin(Stdio::null());
        }
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.process = Some(process);
    }

    /// Starts the process again, after `stop` or `kill`, and waits until it answers; a member also
    /// until it leads.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_for_socket();
        if self.init.is_some() {
            let api = self.api();
            let leads = || api.request("GET", "/v1/nodes").send().status == 200;
            poll(leads).secs(60).expect("the restarted node to lead");
        }
    }

    /// Wipes the node, whose daemon has ended, and starts it again, unclaimed.
    #[track_caller]
    pub fn wipe(&mut self) {
        self.wipe_but(&[]);
    }

    /// The same with further flags of `mill clean`.
    #[track_caller]
    pub fn wipe_but(&mut self, more: &[&str]) {
        let mut clean = match &self.machine {
            Some((namespace, _)) => namespace.command(MILL),
            None => Command::new(MILL),
        };
        clean.args(["clean", "--yes", "--containerd", "private", "--data-dir"]);
        run(clean.arg(self.data()).args(more));
        self.init = None;
        self.launch();
        self.wait_for_socket();
    }

    #[track_caller]
    pub(super) fn wait_for_socket(&mut self) {
        let api = self.api();
        let process = self.process.as_mut().unwrap();
        let ended = poll(|| match process.try_wait().unwrap() {
            Some(status) => Some(Some(status)),
            None => {
                let answer = api.request("GET", "/v1/health").try_send();
                answer.is_ok_and(|answer| answer.status == 200).then_some(None)
            }
        })
        .secs(60)
        .expect("the daemon to answer on its socket");
        if let Some(status) = ended {
            panic!("the daemon ended: {status}\n{}", self.log());
        }
    }

    /// Asks the daemon to end, and waits; gives the exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        let id = self.pid();
        nix::sys::signal::kill(id, nix::sys::signal::SIGTERM).unwrap();
        self.wait()
    }

    /// Waits for the daemon to end by itself; gives the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("a running daemon");
        let status = poll(|| process.try_wait().unwrap()).secs(60).expect("the daemon to end");
        status.code()
    }

    /// Ends the daemon with SIGKILL; what it started runs on.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a running daemon");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends everything that the node runs at once and wipes what a reboot wipes.
    pub fn lose_power(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/sweep");
        run(Command::new(script).arg("--reboot").arg(self.data()));
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        let process = self.process.as_ref().expect("a running daemon");
        nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap())
    }

    /// A command of the program, told where this node is.
    #[must_use]
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(
        &self,
        args: I,
    ) -> Command {
        let mut command = Command::new(MILL);
        command.args(args).env("MILL_SOCKET", self.socket()).env("NO_COLOR", "1");
        command.env_remove("MILL_ADDRESS").env_remove("MILL_TOKEN").stdin(Stdio::null());
        command.current_dir(self.slot.folder());
        command
    }

    /// Runs a command of the program against this node: `node.mill(["ps", "--json"]).json()`.
    pub fn mill<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Outcome {
        let mut command = self.command(args);
        let output = command.output().unwrap();
        Outcome::new(format!("{command:?}"), output)
    }

    /// Writes a file and deploys it with `mill up`.
    pub fn up(&self, text: &str) -> Outcome {
        let file = self.file("test.mill", text);
        self.mill(["up", "-f", file.to_str().unwrap()])
    }

    /// Writes a file into the node's folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.slot.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The API over the UNIX socket.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::socket(self.socket())
    }

    /// The API over TCP, with the administrator's token that `init` gave.
    #[must_use]
    pub fn api_tcp(&self) -> Api {
        Api::tcp(self.api_address(), Some(&self.token()))
    }

    /// `127.0.0.1:PORT` of the API.
    #[must_use]
    pub fn api_address(&self) -> String {
        format!("127.0.0.1:{}", self.api)
    }

    /// `ADDRESS:PORT` of HTTP.
    #[must_use]
    pub fn http_address(&self) -> String {
        let address = self.machine.as_ref().map_or("127.0.0.1", |(_, address)| address);
        format!("{address}:{}", self.http)
    }

    /// `ADDRESS:PORT` of HTTPS.
    #[must_use]
    pub fn https_address(&self) -> String {
        let address = self.machine.as_ref().map_or("127.0.0.1", |(_, address)| address);
        format!("{address}:{}", self.https)
    }

    /// The administrator's token.
    #[must_use]
    pub fn token(&self) -> String {
        let init = self.init.as_ref().expect("a claimed node");
        init["token"].as_str().expect("a token").to_owned()
    }

    /// The allocations of a service or task, as the API shows them.
    #[track_caller]
    pub fn allocations(&self, name: &str) -> Vec<Value> {
        let all = self.api().get("/v1/allocations");
        let all = all.as_array().expect("a list").iter();
        all.filter(|allocation| allocation["name"] == name).cloned().collect()
    }

    /// The daemon's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        data_of(&self.slot.folder())
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.slot.folder().join("mill.sock")
    }

    /// The node's subnet.
    #[must_use]
    pub fn subnet(&self) -> String {
        self.slot.subnet()
    }

    fn log_path(&self) -> PathBuf {
        self.slot.folder().join("daemon.log")
    }

    /// What the daemon has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// What this node has on the machine at the moment, a line each: processes, mounts, links,
    /// tables, cgroups, folders.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        leftovers(&self.slot.folder())
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            let log = self.log();
            let from = log.lines().count().saturating_sub(60);
            let tail: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("--- the daemon's last lines\n{}", tail.join("\n"));
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let folder = self.slot.folder();
        sweep(&folder);
        let left = leftovers(&folder);
        if !failed {
            assert!(left.is_empty(), "left on the machine: {left:#?}");
        }
    }
}

/// `harness/sweep` for a node in this folder.
fn sweeper(folder: &Path, options: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/sweep");
    let mut command = Command::new(script);
    command.args(options).arg(folder).arg(data_of(folder)).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Takes away whatever a node in this folder has on the machine.
pub fn sweep(folder: &Path) {
    sweeper(folder, &[]);
}

/// What a node in this folder has on the machine.
#[must_use]
pub fn leftovers(folder: &Path) -> Vec<String> {
    sweeper(folder, &["--list"])
}

fn data_of(folder: &Path) -> PathBuf {
    folder.join("data")
}
