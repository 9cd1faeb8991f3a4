//! So many clients that each send the next request when the last one is answered, over HTTP.
//!
//! Owns the connections and the clock; the same for every side of a comparison. Never decides what
//! is asked.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Before it is measured.
const WARM: Duration = Duration::from_millis(500);
/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(3);

/// Who is asked.
#[derive(Clone)]
pub struct Target {
    /// The machine that asks and is asked.
    pub namespace: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// The request of that number of that client, whole.
    pub request: std::sync::Arc<dyn Fn(usize, usize) -> Vec<u8> + Send + Sync>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Answers a second.
    pub rate: f64,
    /// The median answer.
    pub p50: Duration,
}

/// A request with a body of JSON.
#[must_use]
pub fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Does something on the network of a machine.
pub fn inside<T: Send>(namespace: &Path, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        thread.join().unwrap()
    })
}

/// So many clients, each with a connection that it keeps.
#[must_use]
pub fn run(target: &Target, clients: usize) -> Load {
    let mut times = inside(&target.namespace, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut all = JoinSet::new();
            for client in 0..clients {
                all.spawn(ask(target.clone(), client));
            }
            all.join_all().await.concat()
        })
    });
    let rate = times.len() as f64 / MEASURED.as_secs_f64();
    Load { rate, p50: super::report::median(&mut times) }
}

/// The times of the answers of one client.
async fn ask(target: Target, client: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(target.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut times = Vec::new();
    let begin = Instant::now() + WARM;
    for number in 0.. {
        let request = (target.request)(client, number);
        let sent = Instant::now();
        stream.write_all(&request).await.unwrap();
        answer(&mut stream, &mut buffer).await;
        let now = Instant::now();
        if now >= begin + MEASURED {
            break;
        }
        if now >= begin {
            times.push(now - sent);
        }
    }
    times
}

/// Reads one answer, which must be a good one.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let is_good = text.starts_with("http/1.1 200");
        assert!(is_good, "{}", String::from_utf8_lossy(buffer));
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let is_whole = match length {
            Some(length) => buffer.len() >= head + 4 + length.parse::<usize>().unwrap(),
            None => buffer.ends_with(b"0\r\n\r\n"),
        };
        if is_whole {
            return;
        }
    }
}
