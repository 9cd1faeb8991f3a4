//! What the kernel's files say about usage, as pure functions.
//!
//! Formats: `Documentation/admin-guide/cgroup-v1/{cpuacct,memory}.rst`, `cgroup-v2.rst`,
//! `proc_meminfo(5)` and `proc_stat(5)`. Never opens a file.

use crate::node::oci::CgroupVersion;
use crate::units::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ticks a second of `/proc/stat`, the same on every Linux that mill runs on.
const TICKS: u64 = 100;

/// Where control groups count processor time and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// A mount for each controller.
    V1 {
        /// The mount of `cpuacct`.
        cpuacct: PathBuf,
        /// The mount of `memory`.
        memory: PathBuf,
    },
    /// One mount.
    V2 {
        /// The mount.
        root: PathBuf,
    },
}

/// The files of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Processor time.
    pub cpu: PathBuf,
    /// Memory, with all file cache.
    pub memory: PathBuf,
    /// What the memory is used for.
    pub memory_stat: PathBuf,
}

impl Hierarchy {
    /// From the text of `/proc/self/mounts`. Where both versions are mounted, the controllers are
    /// in the first.
    #[must_use]
    pub fn parse(mounts: &str) -> Option<Self> {
        let (mut cpuacct, mut memory, mut unified) = (None, None, None);
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(_), Some(path), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            match kind {
                "cgroup" if options.split(',').any(|option| option == "cpuacct") => {
                    cpuacct.get_or_insert_with(|| PathBuf::from(path));
                }
                "cgroup" if options.split(',').any(|option| option == "memory") => {
                    memory.get_or_insert_with(|| PathBuf::from(path));
                }
                "cgroup2" => {
                    unified.get_or_insert_with(|| PathBuf::from(path));
                }
                _ => {}
            }
        }
        match (cpuacct, memory, unified) {
            (Some(cpuacct), Some(memory), _) => Some(Self::V1 { cpuacct, memory }),
            (_, _, Some(root)) => Some(Self::V2 { root }),
            _ => None,
        }
    }

    /// Which version containers are limited with.
    #[must_use]
    pub fn version(&self) -> CgroupVersion {
        match self {
            Self::V1 { .. } => CgroupVersion::V1,
            Self::V2 { .. } => CgroupVersion::V2,
        }
    }

    /// The files of a group, given its path below the hierarchy's root without a leading slash.
    #[must_use]
    pub fn files(&self, group: &str) -> Files {
        let (cpu, memory, names) = match self {
            Self::V1 { cpuacct, memory } => {
                (cpuacct.as_path(), memory.as_path(), ["cpuacct.usage", "memory.usage_in_bytes"])
            }
            Self::V2 { root } => (root.as_path(), root.as_path(), ["cpu.stat", "memory.current"]),
        };
        let file = |root: &Path, name: &str| root.join(group).join(name);
        Files {
            cpu: file(cpu, names[0]),
            memory: file(memory, names[1]),
            memory_stat: file(memory, "memory.stat"),
        }
    }

    /// Processor time from the text of the group's file.
    pub(super) fn cpu(&self, text: &str) -> Option<Duration> {
        match self {
            Self::V1 { .. } => text.trim().parse().ok().map(Duration::from_nanos),
            Self::V2 { .. } => field(text, "usage_usec").map(Duration::from_micros),
        }
    }

    /// Bytes of file cache that nobody used lately.
    pub(super) fn inactive_file(&self, text: &str) -> Option<u64> {
        match self {
            Self::V1 { .. } => field(text, "total_inactive_file"),
            Self::V2 { .. } => field(text, "inactive_file"),
        }
    }
}

/// A number from a file of lines `NAME NUMBER`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All of it.
    pub total: Bytes,
    /// What a program could get without swapping.
    pub available: Bytes,
}

impl MemoryInfo {
    /// From the text of `/proc/meminfo`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<Bytes> {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(Bytes(kibibytes * 1024))
        };
        Some(Self { total: field("MemTotal:")?, available: field("MemAvailable:")? })
    }
}

/// Processor time in use since the machine's start, of all cores, from the text of `/proc/stat`.
pub(super) fn busy(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    let busy = user + nice + system + irq + softirq;
    Some(Duration::from_millis(busy * 1000 / TICKS))
}
