//! etcd beside which mill is measured: three members on the same machines, wires and disk.
//!
//! Owns their processes and folders, gone when it is dropped. Never installs it: `peer` unpacks it.

use super::load::{Target, inside, request};
use crate::poll::poll;
use crate::registry::run;
use crate::support::netns::address;
use crate::support::{Api, TestCluster};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

/// Where each member listens, on its own machine.
const CLIENTS: &str = "127.0.0.1:2379";

/// Three running members.
pub struct Etcd {
    members: Vec<(Child, PathBuf)>,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts a member on each machine of a cluster, and waits for a leader.
    #[must_use]
    pub fn start(cluster: &TestCluster) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/bench/peer");
        let program = run(std::process::Command::new(script).arg("etcd"));
        // On the disk that the nodes' data are on.
        let place = std::env::temp_dir().join("mill-smoke");
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir_in(place).unwrap();
        let url = |n: usize| format!("http://{}:2380", address(n));
        let all: Vec<String> = (1..=3).map(|n| format!("n{n}={}", url(n))).collect();
        let members = (1..=3).map(|n| {
            let namespace = cluster.node(n).namespace();
            let clients = format!("http://{CLIENTS}");
            let mut command = namespace.command(program.trim());
            command.args(["--name", &format!("n{n}")]).arg("--data-dir");
            command.arg(folder.path().join(n.to_string()));
            command.args(["--listen-peer-urls", &url(n)]);
            command.args(["--initial-advertise-peer-urls", &url(n)]);
            command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
            command.args(["--initial-cluster", &all.join(",")]);
            command.args(["--logger", "zap", "--log-level", "error"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            (command.spawn().unwrap(), namespace.path())
        });
        let etcd = Self { members: members.collect(), _folder: folder };
        poll(|| etcd.leader()).secs(20).expect("a leader of etcd");
        etcd
    }

    /// The machine of the leader.
    fn leader(&self) -> Option<usize> {
        let leads = |namespace: &Path| {
            let ask = || {
                let api = Api::tcp(CLIENTS, None);
                api.request("POST", "/v3/maintenance/status").json(&json!({})).try_send()
            };
            let Ok(answer) = inside(namespace, ask) else { return false };
            let status = answer.json();
            status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
        };
        self.members.iter().position(|(_, namespace)| leads(namespace))
    }

    /// Writes of a value of so many bytes, at the leader or at a follower.
    #[must_use]
    pub fn target(&self, at_leader: bool, keys: usize, size: usize) -> Target {
        let leader = self.leader().expect("a leader of etcd");
        let at = if at_leader { leader } else { (leader + 1) % 3 };
        let address: SocketAddr = CLIENTS.parse().unwrap();
        let put = move |client: usize, number: usize| {
            let key = STANDARD.encode(format!("k{}", client % keys));
            let value = STANDARD.encode(format!("{number:0>size$}"));
            let body = json!({"key": key, "value": value}).to_string();
            request("POST", "/v3/kv/put", "", &body)
        };
        Target { namespace: self.members[at].1.clone(), address, request: Arc::new(put) }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for (member, _) in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
