//! Network namespaces that stand for machines, and the wire between them.
//!
//! Owns the namespaces that it makes: they go with it, and their links with them. Never changes the
//! host's own network.

use crate::registry::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The hub's address; nodes have [`address`].
pub const HUB: &str = "172.31.0.254";

/// The address of node number `n`, from 1.
#[must_use]
pub fn address(n: usize) -> String {
    format!("172.31.0.{n}")
}

/// A namespace with its loopback up.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. The name carries the instance id of a folder, so that `harness/sweep` of that
    /// folder takes it away too.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::digest(folder.to_str().unwrap().as_bytes());
        let instance: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let made = Self { name: format!("mill-test-{instance}") };
        run(Command::new("ip").args(["netns", "add", &made.name]));
        run(Command::new("ip").args(["-n", &made.name, "link", "set", "lo", "up"]));
        made
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A program in it. `ip netns exec` would hide the control groups.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Runs `ip` on its network.
    fn ip(&self, arguments: &str) {
        let arguments = arguments.split(' ');
        run(Command::new("ip").args(["-n", &self.name]).args(arguments));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// The wire: a bridge in a namespace of its own.
pub struct Hub {
    /// Where the bridge is.
    pub namespace: Namespace,
}

impl Hub {
    /// Makes one without nodes.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let namespace = Namespace::of(folder);
        namespace.ip("link add hub type bridge");
        namespace.ip(&format!("address add {HUB}/24 dev hub"));
        namespace.ip("link set hub up");
        Self { namespace }
    }

    /// Connects a node's namespace as number `n`.
    pub fn connect(&self, node: &Namespace, n: usize) {
        let far = &node.name;
        self.namespace.ip(&format!("link add n{n} type veth peer name eth0 netns {far}"));
        self.namespace.ip(&format!("link set n{n} master hub up"));
        node.ip(&format!("address add {}/24 dev eth0", address(n)));
        node.ip("link set eth0 up");
        node.ip(&format!("route add default via {HUB}"));
    }

    /// Cuts a node off, both ways.
    pub fn cut(&self, n: usize) {
        self.namespace.ip(&format!("link set n{n} down"));
    }

    /// Lets a node hear, but not be heard.
    pub fn mute(&self, n: usize) {
        self.drop_frames(&format!("mute{n}"), "prerouting", &format!("iifname n{n}"));
    }

    /// Lets a node be heard, but not hear.
    pub fn deafen(&self, n: usize) {
        self.drop_frames(&format!("deaf{n}"), "postrouting", &format!("oifname n{n}"));
    }

    /// Lets nothing through between these nodes and all others; those on one side hear each other,
    /// and all reach the hub. Taken back by [`Hub::join`], or for one node by [`Hub::heal`].
    pub fn part(&self, side: &[usize]) {
        let names: Vec<String> = side.iter().map(|n| format!("n{n}")).collect();
        let names = names.join(", ");
        let table = part_of(side);
        let out = format!("iifname {{ {names} }} oifname != {{ {names} }}");
        self.drop_frames(&table, "forward", &out);
        let rule = format!("oifname {{ {names} }} iifname != {{ {names} }}");
        self.nft(&format!("add rule bridge {table} frames {rule} drop\n"));
    }

    /// Takes back what [`Hub::part`] did.
    pub fn join(&self, side: &[usize]) {
        self.forget(&part_of(side));
    }

    /// Takes back what [`Hub::cut`], [`Hub::mute`], [`Hub::deafen`] and [`Hub::part`] did to a
    /// node alone.
    pub fn heal(&self, n: usize) {
        self.namespace.ip(&format!("link set n{n} up"));
        for table in [format!("mute{n}"), format!("deaf{n}"), part_of(&[n])] {
            self.forget(&table);
        }
    }

    /// Lets the bridge drop what this matches.
    fn drop_frames(&self, table: &str, hook: &str, rule: &str) {
        self.nft(&format!(
            "add table bridge {table}\nadd chain bridge {table} frames \
             {{ type filter hook {hook} priority 0; }}\n\
             add rule bridge {table} frames {rule} drop\n"
        ));
    }

    fn nft(&self, rules: &str) {
        let mut nft = self.namespace.command("nft");
        run(nft.arg(rules));
    }

    fn forget(&self, table: &str) {
        let mut nft = self.namespace.command("nft");
        // There may be none.
        let _ = nft.args(["delete", "table", "bridge", table]).output();
    }
}

fn part_of(side: &[usize]) -> String {
    let numbers: Vec<String> = side.iter().map(usize::to_string).collect();
    format!("part{}", numbers.join("_"))
}
