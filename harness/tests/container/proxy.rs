//! A proxy before containerd's socket that stops at a chosen call, before or after it is done.
//!
//! Owns the counting of HTTP/2 requests. Never changes a byte.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The n-th call from now, from 1, never reaches containerd.
    Before(u32),
    /// The answer to it never comes back.
    After(u32),
}

/// The proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    task: Option<JoinSet<()>>,
    cut: watch::Sender<u64>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    point: Option<Point>,
    calls: u32,
    stopped: bool,
}

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

impl Proxy {
    pub fn new() -> Self {
        Self { shared: Arc::default(), task: None, cut: watch::Sender::new(0) }
    }

    /// Passes on to containerd what comes to a socket, which is returned.
    pub fn listen(&mut self, path: &Path, to: PathBuf) -> PathBuf {
        let listener = UnixListener::bind(path).unwrap();
        let (shared, cut) = (Arc::clone(&self.shared), self.cut.subscribe());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = UnixStream::connect(&to).await else { continue };
                let (shared, mut cut) = (Arc::clone(&shared), cut.clone());
                cut.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        () = pass(client, server, shared) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        self.task = Some(tasks);
        path.to_owned()
    }

    /// Stops at that point; calls count from now.
    pub fn arm(&self, point: Point) {
        *self.shared.state.lock().unwrap() = State { point: Some(point), calls: 0, stopped: false };
    }

    /// It has stopped.
    pub fn has_stopped(&self) -> bool {
        self.shared.state.lock().unwrap().stopped
    }

    /// Passes everything on from now, as if no point had been set.
    pub fn disarm(&self) {
        self.shared.state.lock().unwrap().point = None;
    }

    /// Passes everything on again, over new connections.
    pub fn reset(&self) {
        *self.shared.state.lock().unwrap() = State::default();
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Shared {
    /// A call begins; whether it may, and whether its answer must not come back.
    fn call(&self) -> (bool, bool) {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let (before, after) = match state.point {
            Some(Point::Before(n)) => (state.calls == n, false),
            Some(Point::After(n)) => (false, state.calls == n),
            None => (false, false),
        };
        state.stopped |= before;
        (!state.stopped, after)
    }

    fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().unwrap().stopped
    }
}

async fn pass(client: UnixStream, server: UnixStream, shared: Arc<Shared>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let awaited: Mutex<Option<u32>> = Mutex::default();
    let requests = async {
        let mut preface = [0; PREFACE];
        from_client.read_exact(&mut preface).await.ok()?;
        to_server.write_all(&preface).await.ok()?;
        loop {
            let frame = Frame::read(&mut from_client).await?;
            if frame.kind == HEADERS {
                let (may, last) = shared.call();
                if !may {
                    return std::future::pending().await;
                }
                if last {
                    *awaited.lock().unwrap() = Some(frame.stream);
                }
            }
            if shared.is_stopped() {
                return std::future::pending().await;
            }
            frame.write(&mut to_server).await?;
        }
    };
    let answers = async {
        loop {
            let frame = Frame::read(&mut from_server).await?;
            let ends = frame.kind == HEADERS && frame.flags & END_STREAM != 0;
            if ends && *awaited.lock().unwrap() == Some(frame.stream) {
                shared.stop();
            }
            if shared.is_stopped() {
                return std::future::pending().await;
            }
            frame.write(&mut to_client).await?;
        }
    };
    let _: Option<()> = tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    };
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    bytes: Vec<u8>,
}

impl Frame {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let mut bytes = head.to_vec();
        bytes.resize(9 + length, 0);
        from.read_exact(&mut bytes[9..]).await.ok()?;
        Some(Self { kind: head[3], flags: head[4], stream, bytes })
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Option<()> {
        to.write_all(&self.bytes).await.ok()
    }
}
