//! `docs/workflows/disaster-recovery.md`: every node of a cluster is lost, and it begins again from
//! a backup, on one machine at first.

use crate::poll::poll;
use crate::provider::Trouble;
use crate::support::{Outcome, TestCluster, TestDaemon};
use serde_json::Value;
use std::path::Path;

const VALUE: &str = "staple-battery-correct-7";

const FILE: &str = r#"app "vault"
service "web" {
    image "IMAGE"
    command "/bin/sh" "-c" "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    env { DB "${secret(web.db)}" }
    file path="/etc/web.toml" content="greeting = 1\n"
    health exec="test -n \"$DB\"" interval="200ms"
}
service "db" {
    image "IMAGE"
    command "/bin/sh" "-c" "echo up >>/data/starts; trap 'exit 0' TERM; \
             while true; do sleep 0.1; done"
    volume "db-data" path="/data" size="1G"
    health exec="test -s /data/starts" interval="200ms"
    constraint "disk" "yes"
}
task "report" {
    image "IMAGE"
    command "/bin/true"
    schedule "0 3 1 1 *"
}
"#;

/// Runs a command with the passphrase in the environment.
fn with(node: &TestDaemon, passphrase: &str, args: &[&str]) -> Outcome {
    let mut command = node.command(args);
    let output = command.env("MILL_BACKUP_PASSPHRASE", passphrase).output().unwrap();
    Outcome::new(format!("{args:?}"), output)
}

/// What has to be the same afterwards.
fn kept(node: &TestDaemon) -> Vec<Value> {
    let api = node.api();
    let app = api.get("/v1/apps/vault");
    let mut tokens = api.get("/v1/tokens");
    tokens.as_array_mut().unwrap().sort_by_key(|token| token["id"].to_string());
    let secret = api.get("/v1/secrets/web.db");
    let task = api.get("/v1/status")["tasks"][0].clone();
    assert_eq!(task["schedule"], "0 3 1 1 *", "{task}");
    let next = task["next_run"].clone();
    vec![app["file"].clone(), app["revision"].clone(), tokens, secret, next]
}

fn healthy(node: &TestDaemon, name: &str) -> bool {
    node.allocations(name).iter().any(|one| one["health"] == "healthy")
}

#[test]
fn disaster_recovery() {
    let mut cluster = TestCluster::start(2);
    let image = cluster.image("busybox:v1");
    let node = cluster.node(1);
    let _ = node.mill(["label", "n1", "disk=yes"]).ok();
    let _ = node.mill(["secret", "set", "web.db", VALUE]).ok();
    let _ = node.up(&FILE.replace("IMAGE", &image)).ok();
    let before = kept(node);
    let key = age::x25519::Identity::generate();
    let folder = node.file("backups", "").with_extension("d");
    scheduled(node, &folder, &key);

    let file = node.file("backup.age", "");
    let path = file.to_str().unwrap();
    let made = with(cluster.node(2), "opensesame", &["backup", path, "--json"]).json();
    assert_eq!(made["backup"]["secrets"], serde_json::json!(["web.db"]), "{made}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()));
    let told = with(node, "opensesame", &["backup", "verify", path]).ok();
    assert!(told.contains("volumes    db-data (on n1)") && told.contains("logs"), "{told}");
    let unasked = node.api().request("GET", "/v1/backup").send();
    unasked.error(400, "bad_request");
    let _ = with(node, "opensesame", &["restore", path, "--yes"]).code(1).says("a member of test");

    opened(node, &folder, &key);

    // Both machines are lost but for the folder with volumes of the first.
    for n in 1..=2 {
        cluster.node_mut(n).kill();
    }
    cluster.node_mut(1).wipe_but(&["--keep-volumes"]);
    cluster.node_mut(2).wipe();
    bad_files(cluster.node(1), &bytes, path);
    let own = ["--node", "n1", "--advertise", "172.31.0.1"];
    let args = ["restore", path, "--yes"].into_iter().chain(own).collect::<Vec<_>>();
    let told = with(cluster.node(1), "opensesame", &args).ok();
    assert!(told.contains("join again under their names: n2"), "{told}");
    let node = cluster.node(1);
    for service in ["web", "db"] {
        poll(|| healthy(node, service)).secs(60).expect("it is healthy again");
    }
    assert_eq!(kept(node), before);
    let starts = node.mill(["exec", "db", "--", "cat", "/data/starts"]).ok();
    assert!(starts.starts_with("up\nup\n"), "the data was there: {starts:?}");
    let web = node.mill(["exec", "web", "--", "/bin/sh", "-c", "echo $DB; cat /etc/web.toml"]);
    assert_eq!(web.ok(), format!("{VALUE}\ngreeting = 1\n"));

    let joined = cluster.join_at(2, 1);
    assert_eq!(joined["node"], "n2", "{joined}");
    poll(|| cluster.names_with("status", "ready") == ["n1", "n2"]).secs(30).expect("two nodes");
    assert_eq!(cluster.node(2).mill(["secret", "get", "web.db"]).ok(), VALUE);
    // It is a member like any other, also after another start.
    cluster.node_mut(1).kill();
    cluster.node_mut(1).launch();
    let node = cluster.node(1);
    poll(|| node.mill(["secret", "get", "web.db"]).stdout == VALUE).secs(30).expect("its log");
}

/// What a provider keeps is there for whichever machine the cluster begins again on.
#[test]
fn a_volume_of_a_provider_outlives_all_nodes() {
    let mut cluster = TestCluster::start_provided(2, Trouble::default());
    let file = r#"app "vault"
service "db" {
    image "IMAGE"
    command "/bin/sh" "-c" "echo up >>/data/starts; sync /data/starts; trap 'exit 0' TERM; \
             while true; do sleep 0.1; done"
    volume "db-data" path="/data" size="1G"
    health exec="test -s /data/starts" interval="200ms"
}
"#;
    let image = cluster.image("busybox:v1");
    let node = cluster.node(1);
    let _ = node.up(&file.replace("IMAGE", &image)).ok();
    let path = node.file("backup.age", "");
    let path = path.to_str().unwrap();
    let _ = with(node, "opensesame", &["backup", path]).ok();
    let had = cluster.provider().attached_to("db-data").expect("it is attached");
    for n in 1..=2 {
        cluster.node_mut(n).kill();
        cluster.node_mut(n).wipe();
    }
    // The machine that did not have it, under the other one's name.
    let n: usize = if had == 1 { 2 } else { 1 };
    let (droplet, address) = (format!("droplet={n}"), format!("172.31.0.{n}"));
    let labels = ["--label", &droplet, "--label", "region=fra1"];
    let own = ["--node", "n1", "--advertise", &address];
    let args = ["restore", path, "--yes"].into_iter().chain(own).chain(labels).collect::<Vec<_>>();
    let _ = with(cluster.node(n), "opensesame", &args).ok();
    let node = cluster.node(n);
    poll(|| healthy(node, "db")).secs(90).expect("it is healthy again");
    assert_eq!(cluster.provider().attached_to("db-data"), Some(n as u64));
    let starts = node.mill(["exec", "db", "--", "cat", "/data/starts"]).ok();
    assert_eq!(starts, "up\nup\n", "the data was there");
}

/// Asks for backups each minute.
fn scheduled(node: &TestDaemon, folder: &Path, key: &age::x25519::Identity) {
    let to = folder.to_str().unwrap();
    let words = ["backup", "schedule", "* * * * *", "--to", to, "--keep", "3"];
    let refused = node.mill(words).code(2).stderr;
    assert!(refused.contains("--recipient"), "{refused}");
    let recipient = key.to_public().to_string();
    let _ = node.mill(words.into_iter().chain(["--recipient", &recipient])).ok();
    let shown = node.mill(["backup", "schedule", "--json"]).json();
    assert_eq!((&shown["keep"], &shown["recipients"][0]), (&3.into(), &recipient.into()));
}

/// What came of that by now, or does soon: on both nodes, which share a disk here.
fn opened(node: &TestDaemon, folder: &Path, key: &age::x25519::Identity) {
    use age::secrecy::ExposeSecret as _;
    let last = || node.mill(["backup", "schedule", "--json"]).json()["last"].clone();
    poll(|| last().as_array().unwrap().len() == 2).secs(90).expect("both have written one");
    assert!(last().as_array().unwrap().iter().all(|one| one["error"].is_null()), "{}", last());
    let identity = node.file("identity", key.to_string().expose_secret());
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let words = ["backup", "verify", file.to_str().unwrap()];
    let _ = node.mill(words).code(1).says("--identity");
    let told = node.mill(words.into_iter().chain(["--identity", identity.to_str().unwrap()])).ok();
    assert!(told.contains("secrets    web.db"), "{told}");
}

/// What can't be restored is told, and the node stays unclaimed.
fn bad_files(node: &TestDaemon, bytes: &[u8], path: &str) {
    let refused = |name: &str, bytes: &[u8], passphrase: &str, why: &str| {
        let file = node.file(name, "");
        std::fs::write(&file, bytes).unwrap();
        let args = ["restore", file.to_str().unwrap(), "--yes", "--node", "n1"];
        let _ = with(node, passphrase, &args).code(1).says(why);
    };
    refused("cut.age", &bytes[..bytes.len() / 2], "opensesame", "damaged or cut off");
    refused("other.age", b"PK\x03\x04 a zip", "opensesame", "isn't encrypted by age");
    let _ = with(node, "wrong", &["restore", path, "--yes"]).code(1).says("passphrase is wrong");
    let unsaid = with(node, "opensesame", &["restore", path]).code(2);
    assert!(unsaid.stderr.contains("--yes"), "{unsaid:?}");
    let missing = Path::new("/nowhere/backup.age").to_str().unwrap();
    let _ = with(node, "opensesame", &["restore", missing, "--yes"]).code(2);
    let health = node.api().get("/v1/health");
    assert_eq!(health["status"], "unclaimed", "{health}");
}
