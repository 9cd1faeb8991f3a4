//! The programs beside which mill is measured: `ctr` and Docker Swarm.
//!
//! Owns their start and end (`peer`). Never installs them.

use crate::poll::poll;
use crate::registry;
use crate::support::Api;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Both peers, running; ended on drop.
pub struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Starts them and loads the image.
    #[must_use]
    pub fn start() -> Self {
        let folder = std::env::temp_dir().join("mill-bench-peers");
        let peers = Self { folder };
        peers.script("stop", None);
        peers.script("start", Some(&registry::layouts().join("hello/v1")));
        peers
    }

    fn script(&self, verb: &str, layout: Option<&Path>) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/bench/peer");
        let mut command = Command::new(script);
        registry::run(command.arg(verb).arg(&self.folder).args(layout));
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.folder.join("containerd.sock"));
        command.args(["--namespace", "mill-bench-ctr"]).stdin(Stdio::null());
        command
    }

    /// The time of one `ctr run -d`.
    #[must_use]
    pub fn ctr_run(&self) -> Duration {
        let start = Instant::now();
        registry::run(self.ctr().args(["run", "--detach", "hello:v1", "bench"]));
        let took = start.elapsed();
        registry::run(self.ctr().args(["tasks", "rm", "--force", "bench"]));
        registry::run(self.ctr().args(["containers", "rm", "bench"]));
        took
    }

    /// The time until so many replicas of a new service run.
    #[must_use]
    pub fn swarm(&self, replicas: usize) -> Duration {
        let count = replicas.to_string();
        let start = Instant::now();
        let options = ["--detach", "--quiet", "--no-resolve-image", "--network", "bench"];
        let mut create = self.docker();
        create.args(["service", "create", "--name", "bench", "--replicas", &count]).args(options);
        registry::run(create.arg("hello:v1"));
        let api = Api::socket(self.folder.join("docker.sock"));
        poll(|| self.running(&api) == replicas).secs(300).expect("all replicas to run");
        let took = start.elapsed();
        registry::run(self.docker().args(["service", "rm", "bench"]));
        let gone = || api.get("/v1.41/containers/json?all=1").as_array().is_some_and(Vec::is_empty);
        poll(gone).secs(300).expect("the containers to go");
        took
    }

    /// The time of a rolling update until all new replicas are healthy.
    #[must_use]
    pub fn swarm_update(&self, replicas: usize) -> Duration {
        let count = replicas.to_string();
        let health = "wget -q -O /dev/null http://127.0.0.1:8080/";
        let mut create = self.docker();
        create.args(["service", "create", "--name", "bench", "--replicas", &count]);
        create.args(["--detach", "--quiet", "--no-resolve-image", "--network", "bench"]);
        create.args(["--health-cmd", health, "--health-interval", "1s", "--env", "VERSION=1"]);
        create.args(["--update-monitor", "1s", "--update-order", "start-first"]);
        registry::run(create.arg("hello:v1"));
        let api = Api::socket(self.folder.join("docker.sock"));
        poll(|| self.running(&api) == replicas).secs(300).expect("all replicas to run");
        let start = Instant::now();
        let mut update = self.docker();
        update.args(["service", "update", "--detach", "--quiet", "--no-resolve-image"]);
        registry::run(update.args(["--env-rm", "VERSION", "--env-add", "VERSION=2", "bench"]));
        let is_new = |task: &serde_json::Value| {
            let env = &task["Spec"]["ContainerSpec"]["Env"];
            task["Status"]["State"] == "running" && env.to_string().contains("VERSION=2")
        };
        poll(|| {
            let tasks = api.get("/v1.41/tasks");
            tasks.as_array().expect("a list").iter().filter(|task| is_new(task)).count() == replicas
        })
        .secs(300)
        .expect("all new replicas to run");
        let took = start.elapsed();
        registry::run(self.docker().args(["service", "rm", "bench"]));
        let gone = || api.get("/v1.41/containers/json?all=1").as_array().is_some_and(Vec::is_empty);
        poll(gone).secs(300).expect("the containers to go");
        took
    }

    fn running(&self, api: &Api) -> usize {
        let tasks = api.get("/v1.41/tasks");
        let tasks = tasks.as_array().expect("a list").iter();
        tasks.filter(|task| task["Status"]["State"] == "running").count()
    }

    fn docker(&self) -> Command {
        let cache = std::env::var("XDG_CACHE_HOME").map_or_else(
            |_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache"),
            PathBuf::from,
        );
        let mut command = Command::new(cache.join("mill-bench/docker/usr/bin/docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.folder.join("docker.sock").display()));
        command
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.script("stop", None);
    }
}
