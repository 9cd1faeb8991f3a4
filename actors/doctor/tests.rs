//! Tests of the judgements with hosts that lack things, and of the whole on this one.

use super::*;
use crate::actors::platform::usage::{Hierarchy, MemoryInfo};
use crate::config::{ContainerdChoice, DaemonFlags, Mode};
use crate::node::resolvers::Resolvers;
use crate::units::Bytes;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn status(check: &Check) -> Status {
    assert_eq!(check.status == Status::Ok, check.remedy.is_none(), "{check:?}");
    check.status
}

#[test]
fn machines_are_judged() {
    use Status::{Fail, Ok, Warn};
    let disk = |free, inodes| status(&host::judge_disk(free, inodes, Path::new("/x")));
    assert_eq!([disk(900_000_000, 50), disk(4_000_000_000, 50)], [Fail, Warn]);
    assert_eq!([disk(9_000_000_000, 4), disk(9_000_000_000, 50)], [Warn, Ok]);
    let kernel = |release| status(&host::judge_kernel(release));
    let kernels = ["6.1.0-18-amd64", "4.18.0", "4.17.99", "3.10.0-1160.el7", "strange", ""];
    assert_eq!(kernels.map(kernel), [Ok, Ok, Fail, Fail, Fail, Fail]);
    let clock =
        |secs, sync| status(&host::judge_clock(UNIX_EPOCH + Duration::from_secs(secs), sync));
    assert_eq!([clock(0, None), clock(1_790_000_000, Some(false))], [Fail, Warn]);
    assert_eq!([clock(1_790_000_000, Some(true)), clock(1_790_000_000, None)], [Ok, Ok]);
    let memory = |free| {
        let info = MemoryInfo { total: Bytes(8_000_000_000), available: Bytes(free) };
        status(&host::judge_memory(Some(info)))
    };
    assert_eq!([memory(100_000_000), memory(4_000_000_000)], [Warn, Ok]);
    assert_eq!(status(&host::judge_memory(None)), Fail);
    assert_eq!([status(&host::root(false)), status(&host::root(true))], [Fail, Ok]);
    assert_eq!(status(&host::clock()), Ok, "{:?}", SystemTime::now());
}

#[test]
fn a_data_directory_must_be_writable_and_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(status(&host::data_dir(&dir.path().join("not/there/yet"))), Status::Ok);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(status(&host::data_dir(&file.join("below"))), Status::Fail);
    assert_eq!(status(&host::data_dir(Path::new("/proc/mill"))), Status::Fail);
    assert_eq!(status(&host::data_dir(Path::new("/dev/shm/mill"))), Status::Warn);
}

#[test]
fn control_groups_are_judged_by_their_controllers() {
    let v2 = Hierarchy::V2 { root: "/sys/fs/cgroup".into() };
    let judge = |found: Option<&Hierarchy>, mounts: &str, unified: &str| {
        kernel::judge_cgroups(found, mounts, unified)
    };
    assert_eq!(status(&judge(None, "", "")), Status::Fail);
    assert_eq!(status(&judge(Some(&v2), "", "cpuset cpu io memory pids\n")), Status::Ok);
    let found = judge(Some(&v2), "", "cpuset cpu io pids\n");
    assert_eq!((found.status, found.detail.as_str()), (Status::Fail, "no controller for memory"));
    let mounts = "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                  cgroup /c/memory cgroup rw,memory 0 0\n";
    let v1 = Hierarchy::parse(mounts).unwrap();
    assert_eq!(judge(Some(&v1), mounts, "").detail, "no controller for pids");
    let with_pids = format!("{mounts}cgroup /c/pids cgroup rw,pids 0 0\n");
    assert_eq!(status(&judge(Some(&v1), &with_pids, "")), Status::Ok);
}

#[test]
fn a_missing_mesh_is_a_warning_only() {
    use Status::{Ok as Fine, Warn};
    let of = |kernel, tun: Result<(), String>| {
        kernel::judge_mesh(kernel, tun).iter().map(status).collect::<Vec<_>>()
    };
    assert_eq!(of(true, Ok(())), [Fine, Fine]);
    assert_eq!(of(true, Err("gone".into())), [Fine, Fine]);
    assert_eq!(of(false, Ok(())), [Warn, Fine]);
    assert_eq!(of(false, Err("gone".into())), [Warn, Warn]);
    assert!(kernel::mesh(false).is_empty());
}

#[test]
fn programs_are_looked_for_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let search = dir.path().as_os_str().to_owned();
    let socket = dir.path().join("containerd.sock");
    let auto = |search| programs::containerd_in(&ContainerdChoice::Auto, &socket, search);
    let found = auto(search.clone());
    assert_eq!(found.iter().map(status).collect::<Vec<_>>(), [Status::Fail, Status::Fail]);
    assert_eq!(found[0].remedy.as_deref(), Some("apt-get install containerd runc"));
    write("containerd", "#!/bin/sh\necho containerd 1.6.20\n");
    write("containerd-shim-runc-v2", "#!/bin/sh\nexit 1\n");
    let found = auto(search.clone());
    assert_eq!(found.iter().map(status).collect::<Vec<_>>(), [Status::Ok, Status::Ok]);
    assert!(found[0].detail.ends_with("containerd: containerd 1.6.20"), "{found:?}");
    let listener = UnixListener::bind(&socket).unwrap();
    assert!(auto(search.clone())[0].detail.starts_with("listens at "));
    drop(listener);
    let given = ContainerdChoice::Given(socket.clone());
    let found = programs::containerd_in(&given, Path::new("/none"), search.clone());
    assert_eq!(found.iter().map(status).collect::<Vec<_>>(), [Status::Fail]);
    write("nft", "#!/bin/sh\nexit 3\n");
    assert_eq!(status(&programs::program("nft", "", "install it", &search)), Status::Fail);
}

#[test]
fn this_host_is_examined_and_left_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = Some(data.path().join("mill").display().to_string());
    let flags = DaemonFlags { data_dir, ..DaemonFlags::default() };
    let config = DaemonConfig::new(Mode::Daemon, &flags, &BTreeMap::new()).unwrap();
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap().lines().count();
    let before = mounts();
    let checks = doctor(&config);
    for check in &checks {
        println!("{:5} {}: {} {:?}", check.status, check.name, check.detail, check.remedy);
        status(check);
    }
    let must = ["root", "kernel", "runc", "nft", "namespaces", "cgroups", "overlayfs"];
    for name in must.into_iter().chain(["container network", "data directory", "seccomp"]) {
        let check = checks.iter().find(|check| check.name == name).unwrap();
        assert_ne!(check.status, Status::Fail, "{check:?}");
    }
    let ports: Vec<_> = checks.iter().filter(|check| check.name.starts_with("port ")).collect();
    assert_eq!(ports.len(), 5);
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "nothing is left");
    assert!(!Path::new("/sys/class/net/mill-d0c").exists());
}

#[test]
fn dns_servers_that_containers_can_not_ask_are_told() {
    use Status::{Ok, Warn};
    let check = |text: &str| network::resolvers(&Resolvers::parse(text));
    assert_eq!(check("nameserver 192.0.2.1\n").status, Ok);
    let some = check("nameserver 127.0.0.1\nnameserver 192.0.2.1\n");
    assert_eq!((some.status, &*some.detail), (Warn, "192.0.2.1; containers can't ask 127.0.0.1"));
    let none = check("nameserver fe80::1%eth0\n");
    assert_eq!(
        (none.status, &*none.detail),
        (Warn, "containers can't ask fe80::1%eth0, and find no names")
    );
    assert_eq!(check("").status, Warn);
}
