//! Containers, images and the private containerd: with a real containerd of each test's own.
//!
//! Owns the fixture, which leaves nothing behind, however a test ends.

mod auth;
mod collect;
mod daemon;
mod fake;
mod forms;
mod hostile;
mod image;
mod jwt;
mod lend;
mod lifecycle;
mod pull;

use crate::poll::poll_async;
use mill::actors::platform::containerd::{Config, Containerd, NewContainer, TaskState};
use mill::actors::platform::image::{Image, Images, RegistryConfig};
use mill::actors::platform::private_containerd::{self as private, Daemon};
use mill::id::ContainerId;
use mill::node::oci::{CgroupVersion, Context, resolve_user, runtime_spec};
use mill::spec::model::RunSpec;
use mill::units::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A private containerd with what belongs to it.
pub(crate) struct Host {
    pub folder: tempfile::TempDir,
    pub instance: String,
    pub places: private::Config,
    pub daemon: Option<Daemon>,
    pub containerd: Containerd,
    pub images: Images,
    tmpfs: bool,
}

impl Host {
    pub async fn start() -> Self {
        Self::make(RegistryConfig::default(), None).await
    }

    /// With images and snapshots on a disk of so many kilobytes.
    pub async fn with_small_disk(kilobytes: u32) -> Self {
        Self::make(RegistryConfig::default(), Some(kilobytes)).await
    }

    pub async fn make(registries: RegistryConfig, disk: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("mill-rt-").tempdir().unwrap();
        let instance = folder.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        let places = private::Config::below(folder.path());
        if let Some(kilobytes) = disk {
            fs::create_dir_all(&places.root).unwrap();
            let size = format!("size={kilobytes}k");
            sh(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&places.root));
        }
        let daemon = Daemon::start(places.clone()).await.unwrap();
        let runc = folder.path().join("runc-test");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mill"), &runc).unwrap();
        let config = Config {
            socket: daemon.socket(),
            namespace: instance.clone(),
            runc,
            runc_root: folder.path().join("runc"),
        };
        let containerd = Containerd::connect(config).await.unwrap();
        let images = Images::new(containerd.clone(), registries);
        let tmpfs = disk.is_some();
        Self { folder, instance, places, daemon: Some(daemon), containerd, images, tmpfs }
    }

    pub async fn pull(&self, reference: &str) -> std::sync::Arc<Image> {
        let digest = self.images.resolve(reference).await.unwrap();
        self.images.ensure(reference, &digest).await.unwrap()
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.log"))
    }

    pub fn cgroup(&self, id: &str) -> PathBuf {
        Path::new("/").join(&self.instance).join(id)
    }

    /// A container of that image as mill would make it, without a network.
    pub fn container(&self, id: &str, image: &Image, run: &RunSpec) -> NewContainer {
        let user = run.user.as_ref().unwrap_or(&image.config.user);
        let alloc = "web-0-k3f9".into();
        let context = Context {
            own_env: Context::own_env(&alloc, "service", "web", "n1", 0, None),
            alloc,
            account: resolve_user(user, &image.passwd, &image.group).unwrap(),
            env: BTreeMap::new(),
            netns: None,
            cgroup: self.cgroup(id),
            cgroup_version: CgroupVersion::V1,
            mounts: Vec::new(),
            open_files: 0,
        };
        NewContainer {
            id: id.into(),
            image: run.image.clone(),
            chain_id: image.chain_id.clone(),
            spec: runtime_spec(run, &image.config, &context).unwrap(),
            labels: BTreeMap::from([("mill/test".to_owned(), "yes".to_owned())]),
            log: format!("file://{}", self.log(id).display()),
        }
    }

    pub async fn start_container(&self, id: &str, image: &Image, run: &RunSpec) -> ContainerId {
        let new = self.container(id, image, run);
        self.containerd.create(&new).await.unwrap();
        self.containerd.start(&new.id).await.unwrap();
        new.id
    }

    pub async fn wait_running(&self, id: &ContainerId) -> u32 {
        poll_async(|| async {
            match self.containerd.task(id).await {
                Ok(TaskState::Running { pid }) => Some(pid),
                _ => None,
            }
        })
        .secs(20)
        .expect_async("the container to run")
        .await
    }

    /// What containerd has in this namespace, by `ctr`.
    pub fn ctr(&self, args: &[&str]) -> String {
        let socket = self.places.socket();
        let mut command = Command::new("ctr");
        command.arg("--address").arg(socket).args(["--namespace", &self.instance]).args(args);
        sh(&mut command)
    }

    /// Nothing of an image is left.
    pub fn assert_empty(&self) {
        let left = ["snapshots ls", "content ls -q", "images ls", "leases ls"]
            .map(|what| self.ctr(&what.split(' ').collect::<Vec<_>>()));
        assert_eq!((self.snapshots(), self.content()), (0, 0), "{left:#?}");
    }

    pub fn snapshots(&self) -> usize {
        self.ctr(&["snapshots", "ls"]).lines().count() - 1
    }

    pub fn content(&self) -> usize {
        self.ctr(&["content", "ls", "-q"]).lines().count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let daemon = self.daemon.take();
        let (containerd, places) = (self.containerd.clone(), self.places.clone());
        // The test's own runtime may be ending.
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                drop(daemon);
                // Killed by the test perhaps: containers can be removed only through it.
                let daemon = Daemon::start(places.clone()).await;
                let fresh = Containerd::connect(containerd.config().clone()).await.unwrap();
                for found in fresh.list().await.unwrap() {
                    fresh.delete(&found.id).await.unwrap();
                }
                drop(daemon);
                private::stop(&places).await.unwrap();
            });
        });
        let cleaned = clean.join();
        if self.tmpfs {
            sh(Command::new("umount").arg("--lazy").arg(&self.places.root));
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(&self.instance));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.instance));
        assert!(cleaned.is_ok() || std::thread::panicking(), "containers are left");
    }
}

pub(crate) fn sh(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the file would say of an image with this command.
pub(crate) fn run(image: &str, command: &[&str]) -> RunSpec {
    RunSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        cpu: Some(MilliCpu(500)),
        memory: Bytes(64_000_000),
        ..RunSpec::of(image)
    }
}
