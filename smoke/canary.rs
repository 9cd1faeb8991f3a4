//! `docs/workflows/canary.md`: a new version gets its share of the requests, and those decide.

use crate::poll::poll;
use crate::support::TestCluster;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The service: a page that says its version, or fails; on a web server that runs scripts.
fn file(image: &str, status: &str, version: &str, update: &str) -> String {
    let line = r"\\r\\n";
    let script = format!(r"#!/bin/sh\nprintf 'Status: {status}{line}{line}{version}'\n");
    let command = ["httpd", "-f", "-p", "8080", "-h", "/www"].map(|word| format!("{word:?}"));
    let fields = [
        format!("image {image:?}"),
        "port 8080".to_owned(),
        "replicas 2".to_owned(),
        "memory \"32M\"".to_owned(),
        format!("command {}", command.join(" ")),
        format!("file path=\"/www/cgi-bin/page\" content=\"{script}\" mode=\"0555\""),
        "health tcp=#true interval=\"500ms\"".to_owned(),
        "route \"app.example.com\"".to_owned(),
        "stop grace=\"1s\"".to_owned(),
        format!("update {update}"),
    ];
    format!("app \"web\"\nservice \"web\" {{\n    {}\n}}\n", fields.join("\n    "))
}

/// Somebody who asks again and again.
struct Client {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Client {
    fn of(outside: &Path, address: &str) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let begin = |_| {
            let (address, ends) = (address.to_owned(), Arc::clone(&ends));
            let outside = outside.to_owned();
            std::thread::spawn(move || {
                enter(&outside);
                while !ends.load(Ordering::Relaxed) {
                    let _ = ask(&address);
                }
            })
        };
        let threads = (0..2).map(begin).collect();
        Self { ends, threads }
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let request =
        "GET /cgi-bin/page HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Takes this thread out of all nodes, into the network between them.
fn enter(outside: &Path) {
    setns(File::open(outside).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// The page, as somebody out there sees it.
fn page(outside: &Path, address: &str) -> std::io::Result<String> {
    let (outside, address) = (outside.to_owned(), address.to_owned());
    let thread = std::thread::spawn(move || {
        enter(&outside);
        ask(&address)
    });
    thread.join().unwrap()
}

#[test]
fn canary() {
    let cluster = TestCluster::start(2);
    let node = cluster.node(1);
    let image = cluster.image("busybox:v1");
    let watched = "canary=1 for=\"3s\" max-error-rate=\"1%\" min-requests=20";
    let _ = node.up(&file(&image, "200 OK", "v1", watched)).ok();
    let address = cluster.node(2).http_address();
    let outside: PathBuf = cluster.hub().namespace.path();
    let answers = || match page(&outside, &address) {
        Ok(text) if text.contains("\r\nv1\r\n") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    poll(answers).secs(20).expect("the first version by the other node");

    // The one that doesn't lead is asked: what it counts reaches the leader.
    let clients = Client::of(&outside, &address);
    let out = node.up(&file(&image, "500 Oops", "v2", watched)).code(1);
    println!("{}", out.stdout);
    assert!(out.stdout.contains("canary taken back: 100% of "), "{}", out.stdout);
    assert!(out.stdout.contains(" r1 runs again, 2/2 healthy"), "{}", out.stdout);

    let out = node.up(&file(&image, "200 OK", "v3", watched)).ok();
    println!("{out}");
    assert!(out.contains("its requests are compared with the old ones' for 3s"), "{out}");
    assert!(out.contains("canary promoted: 0% of ") && out.contains("2/2 healthy"), "{out}");

    let long = watched.replace("3s", "10m");
    let file = node.file("long.mill", &file(&image, "200 OK", "v4", &long));
    let _ = node.mill(["up", "--detach", "-f", file.to_str().unwrap()]).ok();
    let why = node.mill(["why", "web"]).ok();
    println!("{why}");
    assert!(why.contains("canary of 1 for web: "), "{why}");
    let out = node.mill(["up", "--promote"]).ok();
    assert!(out.contains("canary promoted by hand") && out.contains("2/2 healthy"), "{out}");
    clients.end();
    assert!(page(&outside, &address).unwrap().contains("\r\nv4\r\n"));
    let _ = node.mill(["up", "--promote"]).code(1).says("No canary is under way");

    let history = node.mill(["history"]).ok();
    println!("{history}");
    assert!(history.contains("canary taken back: ") && history.contains("web canary promoted: "));
    let events = node.mill(["events"]).ok();
    for word in ["web  started  canary: ", "web  promoted  ", "web  taken-back  "] {
        assert!(events.contains(word), "{word}: {events}");
    }
}
