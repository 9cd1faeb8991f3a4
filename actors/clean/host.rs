//! What a node has in the kernel and on the disk: processes, mounts, control groups, directories.
//!
//! Owns how they are told from others': by the instance's name and the data directory. Never
//! follows a link out of a directory that it removes.

use crate::actors::platform::Places;
use crate::actors::platform::tree;
use crate::limits;
use nix::mount::{MntFlags, umount2};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause between two looks whether something has ended.
const STEP: Duration = Duration::from_millis(10);

/// Kills the node's processes: containers, their shims and loggers. Returns how many there were.
///
/// # Errors
/// One doesn't end.
pub(super) async fn kill_all(places: &Places) -> io::Result<usize> {
    let mut count = 0;
    let deadline = Instant::now() + limits::KILL_DEADLINE;
    let sockets: Vec<PathBuf> = processes(places)?.into_iter().filter_map(shim_socket).collect();
    loop {
        let found = kill_found(places)?;
        if found.is_empty() {
            // A shim removes its socket only when it ends by itself.
            sockets.iter().for_each(|socket| drop(fs::remove_file(socket)));
            return Ok(count);
        }
        if Instant::now() > deadline {
            let list: Vec<String> = found.iter().map(i32::to_string).collect();
            return Err(io::Error::other(format!("pid {} don't end", list.join(", "))));
        }
        // Shims and containers die one after another: each look finds fewer.
        count = count.max(found.len());
        tokio::time::sleep(STEP).await;
    }
}

/// The socket of a shim, named as containerd's `SocketAddress` does.
fn shim_socket(pid: i32) -> Option<PathBuf> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> =
        line.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap_or("")).collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    Some(socket_path(after("-address")?, after("-namespace")?, after("-id")?))
}

pub(super) fn socket_path(containerd: &str, namespace: &str, id: &str) -> PathBuf {
    let hash = Sha256::digest(format!("{containerd}/{namespace}/{id}"));
    Path::new("/run/containerd/s").join(hex::encode(hash))
}

/// Kills those that are there now, and returns them.
pub(super) fn kill_found(places: &Places) -> io::Result<Vec<i32>> {
    let found = processes(places)?;
    found.iter().for_each(|pid| kill(places, *pid));
    Ok(found)
}

/// Kills one process, unless its number belongs to another by now.
fn kill(places: &Places, pid: i32) {
    let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(handle) = handle else { return };
    if belongs(places, pid) {
        // One that has just ended is as good as killed; others are seen by the next look.
        let _ = pidfd_send_signal(&handle, Signal::KILL);
    }
}

fn processes(places: &Places) -> io::Result<Vec<i32>> {
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid != own && belongs(places, pid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether a process is a container's, a shim's or a logger's of this node. Zombies are nobody's.
fn belongs(places: &Places, pid: i32) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(line) = fs::read(process.join("cmdline")) else { return false };
    if line.is_empty() {
        return false;
    }
    let exe = fs::read_link(process.join("exe")).unwrap_or_default();
    let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    is_ours(places, &exe, &line, &cgroup)
}

fn is_ours(places: &Places, exe: &Path, cmdline: &[u8], cgroups: &str) -> bool {
    let group = places.cgroup();
    let contained = cgroups.lines().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        path.match_indices(&group).any(|(at, _)| {
            let rest = &path[at + group.len()..];
            rest.is_empty() || rest.starts_with('/')
        })
    });
    let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let namespace = places.namespace();
    let shim = words.windows(2).any(|pair| {
        matches!(pair[0], b"-namespace" | b"--namespace") && pair[1] == namespace.as_bytes()
    });
    let named = exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    contained
        || (shim && named.starts_with("containerd-shim"))
        || exe.starts_with(places.data.join("bin"))
}

/// Unmounts everything in the node's directories, innermost first; a disk that is the data
/// directory itself stays. Returns how many there were.
///
/// # Errors
/// One can't be unmounted.
pub(super) fn unmount_all(places: &Places) -> io::Result<usize> {
    let mut found = mounts(&fs::read("/proc/self/mountinfo")?);
    found.retain(|mount| is_inside(places, mount));
    for mount in found.iter().rev() {
        match umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone meanwhile, or with the mount above it.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => {
                let text = format!("{}: {error}", mount.display());
                return Err(io::Error::other(text));
            }
        }
    }
    Ok(found.len())
}

fn is_inside(places: &Places, mount: &Path) -> bool {
    let namespace = places.namespace();
    (mount.starts_with(&places.data) && mount != places.data)
        || mount.starts_with(&places.run)
        || mount.starts_with(places.runc_root())
        || mount.components().any(|part| part.as_os_str() == namespace.as_str())
}

/// The mount points of a `mountinfo`, in its order (proc_pid_mountinfo(5)).
fn mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|path| PathBuf::from(OsString::from_vec(unescape(path))))
        .collect()
}

/// Blanks and such are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    out
}

/// Removes the node's control groups of all hierarchies. Returns how many there were.
///
/// # Errors
/// One can't be removed: processes are in it.
pub(super) fn remove_cgroups(places: &Places) -> io::Result<usize> {
    let group = places.cgroup();
    let text = fs::read_to_string("/proc/self/mounts")?;
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if kind.starts_with("cgroup") {
            let root = Path::new(mount).join(group.trim_start_matches('/'));
            count += remove_cgroup(&root)?;
        }
    }
    Ok(count)
}

fn remove_cgroup(group: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count += remove_cgroup(&entry.path())?;
        }
    }
    // The kernel counts a process that has ended for a moment longer.
    let deadline = Instant::now() + limits::KILL_DEADLINE;
    loop {
        match fs::remove_dir(group) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(STEP);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::other(format!("{}: {error}", group.display())));
            }
            _ => return Ok(count + 1),
        }
    }
}

/// Removes a directory with all in it; of one that is a disk of its own, all that is in it. False
/// if there was none.
///
/// # Errors
/// It can't be removed.
pub(super) fn remove_directory(directory: &Path) -> io::Result<bool> {
    match tree::remove(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(_) if fs::read_dir(directory).is_ok_and(|mut left| left.next().is_none()) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes what is in a directory but for these; whether anything was there.
pub(super) fn remove_but(directory: &Path, kept: &[&str]) -> io::Result<bool> {
    let mut any = false;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if kept.iter().any(|name| path.file_name().is_some_and(|own| own == *name)) {
            continue;
        }
        any = true;
        match fs::symlink_metadata(&path)?.is_dir() {
            true => tree::remove(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let mut places = Places::of(Path::new("/var/lib/mill"));
        "0a1b2c3d".clone_into(&mut places.instance);
        places.run = "/run/mill/0a1b2c3d".into();
        places
    }

    #[test]
    fn processes_are_told_by_group_namespace_or_program() {
        let ours = |exe: &str, line: &str, group: &str| {
            is_ours(&places(), Path::new(exe), line.replace(' ', "\0").as_bytes(), group)
        };
        let other = "4:memory:/user.slice\n0::/";
        assert!(ours("/bin/sh", "sh", "4:memory:/mill-0a1b2c3d/web-0-k3f9.1\n0::/"));
        assert!(ours("/bin/sh", "sh", "0::/mill-0a1b2c3d"));
        assert!(!ours("/bin/sh", "sh", "0::/mill-0a1b2c3d4/web-0-k3f9.1"));
        let shim = "/usr/bin/containerd-shim-runc-v2";
        assert!(ours(shim, "shim -namespace mill-0a1b2c3d -id web-0-k3f9.1", other));
        assert!(!ours(shim, "shim -namespace mill-ffffffff -id web-0-k3f9.1", other));
        assert!(!ours("/bin/vi", "vi -namespace mill-0a1b2c3d", other));
        assert!(ours("/var/lib/mill/bin/mill-1234", "mill logger /x/1", other));
        assert!(!ours("/usr/bin/mill", "mill clean", other));
    }

    #[test]
    fn mounts_are_told_by_their_place() {
        let info = b"22 28 0:20 / /proc rw shared:5 - proc proc rw\n\
            30 28 0:27 / /run/mill/0a1b2c3d/netns/a\\040b rw - nsfs nsfs rw\n";
        let found = mounts(info);
        assert_eq!(found, [Path::new("/proc"), Path::new("/run/mill/0a1b2c3d/netns/a b")]);
        let inside = |path: &str| is_inside(&places(), Path::new(path));
        assert!(inside("/var/lib/mill/containerd/x") && inside("/run/mill/runc-0a1b2c3d"));
        assert!(inside("/run/containerd/tasks/mill-0a1b2c3d/web-0-k3f9.1/rootfs"));
        assert!(!inside("/var/lib/mill2") && !inside("/run/containerd/tasks/mill-0a1b2c3d4/x"));
        assert!(!inside("/var/lib/mill"), "a disk of its own stays mounted");
    }
}
