//! What containers and the node use: processor time and memory.
//!
//! Owns the way to the kernel's counters and the last reading of each, from which the rate comes.
//! Three small files a container, nothing kept open. Never enforces a ceiling.

mod parse;

pub use parse::{Hierarchy, MemoryInfo};

use crate::id::ContainerId;
use crate::limits;
use crate::units::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Cores in use since the last reading; absent at the first one.
    pub cpu: Option<MilliCpu>,
    /// Processor time since the container's start.
    pub cpu_total: Duration,
    /// Memory in use, without file cache that can be dropped at any time.
    pub memory: Bytes,
}

/// What the node has and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// Its cores.
    pub cpu_total: MilliCpu,
    /// Cores in use by whatever runs there; absent at the first reading.
    pub cpu_used: Option<MilliCpu>,
    pub memory_total: Bytes,
    /// Memory in use by whatever runs there.
    pub memory_used: Bytes,
}

/// Why usage can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A file of the kernel can't be read.
    #[error("reading {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file of the kernel has no such content.
    #[error("{path} isn't as expected", path = path.display())]
    Odd { path: PathBuf },
    /// No control groups that count.
    #[error(
        "no control groups for cpu and memory are mounted below /sys/fs/cgroup. Run: \
         mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NoCgroups,
}

/// A counter of processor time and what it said at its last readings.
#[derive(Clone, Copy, Debug)]
struct Counter {
    at: Instant,
    total: Duration,
    rate: Option<MilliCpu>,
}

impl Counter {
    /// The counter after a new reading; one that comes too soon changes no rate.
    fn next(previous: Option<Self>, at: Instant, total: Duration) -> Self {
        let Some(previous) = previous else { return Self { at, total, rate: None } };
        let elapsed = at.saturating_duration_since(previous.at);
        if elapsed < limits::USAGE_MIN && total >= previous.total {
            return previous;
        }
        // A counter that went back belongs to another life of the container.
        let rate = total.checked_sub(previous.total).map(|used| {
            let thousandths = used.as_micros() * 1000 / elapsed.as_micros().max(1);
            MilliCpu(u64::try_from(thousandths).unwrap_or(u64::MAX))
        });
        Self { at, total, rate }
    }
}

/// Reads the usage of containers and the node.
#[derive(Debug)]
pub struct Meter {
    hierarchy: Hierarchy,
    containers: BTreeMap<ContainerId, Counter>,
    node: Option<Counter>,
    text: String,
}

impl Meter {
    /// A meter for this machine's control groups.
    ///
    /// # Errors
    /// No control groups are mounted that count processor time and memory.
    pub fn open() -> Result<Self, UsageError> {
        let mut text = String::new();
        read(Path::new("/proc/self/mounts"), &mut text)?;
        let hierarchy = Hierarchy::parse(&text).ok_or(UsageError::NoCgroups)?;
        Ok(Self { hierarchy, containers: BTreeMap::new(), node: None, text })
    }

    /// Where the counters are.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Reads all containers below a control group such as `/mill-INSTANCE`. One that has just ended
    /// is left out; what is not asked for any more is forgotten.
    pub fn containers<'a>(
        &mut self,
        parent: &str,
        ids: impl IntoIterator<Item = &'a ContainerId>,
    ) -> BTreeMap<ContainerId, Usage> {
        let mut used = BTreeMap::new();
        let mut counters = BTreeMap::new();
        for id in ids {
            let group = format!("{}/{id}", parent.trim_start_matches('/'));
            let Some((total, memory)) = self.group(&group) else { continue };
            let previous = self.containers.get(id).copied();
            let counter = Counter::next(previous, Instant::now(), total);
            let usage = Usage { cpu: counter.rate, cpu_total: total, memory };
            used.insert(id.clone(), usage);
            counters.insert(id.clone(), counter);
        }
        self.containers = counters;
        used
    }

    fn group(&mut self, group: &str) -> Option<(Duration, Bytes)> {
        let files = self.hierarchy.files(group);
        read(&files.cpu, &mut self.text).ok()?;
        let cpu = self.hierarchy.cpu(&self.text)?;
        read(&files.memory, &mut self.text).ok()?;
        let memory: u64 = self.text.trim().parse().ok()?;
        read(&files.memory_stat, &mut self.text).ok()?;
        let cache = self.hierarchy.inactive_file(&self.text).unwrap_or(0);
        Some((cpu, Bytes(memory.saturating_sub(cache))))
    }

    /// Reads the node's own figures.
    ///
    /// # Errors
    /// `/proc` isn't as expected.
    pub fn node(&mut self) -> Result<NodeUsage, UsageError> {
        let odd = |path: &Path| UsageError::Odd { path: path.to_owned() };
        let path = Path::new("/proc/meminfo");
        read(path, &mut self.text)?;
        let memory = MemoryInfo::parse(&self.text).ok_or_else(|| odd(path))?;
        let path = Path::new("/proc/stat");
        read(path, &mut self.text)?;
        let busy = parse::busy(&self.text).ok_or_else(|| odd(path))?;
        let counter = Counter::next(self.node, Instant::now(), busy);
        self.node = Some(counter);
        Ok(NodeUsage {
            cpu_total: cores(),
            cpu_used: counter.rate,
            memory_total: memory.total,
            memory_used: Bytes(memory.total.0.saturating_sub(memory.available.0)),
        })
    }
}

/// The cores that this process may use: the machine's, or fewer under a limit.
#[must_use]
pub fn cores() -> MilliCpu {
    MilliCpu(1000 * std::thread::available_parallelism().map_or(1, |count| count.get() as u64))
}

/// Reads a small file into `text`, replacing what was there.
fn read(path: &Path, text: &mut String) -> Result<(), UsageError> {
    text.clear();
    let result = File::open(path).and_then(|mut file| file.read_to_string(text));
    result.map(drop).map_err(|source| UsageError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
