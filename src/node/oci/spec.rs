//! The OCI runtime spec of one container.
//!
//! Owns the defaults that keep a container in its place. Never holds a secret: those are added
//! after containerd has stored the spec.

use super::user::Account;
use super::{ImageConfig, argv, seccomp};
use crate::id::AllocId;
use crate::limits;
use crate::spec::model::RunSpec;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxDeviceCgroupBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder, get_default_mounts,
};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a container may do as root, fewer than Docker allows: no raw sockets, no device nodes, no
/// audit records, no file or process capabilities handed on.
const CAPABILITIES: [Capability; 9] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setgid,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Paths that a container can't read.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that a container can't write.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Length of a scheduling period for the ceiling on processor time, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Which generation of control groups the host has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A file or directory of the host made visible in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// Everything about one container that is neither in the file nor in the image.
#[derive(Clone, Debug)]
pub struct Context {
    /// Also the container's host name.
    pub alloc: AllocId,
    /// Who it runs as; from [`super::resolve_user`].
    pub account: Account,
    /// The file's variables with every reference replaced.
    pub env: BTreeMap<String, String>,
    /// What mill itself sets: `PORT` and `MILL_…`. The file's `PORT` wins.
    pub own_env: BTreeMap<String, String>,
    /// The network namespace to join; absent: a new one with nothing in it.
    pub netns: Option<PathBuf>,
    /// Absolute path of the control group, below the hierarchy's root.
    pub cgroup: PathBuf,
    /// What the host has.
    pub cgroup_version: CgroupVersion,
    /// `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`, volumes, in this order.
    pub mounts: Vec<BindMount>,
    /// The most open files that may be given to a process; 0: unknown.
    pub open_files: u64,
}

impl Context {
    /// The variables that every container gets.
    #[must_use]
    pub fn own_env(
        alloc: &AllocId,
        kind: &str,
        name: &str,
        node: &str,
        replica: u32,
        port: Option<u16>,
    ) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("MILL_ALLOC".to_owned(), alloc.to_string()),
            (format!("MILL_{}", kind.to_ascii_uppercase()), name.to_owned()),
            ("MILL_NODE".to_owned(), node.to_owned()),
            ("MILL_REPLICA".to_owned(), replica.to_string()),
        ]);
        env.extend(port.map(|port| ("PORT".to_owned(), port.to_string())));
        env
    }
}

/// A container that can't be described.
#[derive(Debug, Error)]
pub enum SpecError {
    /// Nothing says what to run.
    #[error("the image has neither ENTRYPOINT nor CMD; say what to run: command \"/bin/server\"")]
    NoCommand,
    /// A value that the runtime spec can't hold.
    #[error("can't describe the container for the runtime")]
    Build(#[from] OciSpecError),
}

/// Describes a container for the runtime.
///
/// # Errors
/// Nothing says what to run, or a value doesn't fit.
pub fn runtime_spec(
    run: &RunSpec,
    image: &ImageConfig,
    context: &Context,
) -> Result<Spec, SpecError> {
    let linux = LinuxBuilder::default()
        .cgroups_path(&context.cgroup)
        .namespaces(namespaces(context)?)
        .resources(resources(run)?)
        .sysctl(sysctls())
        .seccomp(seccomp::profile().clone())
        .masked_paths(MASKED.map(str::to_owned))
        .readonly_paths(READ_ONLY.map(str::to_owned))
        .build()?;
    let spec = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path("rootfs").readonly(false).build()?)
        .hostname(context.alloc.as_str())
        .mounts(mounts(context)?)
        .process(process(run, image, context)?)
        .linux(linux)
        .build()?;
    Ok(spec)
}

fn process(run: &RunSpec, image: &ImageConfig, context: &Context) -> Result<Process, SpecError> {
    let args = argv(run, image);
    if args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let allowed: Capabilities = CAPABILITIES.into_iter().collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(allowed.clone())
        .effective(allowed.clone())
        .permitted(allowed)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()?;
    let user = UserBuilder::default()
        .uid(context.account.uid)
        .gid(context.account.gid)
        .additional_gids(context.account.groups.clone())
        .build()?;
    Ok(ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(args)
        .env(environment(image, context))
        .cwd(Path::new("/").join(&image.workdir))
        .capabilities(capabilities)
        .no_new_privileges(true)
        .oom_score_adj(0)
        .rlimits(limits_of(context.open_files)?)
        .build()?)
}

/// As many open files as servers need, where that is ours to give; no core dumps, which would fill
/// the disk.
fn limits_of(open_files: u64) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let limit = |typ, most| PosixRlimitBuilder::default().typ(typ).soft(most).hard(most).build();
    let mut all = vec![limit(PosixRlimitType::RlimitCore, 0)?];
    let files = open_files.min(limits::CONTAINER_FILES);
    if files > 0 {
        all.push(limit(PosixRlimitType::RlimitNofile, files)?);
    }
    Ok(all)
}

/// Image, then mill, then the file: the later wins, each name stands once.
fn environment(image: &ImageConfig, context: &Context) -> Vec<String> {
    let home = context.account.home.as_deref().unwrap_or("/");
    let base = [PATH.to_owned(), format!("HOME={home}"), format!("HOSTNAME={}", context.alloc)];
    let own = context.own_env.iter().chain(&context.env).map(|(k, v)| format!("{k}={v}"));
    let mut order: Vec<String> = Vec::new();
    let mut position: HashMap<String, usize> = HashMap::new();
    for variable in base.into_iter().chain(image.env.iter().cloned()).chain(own) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        match position.get(&name) {
            Some(index) => order[*index] = variable,
            None => {
                position.insert(name, order.len());
                order.push(variable);
            }
        }
    }
    order
}

fn namespaces(context: &Context) -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut namespaces = [Pid, Ipc, Uts, Mount]
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect::<Result<Vec<_>, _>>()?;
    if context.cgroup_version == CgroupVersion::V2 {
        namespaces.push(LinuxNamespaceBuilder::default().typ(Cgroup).build()?);
    }
    let network = LinuxNamespaceBuilder::default().typ(Network);
    namespaces.push(match &context.netns {
        Some(path) => network.path(path).build()?,
        None => network.build()?,
    });
    Ok(namespaces)
}

/// Ports below 1024 and ping need no privilege in a network namespace of one's own.
fn sysctls() -> HashMap<String, String> {
    HashMap::from([
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()),
        ("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned()),
    ])
}

fn resources(run: &RunSpec) -> Result<LinuxResources, OciSpecError> {
    let shares = (run.reserved_cpu().0 * 1024 / 1000).max(2);
    let mut cpu = LinuxCpuBuilder::default().shares(shares);
    if let Some(ceiling) = run.cpu {
        let quota = (ceiling.0 * CPU_PERIOD / 1000).max(1000);
        cpu = cpu.quota(i64::try_from(quota).unwrap_or(i64::MAX)).period(CPU_PERIOD);
    }
    let memory = i64::try_from(run.memory.0).unwrap_or(i64::MAX);
    LinuxResourcesBuilder::default()
        .devices(vec![LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?])
        .cpu(cpu.build()?)
        .memory(LinuxMemoryBuilder::default().limit(memory).swap(memory).build()?)
        .pids(LinuxPidsBuilder::default().limit(limits::CONTAINER_PIDS).build()?)
        .build()
}

fn mounts(context: &Context) -> Result<Vec<Mount>, OciSpecError> {
    let mut mounts = get_default_mounts();
    for bind in &context.mounts {
        let access = if bind.read_only { "ro" } else { "rw" };
        let options = ["rbind", "rprivate", "nosuid", "nodev", access].map(str::to_owned);
        let mount = MountBuilder::default()
            .typ("bind")
            .source(&bind.source)
            .destination(&bind.target)
            .options(options)
            .build()?;
        mounts.push(mount);
    }
    Ok(mounts)
}
