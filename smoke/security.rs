//! What a node keeps from others of its host, and what containers can do with files and output.
//!
//! Owns the promises of `docs/security.md` that only real users, files and terminals can show.

use crate::poll::poll;
use crate::registry::{Registry, run};
use crate::support::{TestDaemon, files};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

/// Runs a program as a user who has nothing to do with the node.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>, args: &[&Path]) -> std::io::Result<bool> {
    let mut command = Command::new(program);
    command.args(args).uid(NOBODY).gid(NOBODY).current_dir("/");
    command.output().map(|output| output.status.success())
}

fn instance(node: &TestDaemon) -> String {
    let folders = fs::read_dir("/run/mill").unwrap().flatten();
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let hash =
        run(Command::new("sh").args(["-c", "printf %s \"$0\" | sha256sum"]).arg(node.data()));
    names.into_iter().find(|name| *name == hash[..8]).expect("the instance's folder")
}

/// What is open to others, of all that mill itself makes.
fn open_to_others(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let is_ours = !path.ends_with("containerd/root") && !path.ends_with("volumes");
        if meta.is_symlink() {
            continue;
        }
        let given = path.ancestors().nth(2).is_some_and(|above| above.ends_with("alloc"));
        if meta.mode() & 0o077 != 0 && !given {
            found.push(format!("{:o} {}", meta.mode(), path.display()));
        }
        if meta.is_dir() && is_ours && !path.ends_with("containerd") {
            open_to_others(&path, found);
        }
    }
}

#[test]
fn another_user_of_the_host_reaches_nothing_of_a_node() {
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let image = registry.image("busybox:v1");
    let volume = "volume \"scratch\" path=\"/srv/scratch\" ephemeral=#true; \
                  stop grace=\"1s\"; command \"sleep\" \"100000\"";
    let _ = node.up(&files::service("root", &image, volume)).ok();
    let plain = format!("user \"1000:1000\"; {volume}").replace("scratch\" path", "own\" path");
    let _ = node.up(&files::service("plain", &image, &plain)).ok();
    let id = |name: &str| node.allocations(name)[0]["id"].as_str().unwrap().to_owned();
    let (root, plain) = (id("root"), id("plain"));

    // Whoever the program is, its volume is its own, and the files that mill gives are only read.
    let script = "set -e; echo x > /srv/scratch/file; mkdir /srv/scratch/d; cat /etc/hosts; \
                  ! (echo x >> /etc/hosts) 2>/dev/null; ! chmod 4755 /etc/hosts 2>/dev/null; \
                  ! (echo x > /etc/resolv.conf) 2>/dev/null; ! (: > /etc/hostname) 2>/dev/null";
    for name in [&root, &plain] {
        let out = node.mill(["exec", name, "--", "sh", "-c", script]).ok();
        assert!(out.contains(name.as_str()), "{out}");
    }
    let copy = "cp /bin/busybox /srv/scratch/su && chmod 4755 /srv/scratch/su";
    let _ = node.mill(["exec", &root, "--", "sh", "-c", copy]).ok();
    let folder = node.data().join("alloc").join(&root);
    let program = folder.join("volumes/scratch/su");
    assert!(fs::metadata(&program).unwrap().mode() & 0o4111 == 0o4111, "it would run as root");

    let running = PathBuf::from("/run/mill").join(instance(&node));
    let reaches = |what: &str| {
        assert!(as_nobody(&program, &[Path::new("id")]).is_err(), "{what}: it runs the program");
        let log = fs::read_dir(node.data().join("raft")).unwrap().flatten().next().unwrap().path();
        let all = [&node.data(), &folder, &log, &node.data().join("identity.json"), &running];
        for path in all.into_iter().chain([&node.data().join("logs"), &folder.join("hosts")]) {
            assert!(path.exists(), "{}", path.display());
            for program in ["cat", "ls"] {
                assert!(!as_nobody(program, &[path]).unwrap(), "{what}: {}", path.display());
            }
        }
        let mut open = Vec::new();
        open_to_others(&node.data(), &mut open);
        assert!(open.is_empty(), "{what}: {open:#?}");
    };
    reaches("at first");

    // As an earlier version, or somebody by mistake, has left it.
    node.stop();
    let data = node.data();
    run(Command::new("chmod").args(["a+rX"]).arg(&data));
    for part in ["raft", "logs", "alloc", "node", "identity.json"] {
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(data.join(part)));
    }
    fs::set_permissions(folder.join("hosts"), Permissions::from_mode(0o4755)).unwrap();
    let runs = as_nobody(&program, &[Path::new("id")]);
    assert!(runs.is_ok(), "the test would see it: {runs:?}");
    node.restart();
    assert!(node.log().contains("open to others"), "{}", node.log());
    assert!(as_nobody(&program, &[Path::new("id")]).is_err());
    let mut open = Vec::new();
    open_to_others(&data, &mut open);
    assert!(open.is_empty(), "after a restart: {open:#?}");
    assert_eq!(fs::metadata(folder.join("hosts")).unwrap().mode() & 0o7000, 0);
    let _ = node.mill(["exec", &plain, "--", "sh", "-c", "echo y > /srv/scratch/file"]).ok();
}

#[test]
fn a_tree_of_any_depth_goes_and_the_node_goes_on() {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};
    let registry = Registry::start();
    let mut node = TestDaemon::start();
    let more = "volume \"scratch\" path=\"/srv/scratch\" ephemeral=#true; \
                stop grace=\"1s\"; command \"sleep\" \"100000\"";
    let _ = node.up(&files::service("deep", &registry.image("busybox:v1"), more)).ok();
    let id = node.allocations("deep")[0]["id"].as_str().unwrap().to_owned();
    let (folder, process) = (node.data().join("alloc").join(&id), node.pid());
    let mut at = open(&folder.join("volumes/scratch"), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..15_000 {
        mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        at = openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    drop(at);
    let refused = node.mill(["cp", &format!("{id}:/srv/scratch"), "copy"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    assert!(!folder.exists(), "out of its place when down is done");
    let trash = node.data().join("removed");
    let empty = || fs::read_dir(&trash).is_ok_and(|mut left| left.next().is_none());
    poll(empty).secs(60).expect("nothing left on the disk");
    assert_eq!(node.pid(), process);
    // What was left in the middle of it is taken up at the next start.
    fs::create_dir_all(trash.join("earlier/a/b")).unwrap();
    node.stop();
    node.restart();
    poll(empty).secs(60).expect("what an earlier life left");
}

#[test]
fn what_a_program_says_acts_on_no_terminal() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let said = r#"printf '\033[31mred\033[0m \033]0;owned\007\033[2Jbye\n'"#;
    let more = format!("command \"sh\" \"-c\" #\"{said}; exit 3\"#");
    let file = node.file("bad.mill", &files::service("bad", &registry.image("busybox:v1"), &more));
    let up = node.mill(["up", "-f", file.to_str().unwrap()]);
    assert_eq!(up.code, Some(1), "{up:?}");
    let shown = "\\x1b]0;owned\\x07\\x1b[2Jbye";
    assert!(format!("{}{}", up.stdout, up.stderr).contains(shown), "{up:?}");
    for args in [&["events"][..], &["status"], &["ps", "-a"], &["history"]] {
        let out = node.mill(args).ok();
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!out.contains(acts), "{args:?}: {out:?}");
    }
    let json = node.mill(["events", "--json"]).ok();
    assert!(json.contains("\\u001b]0;owned\\u0007") && !json.contains('\u{1b}'), "{json}");
    let id = node.allocations("bad")[0]["id"].as_str().unwrap().to_owned();
    let logs = node.mill(["logs", &id, "-n", "1"]).ok();
    assert!(logs.contains("\u{1b}]0;owned\u{7}\u{1b}[2Jbye"), "as it was written: {logs:?}");
    let typed = format!("{} logs {id} -n 1", env!("CARGO_BIN_EXE_mill"));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &typed, "/dev/null"]).env("MILL_SOCKET", node.socket());
    let out = run(terminal.env("TERM", "xterm").env_remove("NO_COLOR"));
    assert!(out.contains("\u{1b}[31mred\u{1b}[0m"), "colours stay: {out:?}");
    assert!(out.contains(shown), "{out:?}");
}
