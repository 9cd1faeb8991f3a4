//! `docs/workflows/secrets.md`: values that containers get on any node, and that are found nowhere
//! else.

use crate::poll::poll;
use crate::support::{TestCluster, TestDaemon};
use std::path::Path;
use std::process::Command;

/// What is looked for everywhere.
const FIRST: &str = "correct-horse-battery-1";
const SECOND: &str = "correct-horse-battery-2";

#[test]
fn secrets() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    let file = file(&cluster.image("busybox:v1"));
    let node = cluster.node(2);

    let refused = node.up(&file).code(2).stderr;
    let place = "secret web.db isn't in";
    assert!(refused.contains(place) && refused.contains("mill secret set web.db -"), "{refused}");

    set(node, "web.db", FIRST);
    set(node, "web.tls", "-----KEY-----");
    let _ = node.up(&file).ok();
    for n in 1..=3 {
        assert_eq!(cluster.node(n).mill(["secret", "get", "web.db"]).ok(), FIRST);
    }
    assert_eq!(seen(node), [FIRST.to_owned(), "url=x:correct-horse-battery-1@y".to_owned()]);
    let mode = inside(node, "stat -c '%a %u' /run/secrets/tls; cat /run/secrets/tls");
    assert_eq!(mode, ["400 1000", "-----KEY-----"]);
    nowhere(&cluster, FIRST);

    let told = set(node, "web.db", SECOND);
    assert!(told.contains("web.db  v2") && told.contains("mill restart web"), "{told}");
    let status = cluster.node(3).mill(["status"]).ok();
    assert!(status.contains("an older value of web.db (v1, now v2)"), "{status}");
    let refused = node.mill(["secret", "delete", "web.db"]).code(1).stderr;
    assert!(refused.contains("secret web.db is needed by web"), "{refused}");
    assert_eq!(seen(node)[0], FIRST, "what runs keeps the one that it started with");

    // Another key for the cluster, and the daemon that is asked starts again.
    let told = node.mill(["secret", "rotate-key"]).ok();
    assert!(told.contains("another key seals 2 secrets"), "{told}");
    cluster.node_mut(2).kill();
    cluster.node_mut(2).restart();
    let node = cluster.node(2);
    assert_eq!(cluster.node(1).mill(["secret", "get", "web.db"]).ok(), SECOND);
    let _ = node.mill(["restart", "web"]).ok();
    assert_eq!(seen(node)[0], SECOND);
    poll(|| !node.mill(["status"]).ok().contains("older value")).secs(20).expect("all is new");
    in_no_backup(node, SECOND);
    nowhere(&cluster, SECOND);

    let _ = node.mill(["down", "web"]).ok();
    let _ = node.mill(["secret", "delete", "web.db"]).ok();
    assert_eq!(node.mill(["secret", "get", "web.db"]).code(1).stdout, "");
}

fn file(image: &str) -> String {
    format!(
        r#"app "vault"
service "web" {{
    image "{image}"
    command "/bin/sh" "-c" "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    user "1000:1000"
    replicas 2
    env {{ DB "${{secret(web.db)}}"; URL "url=x:${{secret(web.db)}}@y" }}
    secret-file "web.tls" path="/run/secrets/tls"
}}
"#
    )
}

/// Sets a value that a file holds.
#[track_caller]
fn set(node: &TestDaemon, name: &str, value: &str) -> String {
    let path = node.file("value", value);
    let told = node.mill(["secret", "set", name, &format!("@{}", path.display())]).ok();
    std::fs::remove_file(path).unwrap();
    told
}

/// What a program in the service's container sees.
#[track_caller]
fn inside(node: &TestDaemon, script: &str) -> Vec<String> {
    let out = node.mill(["exec", "web", "--", "/bin/sh", "-c", script]).ok();
    out.lines().map(str::to_owned).collect()
}

/// The variables, of a program that is run in it and of its own first process.
#[track_caller]
fn seen(node: &TestDaemon) -> Vec<String> {
    let own = "tr '\\0' '\\n' </proc/1/environ | grep -E '^(DB|URL)=' | sort | cut -d= -f2-";
    let of_first = inside(node, own);
    let of_exec = inside(node, "echo \"$DB\"; echo \"$URL\"");
    assert_eq!(of_first, of_exec);
    of_first
}

/// A backup is written beside the data.
#[track_caller]
fn in_no_backup(node: &TestDaemon, value: &str) {
    let file = node.data().join("backup.age");
    let mut backup = node.command(["backup", file.to_str().unwrap()]);
    let made = backup.env("MILL_BACKUP_PASSPHRASE", "x").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!in_folder(&file, value), "in a backup");
}

/// Looks for a value on the disks, in documents, messages and command lines.
#[track_caller]
fn nowhere(cluster: &TestCluster, value: &str) {
    for n in 1..=3 {
        let node = cluster.node(n);
        assert!(!in_folder(&node.data(), value), "on the disk of n{n}");
        assert!(!node.log().contains(value), "in the messages of n{n}");
        for route in ["status", "services", "allocations", "secrets", "events", "deployments"] {
            let text = node.api().get(&format!("/v1/{route}")).to_string();
            assert!(!text.contains(value), "{route}: {text}");
        }
    }
    assert!(!in_folder(Path::new("/run/mill"), value), "among what runs, but in memory");
    let lines = Command::new("sh").args(["-c", "cat /proc/[0-9]*/cmdline"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&lines.stdout).contains(value), "in a command line");
}

/// Whether a file below a folder has it; other file systems, such as those in memory, are left out.
fn in_folder(folder: &Path, value: &str) -> bool {
    let mut grep = Command::new("sh");
    let find = "find \"$1\" -xdev -type f -print0 | xargs -0 -r grep -laF -e \"$2\"";
    let found = grep.args(["-c", find, "sh", folder.to_str().unwrap(), value]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    if !found.is_empty() {
        println!("{found}");
    }
    !found.is_empty()
}
