//! The node's keys of the mesh: the one that it has, and the one that takes its place.
//!
//! Owns the order of a change: the new key is on the disk, then in the state, then the node's own.
//! So a node that ends in between goes on where it stopped. Never tells anybody a private key.

use crate::actors::platform::mesh::key::{self, KeyError};
use crate::actors::root::View;
use crate::fsm::mesh::MeshKey;
use crate::node::mesh;
use defguard_wireguard_rs::key::Key;
use ractor::ActorProcessingErr;
use std::path::{Path, PathBuf};

/// Who a node is in the mesh.
pub(super) struct Identity {
    data: PathBuf,
    port: u16,
    key: Key,
    next: Option<Key>,
}

impl Identity {
    /// As the node's files have it; made if they have none.
    pub async fn read(data: PathBuf, port: u16) -> Result<Self, ActorProcessingErr> {
        let read = move |data: &Path| Ok((key::read_or_make(data)?, key::next(data)?));
        let (key, next) = on(&data, read).await?;
        Ok(Self { data, port, key, next })
    }

    /// The private key and the port.
    pub fn own(&self) -> (Key, u16) {
        (self.key.clone(), self.port)
    }

    /// What the cluster is to know: the newest key.
    pub fn told(&self) -> (MeshKey, u16) {
        (public(self.next.as_ref().unwrap_or(&self.key)), self.port)
    }

    /// Makes another key where the cluster wants one, and takes it once the cluster knows it.
    /// Answers whether the node's key is another one now. What fails is tried with the next view.
    pub async fn follow(&mut self, view: &View) -> bool {
        let node = view.state.nodes.get(&view.node);
        let known = node.and_then(|node| node.mesh).map(|part| part.key);
        if let Some(next) = self.next.take_if(|next| Some(public(next)) == known) {
            if let Err(error) = on(&self.data, key::take_next).await {
                tracing::warn!(%error, "the node's new key of the mesh is kept beside the old one");
            }
            self.key = next;
            return true;
        }
        let is_due = view.current && self.next.is_none();
        if is_due && mesh::is_behind(&view.state, view.node) {
            match on(&self.data, key::make_next).await {
                Ok(next) => self.next = Some(next),
                Err(error) => tracing::warn!(%error, "the node keeps its old key of the mesh"),
            }
        }
        false
    }
}

fn public(key: &Key) -> MeshKey {
    MeshKey::new(key.public_key().as_array())
}

/// Off the runtime: it waits for the disk.
async fn on<T: Send + 'static>(
    data: &Path,
    work: impl FnOnce(&Path) -> Result<T, KeyError> + Send + 'static,
) -> Result<T, ActorProcessingErr> {
    let data = data.to_owned();
    Ok(tokio::task::spawn_blocking(move || work(&data)).await??)
}
