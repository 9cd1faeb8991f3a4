//! Stores that are scripted.
//!
//! Never a test itself.

use crate::actors::api::{
    ApiError, Claims, ImageStore, Lines, LogSource, MemberConnection, MemberListener, Neighbours,
    Socket, StoreError,
};
use crate::actors::platform::image::Lent;
use crate::actors::platform::logs::{Event, LogLine, LogTime, Query, Stream};
use crate::api::wire::{ImageView, InitRequest, InitView, JoinRequest, JoinView};
use crate::api::wire::{RestoreRequest, RestoreView};
use crate::backup::Backup;
use crate::fsm::loaded::Pin as ImagePin;
use crate::fsm::login::Logins;
use crate::id::{AllocId, Digest, Index, NodeId};
use crate::node::oci::docker_config::Login;
use crate::node::oci::pull::Pulls;
use crate::scheduler::revise::ResolveError;
use crate::secret::Sealed;
use crate::units::Millis;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// Images by reference; what isn't there isn't found.
#[derive(Default)]
pub struct FakeImages {
    pub known: Mutex<BTreeMap<String, Result<Digest, ResolveError>>>,
    pub loaded: Mutex<Vec<u8>>,
    pub settled: Mutex<Vec<(ImagePin, Option<Index>)>>,
    pub blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
    pub logins: Mutex<Logins>,
    pub pulls: watch::Sender<Pulls>,
}

impl FakeImages {
    pub fn know(&self, reference: &str, digest: &str) {
        let digest = Digest::from(digest);
        self.known.lock().unwrap().insert(reference.to_owned(), Ok(digest));
    }

    /// Its registry wants to be left alone, for a moment.
    pub fn limit(&self, reference: &str) {
        let (image, reason, wait) = (reference.to_owned(), "slow down".to_owned(), Millis(1));
        let limited = ResolveError::Limited { reference: image.clone(), reason, wait };
        self.known.lock().unwrap().insert(image, Err(limited));
    }

    pub fn outage(&self) {
        for (reference, known) in self.known.lock().unwrap().iter_mut() {
            let (reference, reason) = (reference.clone(), "connection refused".to_owned());
            *known = Err(ResolveError::Unreachable { reference, reason });
        }
    }
}

impl ImageStore for FakeImages {
    fn pulls(&self) -> watch::Receiver<Pulls> {
        self.pulls.subscribe()
    }

    fn resolve(&self, reference: String) -> BoxFuture<'_, Result<Digest, ResolveError>> {
        assert_ne!(reference, "panic", "a panic in a handler");
        let mut known = self.known.lock().unwrap();
        let found = known.get(&reference).cloned();
        if let Some(Err(ResolveError::Limited { .. })) = found {
            // The next time it is let in.
            known.insert(reference.clone(), Ok("sha256:later".into()));
        }
        drop(known);
        let not_found = Err(ResolveError::NotFound { reference });
        Box::pin(async move { found.unwrap_or(not_found) })
    }

    fn load(
        &self,
        mut archive: Pin<Box<dyn AsyncRead + Send>>,
        _cluster: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            let read = archive.read_to_end(&mut bytes).await;
            read.map_err(|error| StoreError::Input { reason: error.to_string() })?;
            if bytes.starts_with(b"bad") {
                return Err(StoreError::Input { reason: "not an archive".to_owned() });
            }
            *self.loaded.lock().unwrap() = bytes;
            self.list().await
        })
    }

    fn settle(&self, loaded: &[ImagePin], index: Option<Index>) {
        let pins = loaded.iter().map(|pin| (pin.clone(), index));
        self.settled.lock().unwrap().extend(pins);
    }

    fn lend(
        &self,
        digest: Digest,
        from: u64,
    ) -> BoxFuture<'_, Result<Option<(u64, Lent)>, StoreError>> {
        let from = usize::try_from(from).unwrap();
        let blob = self.blobs.lock().unwrap().get(&digest).cloned();
        let lent = blob.map(|blob| {
            let pieces: Vec<_> = blob[from..].chunks(7).map(Bytes::copy_from_slice).collect();
            let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok));
            (blob.len() as u64, Box::pin(pieces) as Lent)
        });
        Box::pin(async move { Ok(lent) })
    }

    fn login(&self, registry: String, login: Login) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        let is_right = login.password.reveal() == "right";
        let reason = format!("{registry} refuses the login of {}", login.user);
        let sealed = Sealed { key: "k".to_owned(), text: "sealed".to_owned() };
        Box::pin(async move { is_right.then_some(sealed).ok_or(StoreError::Refused { reason }) })
    }

    fn use_keyring(&self, _sealed: &str) {}

    fn use_logins(&self, logins: &Logins) {
        self.logins.lock().unwrap().clone_from(logins);
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        let known = self.known.lock().unwrap();
        let images = known.iter().filter_map(|(reference, digest)| {
            Some(ImageView {
                reference: reference.clone(),
                digest: digest.as_ref().ok()?.to_string(),
                size: 10,
                loaded: true,
                used: false,
                nodes: Vec::new(),
            })
        });
        let images: Vec<ImageView> = images.collect();
        Box::pin(async move { Ok(images) })
    }

    fn remove(&self, reference: String) -> BoxFuture<'_, Result<bool, StoreError>> {
        let removed = self.known.lock().unwrap().remove(&reference).is_some();
        Box::pin(async move { Ok(removed) })
    }
}

/// Logs of which each allocation has the same three lines, and more when told.
pub struct FakeLogs {
    pub more: watch::Sender<u64>,
}

impl LogSource for FakeLogs {
    fn read(&self, allocation: &AllocId, query: Query) -> std::io::Result<Lines> {
        let line = |n: u64, allocation: AllocId| {
            let (ts, stream, line) = (LogTime(n * 1_000_000), Stream::Stdout, format!("line {n}"));
            let (bytes, open, node) = (None, false, None);
            Event::Line(LogLine { ts, stream, line, bytes, open, allocation, node })
        };
        let id = allocation.clone();
        let own = id.as_str().bytes().map(u64::from).sum::<u64>() % 100;
        let numbers = (1..=3)
            .map(|n| n * 1000 + own)
            .filter(|n| query.since.is_none_or(|since| LogTime(n * 1_000_000) >= since));
        let mut events: Vec<Event> = numbers.map(|n| line(n, id.clone())).collect();
        events.push(Event::CaughtUp);
        let history = futures_util::stream::iter(events);
        if !query.follow {
            return Ok(Box::pin(history));
        }
        let more = futures_util::stream::unfold(self.more.subscribe(), move |mut more| {
            let id = id.clone();
            async move {
                more.changed().await.ok()?;
                let n = *more.borrow_and_update();
                Some((line(n, id), more))
            }
        });
        Ok(Box::pin(futures_util::StreamExt::chain(history, more)))
    }
}

/// Every claim works.
pub struct FakeClaims;

impl Claims for FakeClaims {
    fn init(&self, request: InitRequest) -> BoxFuture<'static, Result<InitView, ApiError>> {
        let answer = InitView {
            cluster: request.cluster.unwrap_or_default(),
            node: "n1".to_owned(),
            token: "t".to_owned(),
            join: "mill join".to_owned(),
        };
        Box::pin(async move { Ok(answer) })
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<JoinView, ApiError>> {
        let node = request.node.unwrap_or_default();
        let answer = JoinView { cluster: "t".to_owned(), node, id: 2, address: request.address };
        Box::pin(async move { Ok(answer) })
    }

    fn restore(
        &self,
        backup: Backup,
        request: RestoreRequest,
    ) -> BoxFuture<'static, Result<RestoreView, ApiError>> {
        let answer = RestoreView {
            cluster: backup.state.cluster.unwrap().name,
            node: request.node.unwrap_or_default(),
            address: String::new(),
            taken_at: backup.taken_at.to_string(),
            lost: Vec::new(),
            volumes: BTreeMap::new(),
        };
        Box::pin(async move { Ok(answer) })
    }

    fn is_removed(&self, _: BTreeMap<NodeId, String>) -> BoxFuture<'static, bool> {
        Box::pin(async { false })
    }

    fn who(&self) -> Option<(String, String)> {
        None
    }

    fn leave(&self) {}
}

/// Other members in this process, and what this node is to them.
#[derive(Default)]
pub struct FakeNeighbours {
    listeners: Mutex<BTreeMap<NodeId, (NodeId, Arc<MemberListener>)>>,
    open: Mutex<BTreeMap<NodeId, Vec<tokio::task::JoinHandle<()>>>>,
}

impl FakeNeighbours {
    /// From now on a member is reached there, and takes this node for `me`.
    pub fn know(&self, node: NodeId, me: NodeId, members: &Arc<MemberListener>) {
        self.listeners.lock().unwrap().insert(node, (me, Arc::clone(members)));
    }

    /// Whether a connection was opened to it.
    pub fn is_open(&self, node: NodeId) -> bool {
        self.open.lock().unwrap().contains_key(&node)
    }

    /// From now on it isn't reached, and what is open breaks off.
    pub fn cut(&self, node: NodeId) {
        self.listeners.lock().unwrap().remove(&node);
        for wire in self.open.lock().unwrap().remove(&node).unwrap_or_default() {
            wire.abort();
        }
    }
}

impl Neighbours for FakeNeighbours {
    fn open(&self, node: NodeId, _: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let opened = self.listeners.lock().unwrap().get(&node).map(|(me, members)| {
            let (mine, mut near) = tokio::io::duplex(1 << 16);
            let (mut far, theirs) = tokio::io::duplex(1 << 16);
            let wire = tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
            self.open.lock().unwrap().entry(node).or_default().push(wire);
            assert!(members.enter(MemberConnection { socket: Box::new(theirs), node: *me }));
            Box::new(mine) as Box<dyn Socket>
        });
        let opened = opened.ok_or_else(|| io::Error::other("no way there"));
        Box::pin(async move { opened })
    }
}
