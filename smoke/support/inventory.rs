//! What a node has on its machine, and what the state says that it should have.
//!
//! Owns where each kind of thing is looked for. Never changes anything.

use super::TestDaemon;
use crate::registry::run;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Names = BTreeSet<String>;

/// Everything by its kind. Names are those of allocations, where a thing has one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inventory(BTreeMap<&'static str, Names>);

impl Inventory {
    /// What is there.
    #[must_use]
    pub fn of(node: &TestDaemon) -> Self {
        let instance = instance(node);
        let run_dir = Path::new("/run/mill").join(&instance);
        let name = format!("mill-{instance}");
        let tasks = run_dir.join("containerd/run/io.containerd.runtime.v2.task").join(&name);
        let runc = Path::new("/run/mill").join(format!("runc-{instance}")).join(&name);
        let mounts = mounts(&run_dir);
        let below = |folder: &Path| -> Vec<PathBuf> {
            let rest = mounts.iter().filter_map(|place| place.strip_prefix(folder).ok());
            rest.map(Path::to_owned).collect()
        };
        let namespaces = below(&run_dir.join("netns")).iter().map(|rest| text(rest)).collect();
        let roots = below(&tasks).into_iter().filter(|rest| rest.ends_with("rootfs"));
        let roots = allocations(roots.map(|rest| text(rest.parent().unwrap())));
        let processes = node.leftovers();
        let count = |word: &str| -> Names {
            let all = processes.iter().filter(|l| l.starts_with("process ") && l.contains(word));
            all.enumerate().map(|(n, _)| n.to_string()).collect()
        };
        Self(BTreeMap::from([
            ("containers", allocations(ctr(node, &["containers", "list", "--quiet"]))),
            ("tasks", allocations(ctr(node, &["tasks", "list", "--quiet"]))),
            ("snapshots", allocations(active(ctr(node, &["snapshots", "list"])))),
            ("leases", ctr(node, &["leases", "list", "--quiet"]).into_iter().collect()),
            ("bundles", allocations(entries(&tasks))),
            ("runc", allocations(entries(&runc))),
            ("namespaces", entries(&run_dir.join("netns")).into_iter().collect()),
            ("namespace mounts", namespaces),
            ("root file systems", roots),
            ("cables", cables(node, &name)),
            ("control groups", allocations(groups(&name))),
            ("folders", entries(&node.data().join("alloc")).into_iter().collect()),
            ("processes in containers", entries(&run_dir.join("exec")).into_iter().collect()),
            ("published", published(node, &instance)),
            ("shims", count("containerd-shim")),
        ]))
    }

    /// What should be there, as the state says: of each running allocation one of each, and the
    /// published ports of the services that have one there.
    #[must_use]
    pub fn wanted(node: &TestDaemon, name: &str, published: &BTreeMap<&str, u16>) -> Self {
        let all = node.api().get("/v1/allocations");
        let here = |one: &&Value| one["node"] == name && one["status"] == "running";
        let here: Vec<&Value> = all.as_array().unwrap().iter().filter(here).collect();
        let id = |one: &&Value| one["id"].as_str().unwrap().to_owned();
        let ids: Names = here.iter().map(id).collect();
        let numbers: Names = (0..ids.len()).map(|n| n.to_string()).collect();
        let ports = here.iter().filter_map(|one| published.get(one["name"].as_str()?));
        let ports: Names = ports.map(u16::to_string).collect();
        let instance = instance(node);
        let cables = ids.iter().map(|id| cable(&instance, id)).collect();
        let none = Names::new();
        Self(BTreeMap::from([
            ("containers", ids.clone()),
            ("tasks", ids.clone()),
            ("snapshots", ids.clone()),
            ("leases", none.clone()),
            ("bundles", ids.clone()),
            ("runc", ids.clone()),
            ("namespaces", ids.clone()),
            ("namespace mounts", ids.clone()),
            ("root file systems", ids.clone()),
            ("cables", cables),
            ("control groups", ids.clone()),
            ("folders", ids),
            ("processes in containers", none),
            ("published", ports),
            ("shims", numbers),
        ]))
    }

    /// What differs, a line each.
    #[must_use]
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let differs = self.0.iter().filter(|(kind, there)| wanted.0.get(*kind) != Some(*there));
        differs
            .map(|(kind, there)| format!("{kind}: {there:?}, not {:?}", wanted.0[kind]))
            .collect()
    }
}

/// The first eight digits of the SHA-256 of the data directory's path.
#[must_use]
pub fn instance(node: &TestDaemon) -> String {
    let hash = Sha256::digest(node.data().to_str().unwrap().as_bytes());
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines that `ctr` prints about the node's namespace in its private containerd.
#[must_use]
pub fn ctr(node: &TestDaemon, args: &[&str]) -> Vec<String> {
    let instance = instance(node);
    let socket = format!("/run/mill/{instance}/containerd/containerd.sock");
    let mut ctr = Command::new("ctr");
    ctr.args(["--address", &socket, "--namespace", &format!("mill-{instance}")]).args(args);
    run(&mut ctr).lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Containers are `ALLOCATION.ATTEMPT`.
fn allocations(containers: impl IntoIterator<Item = String>) -> Names {
    let name = |id: String| match id.rsplit_once('.') {
        Some((allocation, _)) => allocation.to_owned(),
        None => id,
    };
    containers.into_iter().map(name).collect()
}

fn active(snapshots: Vec<String>) -> Vec<String> {
    let active = snapshots.into_iter().filter(|line| line.ends_with("Active"));
    active.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(all) = fs::read_dir(folder) else { return Vec::new() };
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Mounts below a folder.
fn mounts(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = all.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}

/// The host's end of an allocation's cable.
fn cable(instance: &str, id: &str) -> String {
    let hash = Sha256::digest(format!("{instance}/{id}").as_bytes());
    let hex: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("mv{hex}")
}

fn cables(node: &TestDaemon, bridge: &str) -> Names {
    let mut ip = node.namespace().command("ip");
    let all = ip.args(["-o", "link", "show", "type", "veth"]).output().unwrap();
    let all = String::from_utf8(all.stdout).unwrap();
    let name = |line: &str| line.split(": ").nth(1)?.split('@').next().map(str::to_owned);
    let own = all.lines().filter(|line| line.contains(&format!("master {bridge} ")));
    // Those that are in no bridge any more are none the less there.
    let loose = all.lines().filter(|line| !line.contains("master") && !line.contains(": eth0@"));
    own.chain(loose).filter_map(name).collect()
}

/// Control groups of containers, of every hierarchy.
fn groups(parent: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = entries(root).into_iter().map(|name| root.join(name));
    let parents = hierarchies.chain([root.to_owned()]).map(|place| place.join(parent));
    let children = |place: PathBuf| entries(&place).into_iter().map(move |name| place.join(name));
    let groups = parents.flat_map(children).filter(|place| place.is_dir());
    groups.map(|place| place.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Ports that lead to a container.
fn published(node: &TestDaemon, instance: &str) -> Names {
    let mut nft = node.namespace().command("nft");
    let table = format!("mill_{instance}");
    let rules = nft.args(["list", "chain", "ip", &table, "publish"]).output().unwrap();
    let rules = String::from_utf8(rules.stdout).unwrap();
    let port = |line: &str| line.split("dport ").nth(1)?.split(' ').next().map(str::to_owned);
    rules.lines().filter_map(port).collect()
}
