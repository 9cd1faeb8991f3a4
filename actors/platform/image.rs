//! Images: resolved to digests, pulled, unpacked, loaded from archives, listed, removed.
//!
//! Owns what containerd knows of images in mill's namespace, and that an image wanted by many is
//! fetched once. Never decides which images are needed.

mod archive;
mod collect;
mod error;
mod flight;
mod manifest;
mod measure;
mod origin;
mod probe;
mod pull;
mod records;
mod registry;
mod rootfs;
mod shared;
mod store;
mod unpack;

pub use collect::Specs;
pub use error::{ImageError, Who};
pub(super) use measure::folder as writable;
pub use rootfs::Owner;
pub use shared::{LendError, Lent, Members};

use super::containerd::Containerd;
use crate::fsm::keys::login_purpose;
use crate::fsm::loaded::Pin;
use crate::fsm::login::{Logins, RegistryLogin};
use crate::id::Digest;
use crate::limits;
use crate::node::oci::ImageConfig;
use crate::node::oci::docker_config::Login;
use crate::node::oci::pull::Pulls;
use crate::secret::{Keyring, Sealed};
use crate::spec::image::Reference;
use crate::units::{Bytes, Timestamp};
use manifest::Resolved;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::sync::watch;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// `HOST:PORT` that may speak plain HTTP or show any certificate; loopback always may.
    pub insecure: Vec<String>,
    /// A file with further authorities to trust, PEM.
    pub ca: Option<PathBuf>,
    /// Docker's `config.json`, for the credentials in it.
    pub docker_config: Option<PathBuf>,
    /// What seals and opens the passwords of logins.
    pub key: Option<Keyring>,
    /// Silence after which a registry counts as down.
    pub silence: Duration,
    /// Where containerd keeps images: what is full when its disk is.
    pub disk: Option<PathBuf>,
    /// The least that a layer may hold unpacked, in bytes; beyond it its packed size counts.
    pub layer_max: u64,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            ca: None,
            docker_config: None,
            key: None,
            silence: limits::REGISTRY_SILENCE,
            disk: None,
            layer_max: limits::LAYER_MAX,
        }
    }
}

/// An image that is unpacked and ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest or index that the reference leads to: what a revision pins.
    pub digest: Digest,
    /// The snapshot of its layers; absent for an image without layers.
    pub chain_id: Option<Digest>,
    /// How to run it.
    pub config: ImageConfig,
    /// The text of its `/etc/passwd`, empty if it has none; for [`crate::node::oci::resolve_user`].
    pub passwd: String,
    /// The text of its `/etc/group`.
    pub group: String,
}

/// An image that containerd has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The canonical reference, without a digest.
    pub reference: String,
    /// Of the manifest or index.
    pub digest: Digest,
    /// Compressed size.
    pub size: Bytes,
    /// Whether it came from an archive and not from a registry.
    pub loaded: bool,
    /// The cluster that knows it as loaded, by its identity.
    pub cluster: Option<String>,
    /// When it came.
    pub created_at: Timestamp,
}

/// The images of a node; cheap to clone, all clones share what is being pulled.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    containerd: Containerd,
    key: Option<Keyring>,
    /// As it was sealed, when the logins were opened.
    keyring: Mutex<String>,
    logins: Mutex<Logins>,
    layer_max: u64,
    disk: Option<PathBuf>,
    specs: Mutex<Option<Specs>>,
    used: Mutex<BTreeMap<Digest, Instant>>,
    registries: registry::Registries,
    flights: flight::Flights,
    pulls: watch::Sender<Pulls>,
    known: Mutex<BTreeMap<Digest, Arc<Resolved>>>,
    ready: Mutex<BTreeMap<Digest, Arc<Image>>>,
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    cluster: shared::Cluster,
}

impl Images {
    /// Images in the given containerd.
    #[must_use]
    pub fn new(containerd: Containerd, config: RegistryConfig) -> Self {
        let inner = Inner {
            containerd,
            key: config.key.clone(),
            layer_max: config.layer_max,
            disk: config.disk.clone(),
            specs: Mutex::default(),
            used: Mutex::default(),
            keyring: Mutex::default(),
            logins: Mutex::default(),
            registries: registry::Registries::new(config),
            flights: flight::Flights::default(),
            pulls: watch::Sender::default(),
            known: Mutex::default(),
            ready: Mutex::default(),
            turns: Mutex::default(),
            cluster: shared::Cluster::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What a reference leads to now: an image loaded under it here alone, else what its registry
    /// says. An image that can't run here is an error already now.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn resolve(&self, reference: &str) -> Result<Digest, ImageError> {
        let inner = &self.inner;
        let image = parse(reference)?;
        if let Some(digest) = records::loaded(&inner.containerd, &image.plain()).await?
            && image.digest.as_ref().is_none_or(|wanted| *wanted == digest)
        {
            return Ok(digest);
        }
        let digest = match &image.digest {
            Some(digest) => digest.clone(),
            None => inner.registries.digest(&image).await?,
        };
        inner.documents(&inner.origin(&image, &digest), &image, &digest).await?;
        Ok(digest)
    }

    /// Fetches and unpacks an image, unless it is there. Callers that want the same wait for one;
    /// it is given up when nobody waits any more.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn ensure(&self, reference: &str, digest: &Digest) -> Result<Arc<Image>, ImageError> {
        let image = parse(reference)?;
        self.inner.touch(digest);
        if let Some(ready) = self.inner.ready(digest).await? {
            return Ok(ready);
        }
        flight::join(&self.inner, &image, digest).await
    }

    /// The owners of those of an image's folders that there are.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn owners(
        &self,
        image: &Image,
        folders: Vec<PathBuf>,
    ) -> Result<BTreeMap<PathBuf, Owner>, ImageError> {
        match &image.chain_id {
            Some(chain) if !folders.is_empty() => {
                Ok(rootfs::owners(&self.inner.containerd, chain, folders).await?)
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// How far pulls are.
    #[must_use]
    pub fn pulls(&self) -> watch::Receiver<Pulls> {
        self.inner.pulls.subscribe()
    }

    /// Asks a registry whether it lets somebody in, and seals the password if it does.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn login(&self, registry: &str, login: Login) -> Result<Sealed, ImageError> {
        let key = self
            .inner
            .key
            .as_ref()
            .ok_or_else(|| ImageError::Seal { reason: "this node has no key".to_owned() })?;
        let sealed = key.seal(&login_purpose(registry), &login.password, rand::random());
        let sealed = sealed.map_err(|error| ImageError::Seal { reason: error.to_string() })?;
        self.inner.registries.verify(registry, login).await?;
        Ok(sealed)
    }

    /// From now on this keyring counts, as the state has it for this node.
    pub fn use_keyring(&self, sealed: &str) {
        let Some(key) = &self.inner.key else { return };
        if let Err(error) = key.take_up(sealed) {
            tracing::warn!(%error, "the cluster's keyring can't be opened");
            return;
        }
        // Another part of the node may have taken it up first.
        let mut used = lock(&self.inner.keyring);
        if *used != sealed {
            sealed.clone_into(&mut used);
            // What couldn't be opened before may be now.
            *lock(&self.inner.logins) = Logins::new();
        }
    }

    /// From now on these logins count; what this node can't open counts for nothing.
    pub fn use_logins(&self, logins: &Logins) {
        let mut used = lock(&self.inner.logins);
        if used.ptr_eq(logins) {
            return;
        }
        used.clone_from(logins);
        let open = |(registry, login): (&String, &Arc<RegistryLogin>)| {
            let opened = self.inner.key.as_ref()?.open(&login_purpose(registry), &login.password);
            match opened {
                Ok(password) => {
                    Some((registry.clone(), Login { user: login.user.clone(), password }))
                }
                Err(error) => {
                    tracing::warn!(registry, %error, "the login can't be used here; log in again");
                    None
                }
            }
        };
        self.inner.registries.use_logins(logins.iter().filter_map(open).collect());
    }

    /// Takes the images of an archive, Docker's or OCI's, plain or compressed by gzip. They are
    /// this node's alone, or the cluster of that identity is about to be told: then
    /// [`Images::settle`] is next.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        cluster: Option<String>,
    ) -> Result<Vec<Listed>, ImageError> {
        let from = cluster.map_or(records::From::Archive, records::From::Cluster);
        let loaded = archive::load(&self.inner, archive, &from).await?;
        let is_loaded = |image: &Listed| {
            let is_it = |pin: &Pin| pin.reference == image.reference && pin.digest == image.digest;
            loaded.iter().any(is_it)
        };
        Ok(self.list().await?.into_iter().filter(is_loaded).collect())
    }

    /// All images, by reference.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn list(&self) -> Result<Vec<Listed>, ImageError> {
        Ok(records::list(&self.inner.containerd).await?)
    }

    /// Forgets every image of a reference, or the one with its digest; containers that run it are
    /// not touched. Tells how many there were.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn remove(&self, reference: &str) -> Result<usize, ImageError> {
        let image = parse(reference)?;
        let name = image.plain();
        let wanted = |listed: &Listed| {
            listed.reference == name && image.digest.as_ref().is_none_or(|d| *d == listed.digest)
        };
        self.remove_all(wanted, None).await.map(|gone| gone.len())
    }

    /// Removes images, without those that somebody wanted within the `idle` time.
    async fn remove_all(
        &self,
        wanted: impl Fn(&Listed) -> bool,
        idle: Option<Duration>,
    ) -> Result<Vec<Listed>, ImageError> {
        let containerd = &self.inner.containerd;
        let mut gone: Vec<Listed> = self.list().await?.into_iter().filter(wanted).collect();
        // Whoever wants one from now on makes it ready anew, under a lease; whoever wanted it just
        // before has touched it.
        for image in &gone {
            lock(&self.inner.known).remove(&image.digest);
            lock(&self.inner.ready).remove(&image.digest);
        }
        let is_touched =
            |image: &Listed| idle.is_some_and(|idle| self.inner.is_touched(&image.digest, idle));
        gone.retain(|image| !is_touched(image));
        for (index, image) in gone.iter().enumerate() {
            if image.loaded {
                let current = records::loaded(containerd, &image.reference).await?;
                if current.as_ref() == Some(&image.digest) {
                    records::remove(containerd, &image.reference, false).await?;
                }
            }
            let name = format!("{}@{}", image.reference, image.digest);
            records::remove(containerd, &name, index + 1 == gone.len()).await?;
        }
        Ok(gone)
    }
}

impl Inner {
    /// An image that was made ready before and still is.
    async fn ready(&self, digest: &Digest) -> Result<Option<Arc<Image>>, ImageError> {
        let Some(image) = lock(&self.ready).get(digest).cloned() else { return Ok(None) };
        let there = match &image.chain_id {
            Some(chain) => unpack::exists(&self.containerd, chain).await?,
            None => true,
        };
        Ok(there.then_some(image))
    }

    /// Remembers an image that is ready.
    async fn finish(&self, resolved: &Resolved) -> Result<Arc<Image>, ImageError> {
        let chain_id = resolved.chain_id();
        let (passwd, group) = match &chain_id {
            Some(chain) => rootfs::users(&self.containerd, chain).await?,
            None => (String::new(), String::new()),
        };
        let config = resolved.file.config.clone();
        let digest = resolved.top.clone();
        let image = Arc::new(Image { digest, chain_id, config, passwd, group });
        insert(&mut lock(&self.ready), &resolved.top, &image);
        Ok(image)
    }

    fn resolved(&self, top: &Digest) -> Option<Arc<Resolved>> {
        lock(&self.known).get(top).cloned()
    }

    fn remember(&self, resolved: &Arc<Resolved>) {
        insert(&mut lock(&self.known), &resolved.top, resolved);
    }

    /// Waits until nobody else works on the same blob or snapshot.
    async fn turn(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(digest).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(digest.clone(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

fn parse(reference: &str) -> Result<Reference, ImageError> {
    Reference::parse(reference)
        .map_err(|source| ImageError::Reference { reference: reference.to_owned(), source })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Inserts into a map of bounded size; which one goes doesn't matter, it is only looked up again.
fn insert<T>(map: &mut BTreeMap<Digest, Arc<T>>, digest: &Digest, value: &Arc<T>) {
    map.insert(digest.clone(), Arc::clone(value));
    if map.len() > limits::IMAGES_CACHED {
        let other = map.keys().find(|key| *key != digest).cloned();
        other.map(|key| map.remove(&key));
    }
}
