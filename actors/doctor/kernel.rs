//! Checks of what the kernel can: namespaces, control groups, overlays, container networks.
//!
//! Owns the attempts in namespaces of a thread of its own, gone with the thread. Never loads a
//! module and never changes a setting of the host.

use super::{Check, Scratch};
use crate::actors::platform::net::{Net, NetConfig, PublishOn};
use crate::actors::platform::usage::Hierarchy;
use crate::id::AllocId;
use crate::network::Subnet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// Controllers that limit and count containers.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The namespaces that containers live in.
pub(super) fn namespaces() -> Check {
    let missing: Vec<&str> = ["ipc", "mnt", "net", "pid", "uts"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if missing.is_empty() {
        return Check::ok("namespaces", "ipc, mnt, net, pid, uts");
    }
    let detail = format!("the kernel has no {} namespaces", missing.join(", "));
    Check::fail("namespaces", detail, "use a distribution's standard kernel")
}

/// Filters of system calls.
pub(super) fn seccomp() -> Check {
    let text = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if text.split_whitespace().any(|action| action == "errno") {
        return Check::ok("seccomp", "system calls can be filtered");
    }
    let detail = "the kernel can't filter system calls";
    Check::fail("seccomp", detail, "use a distribution's standard kernel")
}

/// Control groups and their controllers.
pub(super) fn cgroups() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchy = Hierarchy::parse(&mounts);
    let unified = match &hierarchy {
        Some(Hierarchy::V2 { root }) => {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        }
        _ => String::new(),
    };
    judge_cgroups(hierarchy.as_ref(), &mounts, &unified)
}

pub(super) fn judge_cgroups(found: Option<&Hierarchy>, mounts: &str, unified: &str) -> Check {
    let name = "cgroups";
    let has = |controller: &str| match found {
        Some(Hierarchy::V1 { .. }) => mounts.lines().any(|line| {
            let mut fields = line.split(' ').skip(2);
            fields.next() == Some("cgroup")
                && fields.next().unwrap_or_default().split(',').any(|option| option == controller)
        }),
        Some(Hierarchy::V2 { .. }) => unified.split_whitespace().any(|have| have == controller),
        None => false,
    };
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !has(name)).collect();
    match found {
        None => {
            let remedy = "mount -t cgroup2 none /sys/fs/cgroup";
            Check::fail(name, "no control groups are mounted", remedy)
        }
        Some(_) if !missing.is_empty() => {
            let detail = format!("no controller for {}", missing.join(", "));
            let remedy = "boot with cgroup_enable=memory systemd.unified_cgroup_hierarchy=1";
            Check::fail(name, detail, remedy)
        }
        Some(Hierarchy::V1 { .. }) => Check::ok(name, "version 1: cpu, memory, pids"),
        Some(Hierarchy::V2 { .. }) => Check::ok(name, "version 2: cpu, memory, pids"),
    }
}

/// Forwarding between the containers' bridge and the world.
pub(super) fn ip_forward() -> Check {
    let name = "ip_forward";
    match fs::read_to_string("/proc/sys/net/ipv4/ip_forward").as_deref().map(str::trim) {
        Ok("1") => Check::ok(name, "on"),
        Ok(_) => Check::ok(name, "off; the daemon forwards for containers only"),
        Err(error) => {
            let remedy = "use a kernel with IPv4, and mount /proc";
            Check::fail(name, format!("can't be read: {error}"), remedy)
        }
    }
}

/// What the mesh between nodes needs: WireGuard in the kernel, or a tun device.
pub(super) fn mesh(wanted: bool) -> Vec<Check> {
    if !wanted {
        return Vec::new();
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    let module = ["modules.dep", "modules.builtin"]
        .iter()
        .filter_map(|file| fs::read_to_string(modules.join(file)).ok())
        .any(|text| text.contains("/wireguard.ko"));
    let kernel = module || Path::new("/sys/module/wireguard").exists();
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    judge_mesh(kernel, tun.map(drop).map_err(|error| error.to_string()))
}

pub(super) fn judge_mesh(kernel: bool, tun: Result<(), String>) -> Vec<Check> {
    let name = "WireGuard";
    let wireguard = match (kernel, &tun) {
        (true, _) => Check::ok(name, "in the kernel"),
        (false, Ok(())) => {
            let detail = "not in this kernel: a mesh runs in the process, more slowly";
            Check::warn(name, detail, "for more speed, use a distribution's standard kernel")
        }
        (false, Err(_)) => {
            let detail = "neither in the kernel nor possible in the process";
            Check::warn(name, detail, "for several nodes: modprobe wireguard, or modprobe tun")
        }
    };
    let tun = match tun {
        Ok(()) => Check::ok("/dev/net/tun", "can be opened"),
        Err(_) if kernel => Check::ok("/dev/net/tun", "not there, and not needed"),
        Err(error) => Check::warn("/dev/net/tun", error, "for several nodes: modprobe tun"),
    };
    vec![wireguard, tun]
}

/// Runs something in a mount and a network namespace of its own.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::spawn(move || {
        let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
        unshare(own).map_err(|error| format!("no namespaces of one's own: {error}"))?;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|error| format!("no mounts of one's own: {error}"))?;
        work()
    });
    thread.join().unwrap_or_else(|_| Err("broken off inside".to_owned()))
}

fn scratch(below: &Path) -> Result<Scratch, String> {
    Scratch::new(below).map_err(|error| format!("{} can't be written: {error}", below.display()))
}

/// An overlay where the data directory is: tried.
pub(super) fn overlayfs(data_dir: &Path) -> Check {
    let there = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let there = there.to_owned();
    match apart(move || try_overlay(&there)) {
        Ok(()) => Check::ok("overlayfs", "works where the data directory is"),
        Err(error) => {
            let remedy = "modprobe overlay, or pass --data-dir DIR on ext4 or xfs";
            Check::fail("overlayfs", error, remedy)
        }
    }
}

fn try_overlay(there: &Path) -> Result<(), String> {
    let scratch = scratch(there)?;
    let part = |name: &str| -> Result<String, String> {
        let path = scratch.0.join(name);
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        Ok(path.display().to_string())
    };
    let (lower, upper, work) = (part("lower")?, part("upper")?, part("work")?);
    let target = part("merged")?;
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let kind = Some("overlay");
    mount(kind, target.as_str(), kind, MsFlags::empty(), Some(options.as_str()))
        .map_err(|error| format!("an overlay can't be mounted: {error}"))?;
    let written = fs::write(Path::new(&target).join("file"), "x");
    umount2(target.as_str(), MntFlags::MNT_DETACH).map_err(|error| error.to_string())?;
    written.map_err(|error| format!("an overlay can't be written: {error}"))
}

/// A container's network with bridge, cable, namespace and rules: tried.
pub(super) fn network() -> Check {
    match apart(try_network) {
        Ok(()) => Check::ok("container network", "bridge, veth and nftables work"),
        Err(error) => {
            let remedy = "modprobe bridge veth nf_tables nft_chain_nat nft_masq nft_fib_ipv4, \
                          or use a distribution's standard kernel";
            Check::fail("container network", error, remedy)
        }
    }
}

fn try_network() -> Result<(), String> {
    let scratch = scratch(&std::env::temp_dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let subnet = Subnet::of(Ipv4Addr::new(10, 98, 0, 0), 16);
    let config = NetConfig {
        instance: "d0c".to_owned(),
        subnet: Subnet::node(subnet.address()),
        cluster_subnet: subnet,
        publish_on: PublishOn::All,
        run_dir: scratch.0.join("netns"),
        private_ports: Vec::new(),
        open_ports: Vec::new(),
        forwarding: scratch.0.join("forwarding"),
    };
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let net = Net::open(config).await.map_err(|error| error.to_string())?;
        let address = Ipv4Addr::new(10, 98, 0, 2);
        let tried = net.attach(&AllocId::from("doctor-0-aaaa"), address).await;
        let closed = net.close().await;
        tried.map(drop).and(closed).map_err(|error| error.to_string())
    })
}
