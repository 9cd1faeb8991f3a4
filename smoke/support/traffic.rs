//! Clients that never stop asking, and count what was not answered.
//!
//! Owns the clients: they keep a plan in time whether or not the server keeps up. Never counts a
//! request that was not answered whole as anything but dropped.

use super::netns::address;
use super::{Api, TestCluster};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use std::fs::File;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::interval;

/// An answer that takes longer is a dropped request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often clients learn anew who is there: as whoever asks for a name would.
const REFRESH: Duration = Duration::from_millis(250);
/// What was learnt longer ago is not acted on: who balances looks once a second or more often, and
/// on a busy machine the answer may take its time.
const FRESH: Duration = Duration::from_secs(1);
/// Where nobody has anything new to tell, clients go on with what they know after so long.
const NO_NEWS: Duration = Duration::from_secs(5);

/// How much is asked.
#[derive(Clone, Copy)]
pub struct Load {
    /// Clients that keep their connection, with a request each 20 ms.
    pub kept: usize,
    /// Time between two requests on connections of their own.
    pub new: Duration,
    /// Time between two requests that take two seconds.
    pub slow: Duration,
    /// Time between two uploads.
    pub upload: Duration,
}

/// What several machines can bear at once.
const SHARED: Load = Load {
    kept: 2,
    new: Duration::from_millis(40),
    slow: Duration::from_millis(250),
    upload: Duration::from_millis(250),
};

/// Bytes of an upload: more than a connection keeps for either side.
const UPLOAD: usize = 64 << 10;

/// How many requests were answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// On connections that are kept.
    pub kept: u64,
    /// On new ones.
    pub new: u64,
    /// Those that take their time.
    pub slow: u64,
    /// Those that bring something.
    pub upload: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            kept: self.kept + other.kept,
            new: self.new + other.new,
            slow: self.slow + other.slow,
            upload: self.upload + other.upload,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> u64 {
        self.kept + self.new + self.slow + self.upload
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    kept: AtomicU64,
    new: AtomicU64,
    slow: AtomicU64,
    upload: AtomicU64,
    dropped: Mutex<Vec<String>>,
    /// What is being changed.
    during: Mutex<String>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn count(
        &self,
        counter: &AtomicU64,
        kind: &str,
        place: SocketAddr,
        result: Result<bool>,
    ) -> bool {
        let problem = match result {
            Ok(stays) => {
                counter.fetch_add(1, Ordering::SeqCst);
                return stays;
            }
            Err(error) => {
                let during = self.during.lock().unwrap();
                format!("{during}: {kind} at {place}: {error}")
            }
        };
        self.dropped.lock().unwrap().push(problem);
        false
    }
}

/// Where clients may go: one place, or what the API says.
struct Places {
    now: Mutex<Vec<SocketAddr>>,
    /// As of when that is.
    seen: watch::Sender<Instant>,
    turn: AtomicU64,
    /// Whom to ask, the nearest first; nobody if there is one place for ever.
    apis: Vec<Api>,
    service: String,
    published: Option<u16>,
}

impl Places {
    /// One place for ever.
    fn one(place: SocketAddr) -> Self {
        Self::new(vec![place], Vec::new(), "", None)
    }

    fn new(now: Vec<SocketAddr>, apis: Vec<Api>, service: &str, published: Option<u16>) -> Self {
        let (turn, service) = (AtomicU64::default(), service.to_owned());
        let (now, seen) = (Mutex::new(now), watch::Sender::new(Instant::now()));
        Self { now, seen, turn, apis, service, published }
    }

    /// The next one; the last known if there is none.
    async fn next(&self) -> SocketAddr {
        if !self.apis.is_empty() {
            let mut seen = self.seen.subscribe();
            let fresh = seen.wait_for(|seen| seen.elapsed() < FRESH);
            let _ = tokio::time::timeout(NO_NEWS, fresh).await;
        }
        let now = self.now.lock().unwrap();
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        now[usize::try_from(turn).unwrap_or_default() % now.len()]
    }

    /// Asks who is there. Where nobody answers, or nobody is there, all stays as it was.
    fn refresh(&self) {
        let mut begun = Instant::now();
        let request = |api: &Api| {
            begun = Instant::now();
            let answer = api.request("GET", "/v1/allocations").try_send().ok()?;
            (answer.status == 200).then_some(answer)
        };
        let Some(answer) = self.apis.iter().find_map(request) else { return };
        let all = answer.json();
        let mut places: Vec<SocketAddr> =
            all.as_array().unwrap().iter().filter_map(|one| self.place(one)).collect();
        places.dedup();
        if !places.is_empty() {
            *self.now.lock().unwrap() = places;
        }
        // Without a leader nothing moves, and an answer takes its second.
        let is_stale = answer.header("mill-stale").is_some();
        self.seen.send_replace(if is_stale { Instant::now() } else { begun });
    }

    fn place(&self, one: &Value) -> Option<SocketAddr> {
        let works = one["status"] == "running" && one["health"] == "healthy";
        if one["name"] != self.service.as_str() || !works || one["draining"] == true {
            return None;
        }
        let Some(port) = self.published else { return one["address"].as_str()?.parse().ok() };
        let number = one["node"].as_str()?.trim_start_matches('n').parse().ok()?;
        format!("{}:{port}", address(number)).parse().ok()
    }
}

/// Clients at work until [`Traffic::end`].
pub struct Traffic {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Clients of one place, on this machine.
    #[must_use]
    pub fn at(place: SocketAddr, load: Load) -> Self {
        let mut traffic = Self { seen: Arc::default(), threads: Vec::new() };
        traffic.begin(None, Places::one(place), load);
        traffic
    }

    /// Clients of one place on a node of a cluster.
    #[must_use]
    pub fn on(cluster: &TestCluster, n: usize, place: SocketAddr) -> Self {
        let mut traffic = Self { seen: Arc::default(), threads: Vec::new() };
        let namespace = cluster.node(n).namespace().path();
        traffic.begin(Some(namespace), Places::one(place), SHARED);
        traffic
    }

    /// Clients outside of all nodes, at the port that is published on one of them.
    #[must_use]
    pub fn outside(cluster: &TestCluster, n: usize, published: u16) -> Self {
        let mut traffic = Self { seen: Arc::default(), threads: Vec::new() };
        let place = format!("{}:{published}", address(n)).parse().unwrap();
        let outside = cluster.hub().namespace.path();
        traffic.begin(Some(outside), Places::one(place), SHARED);
        traffic
    }

    /// Clients of a service on each node, and outside of all nodes at the port that it publishes.
    /// They go to healthy replicas that don't drain, as the node itself sees them at the time.
    #[must_use]
    pub fn everywhere(cluster: &TestCluster, service: &str, published: u16) -> Self {
        let mut traffic = Self { seen: Arc::default(), threads: Vec::new() };
        let numbers = 1..=cluster.len();
        let places = |first: usize, published| {
            let apis = std::iter::once(first).chain(numbers.clone().filter(|n| *n != first));
            let apis = apis.map(|n| cluster.node(n).api()).collect();
            let places = Places::new(Vec::new(), apis, service, published);
            places.refresh();
            assert!(!places.now.lock().unwrap().is_empty(), "no replica of {service}");
            places
        };
        for n in numbers.clone() {
            let namespace = cluster.node(n).namespace().path();
            traffic.begin(Some(namespace), places(n, None), SHARED);
        }
        let outside = cluster.hub().namespace.path();
        traffic.begin(Some(outside), places(1, Some(published)), SHARED);
        traffic
    }

    /// Says what is being changed, for what is told of dropped requests.
    pub fn during(&self, what: &str) {
        what.clone_into(&mut self.seen.during.lock().unwrap());
    }

    /// Requests answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.counts().all()
    }

    fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let Seen { kept, new, slow, upload, .. } = &*self.seen;
        Counts { kept: load(kept), new: load(new), slow: load(slow), upload: load(upload) }
    }

    /// Ends the clients and asserts that all of them were answered.
    #[track_caller]
    pub fn end(mut self) -> Counts {
        self.seen.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client's thread");
        }
        let counts = self.counts();
        println!("requests answered: {counts:?}");
        let dropped = std::mem::take(&mut *self.seen.dropped.lock().unwrap());
        assert!(dropped.is_empty(), "{} dropped, {counts:?}: {dropped:#?}", dropped.len());
        assert!(counts.kept > 50 && counts.new > 50 && counts.slow > 5, "{counts:?}");
        counts
    }

    fn begin(&mut self, namespace: Option<PathBuf>, places: Places, load: Load) {
        let (seen, places) = (Arc::clone(&self.seen), Arc::new(places));
        self.threads.push(std::thread::spawn(move || {
            if let Some(path) = namespace {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(ask_all(places, seen, load));
        }));
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // A test that fails has other things to say; its clients end with it.
        self.seen.over.store(true, Ordering::SeqCst);
        for problem in self.seen.dropped.lock().unwrap().iter() {
            eprintln!("dropped: {problem}");
        }
    }
}

async fn ask_all(places: Arc<Places>, seen: Arc<Seen>, load: Load) {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..load.kept {
        all.spawn(keeping(Arc::clone(&places), Arc::clone(&seen)));
    }
    all.spawn(arriving(Arc::clone(&places), Arc::clone(&seen), load.new, "/"));
    all.spawn(arriving(Arc::clone(&places), Arc::clone(&seen), load.slow, "/slow"));
    all.spawn(arriving(Arc::clone(&places), Arc::clone(&seen), load.upload, "/upload"));
    if !places.apis.is_empty() {
        all.spawn(refreshing(places, seen));
    }
    all.join_all().await;
}

async fn refreshing(places: Arc<Places>, seen: Arc<Seen>) {
    let mut tick = interval(REFRESH);
    while seen.goes_on() {
        tick.tick().await;
        let places = Arc::clone(&places);
        let _ = tokio::task::spawn_blocking(move || places.refresh()).await;
    }
}

/// A client that keeps its connection as long as the server does.
async fn keeping(places: Arc<Places>, seen: Arc<Seen>) {
    let mut tick = interval(Duration::from_millis(20));
    let mut kept: Option<(SocketAddr, TcpStream)> = None;
    while seen.goes_on() {
        tick.tick().await;
        let (place, mut stream) = match kept.take() {
            Some(kept) => kept,
            None => {
                let place = places.next().await;
                match TcpStream::connect(place).await {
                    Ok(stream) => (place, stream),
                    Err(error) => {
                        seen.count(&seen.kept, "kept", place, Err(error));
                        continue;
                    }
                }
            }
        };
        let result = ask(&mut stream, "/").await;
        if seen.count(&seen.kept, "kept", place, result) {
            kept = Some((place, stream));
        }
    }
}

/// Requests on connections of their own, begun on time whether or not the last one has ended.
async fn arriving(places: Arc<Places>, seen: Arc<Seen>, every: Duration, path: &'static str) {
    let mut tick = interval(every);
    let mut under_way = tokio::task::JoinSet::new();
    while seen.goes_on() {
        tick.tick().await;
        let (seen, place) = (Arc::clone(&seen), places.next().await);
        under_way.spawn(async move {
            let result = ask_anew(place, path).await;
            let counter = match path {
                "/slow" => &seen.slow,
                "/upload" => &seen.upload,
                _ => &seen.new,
            };
            seen.count(counter, path, place, result);
        });
    }
    under_way.join_all().await;
}

async fn ask_anew(place: SocketAddr, path: &str) -> Result<bool> {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(place)).await;
    ask(&mut connected.map_err(|_| Error::other("no connection in time"))??, path).await
}

/// One request; whether the connection stays open.
async fn ask(stream: &mut TcpStream, path: &str) -> Result<bool> {
    let exchange = async {
        let (method, size) = if path == "/upload" { ("POST", UPLOAD) } else { ("GET", 0) };
        let length = if size > 0 { format!("Content-Length: {size}\r\n") } else { String::new() };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: patient\r\n{length}\r\n");
        stream.write_all(&[head.as_bytes(), &vec![b'x'; size]].concat()).await?;
        let (mut answer, mut buffer) = (String::new(), [0; 1024]);
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Err(Error::other(format!("cut off after {answer:?}")));
            }
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            if Some(body.len()) != length {
                continue;
            }
            if !head.starts_with("HTTP/1.1 200") {
                return Err(Error::other(format!("answered {head:?}")));
            }
            if size > 0 && body != size.to_string() {
                return Err(Error::other(format!("{body} of {size} bytes arrived")));
            }
            return Ok(!head.contains("Connection: close"));
        }
    };
    let late = |_| Error::other("not answered in time");
    tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
}
