//! Real software: the example `stack.mill` with nginx, redis and PostgreSQL, used by their clients.
//!
//! Never reaches a registry: the images are made of Debian's packages and loaded.

use crate::poll::poll;
use crate::registry::{self, run};
use crate::support::TestDaemon;
use crate::support::node::free_port;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAMES: [&str; 3] = ["nginx", "redis", "postgres"];
const PASSWORD: &str = "not-for-production";

/// The archives of the three images, made once.
fn archives() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/images");
    let folder = registry::layouts().with_file_name("software");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    let kind = nix::fcntl::FlockArg::LockExclusive;
    let _lock = nix::fcntl::Flock::lock(lock, kind).map_err(|(_, error)| error).unwrap();
    let images = NAMES.map(|name| format!("{name}:debian"));
    run(Command::new(script).arg("archive").arg(&folder).args(images));
    folder
}

/// The example, with host ports that are free here.
fn example(ports: &[u16; 3]) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stack.mill");
    let mut text = fs::read_to_string(file).unwrap();
    for (fixed, free) in ["18080", "16379", "15432"].iter().zip(ports) {
        text = text.replace(&format!("publish {fixed}"), &format!("publish {free}"));
    }
    text
}

/// What a client answers, without the last newline.
#[track_caller]
fn client(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    run(command.env("PGPASSWORD", PASSWORD).args(args)).trim_end().to_owned()
}

/// What curl says to nginx, redis-cli to redis, psql to PostgreSQL, through the published ports.
fn use_it(ports: &[u16; 3]) {
    let [http, redis, postgres] = ports.map(|port| port.to_string());
    let url = format!("http://127.0.0.1:{http}");
    assert!(client("curl", &["-sSf", &format!("{url}/")]).contains("<h1>It works"));
    let missing =
        client("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", &format!("{url}/x")]);
    assert_eq!(missing, "404");

    let redis = |args: &[&str]| client("redis-cli", &[&["-p", redis.as_str()], args].concat());
    assert_eq!(redis(&["set", "greeting", "good day"]), "OK");
    assert_eq!(redis(&["get", "greeting"]), "good day");
    assert_eq!(redis(&["incrby", "visits", "41"]), "41");
    assert_eq!(redis(&["incr", "visits"]), "42");

    let sql = |text: &str| {
        let to = ["-h", "127.0.0.1", "-p", postgres.as_str(), "-U", "postgres"];
        client(
            "psql",
            &[&to[..], &["-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text]].concat(),
        )
    };
    sql("create table visits (id int primary key, who text not null)");
    sql("insert into visits select n, 'guest ' || n from generate_series(1, 1000) n");
    assert_eq!(sql("select count(*), max(who) filter (where id = 7) from visits"), "1000|guest 7");
}

fn exit(node: &TestDaemon, id: &str) -> Value {
    node.api().get(&format!("/v1/allocations/{id}"))["exit"].clone()
}

#[test]
fn nginx_redis_and_postgresql_are_deployed_used_and_stopped() {
    let archives = archives();
    let node = TestDaemon::start();
    for name in NAMES {
        let file = archives.join(format!("{name}.tar"));
        let _ = node.mill(["image", "load", file.to_str().unwrap()]).ok();
    }
    let ports = [free_port(), free_port(), free_port()];
    let _ = node.up(&example(&ports)).ok();
    use_it(&ports);

    let ids = ["front", "cache", "base"].map(|name| {
        let all = node.allocations(name);
        assert_eq!((all.len(), &all[0]["health"]), (1, &json!("healthy")), "{all:?}");
        let exec = ["exec", name, "--", "sh", "-c", "id -u; id -g"];
        assert_eq!(node.mill(exec).ok(), "1000\n1000\n", "{name}");
        all[0]["id"].as_str().unwrap().to_owned()
    });
    let told = node.mill(["exec", "cache", "--", "redis-cli", "get", "greeting"]).ok();
    assert!(told.contains("good"), "{told}");
    let _ = node.mill(["down", "--all", "--yes"]).ok();
    poll(|| ids.iter().all(|id| exit(&node, id)["code"] == 0))
        .secs(40)
        .expect("each to end by itself, as its stop signal asks it to");
    let ends = ["(SIGQUIT) received", "User requested shutdown", "received fast shutdown request"];
    for (id, end) in ids.iter().zip(ends) {
        let out = node.command(["logs", id]).stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(log.contains(end), "{id}: {log}");
    }
}
