//! A containerd for one side of a comparison, as mill starts its own.
//!
//! Owns its folder, its process and the containers in it; all gone when it is dropped.

use crate::registry;
use mill::actors::platform::private_containerd::{self as private, Daemon};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

/// A running containerd.
pub struct Side {
    places: private::Config,
    daemon: Option<Daemon>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Side {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mill-bench-").tempdir().unwrap();
        let places = private::Config::below(folder.path());
        let runtime = Runtime::new().unwrap();
        let daemon = runtime.block_on(Daemon::start(places.clone())).unwrap();
        Self { places, daemon: Some(daemon), runtime, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.places.socket()
    }

    /// A folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its own client.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "bench"]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs its client, which must succeed, and gives the output.
    pub fn ctr(&self, args: &[&str]) -> String {
        registry::run(self.client().args(args))
    }

    /// Brings one of the tests' images in, unpacked, under its own name.
    pub fn import(&self, image: &str) {
        let (name, tag) = image.split_once(':').expect("NAME:TAG");
        let archive = self.folder().join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("--create").arg("--file").arg(&archive).arg("--directory");
        registry::run(tar.arg(registry::layouts().join(name).join(tag)).arg("."));
        self.ctr(&["images", "import", "--index-name", image, archive.to_str().unwrap()]);
    }

    /// Ends and removes all its containers.
    pub fn clear(&self) {
        for id in self.ctr(&["containers", "ls", "-q"]).split_whitespace() {
            // One that never ran has no task.
            let _ = self.client().args(["tasks", "rm", "--force", id]).output();
            self.ctr(&["containers", "rm", id]);
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.clear();
        drop(self.daemon.take());
        self.runtime.block_on(private::stop(&self.places)).unwrap();
    }
}
