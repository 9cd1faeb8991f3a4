//! Tests of the whole with real containers, networks and control groups.

use super::*;
use crate::actors::platform::containerd::{NewContainer, TaskState};
use crate::actors::platform::net::NetConfig;
use crate::config::{DaemonFlags, Mode};
use crate::id::ContainerId;
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

/// A data directory with whatever a node has; all of it gone when dropped, also after a failure.
struct Machine {
    directory: tempfile::TempDir,
    neighbour: Option<Places>,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), neighbour: None }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn config(&self, containerd: &str) -> DaemonConfig {
        let socket = self.directory.path().join("mill.sock");
        let flags = DaemonFlags {
            data_dir: Some(self.data().display().to_string()),
            socket: Some(socket.display().to_string()),
            containerd: Some(containerd.to_owned()),
            ..DaemonFlags::default()
        };
        DaemonConfig::new(Mode::Daemon, &flags, &BTreeMap::new()).unwrap()
    }

    fn sweep(&self, list: bool) -> String {
        sweep(list, &self.data())
    }
}

fn sweep(list: bool, directory: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/sweep");
    let mut command = Command::new(script);
    let output = command.args(list.then_some("--list")).arg(directory).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.sweep(false);
        sweep(false, &self.directory.path().join("shared"));
        if let Some(places) = &self.neighbour {
            // Normally all of it is gone.
            let _ = host::kill_found(places);
            let _ = host::remove_cgroups(places);
        }
    }
}

/// A container that runs the host's static busybox for ever.
fn container(places: &Places, id: &str) -> NewContainer {
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/busybox", "sleep", "1000"], "cwd": "/",
                    "user": {"uid": 0, "gid": 0}, "env": []},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/bin/busybox", "type": "bind", "source": "/bin/busybox",
             "options": ["bind", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("{}/{id}", places.cgroup()),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}],
        },
    });
    NewContainer {
        id: id.into(),
        image: "none".into(),
        chain_id: None,
        spec: serde_json::from_value(spec).unwrap(),
        labels: BTreeMap::new(),
        log: String::new(),
    }
}

async fn run(client: &Containerd, places: &Places, id: &str) -> u32 {
    let id = ContainerId::from(id);
    client.create(&container(places, id.as_str())).await.unwrap();
    client.start(&id).await.unwrap()
}

fn net(places: &Places) -> NetConfig {
    let cluster = Subnet::of(Ipv4Addr::new(10, 103, 0, 0), 16);
    places.net(Ipv4Addr::new(10, 103, 8, 0), cluster, PublishOn::All)
}

#[tokio::test]
async fn a_stopped_node_is_wiped_to_the_last_thing() {
    let machine = Machine::new();
    let data = machine.data();
    fs::create_dir_all(data.join("logs/web-0-aaaa")).unwrap();
    let config = machine.config("private");
    let places = Places::of(&data);
    let daemon = private::Daemon::start(places.private()).await.unwrap();
    let client =
        Containerd::connect(places.containerd(daemon.socket(), "runc".into())).await.unwrap();
    let pid = run(&client, &places, "web-0-aaaa.1").await;
    let address = daemon.socket().display().to_string();
    let shim = host::socket_path(&address, &places.namespace(), "web-0-aaaa.1");
    assert!(shim.exists());
    let network = Net::open(net(&places)).await.unwrap();
    network.attach(&"web-0-aaaa".into(), Ipv4Addr::new(10, 103, 8, 2)).await.unwrap();
    fs::write(data.join("identity.json"), "{}").unwrap();
    let running = DataLock::acquire(&data).unwrap();
    assert!(matches!(clean(&config, false).await, Err(CleanError::Lock(LockError::Taken { .. }))));
    // One that has ended and waits to be reaped has no command line any more.
    let runs = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    // While the program takes runc's place, its command line is empty for a moment.
    let runs_on = async {
        while !runs() {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(10), runs_on).await;
    seen.expect("a node that runs is not touched");
    drop((running, network, daemon));

    let cleaned = clean(&config, false).await.unwrap();
    assert_eq!(cleaned.failed, [""; 0]);
    assert!(!runs() && !shim.exists());
    assert_eq!(machine.sweep(true), "", "{cleaned:?}");
    assert!(!data.exists() && !places.run.exists() && !places.runc_root().exists());
    let network = format!("network mill-{}", places.instance);
    for wanted in [network, data.display().to_string(), "2 processes".to_owned()] {
        assert!(cleaned.removed.contains(&wanted), "{wanted} in {cleaned:?}");
    }
    assert_eq!(clean(&config, false).await.unwrap(), Cleaned::default(), "a second time is fine");
}

#[tokio::test]
async fn in_a_shared_containerd_only_our_own_goes() {
    let mut machine = Machine::new();
    let shared = machine.directory.path().join("shared");
    let (root, state) = (shared.join("root"), shared.join("state"));
    let daemon = private::Config { root, state, binary: None };
    let daemon = private::Daemon::start(daemon).await.unwrap();
    let config = machine.config(daemon.socket().to_str().unwrap());
    let places = Places::of(&machine.data());
    let ours = places.containerd(daemon.socket(), "runc".into());
    let client = Containerd::connect(ours.clone()).await.unwrap();
    run(&client, &places, "web-0-aaaa.1").await;
    let theirs = containerd_config(&ours, "neighbour");
    let neighbour = Containerd::connect(theirs).await.unwrap();
    let foreign = Places::of(&shared);
    machine.neighbour = Some(foreign.clone());
    run(&neighbour, &foreign, "theirs").await;

    let cleaned = clean(&config, false).await.unwrap();
    assert_eq!(cleaned.failed, [""; 0]);
    assert!(cleaned.removed.contains(&"1 container".to_owned()), "{cleaned:?}");
    assert_eq!(namespaces(&neighbour).await, ["neighbour"]);
    let state = neighbour.task(&"theirs".into()).await.unwrap();
    assert!(matches!(state, TaskState::Running { .. }), "{state:?}");
    neighbour.delete(&"theirs".into()).await.unwrap();
    assert!(host::remove_cgroups(&foreign).unwrap() > 0);
    daemon.stop().await.unwrap();
}

fn containerd_config(
    like: &crate::actors::platform::containerd::Config,
    namespace: &str,
) -> crate::actors::platform::containerd::Config {
    let mut config = like.clone();
    namespace.clone_into(&mut config.namespace);
    config.runc_root = config.socket.with_file_name("runc");
    config
}

async fn namespaces(client: &Containerd) -> Vec<String> {
    let request = containerd_client::services::v1::ListNamespacesRequest::default();
    let list = client.namespaces().list(client.request(request)).await.unwrap();
    list.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect()
}

#[tokio::test]
async fn what_is_not_mills_is_left_alone() {
    let machine = Machine::new();
    let config = machine.config("private");
    fs::create_dir(machine.data()).unwrap();
    fs::write(machine.data().join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(clean(&config, false).await, Err(CleanError::NotOurs { .. })));
    assert!(machine.data().join("thesis.tex").exists());
    fs::remove_file(machine.data().join("thesis.tex")).unwrap();
    let socket = machine.directory.path().join("mill.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let cleaned = clean(&config, false).await.unwrap();
    assert_eq!(cleaned.removed, [machine.data().display().to_string()]);
    assert!(!socket.exists(), "a socket without a listener goes");

    let volume = machine.data().join("volumes/db");
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir(machine.data().join("raft")).unwrap();
    fs::write(machine.data().join("identity.json"), "{}").unwrap();
    let _ = clean(&config, true).await.unwrap();
    assert!(volume.is_dir() && !machine.data().join("raft").exists());
    assert!(!machine.data().join("identity.json").exists());
    let _ = clean(&config, false).await.unwrap();
    assert!(!machine.data().exists());
}
