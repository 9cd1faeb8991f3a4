//! A container's life, with the image's configuration, ceilings and security as they really are.

use super::{Host, run};
use crate::poll::{poll, poll_async};
use crate::registry::Registry;
use mill::actors::platform::containerd::{Containerd, Error, TaskEvent, TaskState};
use mill::spec::model::RunSpec;
use mill::units::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

async fn busybox() -> (Host, Registry, std::sync::Arc<mill::actors::platform::image::Image>) {
    let registry = Registry::start();
    let host = Host::start().await;
    let image = host.pull(&registry.image("busybox:v1")).await;
    (host, registry, image)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_tells_its_exit_and_is_gone() {
    let (host, _registry, image) = busybox().await;
    let containerd = &host.containerd;
    let before = host.snapshots();
    let spec = run("busybox", &["sh", "-c", "echo $MILL_ALLOC $(hostname); exit 7"]);
    let new = host.container("a.1", &image, &spec);
    let pid = containerd.create(&new).await.unwrap();
    assert_eq!(containerd.create(&new).await.unwrap(), pid, "made once");
    assert_eq!(containerd.task(&new.id).await.unwrap(), TaskState::Created { pid });
    containerd.start(&new.id).await.unwrap();
    let exit = containerd.wait(&new.id).await.unwrap().unwrap();
    assert_eq!(exit.code, 7);
    assert!(exit.at.0 > 0);

    let found = containerd.list().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), found[0].labels["mill/test"].as_str()), ("a.1", "yes"));
    assert_eq!(found[0].task, TaskState::Stopped(exit));
    let text = fs::read_to_string(host.log("a.1")).unwrap();
    assert_eq!(text, "web-0-k3f9 web-0-k3f9\n");

    assert_eq!(containerd.delete(&new.id).await.unwrap().unwrap().code, 7);
    assert_eq!(containerd.delete(&new.id).await.unwrap(), None, "gone stays gone");
    assert_eq!(containerd.task(&new.id).await.unwrap(), TaskState::None);
    assert_eq!(containerd.wait(&new.id).await.unwrap(), None);
    containerd.kill(&new.id, 9).await.unwrap();
    assert!(containerd.list().await.unwrap().is_empty());
    assert_eq!(host.snapshots(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honours_the_images_configuration() {
    let registry = Registry::start();
    let host = Host::start().await;
    let image = host.pull(&registry.image("multi:v1")).await;
    let id = host.start_container("m.1", &image, &run("multi", &[])).await;
    let text = poll(|| {
        let text = fs::read_to_string(host.log("m.1")).unwrap_or_default();
        text.contains("opaque").then_some(text)
    })
    .secs(10)
    .expect("its last line");
    for line in [
        "args first second word",
        "greeting good day",
        "user 1000:2000",
        "folder /app/work",
        "file two",
        "gone yes",
        "opaque new ",
    ] {
        assert!(text.contains(line), "{line:?} in:\n{text}");
    }
    let signal =
        mill::node::oci::signal_number(image.config.stop_signal.as_deref().unwrap()).unwrap();
    host.containerd.kill(&id, signal).await.unwrap();
    assert_eq!(host.containerd.wait(&id).await.unwrap().unwrap().code, 0);
    let text = fs::read_to_string(host.log("m.1")).unwrap();
    assert!(text.contains("signal USR1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_not_in_the_image_is_told() {
    let (host, _registry, image) = busybox().await;
    let before = host.snapshots();
    for (command, folder) in [("/nope", false), ("nope", false), ("/etc/passwd", true)] {
        let new = host.container("a.1", &image, &run("busybox", &[command]));
        let error = host.containerd.create(&new).await.unwrap_err();
        match error {
            Error::CommandNotFound { command: told } => assert!(!folder && told == command),
            Error::CommandNotExecutable { command: told, .. } => {
                assert!(folder && told == command);
            }
            other => panic!("{other}"),
        }
        assert!(host.containerd.list().await.unwrap().is_empty());
    }
    assert_eq!(host.snapshots(), before, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_containerd_and_are_found_again() {
    let (host, _registry, image) = busybox().await;
    let mut events = host.containerd.events();
    assert_eq!(events.next().await, Some(TaskEvent::Subscribed));
    let stays = host.start_container("a.1", &image, &run("busybox", &["sleep", "3600"])).await;
    let ends = host.start_container("b.1", &image, &run("busybox", &["sleep", "3600"])).await;
    let pid = host.wait_running(&stays).await;
    let doomed = host.wait_running(&ends).await;
    let waits = {
        let (containerd, id) = (host.containerd.clone(), ends.clone());
        tokio::spawn(async move { containerd.wait(&id).await })
    };

    let daemon = host.daemon.as_ref().unwrap();
    let old = daemon.pid().unwrap();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(doomed.try_into().unwrap()), Signal::SIGKILL).unwrap();

    // A call at this moment waits until it is back.
    assert_eq!(host.containerd.task(&stays).await.unwrap(), TaskState::Running { pid });
    assert_eq!(waits.await.unwrap().unwrap().unwrap().code, 137);
    assert_eq!(events.next().await, Some(TaskEvent::Subscribed));

    let again = Containerd::connect(host.containerd.config().clone()).await.unwrap();
    let found = again.list().await.unwrap();
    assert_eq!(found[0].task, TaskState::Running { pid });
    assert!(matches!(found[1].task, TaskState::Stopped(exit) if exit.code == 137));

    again.kill(&stays, 9).await.unwrap();
    loop {
        match events.next().await.unwrap() {
            TaskEvent::Exited(id, exit) if id == stays => {
                assert_eq!(exit.code, 137);
                break;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_memory_is_an_event() {
    let (host, _registry, image) = busybox().await;
    let mut events = host.containerd.events();
    assert_eq!(events.next().await, Some(TaskEvent::Subscribed));
    // The shim looks for it once the program runs: a program that takes all at once may be quicker.
    let script =
        "until [ -e /go ]; do usleep 20000; done; exec dd if=/dev/zero of=/dev/null bs=512M";
    let id = host.start_container("h.1", &image, &run("busybox", &["sh", "-c", script])).await;
    let found = host.containerd.list().await.unwrap();
    let TaskState::Running { pid } = found.iter().find(|found| found.id == id).unwrap().task else {
        panic!("it runs: {found:?}");
    };
    fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    // Neither waits for the other.
    let (mut is_told, mut code) = (false, None);
    while !is_told || code.is_none() {
        match events.next().await.unwrap() {
            TaskEvent::OutOfMemory(who) => is_told = who == id,
            TaskEvent::Exited(who, exit) => code = (who == id).then_some(exit.code),
            TaskEvent::Subscribed => panic!("containerd was never away"),
        }
    }
    assert_eq!(code, Some(137));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_kept_in_its_place() {
    let (host, _registry, image) = busybox().await;
    let script = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
                  mount -t tmpfs none /tmp && echo mounted; \
                  unshare -U true && echo unshared; \
                  echo x >/proc/sys/kernel/hostname && echo written; \
                  cat /proc/kcore | head -c 1 | wc -c; \
                  ls /sys/firmware | wc -l; mknod /tmp/d b 8 0 && echo device; \
                  ls /proc | grep -c '^[0-9]'; echo done; sleep 3600";
    let spec = RunSpec { memory: Bytes(50_000_000), ..run("busybox", &["sh", "-c", script]) };
    host.start_container("s.1", &image, &spec).await;
    let text = poll(|| {
        let text = fs::read_to_string(host.log("s.1")).unwrap_or_default();
        text.contains("done").then_some(text)
    })
    .secs(10)
    .expect("its last line");
    // chown dac_override fowner fsetid kill setgid setuid net_bind_service sys_chroot
    assert!(text.contains("CapBnd:\t00000000000404fb"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
    for done in ["mounted", "unshared", "written", "device"] {
        assert!(!text.lines().any(|line| line == done), "{done}: {text}");
    }
    let memory = Path::new("/sys/fs/cgroup/memory").join(&host.instance).join("s.1");
    if memory.exists() {
        let limit = fs::read_to_string(memory.join("memory.limit_in_bytes")).unwrap();
        let limit: u64 = limit.trim().parse().unwrap();
        assert!((49_000_000..=50_000_000).contains(&limit), "{limit}");
        let cpu = Path::new("/sys/fs/cgroup/cpu").join(&host.instance).join("s.1");
        assert_eq!(fs::read_to_string(cpu.join("cpu.cfs_quota_us")).unwrap().trim(), "50000");
        let pids = Path::new("/sys/fs/cgroup/pids").join(&host.instance).join("s.1");
        assert_eq!(fs::read_to_string(pids.join("pids.max")).unwrap().trim(), "4096");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_start_at_once() {
    let (host, _registry, image) = busybox().await;
    let mut all = tokio::task::JoinSet::new();
    for number in 0..20 {
        let new =
            host.container(&format!("p{number}.1"), &image, &run("busybox", &["sleep", "60"]));
        let containerd = host.containerd.clone();
        all.spawn(async move {
            containerd.create(&new).await.unwrap();
            containerd.start(&new.id).await.unwrap();
            new.id
        });
    }
    let ids = all.join_all().await;
    let found = host.containerd.list().await.unwrap();
    assert_eq!(found.iter().filter(|f| matches!(f.task, TaskState::Running { .. })).count(), 20);
    let mut gone = tokio::task::JoinSet::new();
    for id in ids {
        let containerd = host.containerd.clone();
        gone.spawn(async move { containerd.delete(&id).await.unwrap() });
    }
    gone.join_all().await;
    poll_async(|| async { host.containerd.list().await.unwrap().is_empty() })
        .secs(5)
        .expect_async("all to be gone")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_is_a_lost_container() {
    let (host, _registry, image) = busybox().await;
    let id = host.start_container("k.1", &image, &run("busybox", &["sleep", "3600"])).await;
    let pid = host.wait_running(&id).await;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    let waits = {
        let (containerd, id) = (host.containerd.clone(), id.clone());
        tokio::spawn(async move { containerd.wait(&id).await })
    };
    kill(Pid::from_raw(shim.parse().unwrap()), Signal::SIGKILL).unwrap();
    let exit = waits.await.unwrap().unwrap();
    assert!(exit.is_none_or(|exit| exit.code == 137), "{exit:?}");
    let found = host.containerd.list().await.unwrap();
    assert!(!matches!(found[0].task, TaskState::Running { .. }), "{found:?}");
    host.containerd.delete(&id).await.unwrap();
    poll(|| !Path::new(&format!("/proc/{pid}")).exists()).secs(10).expect("its process to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_removed_is_told() {
    let (host, registry, image) = busybox().await;
    assert_eq!(host.images.remove(&registry.image("busybox:v1")).await.unwrap(), 1);
    host.assert_empty();
    let new = host.container("a.1", &image, &run("busybox", &["true"]));
    let error = host.containerd.create(&new).await.unwrap_err();
    assert!(matches!(error, Error::ImageGone { .. }) && error.is_temporary(), "{error:?}");
    assert!(host.containerd.list().await.unwrap().is_empty());
    let again = host.pull(&registry.image("busybox:v1")).await;
    assert_eq!(again, image);
    host.containerd.create(&new).await.unwrap();
}
