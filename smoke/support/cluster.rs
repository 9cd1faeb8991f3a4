//! A cluster for one test: nodes in network namespaces, each with its own containerd, data and
//! address, and a registry that all of them reach.
//!
//! Owns the wire between the nodes and what breaks it. Never decides what a test wants.

use super::dials;
use super::fault::Fault;
use super::netns::{HUB, Hub, Namespace, address};
use super::pebble::Pebble;
use super::slot::Slot;
use super::{Outcome, TestDaemon};
use crate::poll::poll;
use crate::provider::{Provider, REGION, TOKEN, Trouble};
use crate::registry::Registry;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// What the machines of a cluster have.
#[derive(Default)]
struct Kind {
    /// Each its data directory on a disk of its own.
    own_disks: bool,
    /// A provider of block storage.
    trouble: Option<Trouble>,
    /// An authority that certificates are ordered from.
    authority: bool,
    /// Listeners that are kept over a restart of the daemon.
    kept: bool,
}

/// A running cluster. Nodes count from 1, as their names do.
pub struct TestCluster {
    // The order in which they go.
    nodes: Vec<TestDaemon>,
    provider: Option<Provider>,
    authority: Option<Pebble>,
    registry: Registry,
    hub: Hub,
    preload: PathBuf,
    own_disks: bool,
    kept: bool,
    /// What went wrong and isn't undone yet.
    pub(super) struck: BTreeSet<(usize, Fault)>,
    _slot: Slot,
}

impl TestCluster {
    /// A cluster of so many nodes, all ready.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        let mut cluster = Self::unclaimed(nodes);
        cluster.form(nodes);
        cluster
    }

    /// The same, each with its data directory on a disk of its own.
    #[must_use]
    pub fn start_on_disks(nodes: usize) -> Self {
        let mut cluster = Self::on_disks(nodes);
        cluster.form(nodes);
        cluster
    }

    /// So many machines with a daemon each that is no member of anything.
    #[must_use]
    pub fn unclaimed(nodes: usize) -> Self {
        Self::machines(nodes, Kind::default())
    }

    /// The same, each with its data directory on a disk of its own.
    #[must_use]
    pub fn on_disks(nodes: usize) -> Self {
        Self::machines(nodes, Kind { own_disks: true, ..Kind::default() })
    }

    /// A cluster of so many machines of a provider of block storage, all ready.
    #[must_use]
    pub fn start_provided(nodes: usize, trouble: Trouble) -> Self {
        let trouble = Some(trouble);
        let mut cluster = Self::machines(nodes, Kind { trouble, ..Kind::default() });
        cluster.form(nodes);
        cluster
    }

    /// The provider of its volumes.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        self.provider.as_ref().expect("a provider")
    }

    /// A cluster that can order certificates from an authority of its own, all nodes ready.
    #[must_use]
    pub fn start_certified(nodes: usize) -> Self {
        let mut cluster = Self::machines(nodes, Kind { authority: true, ..Kind::default() });
        cluster.authority_mut().start(80, 443);
        cluster.form(nodes);
        cluster
    }

    /// A cluster whose nodes keep their listeners over a restart, as under systemd, all ready.
    #[must_use]
    pub fn start_kept(nodes: usize) -> Self {
        let mut cluster = Self::machines(nodes, Kind { kept: true, ..Kind::default() });
        cluster.form(nodes);
        cluster
    }

    /// The authority that certificates are ordered from.
    ///
    /// # Panics
    /// When there is none.
    pub fn authority_mut(&mut self) -> &mut Pebble {
        self.authority.as_mut().expect("an authority")
    }

    /// The same, to look at.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn authority(&self) -> &Pebble {
        self.authority.as_ref().expect("an authority")
    }

    fn machines(nodes: usize, kind: Kind) -> Self {
        let Kind { own_disks, trouble, authority, kept } = kind;
        let slot = Slot::claim();
        super::node::sweep(&slot.folder());
        fs::create_dir_all(slot.folder()).unwrap();
        let hub = Hub::new(&slot.folder());
        let place = hub.namespace.path();
        let registry = Registry::start_in(&place, HUB);
        let preload = dials::library(&slot.folder());
        let devices = slot.folder().join("devices");
        let provider = trouble.map(|trouble| Provider::start_in(&place, HUB, &devices, trouble));
        let authority = authority.then(|| Pebble::new_in(&place, HUB));
        let mut cluster = Self {
            nodes: Vec::new(),
            provider,
            authority,
            registry,
            hub,
            preload,
            own_disks,
            kept,
            struck: BTreeSet::new(),
            _slot: slot,
        };
        for _ in 0..nodes {
            cluster.add();
        }
        cluster
    }

    /// One more machine with an unclaimed daemon.
    pub fn add(&mut self) {
        let n = self.nodes.len() + 1;
        let registry = self.registry.address();
        let connect = |namespace: &Namespace| self.hub.connect(namespace, n);
        let flags = ["--insecure-registry", registry.as_str()];
        let builder = TestDaemon::builder().flags(flags).unclaimed().own_disk(self.own_disks);
        let devices = self._slot.folder().join("devices").join(n.to_string());
        let mut builder = builder.env("MILL_VOLUME_DEVICES", devices.to_str().unwrap());
        if let Some(authority) = &self.authority {
            builder = builder.flags(["--acme-ca", authority.ca().to_str().unwrap()]);
            builder = builder.env("MILL_ACME_RESOLVER", &authority.resolver());
        }
        if self.kept {
            builder = builder.kept();
        }
        let node = builder.dials(self.preload.clone()).start_in(address(n), connect);
        self.nodes.push(node);
    }

    /// Makes the first node a cluster and lets the others join it.
    fn form(&mut self, nodes: usize) {
        let told = self.init();
        for n in 2..=nodes {
            let _ = self.join(n, &told).ok();
        }
        let ready = || self.names_with("status", "ready").len() == nodes;
        poll(ready).secs(30).expect("all nodes ready");
    }

    /// Makes the first node a cluster; what `init` told.
    pub fn init(&mut self) -> Value {
        let mut flags = vec!["--node".to_owned(), "n1".to_owned()];
        flags.extend(["--advertise".to_owned(), address(1)]);
        if let Some(provider) = &self.provider {
            flags.extend(["--provider", "digitalocean", "--provider-token"].map(str::to_owned));
            flags.extend([TOKEN.to_owned(), "--provider-api".to_owned(), provider.api()]);
        }
        flags.extend(self.machine(1));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.node_mut(1).init(&flags)
    }

    /// The flags that say which of the provider's machines a node is: the one of its number.
    fn machine(&self, n: usize) -> Vec<String> {
        let labels = [format!("droplet={n}"), format!("region={REGION}")];
        let labels = labels.into_iter().filter(|_| self.provider.is_some());
        labels.flat_map(|label| ["--label".to_owned(), label]).collect()
    }

    /// Lets a node join with what `init` told.
    pub fn join(&self, n: usize, told: &Value) -> Outcome {
        let line = told["join"].as_str().expect("the command").to_owned();
        let words = line.split(' ').skip(1).map(str::to_owned);
        let own = ["--node".to_owned(), format!("n{n}"), "--advertise".to_owned(), address(n)];
        self.node(n).mill(words.chain(own).chain(self.machine(n)))
    }

    /// How many machines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A node by its number.
    #[must_use]
    pub fn node(&self, n: usize) -> &TestDaemon {
        &self.nodes[n - 1]
    }

    /// The same, to start or end it.
    pub fn node_mut(&mut self, n: usize) -> &mut TestDaemon {
        &mut self.nodes[n - 1]
    }

    /// The registry, to stop it and start it again.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Lets an unclaimed node join at node number `at` as `nN`; what it was told.
    #[track_caller]
    pub fn join_at(&self, n: usize, at: usize) -> Value {
        let made = self.node(at).mill(["token", "create", "--role", "join", "--json"]).json();
        let token = made["token"].as_str().expect("a token").to_owned();
        let name = format!("n{n}");
        let (there, here) = (address(at), address(n));
        let to = ["join", &there, "--token", &token, "--json"];
        let own = ["--node", &name, "--advertise", &here];
        self.node(n).mill(to.into_iter().chain(own)).json()
    }

    /// The wire.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The whole reference of an image that every node can pull.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        self.registry.image(name)
    }

    /// The names of nodes whose document has this, as the first that answers sees it.
    #[must_use]
    pub fn names_with(&self, field: &str, value: impl Into<Value>) -> Vec<String> {
        let value = value.into();
        let seen = self.nodes.iter().filter(|node| node.answers()).find_map(|node| {
            let answer = node.api().request("GET", "/v1/nodes").try_send().ok()?;
            (answer.status == 200 && answer.header("mill-stale").is_none()).then(|| answer.json())
        });
        let all = seen.and_then(|all| all.as_array().cloned()).unwrap_or_default();
        let named = all.iter().filter(|node| node[field] == value);
        named.filter_map(|node| node["name"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until so many vote.
    #[track_caller]
    pub fn await_voters(&self, count: usize) {
        poll(|| self.names_with("voter", true).len() == count).secs(30).expect("the voters");
    }

    /// The number of the node that leads, once a majority agrees.
    #[track_caller]
    pub fn leader(&self) -> usize {
        let leader = || match self.names_with("leader", true).as_slice() {
            [name] => name.trim_start_matches('n').parse::<usize>().ok(),
            _ => None,
        };
        poll(leader).secs(20).expect("a leader")
    }

    /// A node that answers and doesn't lead.
    #[must_use]
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        let running = |n: &usize| *n != leader && self.node(*n).answers();
        (1..=self.nodes.len()).find(running).expect("a follower")
    }
}
