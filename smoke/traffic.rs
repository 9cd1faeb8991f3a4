//! No request is dropped: clients go on through rolling updates, good and failed ones.
//!
//! Owns the clients: they keep a plan in time whether or not the server keeps up. Never counts a
//! request that was not answered whole as anything but dropped.

use crate::registry::Registry;
use crate::support::TestDaemon;
use crate::support::node::free_port;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const UPDATES: u32 = 10;
const FAILURES: u32 = 3;
/// Clients that keep their connection.
const KEPT: usize = 8;
/// An answer that takes longer is a dropped request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    kept: AtomicU64,
    new: AtomicU64,
    slow: AtomicU64,
    dropped: Mutex<Vec<String>>,
    /// What is being changed.
    during: Mutex<String>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn count(&self, counter: &AtomicU64, kind: &str, result: std::io::Result<bool>) -> bool {
        let problem = match result {
            Ok(stays) => {
                counter.fetch_add(1, Ordering::SeqCst);
                return stays;
            }
            Err(error) => format!("{} {kind}: {error}", self.during.lock().unwrap()),
        };
        self.dropped.lock().unwrap().push(problem);
        false
    }
}

/// One request; whether the connection stays open.
async fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<bool> {
    let exchange = async {
        let request = format!("GET {path} HTTP/1.1\r\nHost: patient\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (mut answer, mut buffer) = (String::new(), [0; 1024]);
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Err(std::io::Error::other(format!("cut off after {answer:?}")));
            }
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            if Some(body.len()) != length {
                continue;
            }
            if !head.starts_with("HTTP/1.1 200") {
                return Err(std::io::Error::other(format!("answered {head:?}")));
            }
            return Ok(!head.contains("Connection: close"));
        }
    };
    let late = |_| std::io::Error::other("not answered in time");
    tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
}

async fn ask_anew(port: u16, path: &str) -> std::io::Result<bool> {
    ask(&mut TcpStream::connect(("127.0.0.1", port)).await?, path).await
}

/// A client that keeps its connection as long as the server does: a request each 20 ms.
async fn keeping(port: u16, seen: Arc<Seen>) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut kept: Option<TcpStream> = None;
    while seen.goes_on() {
        tick.tick().await;
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => stream,
                Err(error) => {
                    seen.count(&seen.kept, "kept", Err(error));
                    continue;
                }
            },
        };
        let result = ask(&mut stream, "/").await;
        if seen.count(&seen.kept, "kept", result) {
            kept = Some(stream);
        }
    }
}

/// Requests on connections of their own, begun on time whether or not the last one has ended.
async fn arriving(port: u16, seen: Arc<Seen>, every: Duration, path: &'static str) {
    let mut tick = tokio::time::interval(every);
    let mut under_way = tokio::task::JoinSet::new();
    while seen.goes_on() {
        tick.tick().await;
        let seen = Arc::clone(&seen);
        under_way.spawn(async move {
            let result = ask_anew(port, path).await;
            let counter = if path == "/slow" { &seen.slow } else { &seen.new };
            seen.count(counter, path, result);
        });
    }
    under_way.join_all().await;
}

fn file(image: &str, port: u16, version: &str, more: &str) -> String {
    format!(
        "app \"patient\"\n\nservice \"patient\" {{\n    image \"{image}\"\n    port 8080\n    \
         replicas 2\n    cpu 0.5\n    memory \"64M\"\n    publish {port}\n    \
         health \"/healthz\" interval=\"500ms\" grace=\"1s\"\n    \
         update max-parallel=2 healthy-deadline=\"3s\"\n    \
         env {{ VERSION \"{version}\"{more} }}\n}}\n"
    )
}

#[test]
fn ten_updates_and_three_failed_ones_drop_no_request() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let (image, port) = (registry.image("patient:v1"), free_port());
    let _ = node.up(&file(&image, port, "v0", "")).ok();
    let seen = Arc::<Seen>::default();
    let clients = {
        let seen = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..KEPT {
                    all.spawn(keeping(port, Arc::clone(&seen)));
                }
                let (often, rarely) = (Duration::from_millis(10), Duration::from_millis(100));
                all.spawn(arriving(port, Arc::clone(&seen), often, "/"));
                all.spawn(arriving(port, Arc::clone(&seen), rarely, "/slow"));
                all.join_all().await;
            });
        })
    };
    let changes = std::panic::catch_unwind(|| {
        for n in 1..=UPDATES {
            *seen.during.lock().unwrap() = format!("v{n}");
            let _ = node.up(&file(&image, port, &format!("v{n}"), "")).ok();
        }
        for n in 1..=FAILURES {
            *seen.during.lock().unwrap() = format!("bad{n}");
            let broken = file(&image, port, &format!("bad{n}"), "; BROKEN \"yes\"");
            let outcome = node.up(&broken).code(1);
            assert!(outcome.stdout.contains("500"), "{}", outcome.stdout);
        }
    });
    seen.over.store(true, Ordering::SeqCst);
    clients.join().unwrap();
    let dropped = seen.dropped.lock().unwrap();
    if !dropped.is_empty() {
        println!("{}", node.mill(["events"]).ok());
    }
    let counts = [&seen.kept, &seen.new, &seen.slow].map(|count| count.load(Ordering::SeqCst));
    println!("requests on kept, new and slow connections: {counts:?}");
    assert!(dropped.is_empty(), "{} of {counts:?} dropped: {dropped:#?}", dropped.len());
    changes.unwrap();
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}
