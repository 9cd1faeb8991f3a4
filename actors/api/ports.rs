//! What the API reaches besides root: the node's images and logs, its containers, other members.
//!
//! Owns these traits and their errors. Never implements them but for the log reader: the daemon
//! hands in what does.

use super::error::ApiError;
use crate::actors::member_listener::{MemberListener, Socket};
use crate::actors::platform::exec::Execs;
use crate::actors::platform::image::Lent;
use crate::actors::platform::logs::{Event, LogReader, Query};
use crate::actors::platform::volumes::VolumeStore;
use crate::actors::traffic::Traffic;
use crate::api::wire::{
    ImageView, InitRequest, InitView, JoinRequest, JoinView, RestoreRequest, RestoreView,
};
use crate::backup::Backup;
use crate::fsm::loaded::Pin as ImagePin;
use crate::fsm::login::Logins;
use crate::id::{AllocId, Digest, Index, NodeId};
use crate::node::oci::docker_config::Login;
use crate::node::oci::pull::Pulls;
use crate::scheduler::revise::ResolveError;
use crate::secret::{Keyring, Sealed};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::sync::watch;

/// The images of this node.
pub trait ImageStore: Send + Sync {
    /// How far pulls are.
    fn pulls(&self) -> watch::Receiver<Pulls>;
    /// What a reference leads to now.
    fn resolve(&self, reference: String) -> BoxFuture<'_, Result<Digest, ResolveError>>;
    /// Asks a registry whether it lets somebody in, and seals the password if it does.
    fn login(&self, registry: String, login: Login) -> BoxFuture<'_, Result<Sealed, StoreError>>;
    /// From now on these logins count.
    fn use_logins(&self, logins: &Logins);

    /// From now on this keyring counts, as the state has it for this node.
    fn use_keyring(&self, sealed: &str);
    /// Takes the images of an archive: for this node alone, or for the cluster of that identity,
    /// which is about to be told.
    fn load(
        &self,
        archive: Pin<Box<dyn AsyncRead + Send>>,
        cluster: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>>;
    /// What was loaded is known to the cluster as of that index; absent: it won't be.
    fn settle(&self, loaded: &[ImagePin], index: Option<Index>);
    /// A blob from an offset on, and its size; `None` if this node doesn't have it.
    fn lend(
        &self,
        digest: Digest,
        from: u64,
    ) -> BoxFuture<'_, Result<Option<(u64, Lent)>, StoreError>>;
    /// All images; `used` and `nodes` are left to the caller.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ImageView>, StoreError>>;
    /// Forgets an image; whether there was one.
    fn remove(&self, reference: String) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// Why the image store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What was given is at fault.
    #[error("{reason}")]
    Input { reason: String },
    /// Somebody else refuses.
    #[error("{reason}")]
    Refused {
        /// Who, and what.
        reason: String,
    },
    /// The store is at fault.
    #[error("{reason}")]
    Store { reason: String },
}

/// The lines of one allocation.
pub type Lines = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// The logs of this node.
pub trait LogSource: Send + Sync {
    /// Begins to read an allocation's log.
    ///
    /// # Errors
    /// It can't be read.
    fn read(&self, allocation: &AllocId, query: Query) -> io::Result<Lines>;
}

impl LogSource for LogReader {
    fn read(&self, allocation: &AllocId, query: Query) -> io::Result<Lines> {
        Ok(Box::pin(LogReader::read(self, allocation, query)?))
    }
}

/// How this node becomes a member; the daemon carries it out.
pub trait Claims: Send + Sync {
    /// `POST /v1/init`: it becomes the first of a new cluster.
    fn init(&self, request: InitRequest) -> BoxFuture<'static, Result<InitView, ApiError>>;
    /// `POST /v1/join`: it becomes one more of a cluster.
    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<JoinView, ApiError>>;
    /// `POST /v1/restore`: it becomes the first node of a cluster of which this is a backup.
    fn restore(
        &self,
        backup: Backup,
        request: RestoreRequest,
    ) -> BoxFuture<'static, Result<RestoreView, ApiError>>;
    /// Whether another member says that this node is none any more.
    fn is_removed(&self, places: BTreeMap<NodeId, String>) -> BoxFuture<'static, bool>;
    /// Of which cluster this node is a member that has not begun its log, and its name.
    fn who(&self) -> Option<(String, String)>;
    /// Of a node that was removed: soon it stops, is wiped, and begins anew as unclaimed.
    fn leave(&self);
}

/// The other members.
pub trait Neighbours: Send + Sync {
    /// Opens a connection to a member's API, at the `HOST:PORT` of its peer port.
    fn open(&self, node: NodeId, place: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>>;
}

/// What the API reaches besides root.
#[derive(Clone)]
pub struct Ports {
    /// Images of this node.
    pub images: Arc<dyn ImageStore>,
    /// Logs of this node.
    pub logs: Arc<dyn LogSource>,
    /// Further processes in this node's containers; absent before it is a member.
    pub execs: Arc<dyn Fn() -> Option<Execs> + Send + Sync>,
    /// What seals and opens secrets here; absent before the node is a member.
    pub keyring: Arc<dyn Fn() -> Option<Keyring> + Send + Sync>,
    /// The volumes of this node; absent before it is a member.
    pub volumes: Arc<dyn Fn() -> Option<VolumeStore> + Send + Sync>,
    /// How the node becomes a member.
    pub claims: Arc<dyn Claims>,
    /// The other members.
    pub neighbours: Arc<dyn Neighbours>,
    /// Where connections of other members wait.
    pub members: Arc<MemberListener>,
    /// The requests that this node's proxy got.
    pub traffic: Arc<Traffic>,
}
