//! Tests of the parsers with recorded files, and of the meter with real control groups.

use super::*;
use crate::node::oci::CgroupVersion;
use std::process::{Child, Command};

const MOUNTS_V1: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/cpuacct cgroup rw,relatime,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";
const MOUNTS_JOINT: &str = "\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,nodev,noexec,relatime,memory 0 0
";
const MOUNTS_V2: &str = "\
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
";
const CPU_STAT_V2: &str = "\
usage_usec 1234567
user_usec 1000000
system_usec 234567
nr_periods 12
nr_throttled 3
throttled_usec 4000
";
const MEMORY_STAT_V1: &str = "\
cache 10276864
rss 15364096
inactive_file 36864
active_file 1155072
total_cache 5985816576
total_inactive_file 4031303680
total_active_file 1945067520
";
const MEMORY_STAT_V2: &str = "\
anon 1527808
file 4325376
inactive_anon 1536000
inactive_file 2703360
active_file 1622016
";
const STAT: &str = "\
cpu  128095 5 24499 350030 2986 7 459 85 11 0
cpu0 58791 0 11505 181734 967 0 47 40 0 0
";

#[test]
fn the_hierarchy_is_found_in_the_mounts() {
    let v1 = Hierarchy::parse(MOUNTS_V1).unwrap();
    assert_eq!(v1.version(), CgroupVersion::V1);
    let files = v1.files("mill-x/web-0-k3f9.1");
    let group = Path::new("/sys/fs/cgroup/cpuacct/mill-x/web-0-k3f9.1");
    assert_eq!(files.cpu, group.join("cpuacct.usage"));
    let joint = Hierarchy::parse(MOUNTS_JOINT).unwrap().files("a");
    assert_eq!(joint.cpu, Path::new("/sys/fs/cgroup/cpu,cpuacct/a/cpuacct.usage"));
    assert_eq!(joint.memory, Path::new("/sys/fs/cgroup/memory/a/memory.usage_in_bytes"));
    let v2 = Hierarchy::parse(MOUNTS_V2).unwrap();
    assert_eq!(v2.version(), CgroupVersion::V2);
    assert_eq!(v2.files("a").memory, Path::new("/sys/fs/cgroup/a/memory.current"));
    assert_eq!(Hierarchy::parse("proc /proc proc rw 0 0\nodd\n"), None);
}

#[test]
fn recorded_counters_are_read() {
    let v1 = Hierarchy::parse(MOUNTS_V1).unwrap();
    let v2 = Hierarchy::parse(MOUNTS_V2).unwrap();
    assert_eq!(v1.cpu("1549150002400\n"), Some(Duration::from_nanos(1_549_150_002_400)));
    assert_eq!(v2.cpu(CPU_STAT_V2), Some(Duration::from_micros(1_234_567)));
    assert_eq!(v1.inactive_file(MEMORY_STAT_V1), Some(4_031_303_680));
    assert_eq!(v2.inactive_file(MEMORY_STAT_V2), Some(2_703_360));
    assert_eq!((v1.cpu("junk"), v2.cpu("usage_usecs 3\n")), (None, None));
    let meminfo = "MemTotal:       24684084 kB\nMemFree: 1 kB\nMemAvailable:   23379264 kB\n";
    let memory = MemoryInfo::parse(meminfo).unwrap();
    assert_eq!(memory.total, Bytes(24_684_084 * 1024));
    assert_eq!(memory.available, Bytes(23_379_264 * 1024));
    assert_eq!(MemoryInfo::parse("MemTotal: 5 kB\n"), None);
    assert_eq!(parse::busy(STAT), Some(Duration::from_millis(1_530_650)));
    assert_eq!(parse::busy("cpu  1 2 3\n"), None);
}

#[test]
fn rates_come_from_two_readings() {
    let start = Instant::now();
    let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
    let first = Counter::next(None, start, second);
    assert_eq!(first.rate, None);
    let next = Counter::next(Some(first), start + second, second + half);
    assert_eq!(next.rate, Some(MilliCpu(500)));
    let soon = Counter::next(Some(next), start + second + Duration::from_millis(1), second * 2);
    assert_eq!((soon.rate, soon.at), (next.rate, next.at), "too soon for a rate");
    let reset = Counter::next(Some(next), start + second * 3, half);
    assert_eq!(reset.rate, None, "the counter began anew");
    let idle = Counter::next(Some(reset), start + second * 4, half);
    assert_eq!(idle.rate, Some(MilliCpu(0)));
}

/// Control groups of a test, with a process in them; gone when dropped.
struct Group {
    directories: Vec<PathBuf>,
    child: Child,
}

impl Group {
    fn new(hierarchy: &Hierarchy, parent: &str, id: &ContainerId) -> Self {
        let child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut group = Self { directories: Vec::new(), child };
        let files = hierarchy.files(&format!("{parent}/{id}"));
        for file in [files.cpu, files.memory] {
            let directory = file.parent().unwrap().to_owned();
            group.directories.push(directory.clone());
            std::fs::create_dir_all(&directory).unwrap();
            let pid = group.child.id().to_string();
            std::fs::write(directory.join("cgroup.procs"), pid).unwrap();
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing here may fail a second time in a test that fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for directory in &self.directories {
            let end = Instant::now() + Duration::from_secs(5);
            while std::fs::remove_dir(directory).is_err() && Instant::now() < end {
                std::thread::yield_now();
            }
            let _ = directory.parent().map(std::fs::remove_dir);
        }
    }
}

#[test]
fn a_busy_process_is_seen_in_real_control_groups() {
    let mut meter = Meter::open().unwrap();
    let parent = format!("/mill-test{}", std::process::id());
    let id = ContainerId::from("busy-0-aaaa.1");
    let gone = ContainerId::from("gone-0-aaaa.1");
    let group = Group::new(&meter.hierarchy().clone(), &parent[1..], &id);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let used = meter.containers(&parent, [&id, &gone]);
        assert!(!used.contains_key(&gone));
        let usage = used[&id];
        if usage.cpu.is_some_and(|cpu| cpu.0 > 50 && cpu.0 < 1_200) {
            assert!(usage.cpu_total > Duration::ZERO);
            break;
        }
        assert!(Instant::now() < deadline, "{usage:?}");
        std::thread::yield_now();
    }
    let begun = Instant::now();
    for _ in 0..100 {
        meter.containers(&parent, [&id]);
    }
    println!("{:?} for one reading of a container", begun.elapsed() / 100);
    drop(group);
    assert!(meter.containers(&parent, [&id]).is_empty(), "ended");
}

#[test]
fn the_node_has_cores_and_memory() {
    let mut meter = Meter::open().unwrap();
    let node = meter.node().unwrap();
    assert_eq!(node.cpu_used, None);
    assert!(node.cpu_total.0 >= 1000 && node.memory_total.0 > 1 << 27);
    assert!(node.memory_used.0 > 0 && node.memory_used < node.memory_total);
    let deadline = Instant::now() + Duration::from_secs(20);
    let used = loop {
        if let Some(used) = meter.node().unwrap().cpu_used {
            break used;
        }
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    };
    assert!(used <= MilliCpu(node.cpu_total.0 + 500), "{used:?}");
}
