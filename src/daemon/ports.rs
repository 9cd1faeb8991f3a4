//! What the API reaches of the node besides root: images, logs, and becoming a member.
//!
//! Owns the translation of their failures. Never answers for what a node has not begun to have.

use super::{Shared, claim, leave};
use crate::actors::api::StoreError;
use crate::actors::api::{ApiError, Claims, ImageStore, Lenders, Neighbours, Ports, Socket};
use crate::actors::peer;
use crate::actors::platform::image::{ImageError, Images, Lent, Listed, Members};
use crate::actors::platform::logs::LogReader;
use crate::actors::root::RootRef;
use crate::api::wire::{ImageView, InitRequest, InitView, JoinRequest, JoinView};
use crate::api::wire::{RestoreRequest, RestoreView};
use crate::backup::Backup;
use crate::fsm::loaded::Pin as ImagePin;
use crate::fsm::login::Logins;
use crate::id::{Digest, Index, NodeId};
use crate::node::oci::docker_config::Login;
use crate::node::oci::pull::Pulls;
use crate::reasons::with_reasons;
use crate::scheduler::revise::ResolveError;
use crate::secret::Sealed;
use crate::units::Millis;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use tokio::io::AsyncRead;
use tokio::sync::watch;

/// The ports of a node.
///
/// # Errors
/// Logs can't be watched: the system has no inotify instance left.
pub(super) fn open(shared: &Arc<Shared>, root: &RootRef) -> io::Result<Ports> {
    let (running, member) = (Arc::clone(shared), Arc::clone(shared));
    let holder = Arc::clone(shared);
    Ok(Ports {
        images: Arc::new(Store(Arc::clone(shared))),
        logs: Arc::new(LogReader::new(&shared.config.data_dir)?),
        execs: Arc::new(move || Some(running.platform.get()?.execs.clone())),
        keyring: Arc::new(move || Some(member.platform.get()?.secrets.keyring().clone())),
        volumes: Arc::new(move || Some(holder.platform.get()?.volumes.clone())),
        neighbours: Arc::new(Others(Arc::downgrade(shared))),
        members: Arc::clone(&shared.members),
        traffic: Arc::clone(&shared.ingress.traffic),
        claims: Arc::new(Claimant { shared: Arc::clone(shared), root: root.clone() }),
    })
}

/// The other members, for images that only they have.
pub(super) fn members(shared: &Arc<Shared>) -> Arc<dyn Members> {
    Arc::new(Lenders::new(Arc::new(Others(Arc::downgrade(shared)))))
}

/// The other members. What the node shares has this in it, so this doesn't keep it.
struct Others(Weak<Shared>);

impl Neighbours for Others {
    fn open(&self, node: NodeId, place: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let equipment = self.0.upgrade().and_then(|shared| shared.equipment.get().cloned());
        Box::pin(async move {
            let credentials = equipment.map(|equipment| Arc::clone(&equipment.credentials));
            let credentials = credentials.ok_or(io::ErrorKind::Unsupported)?;
            let dialled = peer::dial_api(&peer::tcp(), credentials.trust(), node, &place).await;
            Ok(Box::new(dialled.map_err(io::Error::other)?) as Box<dyn Socket>)
        })
    }
}

/// How the node becomes a member.
struct Claimant {
    shared: Arc<Shared>,
    root: RootRef,
}

impl Claims for Claimant {
    fn init(&self, request: InitRequest) -> BoxFuture<'static, Result<InitView, ApiError>> {
        let (shared, root) = (Arc::clone(&self.shared), self.root.clone());
        whole(async move { claim::init(&shared, &root, request).await })
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<JoinView, ApiError>> {
        let (shared, root) = (Arc::clone(&self.shared), self.root.clone());
        whole(async move { claim::join(&shared, &root, request).await })
    }

    fn restore(
        &self,
        backup: Backup,
        request: RestoreRequest,
    ) -> BoxFuture<'static, Result<RestoreView, ApiError>> {
        let (shared, root) = (Arc::clone(&self.shared), self.root.clone());
        whole(async move { claim::restore(&shared, &root, backup, request).await })
    }

    fn is_removed(&self, places: BTreeMap<NodeId, String>) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { leave::is_removed(&shared, places).await })
    }

    fn who(&self) -> Option<(String, String)> {
        let who = self.shared.identity.get().filter(|who| who.init.is_none())?;
        Some((who.cluster.name.clone(), who.name.clone()))
    }

    fn leave(&self) {
        self.shared.left.notify_one();
    }
}

/// Carried out to its end, whether the one who asked waits for it or not: half a claim is none.
fn whole<T: Send + 'static>(
    claim: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, ApiError>> {
    Box::pin(async move {
        // Only a panic ends it before.
        tokio::spawn(claim).await.unwrap_or(Err(ApiError::Stopping))
    })
}

/// The images of a node that may not be a member yet.
struct Store(Arc<Shared>);

impl Store {
    fn images(&self) -> Option<Images> {
        Some(self.0.platform.get()?.images.clone())
    }
}

impl ImageStore for Store {
    fn pulls(&self) -> watch::Receiver<Pulls> {
        // Before the node is a member there are none, and nothing to follow.
        self.images().map_or_else(|| watch::channel(Pulls::default()).1, |images| images.pulls())
    }

    fn resolve(&self, reference: String) -> BoxFuture<'_, Result<Digest, ResolveError>> {
        Box::pin(async move {
            let images = self.images().ok_or_else(|| ResolveError::Unreachable {
                reference: reference.clone(),
                reason: "the node is no member of a cluster yet".to_owned(),
            })?;
            images.resolve(&reference).await.map_err(|error| translate(reference, &error))
        })
    }

    fn load(
        &self,
        archive: Pin<Box<dyn AsyncRead + Send>>,
        cluster: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        Box::pin(async move {
            let loaded = self.images().ok_or_else(unclaimed)?.load(archive, cluster).await;
            Ok(loaded.map_err(|error| fault(&error))?.into_iter().map(view).collect())
        })
    }

    fn settle(&self, loaded: &[ImagePin], index: Option<Index>) {
        if let Some(images) = self.images() {
            images.settle(loaded, index);
        }
    }

    fn lend(
        &self,
        digest: Digest,
        from: u64,
    ) -> BoxFuture<'_, Result<Option<(u64, Lent)>, StoreError>> {
        Box::pin(async move {
            let lent = self.images().ok_or_else(unclaimed)?.lend(&digest, from).await;
            lent.map_err(|error| fault(&error))
        })
    }

    fn login(&self, registry: String, login: Login) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        Box::pin(async move {
            let images = self.images().ok_or_else(unclaimed)?;
            images.login(&registry, login).await.map_err(|error| fault(&error))
        })
    }

    fn use_keyring(&self, sealed: &str) {
        if let Some(images) = self.images() {
            images.use_keyring(sealed);
        }
    }

    fn use_logins(&self, logins: &Logins) {
        if let Some(images) = self.images() {
            images.use_logins(logins);
        }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>> {
        Box::pin(async move {
            let all = self.images().ok_or_else(unclaimed)?.list().await;
            Ok(all.map_err(|error| fault(&error))?.into_iter().map(view).collect())
        })
    }

    fn remove(&self, reference: String) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let removed = self.images().ok_or_else(unclaimed)?.remove(&reference).await;
            Ok(removed.map_err(|error| fault(&error))? > 0)
        })
    }
}

fn view(image: Listed) -> ImageView {
    ImageView {
        reference: image.reference,
        digest: image.digest.to_string(),
        size: image.size.0,
        loaded: image.loaded,
        used: false,
        nodes: Vec::new(),
    }
}

fn unclaimed() -> StoreError {
    StoreError::Store { reason: "the node is no member of a cluster yet".to_owned() }
}

fn fault(error: &ImageError) -> StoreError {
    let reason = with_reasons(error);
    match error {
        ImageError::Reference { .. }
        | ImageError::BadArchive { .. }
        | ImageError::Artifact { .. }
        | ImageError::BadManifest { .. }
        | ImageError::WrongArchitecture { .. }
        | ImageError::WrongDigest { .. }
        | ImageError::Read(_) => StoreError::Input { reason },
        ImageError::LoginRefused { .. } => StoreError::Refused { reason },
        _ => StoreError::Store { reason },
    }
}

fn translate(reference: String, error: &ImageError) -> ResolveError {
    let reason = with_reasons(error);
    match error {
        ImageError::NotFound { .. } => ResolveError::NotFound { reference },
        ImageError::Unauthorized { .. } => ResolveError::Denied { reference, reason },
        ImageError::RateLimited { wait, .. } => {
            ResolveError::Limited { reference, reason, wait: Millis::from(*wait) }
        }
        ImageError::Reference { .. }
        | ImageError::Artifact { .. }
        | ImageError::BadManifest { .. }
        | ImageError::WrongArchitecture { .. }
        | ImageError::WrongDigest { .. } => ResolveError::Invalid { reference, reason },
        _ => ResolveError::Unreachable { reference, reason },
    }
}
