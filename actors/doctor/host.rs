//! Checks of the machine: who runs mill, disk, memory, clock.
//!
//! Never looks at programs or kernel features.

use super::{Check, Scratch};
use crate::actors::platform::usage::MemoryInfo;
use crate::units::Bytes;
use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{Statvfs, statvfs};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The oldest kernel that has all that containers need.
const KERNEL_MIN: (u32, u32) = (4, 18);
/// Less free room than this, and the first images don't fit.
const DISK_MIN: u64 = 1_000_000_000;
/// Less free room than this is soon used up.
const DISK_LOW: u64 = 5_000_000_000;
/// Less free memory than this, and nothing can be placed.
const MEMORY_LOW: u64 = 256_000_000;
/// No clock can be right that is before this: 2026-01-01.
const CLOCK_MIN: Duration = Duration::from_secs(1_767_225_600);

/// Whether mill may do what it must.
pub(super) fn root(is_root: bool) -> Check {
    if is_root {
        return Check::ok("root", "runs as root");
    }
    Check::fail("root", "containers and their network need root", "sudo mill doctor")
}

/// Whether the kernel is recent enough.
pub(super) fn kernel() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_kernel(release.trim())
}

pub(super) fn judge_kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let (wanted, remedy) = (KERNEL_MIN, "upgrade the kernel: apt-get dist-upgrade");
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= wanted => {
            Check::ok("kernel", format!("Linux {release}"))
        }
        _ => {
            let detail = format!("Linux {release}, {}.{} is needed", wanted.0, wanted.1);
            Check::fail("kernel", detail, remedy)
        }
    }
}

/// The directory itself or the nearest one above it that is there.
fn existing(directory: &Path) -> &Path {
    directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Whether the data directory can be written, and is no place where it would be lost.
pub(super) fn data_dir(directory: &Path) -> Check {
    let (name, there) = ("data directory", existing(directory));
    let shown = directory.display();
    let other = "pass --data-dir DIR on a disk that can be written, or run as root";
    if !there.is_dir() {
        return Check::fail(name, format!("{} is no directory", there.display()), other);
    }
    if let Err(error) = Scratch::new(there) {
        return Check::fail(name, format!("{} can't be written: {error}", there.display()), other);
    }
    match statfs(there).map(|found| found.filesystem_type()) {
        Ok(OVERLAYFS_SUPER_MAGIC) => {
            let detail = format!("{shown} is on an overlay, which can't carry image layers");
            Check::fail(name, detail, "pass --data-dir DIR on a real disk")
        }
        Ok(TMPFS_MAGIC) => {
            let detail = format!("{shown} is in memory and lost at the next boot");
            Check::warn(name, detail, "pass --data-dir DIR on a disk")
        }
        found => Check::ok(name, format!("{shown}{}", on(found.ok()))),
    }
}

fn on(kind: Option<FsType>) -> &'static str {
    match kind {
        Some(nix::sys::statfs::XFS_SUPER_MAGIC) => " on xfs",
        Some(nix::sys::statfs::EXT4_SUPER_MAGIC) => " on ext4",
        Some(nix::sys::statfs::BTRFS_SUPER_MAGIC) => " on btrfs",
        _ => "",
    }
}

/// Whether there is room for images, logs and state.
pub(super) fn disk(directory: &Path) -> Check {
    match statvfs(existing(directory)) {
        Ok(found) => judge_disk(free(&found), inodes(&found), directory),
        Err(error) => {
            let detail = format!("the room of {} is unknown: {error}", directory.display());
            Check::warn("disk", detail, "pass another --data-dir")
        }
    }
}

fn free(found: &Statvfs) -> u64 {
    found.blocks_available().saturating_mul(found.fragment_size())
}

/// Free inodes in per cent; file systems without a number of inodes have all of them.
fn inodes(found: &Statvfs) -> u64 {
    (found.files_available() * 100).checked_div(found.files()).unwrap_or(100)
}

pub(super) fn judge_disk(free: u64, inodes: u64, directory: &Path) -> Check {
    let detail = format!("{} free for {}", Bytes(free), directory.display());
    let remedy = "free some room, or pass --data-dir DIR on a larger disk";
    if free < DISK_MIN {
        return Check::fail("disk", format!("only {detail}"), remedy);
    }
    if inodes < 5 {
        let detail = format!("{detail}, but {inodes} % of the inodes");
        return Check::warn("disk", detail, "remove small files, or pass --data-dir DIR");
    }
    if free < DISK_LOW {
        return Check::warn("disk", format!("only {detail}"), remedy);
    }
    Check::ok("disk", detail)
}

/// Whether there is memory to place anything.
pub(super) fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    judge_memory(MemoryInfo::parse(&text))
}

pub(super) fn judge_memory(memory: Option<MemoryInfo>) -> Check {
    let Some(memory) = memory else {
        return Check::fail("memory", "/proc/meminfo can't be read", "mount /proc");
    };
    let detail = format!("{} of {} free", memory.available, memory.total);
    if memory.available.0 < MEMORY_LOW {
        return Check::warn("memory", format!("only {detail}"), "stop other programs");
    }
    Check::ok("memory", detail)
}

/// Whether the clock can be right.
pub(super) fn clock() -> Check {
    let synchronised = Path::new("/run/systemd/timesync/synchronized").exists();
    let service = Path::new("/run/systemd/timesync").exists();
    judge_clock(SystemTime::now(), service.then_some(synchronised))
}

pub(super) fn judge_clock(now: SystemTime, synchronised: Option<bool>) -> Check {
    let remedy = "set the clock and keep it right: apt-get install chrony";
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since < CLOCK_MIN {
        return Check::fail("clock", "it is years behind; certificates would not hold", remedy);
    }
    match synchronised {
        Some(false) => Check::warn("clock", "it isn't synchronised yet", remedy),
        Some(true) => Check::ok("clock", "synchronised"),
        None => Check::ok("clock", "plausible"),
    }
}
