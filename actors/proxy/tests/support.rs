//! A proxy with servers behind it, and a client that writes what it likes.
//!
//! Owns the servers' answers. Never checks any.

use crate::actors::proxy::engine::Threads;
use crate::actors::proxy::listen::Addresses;
use crate::actors::proxy::shared::{Settings, Shared};
use crate::fsm::model::Health;
use crate::id::NodeId;
use crate::node::ingress::fixture::Case;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The name by which a server says that it was asked.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A proxy with its servers.
pub struct Site {
    pub case: Case,
    pub shared: Arc<Shared>,
    pub threads: Option<Threads>,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// They end with this.
    _servers: JoinSet<()>,
}

impl Site {
    /// Servers at 127.0.0.2 and up to so many replicas of `web`; `route` is the rest of its lines.
    pub async fn new(replicas: u8, route: &str) -> Self {
        Self::with(replicas, replicas, route, Settings::default()).await
    }

    /// Only the first `servers` of the replicas listen.
    pub async fn with(replicas: u8, servers: u8, route: &str, settings: Settings) -> Self {
        let settings = Settings { engine_only: super::ENGINE_ONLY, ..settings };
        let (listeners, port) = listeners(servers).await;
        let mut running = JoinSet::new();
        for (at, listener) in listeners.into_iter().enumerate() {
            running.spawn(server(listener, at));
        }
        let file = format!(
            "service \"web\" {{ image \"a\"; port {port}; replicas {replicas}\n {route} }}"
        );
        let mut case = Case::new(&file);
        for replica in 0..replicas {
            case.run("web", u32::from(replica), [127, 0, 0, 2 + replica], Health::Healthy);
        }
        let shared = Shared::new(settings, Arc::default());
        shared.show(&case.state, NodeId(1));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses::open(any, any).unwrap();
        let threads = Threads::start(&shared, addresses.pairs().unwrap()).unwrap();
        let http = addresses.http().unwrap();
        let (https, threads) = (addresses.https().unwrap(), Some(threads));
        Self { case, shared, threads, http, https, _servers: running }
    }

    /// Shows the state as it is now.
    pub fn show(&self) {
        self.shared.show(&self.case.state, NodeId(1));
    }

    /// Requests that are under way at containers.
    pub fn active(&self) -> u32 {
        let routes = self.shared.routes();
        let replicas = routes.rules().flat_map(|rule| &rule.replicas);
        replicas.map(|replica| replica.gauge.load().active).sum()
    }

    /// Waits for a condition, with a deadline.
    #[track_caller]
    pub fn until(&self, is_so: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let deadline = std::time::Instant::now() + PATIENCE;
        async move {
            while !is_so(self) {
                assert!(std::time::Instant::now() < deadline, "it doesn't become so");
                time_passes(10).await;
            }
        }
    }

    pub async fn client(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(self.http).await.unwrap()))
    }

    /// One request on a connection of its own; lines are separated by `|`.
    pub async fn ask(&self, lines: &str) -> Answer {
        let mut client = self.client().await;
        client.send(lines).await;
        client.answer().await
    }

    /// `GET` of a path of `a.example`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1|Host: a.example||")).await
    }
}

/// Lines that are separated by `|`, as a path says them.
pub fn raw(lines: &str) -> String {
    hex::encode(lines.replace('|', "\r\n"))
}

/// A text as chunks of that size.
pub fn chunked(text: &str, size: usize) -> String {
    let pieces = text.as_bytes().chunks(size);
    let chunk = |piece| {
        let text = String::from_utf8_lossy(piece);
        format!("{:x}\r\n{text}\r\n", text.len())
    };
    format!("{}0\r\n\r\n", pieces.map(chunk).collect::<String>())
}

/// What is slow takes its time.
pub async fn time_passes(millis: u64) {
    let never = std::future::pending::<()>();
    let _ = tokio::time::timeout(Duration::from_millis(millis), never).await;
}

/// Listeners at several addresses with one port.
async fn listeners(count: u8) -> (Vec<TcpListener>, u16) {
    loop {
        let first = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for more in 1..count {
            match TcpListener::bind((std::net::Ipv4Addr::new(127, 0, 0, 2 + more), port)).await {
                Ok(listener) => all.push(listener),
                Err(_) => break,
            }
        }
        if all.len() >= usize::from(count) {
            all.truncate(usize::from(count));
            return (all, port);
        }
    }
}

async fn server(listener: TcpListener, number: usize) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(BufReader::new(stream), number));
    }
}

/// What is said before all is heard.
const EARLY: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";

/// A server's side of a connection.
async fn serve(mut stream: BufReader<TcpStream>, number: usize) {
    let mut asked = 0;
    while let Some(head) = head(&mut stream).await {
        asked += 1;
        COUNT.fetch_add(1, Ordering::Relaxed);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if header(&head, "expect").is_some() {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        if path == "/early" {
            let _ = stream.write_all(EARLY).await;
            time_passes(300).await;
            return;
        }
        let upload = body(&mut stream, &head).await;
        let ok = |text: &str| ok(number, text);
        let plain = path.split('?').next().unwrap_or_default();
        let answer = match plain.rsplit('/').next().unwrap_or_default() {
            "head" => ok(&head),
            "sum" => ok(&upload.len().to_string()),
            "drop" => return,
            "slow" => {
                time_passes(300).await;
                ok("slow")
            }
            "never" => std::future::pending().await,
            "stream" => return stream_events(stream).await,
            "echo" => return upgraded(stream).await,
            "socket" => return socket(stream, &path).await,
            "endless" => return line_by_line(stream, None).await,
            "many" => return line_by_line(stream, Some(1_000)).await,
            "unasked" => {
                in_pieces(&mut stream, &[&ok("asked"), &ok("evil")]).await;
                continue;
            }
            "once" if asked > 1 => return,
            "once" => ok("once"),
            "port" => ok(&stream.get_ref().peer_addr().unwrap().port().to_string()),
            "pieces" => {
                let pieces = ["HTTP/1.1 2", "00 OK\r\nContent-Length: 6\r", "\n\r\npie", "ces"];
                in_pieces(&mut stream, &pieces).await;
                continue;
            }
            "keep" | "raw" => {
                let bytes = hex::decode(path.split('?').nth(1).unwrap()).unwrap();
                let _ = stream.write_all(&bytes).await;
                if plain == "/raw" {
                    return;
                }
                continue;
            }
            "large" => ok(&"x".repeat(1 << 20)),
            "mirror" => ok(&String::from_utf8(upload).unwrap()),
            "mirror-chunks" => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                format!("{head}{}", chunked(&String::from_utf8(upload).unwrap(), 7_777))
            }
            other => canned(other).unwrap_or_else(|| ok(&format!("s{number}"))),
        };
        let head_only = head.starts_with("HEAD ");
        let answer = match answer.split_once("\r\n\r\n") {
            Some((head, _)) if head_only => format!("{head}\r\n\r\n"),
            _ => answer,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An answer with a text.
fn ok(number: usize, text: &str) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 200 OK\r\nServer: s{number}\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{text}"
    )
}

async fn in_pieces(stream: &mut BufReader<TcpStream>, pieces: &[&str]) {
    for piece in pieces {
        let _ = stream.write_all(piece.as_bytes()).await;
        time_passes(20).await;
    }
}

/// A head of so many lines, or without an end.
async fn line_by_line(mut stream: BufReader<TcpStream>, lines: Option<usize>) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
    for n in 0..lines.unwrap_or(usize::MAX) {
        if stream.write_all(format!("X-{n}: y\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"Content-Length: 0\r\n\r\n").await;
}

/// What is the same always.
fn canned(name: &str) -> Option<String> {
    let wide = match name {
        "wide" => 100_000,
        "wider" => 2 << 20,
        _ => 0,
    };
    if wide > 0 {
        let line = "y".repeat(wide);
        return Some(format!("HTTP/1.1 200 OK\r\nX: {line}\r\nContent-Length: 0\r\n\r\n"));
    }
    let text = match name {
        "garbage" => "nonsense\r\n\r\n",
        "empty" => "HTTP/1.1 204 No Content\r\n\r\n",
        "chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A WebSocket that says what the path says, and ends.
async fn socket(mut stream: BufReader<TcpStream>, path: &str) {
    let last = path.split('?').nth(1).map(|hex| hex::decode(hex).unwrap());
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
    let whole = [head.as_bytes(), &last.unwrap_or_default()].concat();
    let _ = stream.write_all(&whole).await;
}

/// An event, then silence until the other side says something, then the end.
async fn stream_events(mut stream: BufReader<TcpStream>) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n";
    let _ = stream.write_all(head.as_bytes()).await;
    time_passes(1_500).await;
    let _ = stream.write_all(b"data: two\n\n").await;
}

async fn upgraded(mut stream: BufReader<TcpStream>) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let _ = stream.write_all(&buffer[..read]).await;
    }
}

/// The lines up to the empty one.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim().to_owned())
}

async fn body(stream: &mut BufReader<TcpStream>, head: &str) -> Vec<u8> {
    if header(head, "transfer-encoding").is_some() {
        return chunks(stream).await;
    }
    let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body).await;
    body
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return body;
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        let _ = stream.read_exact(&mut chunk).await;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return body;
        }
    }
}

/// A client's side of a connection.
pub struct Client(pub BufReader<TcpStream>);

/// What it got.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    /// Sends lines that are separated by `|`.
    pub async fn send(&mut self, lines: &str) {
        self.0.write_all(lines.replace('|', "\r\n").as_bytes()).await.unwrap();
    }

    pub async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.answer_to(false)).await.expect("an answer")
    }

    /// The answer behind those that only say that there will be one.
    pub async fn last_answer(&mut self) -> Answer {
        loop {
            let answer = self.answer().await;
            if !(100..200).contains(&answer.status) {
                return answer;
            }
        }
    }

    /// All that comes until the end.
    pub async fn all(&mut self) -> String {
        let mut all = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut all)).await;
        // An end with an error is an end.
        let _ = read.expect("an end");
        String::from_utf8_lossy(&all).into_owned()
    }

    pub async fn answer_to_head(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.answer_to(true)).await.expect("an answer")
    }

    async fn answer_to(&mut self, is_head: bool) -> Answer {
        let Some(head) = head(&mut self.0).await else { return Answer::default() };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let none = is_head || matches!(status, 100..200 | 204 | 304);
        let body = if none { Vec::new() } else { body(&mut self.0, &head).await };
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Reads what comes next, at least one byte; empty at the end.
    pub async fn some(&mut self) -> String {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut buffer)).await;
        let read = read.expect("bytes").unwrap_or(0);
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }
}
