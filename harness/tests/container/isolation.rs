//! What a container can and can't do, seen from inside one.

use super::container;
use super::support::Node;
use crate::poll::poll_async;
use crate::registry::run;
use mill::actors::platform::exec::{Execs, Probed, Program, Running};
use mill::fsm::model::Phase;
use mill::id::{AllocId, ContainerId};
use mill::spec::model::VolumeSpec;
use mill::units::Bytes;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// System calls that the profile denies, by their number on x86-64.
const DENIED: &[(&str, u32)] = &[
    ("acct", 163),
    ("add_key", 248),
    ("bpf", 321),
    ("clock_settime", 227),
    ("delete_module", 176),
    ("finit_module", 313),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fsopen", 430),
    ("init_module", 175),
    ("io_uring_setup", 425),
    ("ioperm", 173),
    ("iopl", 172),
    ("kcmp", 312),
    ("kexec_file_load", 320),
    ("kexec_load", 246),
    ("keyctl", 250),
    ("lookup_dcookie", 212),
    ("mbind", 237),
    ("mount", 165),
    ("mount_setattr", 442),
    ("move_mount", 429),
    ("move_pages", 279),
    ("open_by_handle_at", 304),
    ("open_tree", 428),
    ("perf_event_open", 298),
    ("pivot_root", 155),
    ("quotactl", 179),
    ("reboot", 169),
    ("request_key", 249),
    ("setdomainname", 171),
    ("sethostname", 170),
    ("setns", 308),
    ("settimeofday", 164),
    ("swapoff", 168),
    ("swapon", 167),
    ("syslog", 103),
    ("umount2", 166),
    ("unshare", 272),
    ("userfaultfd", 323),
];
const EPERM: &str = "1";

async fn start(node: &Node, memory: u64) -> (AllocId, ContainerId) {
    let mut service = node.service("busybox:v1").await;
    service.run.command = ["/bin/sleep", "100000"].map(str::to_owned).to_vec();
    service.run.memory = Bytes(memory);
    let volume = |name: &str, path: &str| VolumeSpec {
        name: name.to_owned(),
        path: path.to_owned(),
        ephemeral: true,
        size: None,
    };
    service.run.volumes = vec![volume("scratch", "/srv/scratch")];
    let id = node.run("web", service);
    node.phase(&id, Phase::Running).await;
    let container = container(&id, 1);
    (id, container)
}

async fn sh(execs: &Execs, id: &ContainerId, script: &str) -> String {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned);
    match execs.probe(id, &argv, Duration::from_secs(30)).await.unwrap() {
        Probed::Exited(_, output) => output,
        other => panic!("{script}: {other:?}"),
    }
}

/// Compiles the tester and puts it into the container.
async fn tester(node: &Node, id: &ContainerId) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/tests/container/syscalls.c");
    let file = node.platform.places.data.join("syscalls");
    run(Command::new("cc").args(["-static", "-O1", "-o"]).arg(&file).arg(source));
    let argv = ["/bin/sh", "-c", "cat > /tmp/syscalls; chmod +x /tmp/syscalls; echo done"];
    let argv = argv.map(str::to_owned).to_vec();
    let program = Program { argv, input: true, joined: true, terminal: None };
    let started = node.platform.execs.start(id, &program).await.unwrap();
    let Running { input, mut output, handle, .. } = started;
    let mut input = input.unwrap();
    input.write_all(&std::fs::read(&file).unwrap()).await.unwrap();
    drop(input);
    handle.end_input().await.unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "done\n");
    handle.remove().await.unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_has_the_rights_that_it_needs_and_no_others() {
    let node = Node::start().await;
    let (id, container) = start(&node, 64_000_000).await;
    let execs = &node.platform.execs;
    let status = sh(execs, &container, "grep -E '^(Cap|NoNew|Seccomp:)' /proc/1/status").await;
    let status = status.replace('\t', " ");
    // chown dac_override fowner fsetid kill setgid setuid net_bind_service sys_chroot
    let rights = "00000000000404fb";
    let wanted = format!(
        "CapInh: 0000000000000000\nCapPrm: {rights}\nCapEff: {rights}\nCapBnd: {rights}\n\
         CapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2"
    );
    assert_eq!(status, wanted);
    let own = sh(execs, &container, "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status").await;
    assert_eq!(own.replace('\t', " "), wanted, "a process that is added has the same");

    let tester = tester(&node, &container).await;
    let numbers: Vec<String> = DENIED.iter().map(|(_, number)| number.to_string()).collect();
    let words = numbers.join(" ");
    let inside = sh(execs, &container, &format!("/tmp/syscalls {words}")).await;
    for ((name, number), line) in DENIED.iter().zip(inside.lines()) {
        assert_eq!(line, format!("{number} {EPERM}"), "{name}");
    }
    // Allowed ones are what they are elsewhere: getpid succeeds, write has no such file.
    assert_eq!(sh(execs, &container, "/tmp/syscalls 39 1").await, "39 0\n1 9");
    // The same calls by root on the host are refused for other reasons, or not at all.
    let harmless: Vec<&str> = ["298", "321", "323", "425", "250"].to_vec();
    let outside = run(Command::new(&tester).args(&harmless));
    assert!(outside.lines().filter(|line| line.ends_with(" 1")).count() < 2, "{outside}");
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
}

/// Of the host's ports a container reaches what is meant for everybody; the API and peers not.
async fn assert_ports(node: &Node, container: &ContainerId) {
    let gateway = node.platform.net.gateway();
    // Of the host, and of the node: none is for containers.
    let hosts = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    for listener in [&hosts, &node.not_for_containers] {
        let port = listener.local_addr().unwrap().port();
        let knock = format!(
            "(timeout 2 nc {gateway} {port} < /dev/null; test $? = 1 && echo closed || echo open) \
             2>/dev/null"
        );
        assert_eq!(sh(&node.platform.execs, container, &knock).await, "closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_sees_nothing_of_the_host() {
    let node = Node::start().await;
    let (id, container) = start(&node, 64_000_000).await;
    let address = node.seen(&id).address.unwrap();
    let execs = &node.platform.execs;
    let is = async |script: &str, wanted: &str| {
        assert_eq!(sh(execs, &container, script).await, wanted, "{script}");
    };
    is("hostname; cat /etc/hostname", &format!("{id}\n{id}")).await;
    is("grep -c . /etc/hosts; tail -n 1 /etc/hosts", &format!("3\n{address}\t{id}")).await;
    is("test -f /etc/resolv.conf && grep -c 'nameserver 127' /etc/resolv.conf", "0").await;
    is("ulimit -c", "0").await;
    let files = sh(execs, &container, "ulimit -n").await.parse::<u64>().unwrap();
    assert!((1024..=1 << 20).contains(&files), "{files}");
    // Its own processes only: the program, and what looks.
    is("cat /proc/1/comm; test $(ls -d /proc/[0-9]* | wc -l) -lt 6 && echo few", "sleep\nfew")
        .await;
    let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom \
                   zero";
    is("ls /dev | grep -v core | tr '\\n' ' '", devices).await;
    is(
        "mknod /tmp/disk b 8 0 2>&1; mknod /tmp/mem c 1 1 2>&1",
        "mknod: /tmp/disk: Operation not permitted\nmknod: /tmp/mem: Operation not permitted",
    )
    .await;
    // Hidden: empty, or not readable.
    is(
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do \
        test -e $f && head -c 1 $f 2>/dev/null; done; ls /proc/scsi /proc/acpi /sys/firmware \
        2>/dev/null | grep -v : ; true",
        "",
    )
    .await;
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/x"] {
        let refused = sh(execs, &container, &format!("echo x > {path}")).await;
        assert!(refused.contains("can't create"), "{refused}");
    }
    let mounts = sh(execs, &container, "awk '{print $5}' /proc/self/mountinfo | sort").await;
    let known = [
        "/",
        "/dev",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/proc",
        "/srv/scratch",
        "/sys",
    ];
    let hidden = |line: &&str| {
        let below = ["/proc/", "/sys/"].iter().any(|start| line.starts_with(start));
        !below
    };
    assert_eq!(mounts.lines().filter(hidden).collect::<Vec<_>>(), known);
    is("ls -d /run/containerd /run/mill /var/lib/containerd 2>/dev/null", "").await;
    is("mount -t tmpfs none /mnt 2>&1 | grep -c -i 'permitted\\|denied'", "1").await;
    assert_ports(&node, &container).await;
    // The network is its own.
    is("ls /sys/class/net | tr '\\n' ' '", "eth0 lo").await;
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_volume_lasts_as_long_as_its_allocation() {
    let node = Node::start().await;
    let mut service = node.service("busybox:v1").await;
    let count = "echo x >> /data/starts; cat /data/starts | wc -l; exec sleep 100000";
    service.run.command = ["/bin/sh", "-c", count].map(str::to_owned).to_vec();
    service.run.user = Some("1000:1000".into());
    let volume =
        VolumeSpec { name: "data".into(), path: "/data".into(), ephemeral: true, size: None };
    service.run.volumes = vec![volume];
    let id = node.run("web", service);
    node.phase(&id, Phase::Running).await;
    let execs = &node.platform.execs;
    let starts = async |attempt: u32| {
        let text = sh(execs, &container(&id, attempt), "wc -l < /data/starts").await;
        if text == attempt.to_string() { Ok(()) } else { Err(text) }
    };
    poll_async(async || starts(1).await).expect_async("the first start's line").await;
    node.command(mill::fsm::Command::RestartAllocation { allocation: id.clone() });
    let again = |seen: &mill::fsm::model::AllocationStatus| {
        seen.attempt.0 == 2 && seen.phase == Phase::Running
    };
    node.until(&id, "the second attempt", again).await;
    poll_async(async || starts(2).await).expect_async("what the first one wrote").await;
    let folder = node.platform.places.data.join("alloc").join(id.as_str());
    assert!(folder.join("volumes/data/starts").exists());
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_ends_at_the_containers_bound() {
    let node = Node::start().await;
    let (id, container) = start(&node, 2_000_000_000).await;
    tester(&node, &container).await;
    let told = sh(&node.platform.execs, &container, "/tmp/syscalls fork").await;
    let words: Vec<u64> = told.split(' ').map(|word| word.parse().unwrap()).collect();
    let [made, errno] = words[..] else { panic!("{told}") };
    assert!((3_900..4_096).contains(&made) && errno == 11, "{told}");
    assert_eq!(node.seen(&id).phase, Phase::Running, "the container lives on");
}
